"""Figures of an exam, by what a row measured: a score, a class, a number, or whether a recorded answer came again.

Columns of a row: `label` (0 or 1) and `score`; `class` and `predicted_class` (whole numbers); `target` and
`prediction`; `agrees` (0 or 1). An exam has one of these pairs; the figures of the others are not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from modelyard.calc import predictive
from modelyard.ports.workload import Columns, Metric
from modelyard.workloads.base import mean

Floats = NDArray[np.float64]
_Pair = Callable[[Floats, Floats, Floats], float]

PAIRS: Mapping[str, tuple[str, str]] = {
    "binary": ("label", "score"),
    "multiclass": ("class", "predicted_class"),
    "regression": ("target", "prediction"),
}
LEAST_PRECISION = 0.9


def _of(pair: tuple[str, str], figure: _Pair, columns: Columns, weights: Floats) -> float:
    truth, said = columns[pair[0]], columns[pair[1]]
    there = ~(np.isnan(truth) | np.isnan(said)) & (weights > 0)
    return figure(truth[there], said[there], weights[there]) if there.any() else math.nan


def _metric(name: str, task: str, figure: _Pair, higher_is_better: bool = True) -> Metric:
    return Metric(name, partial(_of, PAIRS[task], figure), higher_is_better)


def _ranked(label: Floats, score: Floats, weight: Floats) -> float:
    return 2 * predictive.roc_auc(label, score, weight) - 1


_QUALITY: Mapping[str, _Pair] = {
    "binary": _ranked,
    "multiclass": predictive.balanced_accuracy,
    "regression": predictive.r_squared,
}


def quality(columns: Columns, weights: Floats) -> float:
    """One figure whatever the task, for the gate: 0 is what a constant guess reaches, 1 is perfect. Twice the ROC AUC
    less 1, balanced accuracy over chance, R squared; the share that agrees where answers were recorded."""
    for task, pair in PAIRS.items():
        if pair[0] in columns:
            return _of(pair, _QUALITY[task], columns, weights)
    return float(mean("agrees").value(columns, weights))


def _all() -> list[Metric]:
    precise = partial(predictive.recall_at_precision, least=LEAST_PRECISION)
    return [
        Metric("quality", quality),
        _metric("average_precision", "binary", predictive.average_precision),
        _metric("roc_auc", "binary", predictive.roc_auc),
        _metric("recall_at_precision_90", "binary", precise),
        _metric("brier", "binary", predictive.brier, higher_is_better=False),
        _metric("log_loss", "binary", predictive.log_loss, higher_is_better=False),
        _metric("accuracy", "multiclass", predictive.accuracy),
        _metric("macro_f1", "multiclass", predictive.macro_f1),
        _metric("mae", "regression", predictive.mean_absolute_error, higher_is_better=False),
        _metric("rmse", "regression", predictive.root_mean_squared_error, higher_is_better=False),
        _metric("r2", "regression", predictive.r_squared),
        mean("agreement", "agrees"),
    ]


METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _all()}
