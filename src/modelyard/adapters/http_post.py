"""POST to one URL over connections that are kept: what calls to remote models need of HTTP/1.1, and little more.

The standard library connects, httptools (the parser of Node.js, which the gateway reads requests with) reads replies.
A streamed reply of 20 events costs an eighth of the CPU it costs through a client that can do everything. Threads share
the connections, a forked process makes its own. Not covered: redirects (a reply like any other), HTTP/2, bodies that
are not whole in memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import TracebackType

import httptools

from modelyard.adapters.http_dial import Address, Failed, Late, Left, Wrong, address, seconds
from modelyard.clock import Clock, SystemClock

__all__ = ["Failed", "Late", "Left", "Post", "Reply", "Wrong"]

LONGEST = 32 * 1024 * 1024
"""Bytes: a reply, or one line of it, that is longer is nonsense."""
IDLE = 30.0
"""Seconds. A connection that was not used for longer may have been forgotten on the way without a word."""
_TAIL = 0.02
_LONGEST_HEAD = 256 * 1024
_KEPT = 32
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class Post:
    """Requests to `url`, each with `headers`. Raises nothing: what is wrong of both is said by `send`."""

    def __init__(self, url: str, headers: Mapping[str, str], clock: Clock | None = None) -> None:
        self._url, self._headers, self._clock = url, dict(headers), clock or SystemClock()
        self._idle: deque[_Connection] = deque()
        self._process, self._closed = os.getpid(), False

    def send(self, body: bytes, left: Left) -> Reply:
        """Send a JSON body and read the head of the reply. `left`: seconds until the whole reply must have been read.

        A kept connection that ends before a byte of the reply is one that the server had closed: the request is sent
        anew on a fresh one. Raises Failed, Late, Wrong.
        """
        request = b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
        kept = self._take()
        if kept is not None:
            try:
                return self._sent(kept, request, left)
            except Failed:
                if kept.began:
                    raise
        return self._sent(_Connection(self._where.dial(left)), request, left)

    def close(self) -> None:
        """Close the connections that are not in use; those in use are closed after it."""
        self._closed = True
        while (connection := self._take()) is not None:
            connection.close()

    @cached_property
    def _where(self) -> Address:
        return address(self._url)

    @cached_property
    def _head(self) -> bytes:
        where = self._where
        fields = {"host": ("Host", where.named), "accept": ("Accept", "*/*"), "user-agent": ("User-Agent", "modelyard")}
        # A stream that is compressed comes late, and a short reply gains nothing.
        fields |= {"accept-encoding": ("Accept-Encoding", "identity")}
        fields |= {"content-type": ("Content-Type", "application/json")}
        if where.authorization:
            fields["authorization"] = ("Authorization", where.authorization)
        if where.proxy and where.proxy.authorization and not where.tls:
            fields["proxy-authorization"] = ("Proxy-Authorization", where.proxy.authorization)
        fields |= {name.lower(): (name, value) for name, value in self._headers.items()}
        for name, value in fields.values():
            if name.lower() in ("content-length", "transfer-encoding", "connection"):
                raise Wrong(f"the header {name.lower()} is not for a project to set")
            if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
                raise Wrong("a configured header has a character in its name or value that cannot be sent")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.values())
        return f"POST {where.target} HTTP/1.1\r\n{lines}Content-Length: ".encode()

    def _sent(self, connection: _Connection, request: bytes, left: Left) -> Reply:
        try:
            connection.exchange(request, left)
        except BaseException:
            connection.close()
            raise
        return Reply(self, connection, left)

    def _take(self) -> _Connection | None:
        if self._process != os.getpid():
            # The parent's connections are the parent's: two processes would read each other's replies.
            self._process, self._idle = os.getpid(), deque()
        while True:
            try:
                kept = self._idle.pop()
            except IndexError:
                return None
            if self._clock.monotonic() - kept.since < IDLE and kept.ready():
                return kept
            kept.close()

    def _give(self, connection: _Connection) -> None:
        if self._closed or connection.process != os.getpid() or len(self._idle) >= _KEPT:
            connection.close()
            return
        now = connection.since = self._clock.monotonic()
        self._idle.append(connection)
        # The one used last is used next, so those that are needed no more gather at the other end.
        with contextlib.suppress(IndexError):
            while now - self._idle[0].since >= IDLE:
                self._idle.popleft().close()


class Reply:
    """A reply whose head has been read. Leaving it before its end closes the connection, which ends the work on it."""

    def __init__(self, post: Post, connection: _Connection, left: Left) -> None:
        self._post, self._connection, self._left = post, connection, left
        self._enough = False
        self.status, self.headers = connection.status, connection.headers

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._connection.keep and (self._connection.complete or (self._enough and kind is None)):
            self._post._give(self._connection)
        else:
            self._connection.close()

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Raises Failed where it ends too early, Late, Wrong where it cannot be unpacked."""
        connection, packed = self._connection, self.headers.get(b"content-encoding", b"identity")
        if packed == b"identity":
            while (data := connection.piece(self._left)) is not None:
                yield data
            return
        if packed not in (b"gzip", b"x-gzip", b"deflate"):
            raise Wrong("its reply is compressed in a way that was not asked for")
        unpack = zlib.decompressobj(wbits=47)
        while (data := connection.piece(self._left)) is not None:
            try:
                while data:
                    yield unpack.decompress(data, 1 << 20)
                    data = unpack.unconsumed_tail
            except zlib.error:
                raise Wrong("its reply cannot be unpacked") from None
        yield unpack.flush()

    def lines(self) -> Iterator[bytes]:
        """The body's lines, without their ends (of any kind), and empty ones wherever. Raises as `pieces`."""
        begun: list[bytes] = []
        size = 0
        for data in self.pieces():
            if b"\r" in data:
                data = data.replace(b"\r", b"\n")
            if b"\n" not in data:
                begun.append(data)
                size += len(data)
                if size > LONGEST:
                    raise Wrong(f"its reply has a line of more than {LONGEST >> 20} MB")
                continue
            lines = (b"".join(begun) + data if begun else data).split(b"\n")
            begun, size = [lines.pop()], 0
            yield from lines
        if begun:
            yield b"".join(begun)

    def read(self) -> bytes:
        """The whole body. Raises as `pieces`."""
        parts: list[bytes] = []
        size = 0
        for data in self.pieces():
            size += len(data)
            if size > LONGEST:
                raise Wrong(f"its reply has more than {LONGEST >> 20} MB")
            parts.append(data)
        return b"".join(parts)

    def enough(self) -> None:
        """Nothing that matters follows. The connection is kept if nothing but the end of the body follows either."""
        self._enough = True


class _Connection:
    """A connection and what has come of the reply under way. The parser calls the on_ methods."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.process, self.since = os.getpid(), 0.0
        self._begin()

    def _begin(self) -> None:
        self.status, self.headers = 0, dict[bytes, bytes]()
        self._body: list[bytes] = []
        self._size = 0
        self.began = self.complete = False
        self.keep = True

    def exchange(self, request: bytes, left: Left) -> None:
        """Send a request and read the head of its reply. Raises Failed, Late."""
        self._begin()
        try:
            self._socket.settimeout(seconds(left))
            self._socket.sendall(request)
        except OSError as error:
            if _timed_out(error):
                raise Late from None
            # A server may refuse and close before it has read everything: what it says is still to be read.
            self.keep = False
        while not self.status:
            self._receive(left)

    def piece(self, left: Left) -> bytes | None:
        """What has come of the body since, at least a byte of it; None at its end. Raises Failed, Late."""
        while not self._body and not self.complete:
            self._receive(left)
        if not self._body:
            return None
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return data

    def ready(self) -> bool:
        """May a request be sent? Nothing may follow the last reply but its end, and that must have come; a moment's
        wait for it costs less than another connection."""
        try:
            for _ in range(4):
                self._socket.settimeout(0 if self.complete else _TAIL)
                data = self._socket.recv(4096)
                if not data or self.complete:
                    return False
                self._feed(data)
            return False
        except (BlockingIOError, ssl.SSLWantReadError):
            return self.complete and self.keep and not b"".join(self._body).strip()
        except (OSError, Failed):
            return False

    def close(self) -> None:
        """Close. The cycle with the parser is cut, so that no collector is needed."""
        self._parser = None
        self._socket.close()

    def _receive(self, left: Left) -> None:
        try:
            self._socket.settimeout(seconds(left))
            data = self._socket.recv(65536)
        except OSError as error:
            if _timed_out(error):
                raise Late from None
            raise Failed(f"the connection failed ({type(error).__name__})") from None
        if data:
            self.began = True
            self._feed(data)
            self._size += len(data)
            if not self.status and self._size > _LONGEST_HEAD:
                raise Failed("its headers have no end")
        elif self.status and not self._sized():
            self.complete, self.keep = True, False
        else:
            raise Failed("the reply broke off" if self.began else "the connection was closed without a reply")

    def _sized(self) -> bool:
        """Does the reply say where it ends, other than by the end of the connection?"""
        return b"content-length" in self.headers or b"chunked" in self.headers.get(b"transfer-encoding", b"").lower()

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.keep = False
            if not self.complete:
                raise Failed("what it says is not HTTP") from None

    def on_message_begin(self) -> None:
        if self.complete:
            self.keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        if self.status:
            return
        status = self._parser.get_status_code()
        if status < 200:  # "continue", "early hints": the reply is still to come
            self.headers.clear()
        else:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            assert self._parser is not None
            self.complete = True
            self.keep = self.keep and self._parser.should_keep_alive()


def _timed_out(error: OSError) -> bool:
    """Was it our time that was over, and not the network's?"""
    return isinstance(error, TimeoutError) and error.errno is None
