"""The statistics of a rollout: fair bets, limits that hold however often one looks, and by unit only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelyard.calc.sequential import ODDS, STAKES, Arms, Pairs, bets, difference, outweighs, worse

ALPHA = 0.01
shares = st.floats(0.005, 0.95)
bases = st.floats(0, 0.9)
tallies = st.tuples(st.integers(0, 500), st.integers(0, 500)).map(lambda t: (t[0] + t[1], t[1]))
arms = st.builds(Arms, shares, tallies, tallies)
pairs = st.builds(lambda a, b, c: Pairs(a + b + c, b, c), *[st.integers(0, 300)] * 3)
counts = st.lists(arms | pairs, max_size=4)


@given(shares, bases, st.sampled_from(ODDS))
def test_every_bet_is_fair(share: float, base: float, odds: float) -> None:
    champion, challenger = bets(share, base, odds)
    for failed in (0, 1):
        assert share * challenger[failed] + (1 - share) * champion[failed] == pytest.approx(1)
    assert challenger[1] >= 1 >= champion[1] and min(*champion, *challenger) > 0


@given(counts, bases)
def test_more_failures_of_the_challenger_are_more_evidence(found: list[Arms | Pairs], base: float) -> None:
    now = worse(found, base)
    assert math.isfinite(now)
    share = 0.3
    one = Arms(share, (1, 0), (0, 0)), Arms(share, (0, 0), (1, 1)), Arms(share, (1, 1), (0, 0))
    assert worse([*found, one[1]], base) >= now - 1e-9
    assert worse([*found, one[2]], base) <= now + 1e-9
    assert worse([*found, one[0]], base) >= now - 1e-9


@given(counts, st.floats(0, 0.5))
def test_limits_hold_the_estimate_and_refute_what_lies_outside(found: list[Arms | Pairs], base: float) -> None:
    limits = difference(found, ALPHA, base)
    assert -1 <= limits.low <= 1 and -1 <= limits.high <= 1
    if limits.high < 1:
        assert outweighs(found, limits.high, base) >= -math.log(ALPHA)
        assert outweighs(found, max(-1.0, limits.high - 1e-3), base) < -math.log(ALPHA) or limits.high < -0.999
    if limits.value is None:
        assert not any(isinstance(one, Pairs) and one.units for one in found)


def test_nothing_seen_is_no_evidence() -> None:
    assert worse([]) == outweighs([], 0.1) == 0
    assert difference([], ALPHA) == difference([Arms(0.5, (0, 0), (0, 0))], ALPHA)
    assert (difference([], ALPHA).low, difference([], ALPHA).high) == (-1, 1)


def test_counts_that_cannot_be_are_refused() -> None:
    for wrong in (lambda: Arms(0, (1, 0), (1, 0)), lambda: Arms(1, (1, 0), (1, 0)), lambda: Arms(0.5, (1, 2), (0, 0))):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError):
        Pairs(3, 2, 2)
    with pytest.raises(ValueError):
        outweighs([], 1.5)


def capital(challenger: NDArray[np.bool_], failed: NDArray[np.bool_], share: float, base: float) -> NDArray[np.float64]:
    """log capital after each unit, [rollouts, units]: the bets of `worse`, added up in the order units come."""
    runs = []
    for odds in ODDS:
        table = np.log(np.array(bets(share, base, odds)))
        runs.append(np.cumsum(table[challenger.astype(int), failed.astype(int)], axis=1))
    return np.logaddexp.reduce(np.array(runs), axis=0) - math.log(len(ODDS))


def test_the_capital_of_a_simulation_is_that_of_the_counts() -> None:
    rng = np.random.default_rng(1)
    arm, failed = rng.random((1, 200)) < 0.3, rng.random((1, 200)) < 0.2
    n = [(int((~arm).sum()), int((~arm & failed).sum())), (int(arm.sum()), int((arm & failed).sum()))]
    assert capital(arm, failed, 0.3, 0.1)[0, -1] == pytest.approx(worse([Arms(0.3, n[0], n[1])], 0.1))


@pytest.mark.parametrize(
    ("share", "base", "rate"), [(0.01, 0, 0.02), (0.05, 0, 0.3), (0.25, 0.1, 0.1), (0.5, 0.1, 0.3)]
)
def test_looking_after_every_unit_a_null_is_sent_back_no_more_often_than_alpha(
    share: float, base: float, rate: float
) -> None:
    rng = np.random.default_rng(7)
    rollouts, units = 1500, 1500
    arm = rng.random((rollouts, units)) < share
    # Rates that drift, hour by hour, and bad hours: the coin knows nothing of them.
    hours = rate * np.exp(rng.normal(0, 1, (rollouts, units // 50)).repeat(50, axis=1))
    failed = rng.random((rollouts, units)) < np.minimum(hours, 0.9)
    ever = (capital(arm, failed, share, base) >= -math.log(ALPHA)).any(axis=1)
    assert ever.sum() <= _most(rollouts, ALPHA)


def _most(n: int, alpha: float) -> int:
    """Three standard deviations over the mean of a binomial."""
    return math.ceil(n * alpha + 3 * math.sqrt(n * alpha * (1 - alpha)))


@pytest.mark.parametrize(("callers", "share"), [(40, 0.05), (40, 0.5), (200, 0.25)])
def test_by_request_the_bound_breaks_and_by_unit_it_holds(callers: int, share: float) -> None:
    # Few callers, some of them heavy and each with a failure rate of its own: one coin a caller.
    rng = np.random.default_rng(3)
    rollouts, requests = 1000, 3000
    weight = rng.pareto(1.0, (rollouts, callers)) + 0.05
    edges = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    draws = rng.random((rollouts, requests))
    caller = np.array([np.searchsorted(e, d) for e, d in zip(edges, draws, strict=True)]).clip(0, callers - 1)
    rates = rng.beta(0.3, 5.0, (rollouts, callers))
    failed = rng.random((rollouts, requests)) < np.take_along_axis(rates, caller, axis=1)
    coin = rng.random((rollouts, callers)) < share
    arm = np.take_along_axis(coin, caller, axis=1)
    by_request = (capital(arm, failed, share, 0) >= -math.log(ALPHA)).any(axis=1)
    first = np.zeros_like(failed)
    for row in range(rollouts):
        where = np.flatnonzero(failed[row])
        first[row, where[np.unique(caller[row, where], return_index=True)[1]]] = True
    by_unit = (capital(arm, first, share, 0) >= -math.log(ALPHA)).any(axis=1)
    assert by_unit.mean() <= ALPHA
    assert by_request.mean() > 3 * ALPHA


@pytest.mark.parametrize(("share", "base", "before"), [(0.05, 0.0, 0.01), (0.25, 0.1, 0.1), (0.5, 0.1, 0.4)])
def test_a_challenger_at_the_margin_is_let_through_no_more_often_than_alpha(
    share: float, base: float, before: float
) -> None:
    rng = np.random.default_rng(11)
    rollouts, units, margin = 1500, 1500, 0.05
    arm = rng.random((rollouts, units)) < share
    # The difference drifts, and is the margin in the mean over every hundred units.
    swing = 0.04 * np.where(np.arange(units) // 50 % 2 == 0, 1, -1)
    after = np.clip(before + margin + swing, 0, 1)
    failed = rng.random((rollouts, units)) < np.where(arm, after, before)
    high, z = (
        max((1 - base) / share, base / (1 - share)),
        np.where(arm, (failed - base) / share, -(failed - base) / (1 - share)),
    )
    logs = np.array([np.cumsum(np.log1p(stake / (high + 1) * (margin - z)), axis=1) for stake in STAKES])
    gained = np.logaddexp.reduce(logs, axis=0) - math.log(len(STAKES))
    n = [(int(s.sum()), int((s & failed[0]).sum())) for s in (~arm[0], arm[0])]
    assert gained[0, -1] == pytest.approx(outweighs([Arms(share, n[0], n[1])], margin, base))
    at_most = gained[:, 99::100]  # looks at which the running mean is the margin
    assert (at_most >= -math.log(ALPHA)).any(axis=1).sum() <= _most(rollouts, ALPHA)


def test_planted_faults_are_found() -> None:
    rng = np.random.default_rng(5)
    rollouts, units, share = 200, 4000, 0.25
    arm = rng.random((rollouts, units)) < share
    failed = rng.random((rollouts, units)) < np.where(arm, 0.03, 0.005)
    ever = (capital(arm, failed, share, 0) >= math.log(7 / ALPHA)).any(axis=1)
    assert ever.mean() > 0.9
