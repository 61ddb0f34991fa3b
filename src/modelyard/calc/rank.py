"""Ranked lists: the best of many scores, several lists made one, and a list thinned out. Ties never depend on luck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def top(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Positions of the `k` highest of `scores` [n], best first; equal scores in the order of their positions.

    Minus infinity is never chosen. Costs one partition of n and one sort of the k chosen.
    """
    if k <= 0 or not len(scores):
        return np.empty(0, np.int64)
    if k < len(scores):
        bar = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores > bar)
        level = np.flatnonzero(scores == bar)[: k - len(chosen)]
        chosen = np.sort(np.concatenate([chosen, level]))
    else:
        chosen = np.arange(len(scores))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    return chosen[scores[chosen] > -np.inf].astype(np.int64)


def fuse(
    lists: Sequence[Sequence[K]], *, weights: Sequence[float] | None = None, k: float = 60.0
) -> list[tuple[K, float]]:
    """Several ranked lists as one, by reciprocal rank (Cormack, Clarke, Büttcher 2009): the sum of weight / (k + rank).

    Ranks count from 1; an item counts once a list, at its best rank. Best first; ties go to the item with the best
    single rank, then to the one met first, list by list. Raises ValueError when `weights` and `lists` differ in number.
    """
    shares = list(weights) if weights is not None else [1.0] * len(lists)
    if len(shares) != len(lists):
        raise ValueError(f"{len(shares)} weights for {len(lists)} lists")
    scores: dict[K, float] = {}
    best: dict[K, int] = {}
    for ranked, share in zip(lists, shares, strict=True):
        for rank, item in enumerate(dict.fromkeys(ranked), 1):
            scores[item] = scores.get(item, 0.0) + share / (k + rank)
            best[item] = min(best.get(item, rank), rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], best[pair[0]]))


def spread(items: Sequence[T], group: Callable[[T], Hashable], most: int = 1) -> list[T]:
    """`items` in their order, with at most `most` of each group: for instance one passage a page."""
    seen: Counter[Hashable] = Counter()
    kept = []
    for item in items:
        key = group(item)
        seen[key] += 1
        if seen[key] <= most:
            kept.append(item)
    return kept
