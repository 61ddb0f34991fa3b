"""Postings of a segment: for each term the rows that hold it, and how often."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_MOST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Postings:
    """`terms` [m] in byte order; term t is held by `rows[starts[t]:starts[t + 1]]`, ascending, `counts` times each;
    `lengths` [n] are the terms of each row, repetitions counted."""

    terms: pa.Array
    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint16]
    lengths: NDArray[np.uint32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is written to disk."""
        ends = np.frombuffer(self.terms.buffers()[1], np.int32, len(self.terms) + 1, self.terms.offset * 4)
        text = self.terms.buffers()[2]
        data = np.frombuffer(text, np.uint8)[ends[0] : ends[-1]] if text is not None else np.empty(0, np.uint8)
        return {
            "lengths": self.lengths,
            "starts": self.starts,
            "rows": self.rows,
            "counts": self.counts,
            "term_ends": (ends - ends[0]).astype(np.int32),
            "term_text": data,
        }

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Postings:
        """What `arrays` gave, without a copy."""
        ends, text = arrays["term_ends"], arrays["term_text"]
        terms = pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))
        return Postings(terms, arrays["starts"], arrays["rows"], arrays["counts"], arrays["lengths"])

    def find(self, term: str) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Rows that hold `term`, ascending, and how often each does."""
        at = bisect_left(_Bytes(self.terms), term.encode("utf-8", "surrogatepass"))
        if at == len(self.terms) or self.terms[at].as_py() != term:
            return self.rows[:0], self.counts[:0]
        chosen = slice(int(self.starts[at]), int(self.starts[at + 1]))
        return self.rows[chosen], self.counts[chosen]


class _Bytes(Sequence[bytes]):
    """Terms in the order they are stored in, that of their bytes."""

    def __init__(self, terms: pa.Array) -> None:
        self._terms = terms

    def __len__(self) -> int:
        return len(self._terms)

    def __getitem__(self, at: Any) -> Any:
        return self._terms[at].as_buffer().to_pybytes()


def count(texts: Iterable[Sequence[str]]) -> Postings:
    """Postings of rows whose terms are given, row by row."""
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    numbers = array("i")
    lengths = array("I")
    for terms in texts:
        numbers.extend(map(vocabulary.__getitem__, terms))
        lengths.append(len(terms))
    sizes = np.frombuffer(lengths, np.uint32) if lengths else np.empty(0, np.uint32)
    said = np.frombuffer(numbers, np.int32).astype(np.int64) if numbers else np.empty(0, np.int64)
    rows = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    order, terms = _sorted(pa.array(list(vocabulary), pa.string()))
    keys, counts = np.unique(order[said] * max(len(sizes), 1) + rows, return_counts=True)
    return _assemble(terms, keys, counts, sizes)


def merge(parts: Sequence[tuple[Postings, NDArray[np.int64]]], rows: int) -> Postings:
    """Postings of `rows` rows put together from parts; each part says where its rows go (-1: left out).

    The same rows give the same postings, however they were cut into parts.
    """
    every = pa.chunked_array([part.terms for part, _ in parts], pa.string()).unique()
    order, terms = _sorted(every)
    keys, counts, lengths = [], [], np.zeros(rows, np.uint32)
    for part, place in parts:
        kept = place >= 0
        lengths[place[kept]] = part.lengths[kept]
        number = (
            order[pc.index_in(part.terms, value_set=every).to_numpy()] if len(part.terms) else np.empty(0, np.int64)
        )
        goes = place[part.rows]
        key = np.repeat(number, np.diff(part.starts)) * max(rows, 1) + goes
        keys.append(key[goes >= 0])
        counts.append(part.counts[goes >= 0])
    all_keys = np.concatenate(keys)
    by_key = np.argsort(all_keys, kind="stable")
    return _assemble(terms, all_keys[by_key], np.concatenate(counts)[by_key], lengths)


def _sorted(terms: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Each term's place in byte order, and the terms in that order."""
    by_bytes = pc.sort_indices(terms)
    place = np.empty(len(terms), np.int64)
    place[by_bytes.to_numpy()] = np.arange(len(terms))
    return place, terms.take(by_bytes)


def _assemble(terms: pa.Array, keys: NDArray[np.int64], counts: NDArray[Any], lengths: NDArray[np.uint32]) -> Postings:
    number, row = np.divmod(keys, max(len(lengths), 1))
    held = np.bincount(number, minlength=len(terms))
    starts = np.zeros(int((held > 0).sum()) + 1, np.int64)
    np.cumsum(held[held > 0], out=starts[1:])
    return Postings(
        terms.filter(pa.array(held > 0)),
        starts,
        row.astype(np.uint32),
        np.minimum(counts, _MOST).astype(np.uint16),
        lengths.astype(np.uint32),
    )
