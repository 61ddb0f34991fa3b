"""A worker's side of the wire: frames in, jobs on a bounded number of threads, frames out.

The thread that reads hands jobs over, so that cancelling and pinging always get through. While scoring takes less than
it costs to wake another thread, the thread that reads does that too; a job that takes longer than expected loses it
the reading, which another thread goes on with (`serving.reading`).
"""

from __future__ import annotations

import base64
import math
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any, Protocol

from modelyard.clock import Clock
from modelyard.errors import AdapterError, Busy, ModelFailed, ModelyardError, NotFound, Unauthorized
from modelyard.ids import short
from modelyard.ports.workload import (
    Call,
    CanInvoke,
    CanPicture,
    CanSearch,
    HasSchema,
    Predictor,
    Request,
    Response,
    Workload,
)
from modelyard.serving.answer import stream
from modelyard.serving.reading import Connection, Readers
from modelyard.serving.wire import Frame, error_to_json

QUEUE = 1024
"""Requests that may wait for a thread; more are refused as busy."""
QUICK_SECONDS = 0.001
"""Scoring that takes less, on average, is done where it was read."""
_LONGEST = 10_000
"""Characters of an error's message."""


class Opened(Protocol):
    """As much of an opened release as answering takes."""

    @property
    def id(self) -> str: ...

    @property
    def workload(self) -> Workload: ...

    @property
    def predictor(self) -> Predictor: ...

    def close(self) -> None: ...


class Server:
    """Answers what comes over connections to a listener, with at most `threads` jobs at a time."""

    def __init__(
        self, opened: Opened, threads: int, clock: Clock, queue: int = QUEUE, *, discreet: bool = False
    ) -> None:
        """`discreet`: what is logged of a failure is where it happened, and nothing that may be of the request."""
        self._opened, self._clock, self._discreet = opened, clock, discreet
        self._threads, self._queue = threads, queue
        self._jobs: SimpleQueue[tuple[Connection, Frame, Call]] = SimpleQueue()
        self._readers = Readers(self._take)
        self._invoke = opened.predictor.invoke if isinstance(opened.predictor, CanInvoke) else None
        self._pace = math.inf
        """Seconds that scoring takes, of late."""
        self._started = 0
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._pending = 0
        self._draining = False

    def serve(self, listener: socket.socket) -> None:
        """Accept until an exception ends it: the handler of SIGTERM raises one."""
        while True:
            sock, _ = listener.accept()
            self._readers.read(Connection(sock))

    def drain(self, seconds: float) -> bool:
        """Refuse what is new and wait for what is under way; whether all of it was done in time."""
        until = time.monotonic() + seconds
        with self._lock:
            self._draining = True
            while self._pending and time.monotonic() < until:
                self._ended.wait(until - time.monotonic())
            done = not self._pending
        self._readers.flush()
        return done

    def _take(self, connection: Connection, frame: Frame) -> None:
        number, do = frame["id"], frame["do"]
        if do == "cancel":
            if (going := connection.under_way.get(number)) is not None:
                going.cancel()
            return
        if do == "ping":
            connection.send({"id": number, "result": self._about()})
            return
        with self._lock:
            full, draining = self._pending >= self._threads + self._queue, self._draining
            taken = not full and not draining
            self._pending += taken
            here = taken and self._pending == 1 and do == "invoke" and self._pace < QUICK_SECONDS
            more = taken and not here and self._started < min(self._threads, self._pending)
            self._started += more
        if draining:
            connection.send({"id": number, "refused": True})
        elif full:
            _fail(connection, number, Busy("too many requests are waiting: try again in a moment"))
        if not taken:
            return
        if more:
            threading.Thread(target=self._work, name=f"request-{self._started}", daemon=True).start()
        going = connection.begin(number)
        timeout = frame.get("timeout")
        deadline = self._clock.monotonic() + timeout if timeout is not None else None
        groups, effects = frozenset(frame.get("groups", ())), str(frame.get("effects", "live"))
        call = Call(self._clock, str(frame.get("key", "")), deadline, going.cancelled, effects, groups)
        if here:
            mine = self._readers.busy(connection)
            try:
                self._run(connection, frame, call)
            finally:
                self._readers.free(connection, mine)
        else:
            self._jobs.put((connection, frame, call))

    def _work(self) -> None:
        while True:
            connection, frame, call = self._jobs.get()
            self._run(connection, frame, call)

    def _run(self, connection: Connection, frame: Frame, call: Call) -> None:
        number = frame["id"]
        try:
            self._answer(connection, frame, call)
        except Unauthorized as error:
            # A remote model refuses our key: who asks has done nothing wrong, and another token of theirs is no help.
            _fail(connection, number, AdapterError(str(error)))
        except ModelyardError as error:
            if isinstance(error, ModelFailed) and error.__cause__ is not None:
                self._log(f"request {call.key}", error.__cause__)
            _fail(connection, number, error)
        except BaseException as error:  # noqa: BLE001 - the release's own code: even an exit ends this request only
            self._log(f"request {call.key}", error)
            _fail(connection, number, ModelyardError("the release failed on this request; the server's log says why"))
        finally:
            connection.under_way.pop(number, None)
            with self._lock:
                self._pending -= 1
                if self._draining:
                    self._ended.notify_all()

    def _answer(self, connection: Connection, frame: Frame, call: Call) -> None:
        number, predictor = frame["id"], self._opened.predictor
        match frame["do"]:
            case "predict":
                for event in stream(self._opened, frame["request"], call):
                    if isinstance(event, Response):
                        answer = {"text": event.text, "output": dict(event.output), "usage": _whole(event.usage)}
                        answer["signals"] = self._signals(frame["request"], event)
                        _reply(connection, {"id": number, "response": answer})
                    elif frame["stream"]:
                        _reply(connection, {"id": number, "delta": event.text})
            case "invoke":
                began = time.monotonic()
                if self._invoke is None:
                    raise NotFound(f"release {short(self._opened.id)} takes no bodies as they are")
                done = self._invoke(frame.get("payload", b""), frame["content_type"], call)
                took = time.monotonic() - began
                self._pace = took if self._pace == math.inf else self._pace + (took - self._pace) / 8
                if not (done.content_type.isascii() and done.content_type.isprintable()):
                    raise ModelyardError("the release answered with a content type that is none")
                reply = {"content_type": done.content_type, "rows": done.rows, "signals": _finite(done.signals)}
                _reply(connection, {"id": number, "response": reply}, done.body)
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

    def _signals(self, request: Request, response: Response) -> dict[str, float]:
        try:
            return _finite(self._opened.workload.signals(request, response))
        except Exception as error:  # noqa: BLE001 - the release's own code: no answer is lost for what is said of it
            self._log("signals", error)
            return {}

    def _log(self, what: str, error: BaseException) -> None:
        release = short(self._opened.id)
        if self._discreet:  # an error's words are often those of the request
            story = f"a request failed in release {release}\n{''.join(traceback.format_tb(error.__traceback__))}"
            sys.stderr.write(f"{story}{type(error).__name__}\n")
        else:
            sys.stderr.write(f"{what} failed in release {release}\n{''.join(traceback.format_exception(error))}")
        sys.stderr.flush()

    def _about(self) -> dict[str, Any]:
        workload, predictor = self._opened.workload, self._opened.predictor
        return {
            "release": self._opened.id,
            "accepts": sorted(workload.accepts),
            "search": isinstance(predictor, CanSearch),
            "picture": isinstance(predictor, CanPicture),
            "invoke": self._invoke is not None,
            "schema": asdict(predictor.schema) if isinstance(predictor, HasSchema) and predictor.schema else None,
        }


def _reply(connection: Connection, frame: Frame, payload: bytes = b"") -> None:
    try:
        connection.send(frame, payload)
    except (TypeError, ValueError) as error:
        raise ModelyardError(f"the release answered with something that JSON has no form for: {error}") from error


def _fail(connection: Connection, number: int, error: ModelyardError) -> None:
    try:
        told = error_to_json(error)
    except Exception:  # noqa: BLE001 - the release's own class: what it cannot say keeps nobody waiting
        told = error_to_json(ModelyardError("the release failed on this request"))
    told["message"] = told["message"][:_LONGEST].encode(errors="replace").decode()
    connection.send({"id": number, "error": told})


def _finite(found: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among what a release says of an answer. What else it says is left out, and the answer stands."""
    out = {}
    for name, value in found.items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            out[str(name)] = number
    return out


def _whole(found: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in _finite(found).items()}
