"""Figures with weights: those of scikit-learn, and a row of weight k is k rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from modelyard.calc import predictive
from modelyard.workloads.model.metrics import METRICS, PAIRS

Floats = NDArray[np.float64]
Figure = Callable[[Floats, Floats, Floats], float]

BINARY: dict[str, tuple[Figure, Callable[..., float]]] = {
    "average precision": (predictive.average_precision, sk.average_precision_score),
    "area": (predictive.roc_auc, sk.roc_auc_score),
    "brier": (predictive.brier, sk.brier_score_loss),
    "log loss": (predictive.log_loss, lambda y, p, sample_weight: sk.log_loss(y, p, sample_weight=sample_weight)),
}
CLASSES: dict[str, tuple[Figure, Callable[..., float]]] = {
    "accuracy": (predictive.accuracy, sk.accuracy_score),
    "f1": (predictive.macro_f1, lambda y, p, sample_weight: sk.f1_score(y, p, average="macro", **_w(sample_weight))),
}
NUMBERS: dict[str, tuple[Figure, Callable[..., float]]] = {
    "absolute": (predictive.mean_absolute_error, sk.mean_absolute_error),
    "squared": (predictive.root_mean_squared_error, sk.root_mean_squared_error),
    "variance": (predictive.r_squared, sk.r2_score),
}
TABLES = {"binary": BINARY, "classes": CLASSES, "numbers": NUMBERS}


def _w(weight: Floats) -> dict[str, Floats]:
    return {"sample_weight": weight}


def sample(seed: int, kind: str) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 60))
    weight = rng.integers(0, 4, n).astype(float)
    weight[:4] = 1
    if kind == "binary":
        label = rng.integers(0, 2, n).astype(float)
        label[:2] = 0, 1
        return label, np.round(rng.random(n), int(rng.integers(1, 4))), weight
    if kind == "classes":
        return rng.integers(0, 4, n).astype(float), rng.integers(0, 5, n).astype(float), weight
    target = rng.normal(size=n)
    return target, target + rng.normal(size=n), weight


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, table in (("binary", BINARY), ("classes", CLASSES), ("numbers", NUMBERS))
        for name in table
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_figures_of_scikit_learn(kind: str, name: str) -> None:
    figure, reference = TABLES[kind][name]
    for seed in range(40):
        truth, said, weight = sample(seed, kind)
        there = weight > 0
        expected = reference(truth[there], said[there], sample_weight=weight[there])
        assert figure(truth, said, weight) == pytest.approx(expected, abs=1e-9), seed


@given(st.integers(0, 10**6), st.sampled_from(["binary", "classes", "numbers"]))
def test_a_weight_is_as_many_rows(seed: int, kind: str) -> None:
    truth, said, weight = sample(seed, kind)
    times = weight.astype(int)
    for figure, _ in TABLES[kind].values():
        repeated = figure(np.repeat(truth, times), np.repeat(said, times), np.ones(times.sum()))
        assert figure(truth, said, weight) == pytest.approx(repeated, abs=1e-9, nan_ok=True)


def test_what_is_not_defined_is_no_number() -> None:
    one, score, weight = np.ones(3), np.array([0.1, 0.2, 0.3]), np.ones(3)
    assert math.isnan(predictive.roc_auc(one, score, weight))
    assert math.isnan(predictive.average_precision(np.zeros(3), score, weight))
    assert math.isnan(predictive.log_loss(one, score * 10, weight))
    assert math.isnan(predictive.r_squared(one, score, weight))
    assert math.isnan(predictive.balanced_accuracy(one, one, weight))
    assert math.isnan(predictive.mean_absolute_error(one, one, np.zeros(3)))


def test_recall_at_a_precision() -> None:
    label, score = np.array([1.0, 1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    assert predictive.recall_at_precision(label, score, np.ones(5), 1.0) == pytest.approx(2 / 3)
    assert predictive.recall_at_precision(label, score, np.ones(5), 0.75) == 1.0
    assert predictive.recall_at_precision(1 - label, score, np.ones(5), 0.9) == 0.0


@pytest.mark.parametrize("task", sorted(PAIRS))
def test_quality_is_0_for_a_constant_and_1_for_no_mistake(task: str) -> None:
    truth, said = PAIRS[task]
    right = np.array([0.0, 1, 0, 1, 1, 1])
    constant = np.full(6, right.mean() if task == "regression" else 1.0)
    quality = METRICS["quality"].value
    assert quality({truth: right, said: right}, np.ones(6)) == pytest.approx(1)
    assert quality({truth: right, said: constant}, np.ones(6)) == pytest.approx(0)
    assert quality({"agrees": np.array([1.0, 0.0])}, np.ones(2)) == 0.5
