"""The process around one release: `python -m modelyard.worker --release DIR --socket PATH`.

It opens the release, listens on a unix domain socket and speaks `modelyard.serving.wire`. The release's code, its
memory and its crashes stay in here. Imports neither mlflow nor pandas. Not covered: the socket has no password, so it
must lie in a folder that only its user can enter.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from modelyard.clock import Clock, SystemClock
from modelyard.errors import AdapterError, Busy, ModelyardError, NotFound, Unauthorized, Unavailable
from modelyard.ids import short
from modelyard.ports.workload import Call, CanPicture, CanSearch, Predictor, Response, Workload
from modelyard.serving.answer import stream
from modelyard.serving.wire import Decoder, Frame, encode, error_to_json
from modelyard.wiring import open_release

QUEUE = 256
"""Requests that may wait for a thread; more are refused as busy."""
DRAIN_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class Opened(Protocol):
    """As much of an opened release as a worker needs."""

    @property
    def id(self) -> str: ...

    @property
    def workload(self) -> Workload: ...

    @property
    def predictor(self) -> Predictor: ...

    def close(self) -> None: ...


class Opener(Protocol):
    def __call__(self, folder: Path, *, project: Path | None, target: str | None) -> Opened: ...


class Connection:
    """One gateway. Sends from any thread; remembers what is under way, so that it can be cancelled."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._lock = sock, threading.Lock()
        self.under_way: dict[int, threading.Event] = {}

    def send(self, frame: Frame) -> None:
        """Raises ValueError or TypeError for what JSON cannot hold. A gateway that is gone is no error: what it asked
        for is cancelled."""
        data = encode(frame)
        try:
            with self._lock:
                self._sock.sendall(data)
        except OSError:
            self.cancel_all()

    def cancel_all(self) -> None:
        for cancelled in list(self.under_way.values()):
            cancelled.set()


class Server:
    """Answers what comes over connections to `listener`, with at most `threads` at a time."""

    def __init__(self, opened: Opened, threads: int, clock: Clock, queue: int = QUEUE) -> None:
        self._opened, self._clock = opened, clock
        self._threads, self._queue = threads, queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._lock = threading.Condition()
        self._pending = 0
        self._draining = False

    def serve(self, listener: socket.socket) -> None:
        """Accept until an exception ends it: the handler of SIGTERM raises one."""
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def drain(self, seconds: float) -> bool:
        """Refuse what is new and wait for what is under way; whether all of it was done in time."""
        until = time.monotonic() + seconds
        with self._lock:
            self._draining = True
            while self._pending and time.monotonic() < until:
                self._lock.wait(until - time.monotonic())
            return not self._pending

    def _read(self, sock: socket.socket) -> None:
        connection, decoder = Connection(sock), Decoder()
        try:
            while data := sock.recv(1 << 16):
                for frame in decoder.feed(data):
                    self._take(connection, frame)
        except (OSError, ValueError):
            pass  # a gateway that died, or that speaks another protocol: either way it gets no answers
        finally:
            connection.cancel_all()
            sock.close()

    def _take(self, connection: Connection, frame: Frame) -> None:
        number, do = frame["id"], frame["do"]
        if do == "cancel":
            if (cancelled := connection.under_way.get(number)) is not None:
                cancelled.set()
            return
        if do == "ping":
            connection.send({"id": number, "result": self._about()})
            return
        with self._lock:
            refused = self._refusal()
            self._pending += refused is None
        if refused is not None:
            _fail(connection, number, refused)
        else:
            cancelled = connection.under_way[number] = threading.Event()
            deadline = self._clock.monotonic() + frame["timeout"] if "timeout" in frame else None
            groups = frozenset(frame.get("groups", ()))
            call = Call(self._clock, str(frame.get("key", "")), deadline, cancelled.is_set, groups=groups)
            self._pool.submit(self._run, connection, frame, call)

    def _refusal(self) -> ModelyardError | None:
        if self._draining:
            return Unavailable("this worker is being stopped")
        if self._pending >= self._threads + self._queue:
            return Busy("too many requests are waiting: try again in a moment")
        return None

    def _run(self, connection: Connection, frame: Frame, call: Call) -> None:
        number = frame["id"]
        try:
            self._answer(connection, frame, call)
        except Unauthorized as error:
            # A remote model refuses our key: who asks has done nothing wrong, and another token of theirs is no help.
            _fail(connection, number, AdapterError(str(error)))
        except ModelyardError as error:
            _fail(connection, number, error)
        except Exception:  # noqa: BLE001 - the release's own code: whatever it raises ends this request and no more
            sys.stderr.write(f"request {call.key} failed in release {short(self._opened.id)}\n{traceback.format_exc()}")
            sys.stderr.flush()
            _fail(connection, number, ModelyardError("the release failed on this request; the server's log says why"))
        finally:
            connection.under_way.pop(number, None)
            with self._lock:
                self._pending -= 1
                self._lock.notify_all()

    def _answer(self, connection: Connection, frame: Frame, call: Call) -> None:
        number, predictor = frame["id"], self._opened.predictor
        match frame["do"]:
            case "predict":
                for event in stream(self._opened, frame["request"], call):
                    if isinstance(event, Response):
                        answer = {"text": event.text, "output": dict(event.output), "usage": dict(event.usage)}
                        _reply(connection, {"id": number, "response": answer})
                    elif frame["stream"]:
                        _reply(connection, {"id": number, "delta": event.text})
            case "search":
                call.check()
                if not isinstance(predictor, CanSearch):
                    raise NotFound(f"release {short(self._opened.id)} cannot search")
                found = [dict(one) for one in predictor.search(frame["query"], frame["k"], call.groups)]
                _reply(connection, {"id": number, "result": found})
            case "picture":
                call.check()
                if not isinstance(predictor, CanPicture):
                    raise NotFound(f"release {short(self._opened.id)} has no pictures of pages")
                picture = predictor.page_picture(frame["document"], frame["page"], frame["quote"], call.groups)
                _reply(connection, {"id": number, "result": base64.b64encode(picture).decode()})
            case other:
                raise ModelyardError(f"a worker does not know how to {other!r}")

    def _about(self) -> dict[str, Any]:
        workload, predictor = self._opened.workload, self._opened.predictor
        return {
            "release": self._opened.id,
            "accepts": sorted(workload.accepts),
            "search": isinstance(predictor, CanSearch),
            "picture": isinstance(predictor, CanPicture),
        }


def _reply(connection: Connection, frame: Frame) -> None:
    try:
        connection.send(frame)
    except (TypeError, ValueError) as error:
        raise ModelyardError(f"the release answered with something that JSON has no form for: {error}") from error


def _fail(connection: Connection, number: int, error: ModelyardError) -> None:
    message = str(error).encode(errors="replace").decode()
    connection.send({"id": number, "error": error_to_json(type(error)(message))})


class _Stop(BaseException):
    """SIGTERM arrived. Raised in the main thread, wherever that is."""


def _stop(signum: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stop


def die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends: at once on Linux, within a second elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: Sequence[str] | None = None, opener: Opener = open_release) -> int:
    """Open, listen, answer, until SIGTERM. A release that does not open is one line on stderr and the error's code."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        if args.parent is not None:
            die_with(args.parent)
        opened = opener(args.release, project=args.project, target=args.target)
        return _serve(opened, args.socket, args.threads)
    except _Stop:
        return 0
    except ModelyardError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _serve(opened: Opened, path: Path, threads: int) -> int:
    server = Server(opened, threads, SystemClock())
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        try:
            server.serve(listener)
        except _Stop:
            path.unlink(missing_ok=True)
    if not server.drain(DRAIN_SECONDS):
        os._exit(1)  # a thread that does not come back would keep the interpreter from ending
    opened.close()
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m modelyard.worker", description="Serve one release on a socket.")
    parser.add_argument("--release", type=Path, required=True, help="the release's folder")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen; less than 100 bytes long")
    parser.add_argument("--project", type=Path, help="the project it is served from")
    parser.add_argument("--target", help="the target it is served from")
    parser.add_argument("--threads", type=int, default=8, help="requests answered at a time")
    parser.add_argument("--parent", type=int, help="process id to end with")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
