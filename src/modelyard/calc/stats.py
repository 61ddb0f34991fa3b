"""Figures of an exam with their uncertainty: a bootstrap over clusters, paired where two releases sat the same cases.

Rows of one cluster (questions on the same page) stand or fall together, so clusters are resampled, not rows. The
percentile bootstrap: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; with few clusters it is
too narrow, so the counts are always shown beside the interval and the gate has a least number of cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Figure = Callable[[Mapping[str, Floats], Floats], float]
RESAMPLES = 1000


@runtime_checkable
class ManyAtOnce(Protocol):
    """A figure that is computed for many weightings at a time, some hundred times faster than one by one."""

    def draws(self, columns: Mapping[str, Floats], weights: Floats) -> Floats:
        """[b] for weights of shape [b, n]: what the figure itself gives for each."""
        ...


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval. `n` counts the rows it rests on, `clusters` the independent units among them."""

    value: float
    low: float
    high: float
    n: int
    clusters: int


def resample(clusters: Sequence[str], seed: int, resamples: int = RESAMPLES) -> Floats:
    """Weights of shape [resamples, n]: how often each row is in each resample of whole clusters. Deterministic."""
    names, inverse = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights: Floats = counts[:, inverse].astype(np.float64)
    return weights


def estimate(
    figure: Figure, columns: Mapping[str, Floats], clusters: Sequence[str], weights: Floats, confidence: float
) -> Estimate | None:
    """`figure` on the rows, with a percentile interval over the resamples. None where it is not defined on them.

    Resamples on which it is not defined are left out; with more than half of them undefined there is no interval, and
    it is the widest there is (minus to plus infinity).
    """
    n = len(clusters)
    value = figure(columns, np.ones(n))
    if math.isnan(value):
        return None
    draws = _draws(figure, columns, weights)
    used = _used(figure, columns, clusters)
    return Estimate(value, *_interval(draws, confidence), *used)


def paired(
    figure: Figure,
    ours: Mapping[str, Floats],
    theirs: Mapping[str, Floats],
    clusters: Sequence[str],
    weights: Floats,
    confidence: float,
) -> Estimate | None:
    """The difference ours - theirs of `figure`, both on the same resamples of the same rows."""
    everyone = np.ones(len(clusters))
    value = figure(ours, everyone) - figure(theirs, everyone)
    if math.isnan(value):
        return None
    draws = _draws(figure, ours, weights) - _draws(figure, theirs, weights)
    return Estimate(value, *_interval(draws, confidence), *_used(figure, ours, clusters))


def _draws(figure: Figure, columns: Mapping[str, Floats], weights: Floats) -> Floats:
    if isinstance(figure, ManyAtOnce):
        return figure.draws(columns, weights)
    return np.array([figure(columns, w) for w in weights])


def _interval(draws: Floats, confidence: float) -> tuple[float, float]:
    defined = draws[~np.isnan(draws)]
    if len(defined) * 2 < len(draws):
        return -math.inf, math.inf
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _used(figure: Figure, columns: Mapping[str, Floats], clusters: Sequence[str]) -> tuple[int, int]:
    """Rows the figure is defined on when they stand alone, and their clusters; all of them for one that is defined on
    no single row (an area under a curve, say)."""
    n = len(clusters)
    alone = [i for i in range(n) if not math.isnan(figure(columns, _one(n, i)))] or list(range(n))
    return len(alone), len({clusters[i] for i in alone})


def _one(n: int, i: int) -> Floats:
    weights = np.zeros(n)
    weights[i] = 1.0
    return weights


def detectable(n: int, spread: float, confidence: float, power: float = 0.8) -> float:
    """The smallest true difference that a comparison of `n` pairs with a standard deviation `spread` of differences
    finds with probability `power` (normal approximation). Infinite for n = 0."""
    if n == 0:
        return math.inf
    z = _z(confidence + (1 - confidence) / 2) + _z(power)
    return z * spread / math.sqrt(n)


def _z(p: float) -> float:
    """Quantile of the standard normal, by bisection of its distribution function."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        if 0.5 * math.erfc(-middle / math.sqrt(2)) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def quantile(values: Sequence[float], q: float) -> float:
    """Raises ValueError for no values: an empty quantile is an error, not 0."""
    if not len(values):
        raise ValueError("no values: a quantile of nothing is not a number")
    return float(np.quantile(np.asarray(values, dtype=np.float64), q))
