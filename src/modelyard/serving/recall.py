"""The newest rows of a record, as they were written, for who wants to see one request of a moment ago. In memory.

What is kept is what the record keeps: what its redaction took out, or what was too long for it, is not here either.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from modelyard.serving.rows import ACCEPTED, FINISHED, Accepted, Finished, decode, kind_and_key

MOST_REQUESTS = 200
MOST_BYTES = 8 << 20


@dataclass(frozen=True)
class Recalled:
    """One request: its rows, and the codes of what was left out of them. `finished` is None while it is under way."""

    accepted: Accepted
    finished: Finished | None
    left_out: tuple[str, ...]


class Recall:
    """Used from one event loop."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, list[bytes]] = OrderedDict()
        self._size = 0

    def keep(self, key: bytes, row: bytes) -> None:
        """A row that was written. The oldest requests make room."""
        rows = self._rows.get(key)
        if rows is None:
            if row[:1] != ACCEPTED:
                return
            rows = self._rows[key] = []
        rows.append(row)
        self._size += len(row)
        while len(self._rows) > MOST_REQUESTS or (self._size > MOST_BYTES and len(self._rows) > 1):
            _, gone = self._rows.popitem(last=False)
            self._size -= sum(map(len, gone))

    def find(self, request: str) -> Recalled | None:
        """By the request's id; None where it is not kept, or not any more."""
        try:
            rows = self._rows.get(bytes.fromhex(request), [])
        except ValueError:
            return None
        accepted: Accepted | None = None
        finished: Finished | None = None
        left_out: list[str] = []
        for row in rows:
            kind, _ = kind_and_key(memoryview(row))
            fields, codes, body = decode(memoryview(row))
            left_out += codes
            values: list[Any] = [request, *fields, body]
            if kind == ACCEPTED:
                accepted = Accepted(*values)
            elif kind == FINISHED:
                finished = Finished(*values)
        return None if accepted is None else Recalled(accepted, finished, tuple(left_out))
