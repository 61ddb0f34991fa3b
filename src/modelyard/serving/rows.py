"""What the record holds of a request, and how a row of it lies in the log.

A row in the log: its kind in 1 byte (A accepted, F finished, O outcome), the request's id in 16, the length of a JSON
list in 4, that list (the fields in their order, without id and body, then the codes of what was left out), the body.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

ACCEPTED, FINISHED, OUTCOME = b"A", b"F", b"O"
KINDS = ("thumb", "comment", "label")

_PREFIX = struct.Struct(">c16sI")


class Accepted(NamedTuple):
    """A request that will be answered, written before the model is entered.

    `id` is 32 hex digits. `requester` is the id of a token, never the token. `received_ns` is nanoseconds of the wall
    clock. `unit` is what traffic is split by, `probability` the one with which its release was chosen. `request` is
    the body as it came, None where it is not kept.
    """

    id: str
    endpoint: str
    release: str
    dialect: str
    received_ns: int
    client_id: str | None = None
    arm: str = "champion"
    probability: float = 1.0
    unit: str = ""
    requester: str | None = None
    groups: Sequence[str] = ()
    sampling_fraction: float = 1.0
    request: bytes | None = None


class Finished(NamedTuple):
    """How a request ended, written before the last byte of its answer.

    `error` is the name of the error's class. `duration_ms` and `first_ms` (to the first byte of a stream) count from
    its arrival; `cost` is in the currency of the price list. `aborted`: nobody got a whole answer, because the client
    or the gateway went away; `truncated`: a stream that began and was cut. `release` is the one that answered, where it
    is not the one it was accepted for. `response` is the body, of a stream all of it, None where it is not kept.
    """

    id: str
    status: int
    duration_ms: float | None = None
    error: str | None = None
    usage: Mapping[str, int] = {}
    cost: float | None = None
    signals: Mapping[str, float] = {}
    attempts: int = 1
    first_ms: float | None = None
    aborted: bool = False
    truncated: bool = False
    release: str | None = None
    response: bytes | None = None


class Outcome(NamedTuple):
    """What later turned out true of a request, or what somebody said of its answer.

    `request` is its id, `kind` one of KINDS, `at_ns` nanoseconds of the wall clock, `by` the id of a token.
    """

    id: str
    kind: str
    value: str | None
    at_ns: int
    by: str | None = None


_DRAWN: list[str] = []
os.register_at_fork(after_in_child=_DRAWN.clear)


def request_id() -> str:
    """A new one: 32 hex digits, which nobody can guess."""
    try:
        return _DRAWN.pop()
    except IndexError:  # a hundred at a time cost hardly more than one
        drawn = os.urandom(16 * 100).hex()
        _DRAWN.extend(drawn[at : at + 32] for at in range(32, len(drawn), 32))
        return drawn[:32]


def encode(kind: bytes, row: Accepted | Finished, codes: Sequence[str] = ()) -> bytes:
    """A row for the log; `codes` say what was left out of it. Raises ValueError for an id that is none."""
    body = row[-1]
    fields = _json((*row[1:-1], codes, body is not None))
    return b"".join((_prefix(kind, row.id, len(fields)), fields, body or b""))


def encode_outcome(row: Outcome) -> bytes:
    """The same, of an outcome."""
    fields = _json(row[1:])
    return _prefix(OUTCOME, row.id, len(fields)) + fields


def kind_and_key(raw: memoryview) -> tuple[bytes, bytes]:
    """Of a row in the log its kind, and the request it is about. Raises ValueError where it is no row of ours."""
    if len(raw) < _PREFIX.size or raw[:1] not in (ACCEPTED, FINISHED, OUTCOME):
        raise ValueError("a row of the record is of no kind that is known: a newer modelyard wrote it")
    return bytes(raw[:1]), bytes(raw[1:17])


def decode(raw: memoryview) -> tuple[list[Any], list[str], bytes | None]:
    """Of a row in the log its fields in order without id and body, the codes, and the body."""
    kind, _, length = _PREFIX.unpack_from(raw)
    end = _PREFIX.size + length
    text = bytes(raw[_PREFIX.size : end])
    fields: list[Any]
    try:
        fields = orjson.loads(text)
    except ValueError:
        fields = json.loads(text)
    if kind == OUTCOME:
        return fields, [], None
    kept, codes = fields.pop(), fields.pop()
    return fields, codes, bytes(raw[end:]) if kept else None


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half of a surrogate pair, or a number of another library: slower, but it has a form for them
        return json.dumps(value, separators=(",", ":")).encode()


def _prefix(kind: bytes, identity: str, length: int) -> bytes:
    key = bytes.fromhex(identity)
    if len(key) != 16:
        raise ValueError(f"a request's id has 32 hex digits, {identity!r} has not")
    return _PREFIX.pack(kind, key, length)
