"""One request of the gateway to a worker, and what comes back. A worker that dies before anything was said is tried
again with another, once: the request has an idempotency key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

from modelyard.errors import Cancelled, DeadlineExceeded, RequestError, Unavailable
from modelyard.serving.process import Worker
from modelyard.serving.supervise import Fleet
from modelyard.serving.wire import Frame, error_from_json

_GRACE_SECONDS = 1.0
"""A worker keeps the deadline itself; when it does not, the gateway stops waiting that much later."""
_ATTEMPTS = 2


class Exchange:
    """Use as a context manager: leaving it cancels what is not finished.

    `job` is a frame without its number. `timeout` in seconds bounds the whole. With `release` the request goes to the
    worker of that release, else to whichever answers now.
    """

    def __init__(self, fleet: Fleet, job: Frame, timeout: float, release: str | None = None) -> None:
        self.release = release or ""
        self._fleet, self._job, self._pinned = fleet, job, release
        self._until = asyncio.get_running_loop().time() + timeout
        self._frames: asyncio.Queue[Frame | Exception | None] = asyncio.Queue()
        self._worker: Worker | None = None
        self._number = 0
        self._attempts = 0
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is not finished. May be called again."""
        if self._worker is not None:
            self._worker.forget(self._number)
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def until(self, gone: Awaitable[Any]) -> None:
        """Give up as soon as `gone` is there: the caller went away."""

        async def watch() -> None:
            with contextlib.suppress(Exception):
                await gone
            self._frames.put_nowait(Cancelled("the caller went away"))

        self._watch = asyncio.get_running_loop().create_task(watch())

    def hear(self, frame: Frame | None) -> None:
        """Called by the worker's connection."""
        self._frames.put_nowait(frame)

    async def next(self) -> Frame:
        """The next frame: a delta, or the last one. Raises what the release raised, Unavailable, DeadlineExceeded,
        Cancelled."""
        while True:
            if self._worker is None:
                await self._send()
            frame = await self._frames.get()
            if frame is None:
                if self._begun or self._attempts >= _ATTEMPTS:
                    raise Unavailable("the worker went away while it answered: try again")
                self._worker = None
            elif isinstance(frame, Exception):
                raise frame
            elif "error" in frame:
                raise error_from_json(frame["error"])
            else:
                self._begun = True
                return frame

    async def result(self) -> Any:
        """What the job gives, once it is whole: a response {text, output, usage}, or a result."""
        while "delta" in (frame := await self.next()):
            pass
        return frame["response"] if "response" in frame else frame["result"]

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        worker = self._fleet.warm(self._pinned) if self._pinned else await self._fleet.pick(self._until)
        left = self._until - loop.time()
        if left <= 0:
            raise DeadlineExceeded("no worker was ready in time")
        self._attempts += 1
        try:
            self._number = worker.send({**self._job, "timeout": left}, self)
        except ValueError:
            raise RequestError("the request holds text that is not valid Unicode (half of a surrogate pair)") from None
        self._worker, self.release = worker, worker.release
        if self._timer is None:
            late = DeadlineExceeded("the request took longer than its deadline allows")
            self._timer = loop.call_at(self._until + _GRACE_SECONDS, self._frames.put_nowait, late)
