"""What gateway and worker say to each other: frames of a JSON header and bytes that nobody in between reads.

    u32 length of all that follows | u32 length of the header | header: a JSON object, UTF-8 | payload     (big endian)

To the worker:    {"id", "do": "predict", "request", "key", "timeout" in seconds, "stream"}
                  {"id", "do": "invoke", "content_type", "key", "timeout"}, the payload is the caller's body as it came
                  {"id", "do": "search", "query", "k"}   {"id", "do": "picture", "document", "page", "quote"}
                  {"id", "do": "ping"}                   {"id", "do": "cancel"} ends the request of that id
                  All but the last two may have "groups": those of the caller, as the gateway admitted them; and
                  "effects": where side effects go.
From the worker:  {"id", "delta"} any number of times, then one of
                  {"id", "response": {"text", "output", "usage"}}   {"id", "result"}   {"id", "error": {...}}
                  {"id", "response": {"content_type", "rows", "signals"}}, the payload is the finished reply
Many requests share a connection; the frames of different ids come in any order. Both ends are of one version.

Headers are written and read by orjson (a fifth of the CPU), and by the standard library where orjson would change what
is said: NaN and Infinity become null there, and integers past 64 bits floats.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from modelyard import errors
from modelyard.errors import ModelyardError

Frame = dict[str, Any]
"""A header; with the key `payload`, in bytes, where there is one."""

LIMIT = 64 << 20
"""Most bytes of a frame: a page's picture is the largest thing that is sent."""

_LENGTHS = struct.Struct(">II")
_EXACT = 1 << 31
"""Set in the header's length where the standard library wrote it and must read it."""
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def encode(frame: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """A frame as bytes. Raises ValueError or TypeError for what JSON has no form for: NaN, half a surrogate pair, an
    object of another type, some 250 levels, or more than the limit."""
    header, exact = _header(frame)
    length = 4 + len(header) + len(payload)
    if length > LIMIT:
        raise ValueError(f"a frame of {length:,} bytes is over the limit of {LIMIT:,}")
    return _LENGTHS.pack(length, len(header) | exact) + header + payload


def _header(frame: Mapping[str, Any]) -> tuple[bytes, int]:
    try:
        header = orjson.dumps(frame, option=_OPTIONS)
    except TypeError as error:
        if "Recursion" in str(error):
            raise ValueError("it is nested too deeply") from None
        header = b"null"
    if b"null" not in header:
        return header, 0
    text = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(), _EXACT


class Decoder:
    """Bytes as they arrive, to frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises ValueError where this is not the protocol."""
        held = self._held
        if held:
            held += data
            view = memoryview(held)
        else:
            view = memoryview(data)
        at, size = 0, len(view)
        try:
            while size - at >= _LENGTHS.size:
                length, header = _LENGTHS.unpack_from(view, at)
                exact, header = header & _EXACT, header & ~_EXACT
                if length > LIMIT or header > length - 4:
                    raise ValueError(f"a frame of {length:,} bytes with a header of {header:,} is none")
                body = at + _LENGTHS.size
                end = at + 4 + length
                if size < end:
                    break
                frame = (json.loads if exact else orjson.loads)(bytes(view[body : body + header]))
                if not isinstance(frame, dict):
                    raise ValueError("a header is a JSON object")
                if body + header < end:
                    frame["payload"] = bytes(view[body + header : end])
                at = end
                yield frame
        finally:
            rest = bytes(view[at:]) if view.obj is not held else b""
            view.release()
            if rest:
                held += rest
            elif at:
                del held[:at]


def error_to_json(error: ModelyardError) -> dict[str, str]:
    """An error as it travels."""
    return {"kind": type(error).__name__, "message": str(error)}


def error_from_json(value: Mapping[str, str]) -> ModelyardError:
    """The same error on the other side; plain ModelyardError where its class is not one of `modelyard.errors`."""
    kind = getattr(errors, value["kind"], ModelyardError)
    if not (isinstance(kind, type) and issubclass(kind, ModelyardError)):
        kind = ModelyardError
    return kind(value["message"])
