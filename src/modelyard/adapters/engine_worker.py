"""A worker of the local engine: runs one stage after the other, asks for batches, ends with the process that made it.

A thread reads what is sent. When the pipe closes in the middle of a stage, the stage is interrupted by SystemExit, so
that what it opened (a parser's process) is closed on the way out.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

import pyarrow as pa

from modelyard.adapters.engine_wire import ASK, BATCH, DONE, ERROR, JOB, ROWS, pack, receive, send, unpack

IDLE_SECONDS = 10.0
"""A worker that hears nothing for so long ends: the next run starts another."""

Inbox = queue.SimpleQueue[tuple[bytes, bytearray]]


def main() -> None:
    """Serve until the pipe closes or nothing comes."""
    source, sink = os.dup(0), os.dup(1)
    # What a stage or a library prints must not stand between messages, nor may it read them.
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    signal.signal(signal.SIGTERM, _stop)
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(source, inbox), daemon=True).start()
    while True:
        try:
            kind, payload = inbox.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return
        if kind == JOB:
            _run(bytes(payload), inbox, sink)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # Once: a second one would interrupt the closing.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _listen(source: int, inbox: Inbox) -> None:
    try:
        while True:
            inbox.put(receive(source))
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


def _run(job: bytes, inbox: Inbox, sink: int) -> None:
    try:
        paths, stage = pickle.loads(job)
        sys.path += [path for path in paths if path not in sys.path]
        for batch in pickle.loads(stage)(_batches(inbox, sink)):
            _say(sink, ROWS, pack(batch))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again on the other side
        _say(sink, ERROR, _packed(error))
    else:
        _say(sink, DONE)


def _batches(inbox: Inbox, sink: int) -> Iterator[pa.RecordBatch]:
    while True:
        _say(sink, ASK)
        kind, payload = inbox.get()
        if kind != BATCH:
            return
        yield unpack(payload)


def _say(sink: int, kind: bytes, payload: bytes | pa.Buffer = b"") -> None:
    try:
        send(sink, kind, payload)
    except OSError:
        raise SystemExit(0) from None  # nobody listens any more


def _packed(error: Exception) -> bytes:
    """The error itself where it survives the journey, else its text; and where it came from."""
    story = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps((error, story))
        pickle.loads(packed)
    except Exception:  # noqa: BLE001 - pickling runs code of the error's own
        name = type(error).__qualname__
        packed = pickle.dumps((RuntimeError(f"{name}: {error}"), story))
    return packed


if __name__ == "__main__":
    main()
