"""What the local engine and its workers say to each other: a kind (one byte), a length (eight bytes), a payload."""

from __future__ import annotations

import os
import struct

import pyarrow as pa

HEAD = struct.Struct("!cQ")
# To the worker.
JOB, BATCH, END = b"j", b"b", b"e"
# From the worker.
ASK, ROWS, DONE, ERROR = b"a", b"r", b"d", b"x"


def send(descriptor: int, kind: bytes, payload: bytes | pa.Buffer = b"") -> None:
    """Write a message whole. Raises OSError where the other side is gone."""
    view = memoryview(payload)
    # Small messages in one piece, large ones without a copy.
    _write(descriptor, memoryview(HEAD.pack(kind, view.nbytes) + (bytes(view) if view.nbytes < 4096 else b"")))
    if view.nbytes >= 4096:
        _write(descriptor, view)


def receive(descriptor: int) -> tuple[bytes, bytearray]:
    """The next message, and not a byte more, so that `select` tells whether there is another. Raises EOFError."""
    kind, length = HEAD.unpack(_read(descriptor, HEAD.size))
    return kind, _read(descriptor, length)


def pack(batch: pa.RecordBatch) -> pa.Buffer:
    """A batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def unpack(payload: bytearray) -> pa.RecordBatch:
    """The batch again, on the bytes that came; they are not copied."""
    return pa.ipc.open_stream(pa.py_buffer(payload)).read_next_batch()


def _write(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, size: int) -> bytearray:
    taken = bytearray(size)
    view = memoryview(taken)
    while view:
        count = os.readv(descriptor, [view[: 1 << 20]])
        if count == 0:
            raise EOFError
        view = view[count:]
    return taken
