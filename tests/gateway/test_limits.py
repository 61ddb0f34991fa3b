"""What one token may use, by the minute and by the day: no process, and a clock that is moved by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.clock import FakeClock
from modelyard.errors import BudgetSpent, RateLimited
from modelyard.gateway.limits import Allowance
from modelyard.ports.tokens import Limits, Spent

steps = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 300)), max_size=80)


@given(most=st.integers(1, 30), steps=steps)
def test_never_more_requests_in_a_minute_than_a_full_bucket_and_a_minute_of_filling(
    most: int, steps: list[tuple[float, int]]
) -> None:
    clock = FakeClock()
    allowance = Allowance(Limits(requests_per_minute=most), clock)
    admitted: list[float] = []
    for wait, _ in steps:
        clock.advance(wait)
        try:
            allowance.admit()
            admitted.append(clock.monotonic())
        except RateLimited as error:
            assert error.status == 429 and error.retry_after is not None and 0 < error.retry_after <= 60 / most + 1e-6
            clock.advance(error.retry_after + 1e-6)
            allowance.admit()  # when it says, it may
            admitted.append(clock.monotonic())
    for start in admitted:
        assert len([at for at in admitted if start <= at < start + 60]) <= 2 * most + 1


@given(most=st.integers(1, 2000), steps=steps)
def test_usage_is_paid_for_before_the_next_request(most: int, steps: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    allowance = Allowance(Limits(tokens_per_minute=most), clock)
    spent = 0
    for wait, tokens in steps:
        clock.advance(wait)
        try:
            allowance.admit()
        except RateLimited as error:
            assert error.retry_after is not None
            clock.advance(error.retry_after + 1e-6)
            allowance.admit()
        before = spent
        allowance.spend(tokens)
        spent += tokens
        # What was there at the start, and what filled up since, covers all but the last answer.
        assert before <= most + most * clock.monotonic() / 60 + 1e-6


@given(most=st.integers(1, 20), before=st.integers(0, 25), asked=st.integers(0, 40))
def test_a_days_budget_holds_across_a_restart(most: int, before: int, asked: int) -> None:
    clock = FakeClock(datetime(2026, 3, 1, 22, 0, tzinfo=UTC))
    allowance = Allowance(Limits(requests_per_day=most), clock, Spent(before, 0))
    let_in = 0
    for _ in range(asked):
        try:
            allowance.admit()
            let_in += 1
        except BudgetSpent as error:
            assert not error.retry and error.retry_after == 2 * 3600
    assert let_in == min(asked, max(0, most - before))
    clock.advance(2 * 3600)
    allowance.admit()  # midnight in UTC
    saved = allowance.unsaved()
    assert saved.pop("2026-03-02") == Spent(1, 0)
    assert saved == ({"2026-03-01": Spent(let_in, 0)} if let_in else {})
    assert allowance.unsaved() == {}


def test_a_budget_of_usage() -> None:
    allowance = Allowance(Limits(tokens_per_day=100), FakeClock())
    allowance.admit()
    allowance.spend(99)
    allowance.admit()
    allowance.spend(50)  # the last answer may go over
    with pytest.raises(BudgetSpent, match="budget of 100 tokens of usage a day"):
        allowance.admit()
    assert allowance.unsaved() == {"2026-01-01": Spent(2, 149)}


def test_what_could_not_be_saved_is_not_lost() -> None:
    allowance = Allowance(Limits(), FakeClock())
    allowance.admit()
    (day, spent), *_ = allowance.unsaved().items()
    allowance.spend(7)
    allowance.again(day, spent)
    assert allowance.unsaved() == {day: Spent(1, 7)}


def test_the_headers_are_openais() -> None:
    clock = FakeClock()
    allowance = Allowance(Limits(requests_per_minute=60, tokens_per_minute=6000), clock)
    allowance.admit()
    allowance.spend(1000)
    assert dict(allowance.headers()) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5000",
        "x-ratelimit-reset-tokens": "10s",
    }
    clock.advance(60)
    assert dict(allowance.headers())["x-ratelimit-reset-requests"] == "0ms"
    assert Allowance(Limits(requests_per_day=5), clock).headers() == []


def test_what_is_no_question_counts_by_the_minute_only() -> None:
    allowance = Allowance(Limits(requests_per_minute=2, tokens_per_minute=10, requests_per_day=1), FakeClock())
    allowance.admit()
    allowance.spend(1000)
    allowance.admit(question=False)
    with pytest.raises(RateLimited, match="2 requests a minute"):
        allowance.admit(question=False)
    assert allowance.unsaved() == {"2026-01-01": Spent(1, 1000)}
