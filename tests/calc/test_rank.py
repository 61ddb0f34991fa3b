"""Ranking: the best first, ties by order, nothing by luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.calc.bm25 import damping, gain, weight
from modelyard.calc.rank import fuse, spread, top

few = st.sampled_from([0.0, 0.5, 1.0, -np.inf])
LISTS = st.lists(st.lists(st.integers(0, 20), max_size=12, unique=True), max_size=4)


@given(st.lists(few | st.floats(-5, 5), max_size=60), st.integers(-1, 70))
def test_top_is_the_start_of_a_stable_sort(scores: list[float], k: int) -> None:
    right = [i for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)) if scores[i] > -np.inf]
    assert top(np.array(scores), k).tolist() == right[: max(k, 0)]


def test_fuse_by_hand() -> None:
    assert fuse([["a", "b"], ["b", "c"]], k=60) == [("b", 1 / 61 + 1 / 62), ("a", 1 / 61), ("c", 1 / 62)]
    assert fuse([["a", "b"], ["b"]], weights=[1, 0], k=1) == [("a", 0.5), ("b", 1 / 3)]
    assert fuse([]) == []
    assert [item for item, _ in fuse([["x", "y"], ["y", "x"]])] == ["x", "y"]
    with pytest.raises(ValueError, match="1 weights for 2 lists"):
        fuse([[1], [2]], weights=[1])


@given(LISTS)
def test_fuse_keeps_every_item_once(lists: list[list[int]]) -> None:
    fused = fuse(lists)
    assert sorted(item for item, _ in fused) == sorted({item for ranked in lists for item in ranked})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(st.lists(st.integers(), unique=True, max_size=30))
def test_fuse_of_one_list_is_that_list(ranked: list[int]) -> None:
    assert [item for item, _ in fuse([ranked])] == ranked
    assert [item for item, _ in fuse([ranked, ranked])] == ranked


@given(LISTS, st.integers(0, 20))
def test_an_item_found_once_more_does_not_fall(lists: list[list[int]], item: int) -> None:
    before = dict(fuse(lists)).get(item, 0.0)
    assert dict(fuse([*lists, [item]]))[item] > before


@given(st.lists(st.integers(0, 30)), st.integers(1, 4))
def test_spread_keeps_the_first_of_each_group(items: list[int], most: int) -> None:
    kept = spread(items, lambda item: item % 5, most)
    assert [i for i in kept if i % 5 == 2] == [i for i in items if i % 5 == 2][:most]
    assert len(kept) == sum(min(most, sum(i % 5 == g for i in items)) for g in range(5))


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
