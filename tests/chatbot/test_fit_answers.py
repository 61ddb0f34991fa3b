"""benchmarks/fit_answers.py: the arithmetic of the fit. What it finds is measured, not tested."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.workloads.chatbot.chain import DEFAULTS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fitting() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("fit_answers")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_every_mark_in_use_has_a_sign_and_its_weight_obeys_it(fitting: ModuleType) -> None:
    weights = {name: float(w) for name, w in DEFAULTS["weights"].items() if name != "bias"}
    assert fitting.SIGNS.keys() == weights.keys()
    assert [name for name, sign in fitting.SIGNS.items() if sign * weights[name] < 0] == []


@given(seed=st.integers(0, 10_000))
def test_the_gradient_is_that_of_the_loss(fitting: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random((5, 4)) < 0.7
    there[:, -1] = True
    credit = there * rng.integers(0, 2, there.shape).astype(float)
    credit[:, -1] = fitting.CREDIT
    marks = rng.normal(size=(5, 3, 6))
    choices = fitting.Choices(marks, there, credit, np.full(5, 0.2))
    at = rng.normal(size=7)
    _, gradient = fitting.loss(at, choices)
    for i, step in enumerate(1e-5 * np.eye(7)):
        slope = (fitting.loss(at + step, choices)[0] - fitting.loss(at - step, choices)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@given(
    documents=st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=40),
    count=st.integers(2, 9),
)
def test_questions_on_one_document_share_a_fold(fitting: ModuleType, documents: list[str | None], count: int) -> None:
    cases = [{"evidence": [{"document": d, "page": 1}] if d else []} for d in documents]
    folds = fitting.folds(cases, count)
    assert len(folds) == len(cases) and all(0 <= f < count for f in folds)
    assert all(len({f for f, d in zip(folds, documents, strict=True) if d == name}) <= 1 for name in "abcdef")
    unanswerable = [f for f, d in zip(folds, documents, strict=True) if d is None]
    sizes = [unanswerable.count(k) for k in range(count)]
    assert max(sizes) - min(sizes) <= 1


@given(bias=st.floats(-20, 0), threshold=st.floats(0.01, 0.99))
def test_the_working_point_becomes_one_half(fitting: ModuleType, bias: float, threshold: float) -> None:
    weights = {**dict.fromkeys(fitting.SIGNS, 0.0), "bias": bias}
    # What scored `threshold` by the weights as fitted scores 0.5 by those written, to the two decimals they have.
    value = math.log(threshold / (1 - threshold)) - bias
    assert value + float(fitting.folded(weights, threshold)["bias"]) == pytest.approx(0, abs=0.006)
