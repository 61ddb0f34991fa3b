"""A child process that may be killed: what reads hostile files runs there, never here.

The child is a fresh interpreter (`python -m ...child`), so it inherits no thread, lock or library state of the parent
and may be started from any thread. It is reused for as long as it behaves. Down its standard input go jobs, up its
standard output come frames: a kind (one byte), a length (eight bytes), a payload.

What this does not do: it bounds accidents (crash, hang, memory, time); it is no jail for code that took over the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.workloads.chatbot.limits import Limits, looks

FRAME = struct.Struct("!cQ")
PROGRESS, ROWS, REFUSED, DONE = b"p", b"r", b"e", b"d"
# A started interpreter imports numpy, Arrow and pdfium before it reads its first job: that is not the document's time.
START_SECONDS = 60.0
CHILD = "modelyard.workloads.chatbot.reading.child"


class Refused(Exception):
    """The child read the job and says, in one sentence, why it cannot be done."""


class Died(Exception):
    """The child crashed, hung or ran out of memory; `page` is the page it was at, None where it had not begun one."""

    def __init__(self, reason: str, page: int | None) -> None:
        super().__init__(reason)
        self.page = page


class Sandbox:
    """One killable child at a time. Not for use from two threads at once; a context manager that ends the child."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: str, arguments: Mapping[str, Any], content: bytes) -> Iterator[bytes]:
        """Do one job in the child; yields the payloads it answers with.

        Raises Refused where the child gives a reason, Died where it had to be given up (the next call starts another).
        """
        finished = False
        try:
            yield from self._talk(job, arguments, content)
            finished = True
        except Refused:
            finished = True
            raise
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the child now; harmless when there is none."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            # With what it may have started itself: it leads a group of its own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _talk(self, job: str, arguments: Mapping[str, Any], content: bytes) -> Iterator[bytes]:
        child = self._child
        fresh = child is None or child.poll() is not None
        if fresh:
            self.close()
            child = self._child = _start()
        assert child is not None and child.stdin is not None and child.stdout is not None
        head = json.dumps({"job": job, "arguments": arguments, "limits": _plain(self._limits)}).encode()
        conversation = _Conversation(child, self._limits, START_SECONDS if fresh else 0.0)
        conversation.queue(struct.pack("!QQ", len(head), len(content)), head, content)
        while True:
            kind, payload = conversation.frame()
            if kind == PROGRESS:
                page, _, spent = payload.decode().partition("+")
                conversation.at(int(page), float(spent or 0.0))
            elif kind == ROWS:
                yield payload
            elif kind == REFUSED:
                raise Refused(payload.decode())
            else:
                return


class _Conversation:
    """Writes the job and reads frames at the same time, so that neither side can block the other, under two clocks."""

    def __init__(self, child: subprocess.Popen[bytes], limits: Limits, extra_seconds: float) -> None:
        assert child.stdin is not None and child.stdout is not None
        self._child, self._limits = child, limits
        self._in, self._out = child.stdin.fileno(), child.stdout.fileno()
        self._parts: list[memoryview] = []
        self._buffer = bytearray()
        self._page: int | None = None
        self.begun = False
        # A page may first be read and then looked at.
        self._patience = limits.page_seconds + (limits.ocr_seconds + 5.0 if looks(limits.ocr) else 0.0)
        now = time.monotonic()
        self._silence = now + extra_seconds + limits.page_seconds
        self._end = now + extra_seconds + limits.seconds

    def queue(self, *parts: bytes) -> None:
        self._parts = [memoryview(part) for part in parts if part]

    def at(self, page: int, spent: float) -> None:
        """A sign of progress: the page, and by how many seconds the end is put off: OCR has a clock of its own."""
        # The first sign says "the job has arrived": from here on the clock is the document's own.
        if not self.begun:
            self.begun = True
            self._end = time.monotonic() + self._limits.seconds
        self._end += spent
        self._page = page or self._page

    def frame(self) -> tuple[bytes, bytes]:
        kind, length = FRAME.unpack(self._read(FRAME.size))
        payload = self._read(length)
        self._silence = time.monotonic() + self._patience
        return kind, payload

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._pump()
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    def _pump(self) -> None:
        left = min(self._silence, self._end) - time.monotonic()
        if left <= 0:
            late = self._limits.page_seconds if self._silence <= self._end else self._limits.seconds
            raise Died(f"the parser did not finish within {late:g} seconds", self._page)
        # poll and not select: a server may hold descriptors beyond what select can name.
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if self._parts:
            poll.register(self._in, select.POLLOUT)
        ready = dict(poll.poll(min(left, 1.0) * 1000))
        if self._out in ready:
            self._receive()
        elif self._in in ready:
            self._send()

    def _receive(self) -> None:
        block = os.read(self._out, 1 << 20)
        if block:
            self._buffer += block
            return
        code = self._child.wait()
        if not self.begun and code > 0:
            raise ModelyardError(f"the parser process does not start; `{sys.executable} -m {CHILD}` shows why")
        raise Died(_obituary(code, self._limits), self._page)

    def _send(self) -> None:
        try:
            sent = os.write(self._in, self._parts[0][: 1 << 16])
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._parts = []
            return
        self._silence = max(self._silence, time.monotonic() + self._limits.page_seconds)
        self._parts[0] = self._parts[0][sent:]
        if not self._parts[0]:
            del self._parts[0]


def _start() -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    # The parent may have come by its modules in ways of its own (Spark ships them); the child looks in the same places.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    # One thread each: a parser needs no pool, and every thread of a pool reserves address space against the limit.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = "1"
    environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        bufsize=0,
        start_new_session=True,
    )
    assert child.stdin is not None
    os.set_blocking(child.stdin.fileno(), False)
    return child


def _obituary(code: int, limits: Limits) -> str:
    if code == -signal.SIGXCPU:
        return f"the parser did not finish within {limits.seconds:g} seconds"
    if code < 0:
        return f"the parser crashed ({signal.Signals(-code).name}) or ran out of memory"
    return f"the parser ended without an answer (exit {code})"


def _plain(limits: Limits) -> dict[str, float | str]:
    return {name: getattr(limits, name) for name in Limits.__slots__}
