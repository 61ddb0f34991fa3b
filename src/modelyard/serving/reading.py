"""Who reads a worker's connections. One thread reads each, and may answer what it reads; where that takes longer than
it was thought to, another thread takes over the reading, so that nothing that comes waits behind it for long."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from modelyard.serving.wire import Decoder, Frame, encode

TICK_SECONDS = 0.01
"""What is answered by the thread that reads may take one to two of these."""
REST_SECONDS = 1.0
"""After so long without anything of that kind nobody looks any more."""


class Going:
    """A request under way."""

    __slots__ = ("_cancelled",)

    def __init__(self) -> None:
        self._cancelled = False

    def cancel(self) -> None:
        """From any thread; whoever works on it finds out when it asks."""
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class Connection:
    """One gateway. Sends from any thread; remembers what is under way, so that it can be cancelled."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self._sending = sock, threading.Lock()
        self.under_way: dict[int, Going] = {}
        self.decoder, self.frames = Decoder(), deque[Frame]()
        """What was read and not yet taken: it outlives the thread that read it."""
        self.turn = threading.Lock()
        self.reader = 0
        """Which of its readers reads it; the others before have been relieved."""
        self.since: float | None = None
        """Since when its reader is busy with a job."""
        self.corked = False
        """What is sent waits until `uncork`: more is going to be, at once."""
        self._held: list[bytes] = []

    def send(self, frame: Frame, payload: bytes = b"") -> None:
        """Raises ValueError or TypeError for what JSON cannot hold. A gateway that is gone is no error: what it asked
        for is cancelled."""
        data = encode(frame, payload)
        with self._sending:
            if self.corked:
                self._held.append(data)
            else:
                self._send(data)

    def uncork(self) -> None:
        """Send what waited."""
        with self._sending:
            self.corked = False
            if self._held:
                self._send(b"".join(self._held))
                self._held.clear()

    def _send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            self.cancel_all()

    def begin(self, number: int) -> Going:
        """A request of that number is under way from now on."""
        going = self.under_way[number] = Going()
        return going

    def cancel_all(self) -> None:
        """Cancel what is under way."""
        for going in list(self.under_way.values()):
            going.cancel()


class Readers:
    """Reads connections, and gives each frame to `take(connection, frame)`."""

    def __init__(self, take: Callable[[Connection, Frame], None]) -> None:
        self._take = take
        self._connections: list[Connection] = []
        self._wake, self._looking, self._last = threading.Event(), False, 0.0
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def read(self, connection: Connection) -> None:
        """Begin to."""
        self._connections.append(connection)
        self._begin(connection)

    def busy(self, connection: Connection) -> int:
        """What its reader does from now on is a job, until `free` with what this returns."""
        connection.since = self._last = time.monotonic()
        if not self._looking:
            self._looking = True
            self._wake.set()
        return connection.reader

    def free(self, connection: Connection, mine: int) -> None:
        """Its reader is done with the job, and by now perhaps its reader no more."""
        with connection.turn:
            if connection.reader == mine:  # else it is the next one that is busy
                connection.since = None

    def flush(self) -> None:
        """Send what waits for more: nothing is going to be."""
        for connection in tuple(self._connections):
            connection.uncork()

    def _begin(self, connection: Connection) -> None:
        threading.Thread(target=self._read, args=(connection, connection.reader), name="reader", daemon=True).start()

    def _read(self, connection: Connection, mine: int) -> None:
        frames, decoder, sock = connection.frames, connection.decoder, connection.sock
        try:
            while connection.reader == mine:
                if frames:
                    frame = frames.popleft()
                    if frames:
                        connection.corked = True
                    self._take(connection, frame)
                    if connection.corked and not frames and connection.reader == mine:
                        connection.uncork()
                elif data := sock.recv(1 << 18):
                    frames.extend(decoder.feed(data))
                else:
                    break
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a gateway that died, or that speaks another protocol: either way it gets no answers
        finally:
            if connection.reader == mine:
                connection.cancel_all()
                self._connections.remove(connection)
                sock.close()

    def _watch(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._looking:
                time.sleep(TICK_SECONDS)
                for connection in tuple(self._connections):
                    self._relieve(connection)
                if time.monotonic() - self._last > REST_SECONDS:
                    self._looking = False
                    if time.monotonic() - self._last <= REST_SECONDS:  # one began just now, and saw that we look
                        self._looking = True

    def _relieve(self, connection: Connection) -> None:
        with connection.turn:
            since = connection.since
            if since is None or time.monotonic() - since < TICK_SECONDS:
                return
            connection.since = None
            connection.reader += 1
            try:
                self._begin(connection)
            except RuntimeError:  # no thread is to be had now: its reader reads on when it is done
                connection.reader, connection.since = connection.reader - 1, since
                return
        connection.uncork()
