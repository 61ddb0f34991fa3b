"""One worker process as the gateway sees it: started, asked, stopped. Asynchronous; no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from modelyard.errors import Unavailable
from modelyard.ids import short
from modelyard.serving.wire import Decoder, Frame, encode

START_SECONDS = 120.0
STOP_SECONDS = 35.0
"""A little more than a worker takes to drain."""
_TAIL = 4096

log = logging.getLogger("modelyard.worker")

Command = Callable[[str, Path], Sequence[str]]
"""Release and socket to the command line of a worker."""


class WorkerFailed(Unavailable):
    """A worker did not start, with the last line it wrote. `final`: it said itself why, so trying again is no use."""

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class Listening(Protocol):
    """Who waits for the frames of one request. None says that the worker went away."""

    def hear(self, frame: Frame | None) -> None: ...


class Worker(asyncio.Protocol):
    """A process and the connection to it. `about` is what it says of its release."""

    def __init__(self, release: str, process: asyncio.subprocess.Process) -> None:
        self.release, self.about = release, dict[str, Any]()
        self._process = process
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._numbers = itertools.count(1)
        self._listeners: dict[int, Listening] = {}
        self._tail = b""
        self._reading = asyncio.create_task(self._read_output())
        self.idle = asyncio.Event()
        self.idle.set()

    @classmethod
    async def start(cls, release: str, command: Sequence[str], sock: Path) -> Worker:
        """A worker that has opened its release and answers. Raises WorkerFailed."""
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
            async with asyncio.timeout(START_SECONDS):
                await worker._connect(sock)
                worker.about = await worker._ping()
        except TimeoutError:
            await worker.kill()
            raise WorkerFailed(f"it was not ready within {START_SECONDS:.0f} s", False) from None
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def load(self) -> int:
        """Requests under way."""
        return len(self._listeners)

    def send(self, frame: Frame, listener: Listening) -> int:
        """Start a request; its number. Raises ValueError for what JSON has no form for, Unavailable when the worker
        is gone."""
        if self._transport is None or self._transport.is_closing():
            raise Unavailable("the worker went away")
        number = next(self._numbers)
        self._transport.write(encode({"id": number, **frame}))
        self._listeners[number] = listener
        self.idle.clear()
        return number

    def forget(self, number: int) -> None:
        """Cancel a request whose answer nobody waits for any more; one that is done is left alone."""
        if self._listeners.pop(number, None) is not None:
            if self.alive and self._transport is not None:
                self._transport.write(encode({"id": number, "do": "cancel"}))
            self._settle()

    async def wait(self) -> str:
        """Until the process ends; the last line it wrote, or how it ended."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._reading
        lines = self._tail.decode(errors="replace").strip().splitlines()
        if code < 0:
            return f"its worker was ended by signal {-code}"
        return lines[-1].strip() if lines and code else f"its worker ended with code {code}"

    async def stop(self) -> None:
        """Let it finish what it does, and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        self._close()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                number = frame["id"]
                listener = self._listeners.get(number)
                if listener is None:
                    continue
                if "delta" not in frame:
                    del self._listeners[number]
                    self._settle()
                listener.hear(frame)
        except ValueError as error:
            log.error("release %s: %s", short(self.release), error)
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        listeners, self._listeners = self._listeners, {}
        self._settle()
        for listener in listeners.values():
            listener.hear(None)

    def _settle(self) -> None:
        if not self._listeners:
            self.idle.set()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _connect(self, sock: Path) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while not ended.done():
                if sock.exists():
                    with contextlib.suppress(ConnectionError, FileNotFoundError):
                        await loop.create_unix_connection(lambda: self, str(sock))
                        return
                await asyncio.wait({ended}, timeout=0.01)
            code = ended.result()
            raise WorkerFailed(await self.wait(), code in _OURS)
        finally:
            ended.cancel()

    async def _ping(self) -> dict[str, Any]:
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

    def hear(self, frame: Frame | None) -> None:
        if not self.frame.done():
            self.frame.set_result(frame)


def worker_command(python: str, releases: Path, project: Path, target: str) -> Command:
    """How a worker of a release in the folder `releases` is started."""

    def command(release: str, sock: Path) -> Sequence[str]:
        where = ["--release", str(releases / release), "--project", str(project), "--target", target]
        return [python, "-m", "modelyard.worker", *where, "--socket", str(sock), "--parent", str(os.getpid())]

    return command
