"""One worker process as the gateway sees it: started, asked, stopped. Asynchronous; no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from modelyard.errors import Unavailable
from modelyard.ids import short
from modelyard.serving.wire import Decoder, Frame, encode

_TAIL = 4096
_STOP_SECONDS = 5.0
"""A worker that is stopped is killed after that: whoever stops it has waited for what is under way."""

log = logging.getLogger("modelyard.worker")

Command = Callable[[str, Path], Sequence[str]]
"""Release and socket to the command line of a worker."""


@dataclass(frozen=True)
class Limits:
    """What the workers of a release may take. Seconds, and bytes of memory over all workers of an endpoint.

    `threads` is the requests one worker answers at a time, `queue` how many of a release may wait beyond those,
    `payloads` the bytes of bodies of theirs that are held meanwhile. A
    worker that is not ready after `start`, or does not answer a ping for `hung`, is ended and started anew; `ping` is
    how long it may say nothing before it is pinged. `drain` is what requests under way are given when it is stopped.
    """

    workers: int = 1
    threads: int = 8
    queue: int = 1024
    payloads: int = 256 << 20
    memory: int | None = None
    start: float = 120.0
    ping: float = 5.0
    hung: float = 30.0
    drain: float = 30.0

    @property
    def most(self) -> int:
        """Requests of one release that are answered or wait at a time."""
        return self.workers * self.threads + self.queue


class WorkerFailed(Unavailable):
    """A worker did not start, with the last line it wrote. `final`: it said itself why, so trying again is no use."""

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class Listening(Protocol):
    """Who waits for the frames of one request."""

    def hear(self, frame: Frame | Exception | None) -> None:
        """None says that the worker went away; an error, that it was ended."""

    def moved(self) -> None:
        """The worker did not begin it, and never will."""


class Worker(asyncio.Protocol):
    """A process and the connection to it. `about` is what it says of its release, `answered` how many requests it has
    given an answer to, `freed` is called when it has one fewer."""

    def __init__(self, release: str, process: asyncio.subprocess.Process) -> None:
        self.release, self.about, self.answered = release, dict[str, Any](), 0
        self.alone = False
        self.freed: Callable[[], None] = lambda: None
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._decoder, self._leaving = Decoder(), False
        self._unsent: list[bytes] = []
        self._numbers = itertools.count(1)
        self._listeners: dict[int, Listening] = {}
        self._heard = self._loop.time()
        self._tail = b""
        self._reading = asyncio.create_task(self._read_output())

    @classmethod
    async def start(cls, release: str, command: Sequence[str], sock: Path, seconds: float = 120.0) -> Worker:
        """A worker that has opened its release and answers, within `seconds`. Raises WorkerFailed."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the gateway, which then stops its workers in order
            )
        except OSError as error:
            raise WorkerFailed(f"a worker process cannot be started: {error}", False) from None
        worker = cls(release, process)
        try:
            async with asyncio.timeout(seconds):
                await worker._connect(sock)
                worker.about = await worker._introduction()
        except TimeoutError:
            await worker.kill()
            raise WorkerFailed(f"it was not ready within {seconds:g} s", False) from None
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        """The end of what it wrote to its output."""
        return self._tail.decode(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self.connected and not self._leaving

    @property
    def connected(self) -> bool:
        """Whether anything that is said gets there."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def load(self) -> int:
        """Requests under way."""
        return len(self._listeners)

    def send(self, frame: Mapping[str, Any], listener: Listening, payload: bytes = b"") -> int:
        """Start a request; its number. Raises ValueError for what JSON has no form for, Unavailable when the worker
        is gone."""
        if not self.alive:
            raise Unavailable("the worker went away")
        number = next(self._numbers)
        self._write(encode({"id": number, **frame}, payload))
        self._listeners[number] = listener
        return number

    def forget(self, number: int) -> None:
        """Cancel a request whose answer nobody waits for any more; one that is done is left alone."""
        if self._listeners.pop(number, None) is not None and self.connected:
            self._write(encode({"id": number, "do": "cancel"}))
            self.freed()

    def end_all(self, error: Exception) -> None:
        """Whoever waits for an answer hears `error` instead of it."""
        for number, listener in list(self._listeners.items()):
            self.forget(number)
            listener.hear(error)

    async def answers(self, quiet: float, hung: float) -> bool:
        """Whether it says something within `hung` seconds of being pinged; one that was heard in the last `quiet`
        seconds is not pinged."""
        if self._loop.time() - self._heard < quiet or not self.alive:
            return True
        pong = _Pong()
        number = self.send({"do": "ping"}, pong)
        before = self._heard
        await asyncio.wait({pong.frame}, timeout=hung)
        self.forget(number)
        return pong.frame.done() or self._heard > before

    async def wait(self) -> str:
        """Until the process ends; the last line it wrote, or how it ended. Once it answers, what it wrote may be of
        somebody's request, and is for the log alone."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._reading
        lines = self._tail.decode(errors="replace").strip().splitlines()
        if code < 0:
            return f"its worker was ended by signal {-code}"
        return lines[-1].strip() if lines and code and not self.about else f"its worker ended with code {code}"

    async def stop(self) -> None:
        """Let it end in order."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        self._close()

    async def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            for frame in self._decoder.feed(data):
                number = frame["id"]
                listener = self._listeners.get(number)
                if listener is None:
                    continue
                if "delta" not in frame:
                    del self._listeners[number]
                    self.answered += not isinstance(frame.get("result"), dict)  # a pong is no answer, whoever asked
                if "refused" in frame:
                    self._leaving = True  # somebody else ended it: another one takes the request
                    listener.moved()
                else:
                    listener.hear(frame)
                if "delta" not in frame:
                    self.freed()
        except ValueError as error:
            log.error("release %s: %s", short(self.release), error)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.hear(None)

    def _write(self, data: bytes) -> None:
        self._unsent.append(data)
        if len(self._unsent) == 1:
            self._loop.call_soon(self._flush)  # with what else is sent in this turn of the loop

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _connect(self, sock: Path) -> None:
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while not ended.done():
                if sock.exists():
                    with contextlib.suppress(ConnectionError, FileNotFoundError):
                        await self._loop.create_unix_connection(lambda: self, str(sock))
                        return
                await asyncio.wait({ended}, timeout=0.01)
            code = ended.result()
            raise WorkerFailed(await self.wait(), code in _OURS)
        finally:
            ended.cancel()

    async def _introduction(self) -> dict[str, Any]:
        pong = _Pong()
        self.send({"do": "ping"}, pong)
        frame = await pong.frame
        if frame is None:
            raise WorkerFailed(await self.wait(), False)
        about: dict[str, Any] = frame["result"]
        if about["release"] != self.release:
            raise WorkerFailed(f"its worker opened release {short(about['release'])} instead", True)
        return about

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(1 << 14):
            self._tail = (self._tail + data)[-_TAIL:]
            log.warning("release %s: %s", short(self.release), data.decode(errors="replace").rstrip())


_OURS = {2, 8, 9}
"""Exit codes of errors that a second try would meet again: something given is wrong, the disk, damage."""


class _Pong:
    def __init__(self) -> None:
        self.frame: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()

    def hear(self, frame: Frame | Exception | None) -> None:
        if not self.frame.done():
            self.frame.set_result(frame if isinstance(frame, dict) else None)

    def moved(self) -> None:
        self.hear(None)


def worker_command(
    python: str, releases: Path, project: Path, target: str, limits: Limits | None = None, *, discreet: bool = False
) -> Command:
    """How a worker of a release in the folder `releases` is started. `discreet`: see `serving.jobs.Server`."""
    given = limits or Limits()

    def command(release: str, sock: Path) -> Sequence[str]:
        where = ["--release", str(releases / release), "--project", str(project), "--target", target]
        most = ["--threads", str(given.threads), "--queue", str(given.most), "--drain", str(given.drain)]
        where += ["--discreet"] if discreet else []
        return [python, "-m", "modelyard.worker", *where, *most, "--socket", str(sock), "--parent", str(os.getpid())]

    return command
