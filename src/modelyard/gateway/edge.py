"""uvicorn's HTTP protocol, and beside it a shorter way for what is asked most often and answered quickest.

A small body for POST /invocations of a release that reads bodies itself goes to a worker without a scope, a route or a
middleware in between, which is a third of what the gateway does for it. Everything else goes uvicorn's way, and so does
such a request whose headers say anything out of the ordinary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_BYTES = 64 << 10
"""A request's head may be that long, and a piece as it is read from the socket more."""

Headers = Mapping[bytes, bytes]


class Reply(NamedTuple):
    """What is sent. `headers` are those besides Content-Length, Connection and what the server always sends; `sent` is
    called with whether the client was there to be sent it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    sent: Callable[[bool], None]


class Leaving(Protocol):
    """Tells when a client goes away."""

    def then(self, do: Callable[[], None]) -> None:
        """Do this as soon as it is gone, also where that is already so."""
        ...


class Shortcut(Protocol):
    """Who answers on the shorter way, what has bodies of `most` bytes at most, which arrive within `patience`
    seconds."""

    @property
    def most(self) -> int: ...

    @property
    def patience(self) -> float: ...

    def late(self) -> Reply:
        """What who is slower is told."""
        ...

    def takes(self, url: bytes, headers: Headers) -> bool:
        """Whether it is for a POST to `url` with these headers, names in lower case."""
        ...

    def answer(self, headers: Headers, body: bytes, leaving: Leaving) -> Awaitable[Reply]:
        """Raises nothing."""
        ...


class Edge(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        shortcut: Shortcut,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shortcut, self._most = shortcut, shortcut.most
        self._short: _Short | None = None
        """The request that is being read, where it goes the shorter way."""
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._in_head, self._head, self._messages = False, 0, 0
        """Whether the head of a request is being read, its bytes but for the first piece, and which request it is."""
        self._head_timer: asyncio.TimerHandle | None = None

    def answered(self) -> None:
        """As `on_response_complete`; but one timer for how long the connection may be idle serves many requests."""
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._idle is None and not self.transport.is_closing():
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._expire)

    def _expire(self) -> None:
        self._idle = None
        if self.timeout_keep_alive_task is not None or self.transport.is_closing():
            return  # the last request went the other way, which looks after itself
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if not self.cycle.response_complete:
            left = self.timeout_keep_alive
        if left > 0:
            self._idle = self.loop.call_later(left, self._expire)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._idle, self._head_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_since = self.loop.time()
        if self._in_head and self._head > HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")
            return
        before = self._messages if self._in_head else -1
        super().data_received(data)
        if self._in_head:
            self._head += len(data) if before == self._messages else 0
            if self._head_timer is None and not self.transport.is_closing():
                self._head_timer = self.loop.call_later(self._shortcut.patience, self._late_head)
        short = self._short
        if short is not None and short.more_body and short.timer is None:
            short.timer = self.loop.call_later(self._shortcut.patience, short.late, self._shortcut)

    def _late_head(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.send_400_response("The head of the request did not arrive in time.")

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._head = True, 0
        self._messages += 1

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self.parser.get_method() == b"POST" and (self.cycle is None or self.cycle.response_complete):
            found = dict(self.headers)
            length = found.get(b"content-length", b"")
            if (
                len(found) == len(self.headers)
                and len(length) <= 5
                and length.isdigit()
                and int(length) <= self._most
                and b"expect" not in found
                and b"transfer-encoding" not in found
                and not self.parser.should_upgrade()
                and self._shortcut.takes(self.url, found)
            ):
                keep = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()
                self._short = self.cycle = _Short(self, found, keep)  # type: ignore[assignment]
                return
        self._short = None
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._short is not None:
            self._short.parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._short is not None:
            self._short.more_body = False
            task = self.loop.create_task(self._short.run(self._shortcut))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            super().on_message_complete()


class _Short:
    """A request on the shorter way, with what uvicorn's protocol asks of one on its own."""

    def __init__(self, protocol: Edge, headers: Headers, keep_alive: bool) -> None:
        self.parts: list[bytes] = []
        self.more_body = True
        self.timer: asyncio.TimerHandle | None = None
        self.disconnected = self.response_complete = False
        self.keep_alive = keep_alive
        self.message_event = self
        self._protocol, self._headers = protocol, headers
        self._then: Callable[[], None] | None = None

    def then(self, do: Callable[[], None]) -> None:
        self._then = do
        self.set()

    def set(self) -> None:
        """Called when the connection is lost."""
        if self.timer is not None:
            self.timer.cancel()
        if self.disconnected and self._then is not None:
            self._then()

    def late(self, shortcut: Shortcut) -> None:
        """The body did not arrive in time."""
        if self.more_body and not self.disconnected:
            self.keep_alive = False
            self.response_complete = True
            reply = shortcut.late()
            self._protocol.transport.write(self._bytes(reply))
            self._protocol.transport.close()
            reply.sent(True)

    async def run(self, shortcut: Shortcut) -> None:
        """Have the request answered, and send the reply."""
        parts, protocol = self.parts, self._protocol
        if self.timer is not None:
            self.timer.cancel()
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            reply = await shortcut.answer(self._headers, body, self)
        except BaseException:  # a bug, or the end of the server: whoever waits hears that nothing comes
            protocol.transport.close()
            raise
        self._then = None
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        self.response_complete = True
        if protocol.transport.is_closing():
            self.disconnected = True
        if not self.disconnected:
            protocol.transport.write(self._bytes(reply))
            if not self.keep_alive:
                protocol.transport.close()
            protocol.answered()
        reply.sent(not self.disconnected)

    def _bytes(self, reply: Reply) -> bytes:
        pieces = [STATUS_LINE[reply.status][:-2]]
        for name, value in self._protocol.server_state.default_headers:
            pieces.append(b"%s: %s" % (name, value))
        for name, value in reply.headers:
            pieces.append(b"%s: %s" % (name, value))
        pieces.append(b"content-length: %d" % len(reply.body))
        if not self.keep_alive:
            pieces.append(b"connection: close")
        return b"%s\r\n\r\n%s" % (b"\r\n".join(pieces), reply.body)
