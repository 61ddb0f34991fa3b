"""Sending to a client that may not read."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Send

from modelyard.errors import Unread

_AGAIN_SECONDS = 1.0


class InTime:
    """`send`, until `seconds` are over: what cannot be sent then, because the client takes nothing, raises Unread. For
    the task that makes it; close it. One timer for all that is sent, as a stream sends much."""

    def __init__(self, send: Send, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._send, self._task = send, task
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)
        self._sending = self._late = False

    async def __call__(self, message: Message) -> None:
        self._sending = True
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if self._late and self._task.uncancel() == 0:
                raise Unread("the caller did not read its answer in time") from None
            raise
        finally:
            self._sending = False

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._sending:
            self._late = True
            self._task.cancel()
        else:  # it waits for the release, which has the same deadline, or for the record
            self._timer = self._loop.call_later(_AGAIN_SECONDS, self._look)
