"""The best rows of a segment by BM25, without looking at every posting of common words.

MaxScore (Turtle and Flood 1995): terms are taken by the most they can give. Once what is left could not bring a new row
among the best, it is looked up only for rows that are still in the race. What is found, and every score to the last
bit, is what adding up all postings would give: bounds only rule rows out, and the rows left are scored anew, term by
term in the order in which they were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from modelyard.calc import bm25
from modelyard.calc.rank import top

Number = TypeVar("Number", np.uint32, np.int64)

_BLOCK = 1 << 14  # postings worked on at a time, so that what is computed of them stays in the cache
_SLACK = 1.0 + 1e-9  # sums in another order may differ in their last bits
_LOOKUP = 32  # finding one row in a list costs as much as adding up this many of its postings


@dataclass(frozen=True)
class Term:
    """A term of a question in one segment: the rows that hold it, ascending, how often, and what it counts."""

    rows: NDArray[np.uint32]
    counts: NDArray[np.uint16]
    weight: float

    def most(self, least_damping: float) -> float:
        """More than this it gives to no row."""
        if not len(self.counts):
            return 0.0
        count = float(self.counts.max())
        return self.weight * (count / (count + least_damping))


def best(
    terms: Sequence[Term],
    damping: NDArray[np.float64],
    allowed: NDArray[np.int64] | None,
    k: int,
    bar: float = 0.0,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows [m] and scores [m] of the `k` best among `allowed` (ascending; None: all), best first, ties by row; only
    scores above 0, and of those below `bar` not all. `damping` [n] is that of `calc.bm25`."""
    postings = sum(len(term.rows) for term in terms)
    if k <= 0 or not postings:
        return np.empty(0, np.int64), np.empty(0)
    if allowed is not None and len(allowed) * len(terms) * _LOOKUP < postings:
        rows = allowed.astype(np.uint32)
    elif postings * 8 < len(damping):
        rows = np.unique(np.concatenate([term.rows for term in terms]))
        rows = rows if allowed is None else rows[_place(allowed, rows.astype(np.int64))[1]]
    else:
        rows = _in_the_race(terms, damping, allowed, k, bar, postings)
    scores = _scored(terms, damping, rows)
    some = np.flatnonzero(scores > 0)
    chosen = some[top(scores[some], k)]
    return rows[chosen].astype(np.int64), scores[chosen]


def _in_the_race(
    terms: Sequence[Term],
    damping: NDArray[np.float64],
    allowed: NDArray[np.int64] | None,
    k: int,
    bar: float,
    left: int,
) -> NDArray[np.uint32]:
    """Rows, ascending, among which are the `k` best. `left`: postings of all terms."""
    least = float(damping.min())
    order = sorted(((term.most(least), i) for i, term in enumerate(terms)), reverse=True)
    mask = None
    if allowed is not None:
        mask = np.zeros(len(damping), np.bool_)
        mask[allowed] = True
    sums = np.zeros(len(damping))
    rest = sum(most for most, _ in order)
    rows: NDArray[np.int64] | None = None  # those still in the race; None: whoever holds a term
    for most, i in order:
        term = terms[i]
        if rows is not None and len(rows) * _LOOKUP < len(term.rows):
            sums[rows] += _given(term, damping, rows.astype(np.uint32))
        else:
            _add(term, damping, sums)
        rest, left = rest - most, left - len(term.rows)
        # A look at who is still in the race costs about as much as adding up a posting for every fourth row.
        if rows is None and 0 < left * 4 <= len(damping):
            continue
        if rows is None and mask is not None:
            sums *= mask
        bar = max(bar, _least_of_best(sums if rows is None else sums[rows], k))
        if rows is not None:
            rows = rows[(sums[rows] + rest) * _SLACK >= bar]
        elif rest * _SLACK < bar:
            rows = np.flatnonzero((sums + rest) * _SLACK >= bar)
    found = np.flatnonzero(sums) if rows is None else rows
    return found.astype(np.uint32)


def _least_of_best(sums: NDArray[np.float64], k: int) -> float:
    """What the k-th best has at least."""
    if len(sums) >= 256 * k:  # the k-th best of 64 strands' maxima is no better, and found ten times faster
        sums = sums[: len(sums) // 64 * 64].reshape(64, -1).max(axis=0)
    return float(np.partition(sums, len(sums) - k)[len(sums) - k]) if len(sums) >= k else 0.0


def _add(term: Term, damping: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    """Add what a term gives to every row that holds it."""
    for start in range(0, len(term.rows), _BLOCK):
        rows = term.rows[start : start + _BLOCK].astype(np.intp)
        given = _gain(term.counts[start : start + _BLOCK], damping.take(rows))
        given *= term.weight
        given += sums.take(rows)
        sums[rows] = given


def _gain(counts: NDArray[np.uint16], damped: NDArray[np.float64]) -> NDArray[np.float64]:
    """`calc.bm25.gain`, written over `damped`."""
    frequency = counts.astype(np.float64)
    damped += frequency
    return np.divide(frequency, damped, out=damped)


def _given(term: Term, damping: NDArray[np.float64], rows: NDArray[np.uint32]) -> NDArray[np.float64]:
    """What a term gives to each of these rows [m]: 0 where they do not hold it."""
    given = np.zeros(len(rows))
    if len(term.rows) < len(rows):
        at, held = _place(rows, term.rows)
        given[at[held]] = term.weight * bm25.gain(term.counts[held], damping[term.rows[held]])
    else:
        at, held = _place(term.rows, rows)
        given[held] = term.weight * bm25.gain(term.counts[at[held]], damping[rows[held]])
    return given


def _place(among: NDArray[Number], rows: NDArray[Number]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where in `among` (ascending) each of `rows` [m] stands, and whether it does. Both of one type, or NumPy would
    turn all of `among` into the other."""
    if not len(among):
        return np.zeros(len(rows), np.intp), np.zeros(len(rows), np.bool_)
    at = np.minimum(np.searchsorted(among, rows), len(among) - 1)
    return at, among[at] == rows


def _scored(terms: Sequence[Term], damping: NDArray[np.float64], rows: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The scores of these rows, each the sum over all terms in their order."""
    scores = np.zeros(len(rows))
    for term in terms:
        if min(len(rows), len(term.rows)) * _LOOKUP < len(damping):
            scores += _given(term, damping, rows)
        else:
            every = np.zeros(len(damping))
            _add(term, damping, every)
            scores += every[rows]
    return scores
