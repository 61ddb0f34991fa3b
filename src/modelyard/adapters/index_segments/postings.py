"""Postings of a segment: for each term the rows that hold it, and how often."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.errors import StorageError

_MOST = 0xFFFF  # more of one term in one passage are counted as this many
_BLOCK = 1 << 14


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
        ends, text = plain(self.terms)
        return {
            "lengths": self.lengths,
            "starts": self.starts,
            "rows": self.rows,
            "counts": self.counts,
            "term_ends": ends,
            "term_text": text,
        }

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Postings:
        """What `arrays` gave, without a copy."""
        ends, text = arrays["term_ends"], arrays["term_text"]
        terms = pa.StringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))
        return Postings(terms, arrays["starts"], arrays["rows"], arrays["counts"], arrays["lengths"])

    def find(self, term: str) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
        """Rows that hold `term`, ascending, and how often each does."""
        wanted = term.encode("utf-8", "surrogatepass")
        at = bisect_left(self._ordered, wanted)
        if at == len(self._ordered) or self._ordered[at] != wanted:
            return self.rows[:0], self.counts[:0]
        chosen = slice(int(self.starts[at]), int(self.starts[at + 1]))
        return self.rows[chosen], self.counts[chosen]

    @cached_property
    def _ordered(self) -> _Bytes:
        return _Bytes(self.terms)


class _Bytes(Sequence[bytes]):
    """Terms in the order they are stored in, that of their bytes."""

    def __init__(self, terms: pa.Array) -> None:
        ends, text = plain(terms)
        self._ends, self._text = ends.data, text.data

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, at: Any) -> Any:
        return bytes(self._text[self._ends[at] : self._ends[at + 1]])


def plain(strings: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Strings without nulls as what they are made of: where each ends [n + 1, from 0], and the bytes of all."""
    _, ends, text = strings.buffers()
    bounds = np.frombuffer(ends, np.int32, len(strings) + 1, strings.offset * 4) if ends else np.zeros(1, np.int32)
    data = np.frombuffer(text, np.uint8) if text else np.empty(0, np.uint8)
    return bounds - bounds[0], data[bounds[0] : bounds[-1]]


def count(texts: Iterable[Sequence[str]]) -> Postings:
    """Postings of rows whose terms are given, row by row."""
    # Block by block: the terms of all rows at once would take more memory than all the rest of a build.
    blocks: list[Postings] = []
    rest = iter(texts)
    while block := list(itertools.islice(rest, _BLOCK)):
        blocks.append(_count(block))
    if len(blocks) == 1:
        return blocks[0]
    rows = sum(len(block.lengths) for block in blocks)
    places = np.split(np.arange(rows), np.cumsum([len(block.lengths) for block in blocks])[:-1]) if blocks else []
    return merge(list(zip(blocks, places, strict=True)), rows)


def _count(texts: Sequence[Sequence[str]]) -> Postings:
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    numbers = array("i")
    for terms in texts:
        numbers.extend(map(vocabulary.__getitem__, terms))
    lengths = np.array([len(terms) for terms in texts], np.uint32)
    said = np.frombuffer(numbers, np.int32) if numbers else np.empty(0, np.int32)
    place, terms_in_order = _sorted(pa.array(list(vocabulary), pa.string()))
    keys = place[said] * len(texts) + np.repeat(np.arange(len(texts)), lengths)
    keys, counts = np.unique(keys, return_counts=True)
    return _assemble(terms_in_order, keys, np.minimum(counts, _MOST).astype(np.uint16), lengths)


def merge(parts: Sequence[tuple[Postings, NDArray[np.int64]]], rows: int) -> Postings:
    """Postings of `rows` rows put together from parts; each part says where its rows go (-1: left out).

    The same rows give the same postings, however they were cut into parts.
    """
    every = pa.chunked_array([part.terms for part, _ in parts], pa.string()).unique()
    if len(every) * rows >= 1 << 47:
        raise StorageError(f"{rows} rows of {len(every)} terms are too many for one segment")
    place, terms = _sorted(every)
    pairs, lengths = [np.empty(0, np.int64)], np.zeros(rows, np.uint32)
    for part, goes in parts:
        kept = goes >= 0
        lengths[goes[kept]] = part.lengths[kept]
        if not len(part.terms):
            continue
        to = goes[part.rows]
        key = np.repeat(place[pc.index_in(part.terms, value_set=every).to_numpy()], np.diff(part.starts)) * rows + to
        # The count rides in the low 16 bits of what is sorted, so that no second array has to be put in order.
        pairs.append((key << 16 | part.counts)[to >= 0])
    sorted_pairs = np.concatenate(pairs)
    del pairs
    sorted_pairs.sort()
    counts = (sorted_pairs & _MOST).astype(np.uint16)
    sorted_pairs >>= 16
    return _assemble(terms, sorted_pairs, counts, lengths)


def _sorted(terms: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Each term's place in byte order, and the terms in that order."""
    by_bytes = pc.sort_indices(terms)
    place = np.empty(len(terms), np.int64)
    place[by_bytes.to_numpy()] = np.arange(len(terms))
    return place, terms.take(by_bytes)


def _assemble(
    terms: pa.Array, keys: NDArray[np.int64], counts: NDArray[np.uint16], lengths: NDArray[np.uint32]
) -> Postings:
    """Postings of sorted keys, each the number of a term times the number of rows, plus a row."""
    number = keys // max(len(lengths), 1)
    row = (keys - number * max(len(lengths), 1)).astype(np.uint32)
    held = np.bincount(number, minlength=len(terms))
    starts = np.zeros(int((held > 0).sum()) + 1, np.int64)
    np.cumsum(held[held > 0], out=starts[1:])
    return Postings(terms.filter(pa.array(held > 0)), starts, row, counts, lengths)
