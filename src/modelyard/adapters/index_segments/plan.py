"""Which segments a snapshot stands on, and which are written anew. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 8
"""More segments than this in one snapshot are merged: each costs every search a little."""
BIG = 100_000
"""Segments of so many rows are not merged any more, and more are not held in memory at once: what a build takes does
not grow with the corpus."""


@dataclass(frozen=True)
class Cover:
    """`chosen`: positions of segments, and for each which of its rows [n] the snapshot shows. `missing`: positions of
    wanted ids that no segment holds."""

    chosen: tuple[tuple[int, NDArray[np.bool_]], ...]
    missing: NDArray[np.int64]


def cover(found: Sequence[NDArray[np.int64]], wanted: int) -> Cover:
    """Show each of `wanted` ids from one segment. `found[s][row]` is the id's position, -1 where it is not wanted.

    Segments mostly wanted come first, the largest first, so that what was merged before is used rather than its parts.
    """
    useful = [int((at >= 0).sum()) for at in found]
    order = sorted(range(len(found)), key=lambda s: (useful[s] * 2 < len(found[s]), -useful[s], len(found[s])))
    seen = np.zeros(wanted, np.bool_)
    chosen = []
    for s in order:
        at = found[s]
        shown = at >= 0
        shown[shown] = ~seen[at[shown]]
        if shown.any():
            seen[at[shown]] = True
            chosen.append((s, shown))
    return Cover(tuple(chosen), np.flatnonzero(~seen))


def merge(sizes: Sequence[tuple[int, int]], added: int) -> list[int]:
    """Positions of the segments to write anew, together with `added` new rows. `sizes`: (rows, rows shown) of each.

    A segment that shows less than half of its rows is always written anew: its invisible rows have paid for it. With
    more than MOST segments the smallest are merged, as far as the next one is not larger than all before it
    together; so a row is written again only when its segment has at least doubled, and the cost of a snapshot stays
    in proportion to what changed.
    """
    again = [i for i, (rows, shown) in enumerate(sizes) if shown * 2 < rows]
    rest = sorted((i for i in range(len(sizes)) if i not in again and sizes[i][0] < BIG), key=lambda i: sizes[i][1])
    pool = added + sum(sizes[i][1] for i in again)
    if len(rest) + (pool > 0) <= MOST:
        return again
    over = len(rest) + 1 - MOST
    taken = 0
    while taken < len(rest) and (taken < over or sizes[rest[taken]][1] <= pool):
        pool += sizes[rest[taken]][1]
        taken += 1
    return again + rest[:taken]


def groups(sizes: Sequence[int]) -> list[list[int]]:
    """Positions of the parts that make up each new segment, given how many rows they bring: no more parts than it takes
    to be BIG."""
    made: list[list[int]] = []
    room = 0
    for i, size in enumerate(sizes):
        if room <= 0:
            made.append([])
            room = BIG
        made[-1].append(i)
        room -= size
    return made
