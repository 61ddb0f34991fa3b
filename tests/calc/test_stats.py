"""Figures with intervals: what is drawn at once is what is drawn one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelyard.calc import stats
from modelyard.ports.workload import Metric
from modelyard.workloads.base import mean, ratio

CELLS = st.one_of(st.just(float("nan")), st.sampled_from([0.0, 0.25, 1.0]), st.floats(-1e6, 1e6))
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12)


@given(rows=ROWS, seed=st.integers(0, 9), metric=st.sampled_from([mean("a"), ratio("of", "a", "b")]))
def test_many_weightings_at_once_give_what_each_gives(
    rows: list[tuple[float, float]], seed: int, metric: Metric
) -> None:
    columns = {"a": np.array([a for a, _ in rows]), "b": np.array([b for _, b in rows])}
    weights = stats.resample([str(i // 2) for i in range(len(rows))], seed, 20)
    assert isinstance(metric.value, stats.ManyAtOnce)
    drawn = metric.value.draws(columns, weights)
    assert drawn.shape == (20,)
    assert np.allclose(drawn, [metric.value(columns, w) for w in weights], equal_nan=True)


@given(rows=ROWS, seed=st.integers(0, 9))
def test_a_mean_is_the_mean_of_the_rows_drawn(rows: list[tuple[float, float]], seed: int) -> None:
    values = np.array([a for a, _ in rows])
    weights = stats.resample([str(i) for i in range(len(rows))], seed, 5)
    for weight in weights:
        drawn = np.repeat(values, weight.astype(int))
        kept = drawn[~np.isnan(drawn)]
        said = mean("a").value({"a": values}, weight)
        assert np.isclose(said, kept.mean(), atol=1e-6) if len(kept) else np.isnan(said)


def test_an_interval_is_the_same_however_it_is_drawn() -> None:
    columns = {"right": np.array([1.0, 0, 1, 1, float("nan"), 0, 1, 1])}
    clusters = list("aabbcdef")
    weights = stats.resample(clusters, 7)
    figure = mean("right").value
    at_once = stats.estimate(figure, columns, clusters, weights, 0.95)
    one_by_one = stats.estimate(lambda c, w: figure(c, w), columns, clusters, weights, 0.95)
    assert at_once is not None and one_by_one is not None
    assert np.allclose([at_once.low, at_once.high], [one_by_one.low, one_by_one.high])
    assert (at_once.value, at_once.n, at_once.clusters) == (one_by_one.value, 7, 5)
