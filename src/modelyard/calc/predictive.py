"""Figures of predictions against what turned out true, each with weights per row (whole counts in a bootstrap).

All arrays are of shape [n]; a row of weight 0 is as if it were not there. NaN where a figure is not defined. Equal
scores count as one threshold. Average precision is the sum of precision over steps of recall, without interpolation;
ROC AUC the probability that a positive row has a higher score than a negative one, ties by half (Fawcett, An
introduction to ROC analysis, 2006). The same figures as scikit-learn's of these names.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SMALLEST = float(np.finfo(np.float64).eps)


def _curve(label: Floats, score: Floats, weight: Floats) -> tuple[Floats, Floats] | None:
    """Weight of true and of false positives at each threshold, from the highest on. None with one class only."""
    there = weight > 0
    label, score, weight = label[there], score[there], weight[there]
    order = np.argsort(-score, kind="stable")
    label, score, weight = label[order], score[order], weight[order]
    right = np.cumsum(weight * label)
    wrong = np.cumsum(weight * (1 - label))
    if not len(right) or right[-1] == 0 or wrong[-1] == 0:
        return None
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    return right[last], wrong[last]


def average_precision(label: Floats, score: Floats, weight: Floats) -> float:
    """`label` is 0 or 1. NaN with one class only."""
    curve = _curve(label, score, weight)
    if curve is None:
        return math.nan
    right, wrong = curve
    steps = np.diff(right, prepend=0.0) / right[-1]
    return float(steps @ (right / (right + wrong)))


def roc_auc(label: Floats, score: Floats, weight: Floats) -> float:
    """`label` is 0 or 1. NaN with one class only."""
    curve = _curve(label, score, weight)
    if curve is None:
        return math.nan
    right, wrong = (np.concatenate([[0.0], one / one[-1]]) for one in curve)
    return float(np.sum(np.diff(wrong) * (right[1:] + right[:-1]) / 2))


def recall_at_precision(label: Floats, score: Floats, weight: Floats, least: float) -> float:
    """The largest share of the positives found at a threshold whose precision is at least `least`; 0 where none is."""
    curve = _curve(label, score, weight)
    if curve is None:
        return math.nan
    right, wrong = curve
    enough = right / (right + wrong) >= least
    return float(right[enough].max(initial=0.0) / right[-1])


def brier(label: Floats, score: Floats, weight: Floats) -> float:
    """Mean squared error of probabilities. NaN where a score is none."""
    if not _probabilities(score):
        return math.nan
    return _mean((score - label) ** 2, weight)


def log_loss(label: Floats, score: Floats, weight: Floats) -> float:
    """Mean negative log likelihood, in nats, of probabilities; 0 and 1 are taken for one rounding step less. NaN where
    a score is no probability."""
    if not _probabilities(score):
        return math.nan
    p = np.clip(score, _SMALLEST, 1 - _SMALLEST)
    return _mean(-(label * np.log(p) + (1 - label) * np.log1p(-p)), weight)


def _probabilities(score: Floats) -> bool:
    return bool(len(score)) and float(score.min()) >= 0 and float(score.max()) <= 1


def accuracy(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Share of rows whose class was predicted; classes are whole numbers from 0."""
    return _mean((label == predicted).astype(np.float64), weight)


def macro_f1(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Mean over the classes that occur, as label or as prediction, of the harmonic mean of precision and recall."""
    told, said, hit = _counts(label, predicted, weight)
    there = (told + said) > 0
    return float(np.mean(2 * hit[there] / (told + said)[there])) if there.any() else math.nan


def balanced_accuracy(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Mean recall of the classes that occur, over chance: 0 for guessing one class, 1 for no mistake. NaN with one
    class only."""
    told, _, hit = _counts(label, predicted, weight)
    there = told > 0
    classes = int(there.sum())
    if classes < 2:
        return math.nan
    return float((np.mean(hit[there] / told[there]) - 1 / classes) / (1 - 1 / classes))


def _counts(label: Floats, predicted: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Weight by class: labelled so, predicted so, both."""
    a, b = label.astype(np.int64), predicted.astype(np.int64)
    size = int(max(a.max(initial=0), b.max(initial=0))) + 1
    told, said = np.bincount(a, weight, size), np.bincount(b, weight, size)
    hit = np.bincount(a, weight * (a == b), size)
    return told.astype(np.float64), said.astype(np.float64), hit.astype(np.float64)


def mean_absolute_error(target: Floats, predicted: Floats, weight: Floats) -> float:
    """In units of the target."""
    return _mean(np.abs(predicted - target), weight)


def root_mean_squared_error(target: Floats, predicted: Floats, weight: Floats) -> float:
    """In units of the target."""
    return math.sqrt(_mean((predicted - target) ** 2, weight))


def r_squared(target: Floats, predicted: Floats, weight: Floats) -> float:
    """Share of the target's variance explained; negative where the mean would do better. NaN without variance."""
    middle = _mean(target, weight)
    spread = _mean((target - middle) ** 2, weight)
    return 1 - _mean((predicted - target) ** 2, weight) / spread if spread > 0 else math.nan


def _mean(values: Floats, weight: Floats) -> float:
    total = float(weight.sum())
    return float(values @ weight) / total if total > 0 else math.nan
