"""The child's side of the sandbox: reads one job after the other, answers in frames, ends with its parent."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from modelyard.workloads.chatbot.limits import MEGABYTE, Limits, Unreadable
from modelyard.workloads.chatbot.reading.document import parse
from modelyard.workloads.chatbot.reading.render import render
from modelyard.workloads.chatbot.reading.unpack import unpack
from modelyard.workloads.chatbot.sandbox import DONE, FRAME, PROGRESS, REFUSED, ROWS

Job = Callable[..., Iterator[bytes]]
JOBS: dict[str, Job] = {"parse": parse, "render": render, "unpack": unpack}
# Beyond this the child leaves after its job: memory it could not give back would count against the next document.
WORN_BYTES = 512 * MEGABYTE


def main() -> None:
    """Serve jobs until the parent closes the pipe."""
    source = sys.stdin.buffer
    # Frames go out on a descriptor of their own, so that nothing a library prints can stand between them.
    sink = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _limit(resource.RLIMIT_CORE, 0)
    began = _address_space()
    while True:
        sizes = source.read(16)
        if len(sizes) < 16:
            return
        head, length = struct.unpack("!QQ", sizes)
        order = json.loads(source.read(head))
        limits = Limits(**order["limits"])
        _confine(limits, length)
        _serve(order["job"], order["arguments"], source.read(length), limits, sink)
        if _address_space() - began > WORN_BYTES:
            return


def _serve(job: str, arguments: dict[str, Any], content: bytes, limits: Limits, sink: BinaryIO) -> None:
    def progress(page: int, spent: float = 0.0) -> None:
        _send(sink, PROGRESS, f"{page}+{spent:.3f}".encode() if spent else str(page).encode())

    progress(0)
    try:
        for payload in JOBS[job](content, limits=limits, progress=progress, **arguments):
            _send(sink, ROWS, payload)
    except Unreadable as reason:
        _send(sink, REFUSED, str(reason).encode())
    except MemoryError:
        _send(sink, REFUSED, f"it needs more than {limits.memory_bytes // MEGABYTE:,} MB of memory to read".encode())
    except RecursionError:
        _send(sink, REFUSED, b"its structure is nested too deeply")
    except Exception as error:  # noqa: BLE001 - whatever a hostile file brings about costs that file, and is named
        _send(sink, REFUSED, f"the parser failed on it ({type(error).__name__}: {error})"[:300].encode())
    else:
        _send(sink, DONE, b"")


def _send(sink: BinaryIO, kind: bytes, payload: bytes) -> None:
    left = memoryview(FRAME.pack(kind, len(payload)) + payload)
    while left:
        left = left[sink.write(left) :]


def _confine(limits: Limits, length: int) -> None:
    """Limits of this job, counted from where the process stands, as earlier jobs may have left something behind."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Only for a child whose parent is gone and cannot watch the clock any more.
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + limits.seconds) + 5)
    # The file itself is held twice: as read, and while the buffer that received it is joined.
    _limit(resource.RLIMIT_AS, _address_space() + limits.memory_bytes + 2 * length)


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    # macOS refuses some of them; the wall clock of the parent remains.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value, hard))


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not say (macOS)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


if __name__ == "__main__":
    main()
