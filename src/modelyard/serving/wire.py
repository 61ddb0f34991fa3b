"""What gateway and worker say to each other: frames of JSON, each after its length in four bytes (big endian).

To the worker:    {"id", "do": "predict", "request", "key", "timeout" in seconds, "stream"}
                  {"id", "do": "search", "query", "k"}   {"id", "do": "picture", "document", "page", "quote"}
                  {"id", "do": "ping"}                   {"id", "do": "cancel"} ends the request of that id
                  The first three may have "groups": those of the caller, as the gateway admitted them.
From the worker:  {"id", "delta"} any number of times, then one of
                  {"id", "response": {"text", "output", "usage"}}   {"id", "result"}   {"id", "error": {...}}
Many requests share a connection; the frames of different ids come in any order. Both ends are of one version.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard import errors
from modelyard.errors import ModelyardError

Frame = dict[str, Any]

LIMIT = 64 << 20
"""Most bytes of a frame: a page's picture is the largest thing that is sent."""

_HEAD = struct.Struct(">I")


def encode(frame: Mapping[str, Any]) -> bytes:
    """A frame as bytes. Raises ValueError or TypeError for what JSON has no form for: NaN, half a surrogate pair, an
    object of another type, or more than the limit."""
    body = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > LIMIT:
        raise ValueError(f"a frame of {len(body):,} bytes is over the limit of {LIMIT:,}")
    return _HEAD.pack(len(body)) + body


class Decoder:
    """Bytes as they arrive, to frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises ValueError where this is not the protocol."""
        self._held += data
        at = 0
        try:
            while len(self._held) - at >= _HEAD.size:
                (length,) = _HEAD.unpack_from(self._held, at)
                if length > LIMIT:
                    raise ValueError(f"a frame of {length:,} bytes is over the limit of {LIMIT:,}")
                end = at + _HEAD.size + length
                if len(self._held) < end:
                    return
                frame = json.loads(self._held[at + _HEAD.size : end])
                at = end
                if not isinstance(frame, dict):
                    raise ValueError("a frame is a JSON object")
                yield frame
        finally:
            del self._held[:at]


def error_to_json(error: ModelyardError) -> dict[str, str]:
    """An error as it travels."""
    return {"kind": type(error).__name__, "message": str(error)}


def error_from_json(value: Mapping[str, str]) -> ModelyardError:
    """The same error on the other side; plain ModelyardError where its class is not one of `modelyard.errors`."""
    kind = getattr(errors, value["kind"], ModelyardError)
    if not (isinstance(kind, type) and issubclass(kind, ModelyardError)):
        kind = ModelyardError
    return kind(value["message"])
