"""Ranking: the best first, ties by order, nothing by luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.calc.bm25 import damping, gain, weight
from modelyard.calc.rank import top

few = st.sampled_from([0.0, 0.5, 1.0, -np.inf])


@given(st.lists(few | st.floats(-5, 5), max_size=60), st.integers(-1, 70))
def test_top_is_the_start_of_a_stable_sort(scores: list[float], k: int) -> None:
    right = [i for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)) if scores[i] > -np.inf]
    assert top(np.array(scores), k).tolist() == right[: max(k, 0)]


@given(st.integers(1, 10**6), st.data())
def test_a_term_always_counts_and_a_rare_one_more(passages: int, data: st.DataObject) -> None:
    holding = data.draw(st.integers(1, passages))
    assert weight(passages, holding) > 0
    assert weight(passages, holding, 2) == pytest.approx(2 * weight(passages, holding))
    if holding > 1:
        assert weight(passages, holding - 1) > weight(passages, holding)


def test_more_of_a_term_is_better_and_a_long_passage_worse() -> None:
    lengths = np.array([10, 10, 40], np.uint32)
    gains = gain(np.array([1, 3, 3], np.uint16), damping(lengths, 3, 60))
    assert gains[1] > gains[0]
    assert gains[1] > gains[2]
    assert ((gains > 0) & (gains < 1)).all()
    assert damping(np.zeros(2, np.uint32), 2, 0).tolist() == pytest.approx([0.3, 0.3])
