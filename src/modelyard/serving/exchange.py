"""One request of the gateway to a worker, and what comes back. A worker that dies before anything was said is replaced
by another of the same release, or waited for: the request runs again under the same idempotency key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any

from modelyard.errors import Cancelled, DeadlineExceeded, RequestError, Unavailable
from modelyard.serving.pool import Pool
from modelyard.serving.process import Worker
from modelyard.serving.supervise import Fleet
from modelyard.serving.wire import Frame, error_from_json

_GRACE_SECONDS = 1.0
"""A worker keeps the deadline itself; when it does not, the gateway stops waiting that much later."""
SUSPECT_DEATHS = 2
"""Workers that may die under a request and others; from then on it has one to itself."""
LOOK_SECONDS = 0.02
"""How long an answer takes at least before it is looked whether its caller is still there: to look costs a task."""
MOST_DEATHS = 4
"""Workers that may die under one request: one that kills them must not go on until its deadline."""
_MOVED = Exception()


class Exchange:
    """Use as a context manager: leaving it cancels what is not finished.

    `job` is a frame without its number; its `payload`, in bytes, travels as it is. `timeout` in seconds bounds the
    whole. With `release` the request goes to a worker of that release, else to whichever answers now; `release` then
    says which. `retries` counts the workers that died under it.
    """

    def __init__(self, fleet: Fleet, job: Mapping[str, Any], timeout: float, release: str | None = None) -> None:
        self.release, self.retries = release or "", 0
        self._fleet, self._pinned = fleet, release
        self._job = dict(job)
        self._payload: bytes = self._job.pop("payload", b"")
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._until = self._began + timeout
        self._frames: deque[Frame | Exception | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._pool: Pool | None = None
        self._worker: Worker | None = None
        self._number = 0
        self._begun = self._done = False
        self._timer: asyncio.TimerHandle | None = None
        self._gone: Awaitable[Any] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._watch: asyncio.Future[Any] | None = None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is not finished. May be called again."""
        if self._worker is not None:
            self._worker.forget(self._number)
        elif self._pool is not None:
            self._pool.withdraw(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if isinstance(self._gone, Coroutine):
            self._gone.close()  # nobody looked
        if self._watch is not None:
            self._watch.cancel()
        self._leave()

    def until(self, gone: Awaitable[Any]) -> None:
        """Give up as soon as `gone` is there: the caller went away. Most answers are there before anybody looks."""
        self._gone = gone
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        gone, self._gone = self._gone, None
        assert gone is not None
        self._watch = asyncio.ensure_future(gone)
        self._watch.add_done_callback(self._left)

    def _left(self, watch: asyncio.Future[Any]) -> None:
        if not watch.cancelled():
            watch.exception()  # looked at: how it ended does not matter
            self.cancel()

    def cancel(self) -> None:
        """Give up: whoever waits for an answer gets Cancelled."""
        self.hear(Cancelled("the caller went away"))

    # What pools and workers call.

    @property
    def suspect(self) -> bool:
        """Whether it gets a worker to itself: more than one died under it."""
        return self.retries >= SUSPECT_DEATHS

    def go(self, worker: Worker) -> None:
        """It is its turn."""
        left = self._until - self._loop.time()
        try:
            self._number = worker.send({**self._job, "timeout": left}, self, self._payload)
        except Unavailable:
            self.moved()  # it went away this very moment
            return
        except (ValueError, TypeError) as error:
            what = "text that is not valid Unicode" if isinstance(error, UnicodeError) else str(error)
            self.hear(RequestError(f"the request cannot be passed on: {what}"))
            return
        self._worker, self.release = worker, worker.release

    def moved(self) -> None:
        """It has to wait for a worker elsewhere."""
        self.hear(_MOVED)

    def hear(self, frame: Frame | Exception | None) -> None:
        """A frame of the worker's, None that it died, or an error instead of an answer."""
        self._frames.append(frame)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Frame:
        """The next frame: a delta, or the last one. Raises what the release raised, Busy before the release is
        entered, Unavailable, DeadlineExceeded, Cancelled."""
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._late)
            self._place()
        while True:
            frame = self._frames.popleft() if self._frames else await self._hear()
            if frame is None:
                self._died()
            elif frame is _MOVED:
                self._worker = None
                self._place()
            elif isinstance(frame, Exception):
                raise frame
            elif "error" in frame:
                self._leave()
                raise error_from_json(frame["error"])
            else:
                self._begun = True
                if "delta" not in frame:
                    self._done = True
                    self._leave()
                return frame

    async def result(self) -> Any:
        """What the job gives, once it is whole: a response {text, output, usage}, a reply {content_type, rows,
        signals, body}, or a result."""
        while "delta" in (frame := await self.next()):
            pass
        if "response" not in frame:
            return frame["result"]
        response = frame["response"]
        if "rows" in response:
            response["body"] = frame.get("payload", b"")
        return response

    async def _hear(self) -> Frame | Exception | None:
        self._waiter = self._loop.create_future()
        await self._waiter
        self._waiter = None
        return self._frames.popleft()

    def _place(self) -> None:
        """Wait for a worker: of the release that began it, else wherever traffic goes."""
        held = self._pool if self.retries or self._pinned else None
        try:
            pool = self._fleet.find(self._pinned, held)
        except Unavailable as error:
            if not self.retries:
                raise
            self._fleet.counts["given_up"] += 1
            raise Unavailable(f"{_deaths(self.retries)}, and {error}") from None
        self._move(pool)
        pool.take(self, self.retries > 0)

    def _late(self) -> None:
        if self._worker is None:
            self.hear(DeadlineExceeded("no worker was ready in time"))
        else:
            late = DeadlineExceeded("the request took longer than its deadline allows")
            self._timer = self._loop.call_later(_GRACE_SECONDS, self.hear, late)

    def _move(self, pool: Pool) -> None:
        """Be counted by `pool`, and by no other. Raises Busy."""
        if pool is not self._pool:
            pool.enter(len(self._payload))
            self._leave()
            self._pool = pool

    def _leave(self) -> None:
        if self._pool is not None:
            took = self._loop.time() - self._began
            self._pool.leave(len(self._payload), took if self._done else None)
            self._pool = None

    def _died(self) -> None:
        counts = self._fleet.counts
        if self._begun:
            counts["streams_cut"] += 1
            raise Unavailable("the worker went away while it answered: try again")
        alone = self.suspect
        self.retries += 1
        self._worker = None
        if alone and self.retries >= MOST_DEATHS:
            counts["given_up"] += 1
            raise Unavailable(_deaths(self.retries))
        counts["retries"] += 1
        self._place()


def _deaths(count: int) -> str:
    return f"the worker went away {'once' if count == 1 else f'{count} times'} while it answered this"
