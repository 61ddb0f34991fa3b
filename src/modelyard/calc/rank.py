"""Ranking: the best of many scores. Ties never depend on luck."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
