"""Requests at a rate that waits for no answer, and a log of what became of each: for steady.py and chat_overhead.py.

Standard library only, one event loop, keep-alive connections; a client that never asks anything twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass
class Asked:
    """One request, and what its client saw. Times of the wall clock, in seconds.

    `outcome`: ok; refused (answered with another status than 200); cut (a stream that ended with an error event);
    silent (one that just ended); lost (no answer). `request` is the id that the gateway gave it, "" where none came.
    """

    number: int
    unit: str
    stream: bool
    due: float
    began: float = 0.0
    ended: float = 0.0
    status: int = 0
    request: str = ""
    release: str = ""
    outcome: str = "lost"
    said: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Message:
    """What to send: a path and a JSON body. `unit` names the conversation."""

    path: str
    body: bytes
    unit: str
    stream: bool = False


class Connection:
    """One keep-alive connection that asks one thing at a time. Raises OSError, EOFError where it breaks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @property
    def closed(self) -> bool:
        """Whether the other side closed it."""
        return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()

    def close(self) -> None:
        self._writer.close()

    async def post(self, message: Message, into: Asked, headers: bytes = b"") -> None:
        """Send, and put what comes back into `into`, as far as it comes."""
        head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" % message.path.encode()
        more = b"x-conversation-id: %s\r\ncontent-length: %d\r\n" % (message.unit.encode(), len(message.body))
        self._writer.write(head + more + headers + b"\r\n" + message.body)
        status, found = _head(await self._reader.readuntil(b"\r\n\r\n"))
        into.status = status
        into.request, into.release = found.get("x-request-id", ""), found.get("modelyard-release", "")
        if "content-length" in found:
            into.said = await self._reader.readexactly(int(found["content-length"]))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            into.said += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first[9:12]), {name.lower(): value.strip() for name, _, value in pairs}


class Traffic:
    """Sends one message after the other, `rate` a second, until `stop`. `log` holds all that were sent."""

    def __init__(self, port: int, rate: float, message: Callable[[int], Message]) -> None:
        self.log: list[Asked] = []
        self.rate = rate
        self._port, self._message = port, message
        self._idle: list[Connection] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._pacing = asyncio.get_running_loop().create_task(self._pace())

    async def sent(self, count: int) -> None:
        """Until so many were."""
        while len(self.log) < count:
            await asyncio.sleep(0.01)

    async def quiet(self) -> None:
        """Until what is under way now has ended."""
        if tasks := set(self._under_way):
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        self._stopped = True
        await self._pacing
        await self.quiet()
        for connection in self._idle:
            connection.close()

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        begin, number = loop.time(), 0
        while not self._stopped:
            if (left := begin + number / self.rate - loop.time()) > 0:
                await asyncio.sleep(left)
                continue
            message = self._message(number)
            asked = Asked(number, message.unit, message.stream, time.time())
            self.log.append(asked)
            task = loop.create_task(self._ask(message, asked))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1

    def _reusable(self) -> Connection | None:
        while self._idle:
            if not (connection := self._idle.pop()).closed:
                return connection
        return None

    async def _ask(self, message: Message, asked: Asked) -> None:
        connection: Connection | None = None
        try:
            connection = self._reusable() or await Connection.open(self._port)
            asked.began = time.time()
            await connection.post(message, asked)
            asked.outcome = _outcome(asked)
            self._idle.append(connection)
        except (OSError, EOFError, ValueError, asyncio.IncompleteReadError):
            # Where the stream broke off, what came of it tells whether it said so.
            asked.outcome = "lost" if not asked.status else _outcome(asked)
            if connection is not None:
                connection.close()
        asked.ended = time.time()


def _outcome(asked: Asked) -> str:
    if asked.status != 200:
        return "refused"
    if not asked.stream:
        with contextlib.suppress(ValueError):
            json.loads(asked.said)
            return "ok"
        return "lost"
    if b"data: [DONE]" in asked.said:
        return "ok"
    return "cut" if b'data: {"error"' in asked.said else "silent"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of them do not pass. Raises ValueError where there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
