"""Units counted: once per test, by their arm, in the order they settle; and the same again from the log."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from canary import BEGAN, NEW, OLD, policy, rollout
from hypothesis import given
from hypothesis import strategies as st

from modelyard.clock import FakeClock
from modelyard.errors import (
    AnswerStopped,
    Busy,
    Cancelled,
    ModelFailed,
    RateLimited,
    RecordFull,
    RefusedByPolicy,
    RequestError,
    RequestStopped,
    RequestTooLarge,
    Unauthorized,
    UnsupportedType,
)
from modelyard.ports.records import SHADOW, Pointers
from modelyard.serving import appender
from modelyard.serving import rollout as rollouts
from modelyard.serving.assignment import Assignment, outcome, unit_of
from modelyard.serving.evidence import CHALLENGER, CHAMPION, KEPT, LEAST_KEPT, Evidence
from modelyard.serving.log import Log
from modelyard.serving.rollout import RolloutRouter, Trial


def counting(settle: float = 60.0) -> Evidence:
    found = policy()
    return Evidence(found["tests"], found["steps"], settle)


def test_a_unit_that_fails_a_hundred_times_counts_once() -> None:
    found = counting()
    found.assigned("u", 1, CHALLENGER, 0)
    found.assigned("v", 1, CHAMPION, 0)
    for i in range(100):
        found.observed("u", {"errors": 1.0}, i / 10)
    row = {"share": 0.05, "champion": [1, 0], "challenger": [1, 1]}
    assert found.tests()["errors"] == {"seen": [row], "settled": []}
    found.settle(60)
    assert found.tests()["errors"] == {"seen": [row], "settled": [row]}
    assert found.units(1) == {"champion": 1, "challenger": 1}


def test_what_comes_after_a_unit_settled_sends_back_but_holds_up_nothing() -> None:
    found = counting()
    found.assigned("u", 0, CHALLENGER, 0)
    found.observed("u", {"errors": 0.0}, 1)
    found.observed("u", {"errors": 1.0}, 61)
    assert found.tests()["errors"]["seen"][0]["challenger"] == [1, 1]
    assert found.tests()["errors"]["settled"][0]["challenger"] == [1, 0]


def test_what_is_not_assigned_or_of_the_shadow_is_not_counted() -> None:
    found = counting()
    found.observed("nobody", {"errors": 1.0}, 0)
    found.assigned("old", SHADOW, CHAMPION, 0)
    found.observed("old", {"errors": 1.0, "latency": 5.0}, 1)
    found.settle(1000)
    assert all(rows == {"seen": [], "settled": []} for rows in found.tests().values())
    assert found.known("old") == (SHADOW, CHAMPION)


def test_a_step_up_concerns_new_units_only() -> None:
    found = counting()
    found.assigned("u", 0, CHALLENGER, 0)
    found.assigned("u", 1, CHAMPION, 5)
    assert found.known("u") == (0, CHALLENGER)


def test_levels_are_those_of_the_champion_of_the_same_time() -> None:
    found = counting(settle=1.0)
    for i in range(LEAST_KEPT + 100):
        found.assigned(f"a{i}", 0, CHAMPION, i)
        found.observed(f"a{i}", {"latency": 100.0 + i % 10}, i)
    late = LEAST_KEPT + 200
    for i in range(20):
        found.assigned(f"b{i}", 0, CHALLENGER, late + i)
        found.observed(f"b{i}", {"latency": 50.0 if i % 2 else 300.0}, late + i)
    found.settle(late + 100)
    settled = found.tests()["latency"]["settled"]
    (n0, k0), (n1, k1) = settled[0]["champion"], settled[0]["challenger"]
    assert (n0, n1, k1) == (100, 20, 10)  # the first ones make the quantile, and have no figure themselves
    assert abs(k0 / n0 - 0.1) <= 0.05
    assert found.tests()["latency"]["seen"] == settled


def test_low_is_the_other_side() -> None:
    found = counting(settle=1.0)
    for i in range(KEPT + 200):
        found.assigned(f"a{i}", 0, CHAMPION, i)
        found.observed(f"a{i}", {"groundedness": 0.5 + (i % 10) / 20}, i)
    found.assigned("b", 0, CHALLENGER, 9999)
    found.observed("b", {"groundedness": 0.1}, 9999)
    found.settle(99999)
    assert found.tests()["groundedness"]["settled"][0]["challenger"] == [1, 1]
    champion = found.tests()["groundedness"]["settled"][0]["champion"]
    assert champion[1] / champion[0] < 0.15


def test_a_figure_that_never_varies_is_never_past_its_quantile() -> None:
    found = counting(settle=1.0)
    for i in range(200):
        found.assigned(f"a{i}", 0, CHAMPION, i)
        found.observed(f"a{i}", {"cost": 0.0}, i)
    found.settle(999)
    assert found.tests()["cost"]["settled"][0]["champion"] == [200 - LEAST_KEPT, 0]


def test_pairs_count_who_failed_alone() -> None:
    found = counting()
    for unit, ours, theirs in (("a", 0.0, 1.0), ("b", 1.0, 0.0), ("c", 1.0, 1.0), ("d", 0.0, 0.0), ("a", 0.0, 1.0)):
        found.mirrored(unit, {"errors": ours}, {"errors": theirs, "agreement": 0.5}, 0)
    rows = found.tests()["errors"]
    assert rows["seen"] == [{"units": 4, "champion_only": 1, "challenger_only": 1}] and rows["settled"] == []
    found.settle(100)
    assert found.tests()["errors"]["settled"] == rows["seen"]
    assert found.units(SHADOW) == {"champion": 4, "challenger": 4} and found.agreement() == 0.5
    # What failed together first is not decided by who fails alone later.
    found.mirrored("c", {"errors": 0.0}, {"errors": 1.0}, 101)
    assert found.tests()["errors"]["seen"] == rows["seen"]


def test_pairs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.serving.rollout.MOST_UNITS", 3)
    trial = Trial(rollout(), tmp_path / "r1", FakeClock(BEGAN), durability="process")
    for i in range(9):
        trial.mirrored(f"u{i}", {"errors": 0.0}, {"errors": 1.0})
    assert trial.evidence(0, None)["tests"]["errors"]["seen"][0]["units"] == trial.faults == 3
    trial.close()


def test_a_unit_is_lost_to_both() -> None:
    found = counting()
    found.assigned("u", 1, CHALLENGER, 0)
    found.lost("u", 1)
    found.observed("u", {"errors": 1.0}, 2)
    assert found.known("u") == (SHADOW, CHAMPION)
    assert found.tests()["errors"]["seen"][0]["challenger"] == [1, 0]


actions = st.lists(
    st.tuples(
        st.sampled_from("aoomx"),
        st.integers(0, 12),
        st.integers(0, 2),
        st.booleans(),
        st.sampled_from((0.0, 1.0)),
        st.floats(0, 500),
        st.floats(0, 40),
    ),
    max_size=120,
)


@given(actions)
def test_counts_are_possible_whatever_comes(steps: list[Any]) -> None:
    found, now = counting(settle=30.0), 0.0
    for what, number, stage, arm, failed, level, later in steps:
        now += later
        unit, values = f"u{number}", {"errors": failed, "latency": level, "score": level / 500}
        if what == "a":
            found.assigned(unit, stage, int(arm), now)
        elif what == "o":
            found.observed(unit, values, now)
        elif what == "m":
            found.mirrored(unit, values, {**values, "errors": float(arm)}, now)
        else:
            found.lost(unit, now)
    found.settle(now + 100)
    for rows in found.tests().values():
        for row in [*rows["seen"], *rows["settled"]]:
            if "units" in row:
                assert 0 <= row["champion_only"] + row["challenger_only"] <= row["units"]
            else:
                assert all(0 <= k <= n for n, k in (row["champion"], row["challenger"]))


# a trial: the same on disk


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(BEGAN)


def test_a_unit_keeps_its_release_through_steps_and_restarts(tmp_path: Path, clock: FakeClock) -> None:
    coin = random.Random(1).random
    units = [f"u{i}" for i in range(200)]

    async def first() -> tuple[dict[str, Assignment], dict[str, Any]]:
        trial = Trial(rollout(2), tmp_path / "r1", clock, coin, "process")
        given = {unit: await trial.assign(unit) for unit in units}
        for i, unit in enumerate(units):
            clock.advance(1)
            trial.observe(unit, {"errors": float(i % 7 == 0), "latency": float(i)})
        trial.rollout = replace(trial.rollout, stage=3 - 1)
        assert {unit: await trial.assign(unit) for unit in units} == given
        found = trial.evidence(1.0, None)
        trial.close()
        return given, found

    async def again() -> tuple[dict[str, Assignment], dict[str, Any]]:
        trial = Trial(rollout(2), tmp_path / "r1", clock, lambda: 0.0, "process")
        found = {unit: await trial.assign(unit) for unit in units}, trial.evidence(1.0, None)
        trial.close()
        return found

    given, found = asyncio.run(first())
    assert asyncio.run(again()) == (given, found)
    challengers = [one for one in given.values() if one.arm == "challenger"]
    assert 25 < len(challengers) < 75  # a quarter of 200
    assert {one.release for one in challengers} == {NEW.id} and {one.probability for one in challengers} == {0.25}
    assert {one.probability for one in given.values() if one.arm == "champion"} == {0.75}


def test_the_coin_is_on_disk_before_anybody_is_answered(tmp_path: Path, clock: FakeClock) -> None:
    async def killed() -> list[Assignment]:
        trial = Trial(rollout(2), tmp_path / "r1", clock, random.Random(2).random)
        given = [await trial.assign(f"u{i}") for i in range(50)]
        # As after kill -9: nothing is closed, and the lock goes with the process.
        os.close(trial._log._lock)
        return given

    async def after() -> list[Assignment]:
        trial = Trial(rollout(2), tmp_path / "r1", clock, lambda: 0.999)
        found = [await trial.assign(f"u{i}") for i in range(50)]
        trial.close()
        return found

    assert asyncio.run(killed()) == asyncio.run(after())


def test_requests_of_a_unit_that_come_together_share_one_coin(tmp_path: Path, clock: FakeClock) -> None:
    async def together() -> None:
        trial = Trial(rollout(2), tmp_path / "r1", clock, random.Random(3).random, "process")
        for i in range(40):
            found = await asyncio.gather(*(trial.assign(f"u{i}") for _ in range(5)))
            assert len(set(found)) == 1
        assert trial.units == 40
        trial.close()

    asyncio.run(together())


def test_what_cannot_be_written_down_goes_to_the_champion_and_is_not_counted(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full() -> None:
        trial = Trial(rollout(2), tmp_path / "r1", clock, lambda: 0.0)

        def refuse(self: Log, row: bytes, **more: Any) -> None:
            raise RecordFull("no space")

        monkeypatch.setattr(Log, "append", refuse)
        assert (await trial.assign("u")).release == OLD.id
        monkeypatch.undo()
        assert (await trial.assign("u")).release == OLD.id  # and it stays there
        trial.observe("u", {"errors": 1.0})
        assert trial.unrecorded == 1 and trial.evidence(0, None)["tests"]["errors"]["seen"] == []
        trial.close()

    asyncio.run(full())


def test_a_coin_that_does_not_get_to_the_disk_is_not_waited_for(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()

    async def story() -> None:
        trial = Trial(rollout(2), tmp_path / "r1", clock, iter((0.0, 0.9)).__next__)
        with monkeypatch.context() as patch:
            patch.setattr(appender, "sync", lambda file: hung.wait())
            patch.setattr(rollouts, "COIN_SECONDS", 0.05)
            for _ in range(2):
                with pytest.raises(RecordFull, match="does not answer"):
                    await trial.assign("u")
            hung.set()
        assert (await trial.assign("u")).release == NEW.id  # one coin, and it fell
        trial.close()

    asyncio.run(story())


def test_conversations_of_before_stay_with_the_champion_at_first(tmp_path: Path, clock: FakeClock) -> None:
    async def under_way() -> None:
        trial = Trial(rollout(0), tmp_path / "r1", clock, lambda: 0.0, "process")
        assert (await trial.assign("old", begun=True)).release == OLD.id
        assert (await trial.assign("new")).release == NEW.id
        clock.advance(3601)
        assert (await trial.assign("always", begun=True)).release == NEW.id
        trial.close()

    asyncio.run(under_way())


# the router


def test_without_a_rollout_a_split_by_hand_is_kept_by_unit() -> None:
    router = RolloutRouter("site")
    assert asyncio.run(router.assign("u")) == Assignment()
    router.follow(Pointers(1, OLD.id, traffic=((OLD.id, 70), (NEW.id, 30))), None)
    given = [asyncio.run(router.assign(f"u{i}")) for i in range(500)]
    assert given == [asyncio.run(router.assign(f"u{i}")) for i in range(500)]
    share = sum(one.release == NEW.id for one in given) / 500
    assert 0.2 < share < 0.4
    assert {(one.arm, one.probability) for one in given} == {("champion", 0.7), ("split", 0.3)}


def test_a_release_that_is_not_up_is_answered_for_and_nobody_counts_it(tmp_path: Path, clock: FakeClock) -> None:
    async def down() -> None:
        trial = Trial(rollout(2), tmp_path / "r1", clock, lambda: 0.0, "process")
        router = RolloutRouter("site", up=lambda release: release != NEW.id)
        router.follow(Pointers(1, OLD.id, NEW.id), trial)
        assert await router.assign("u") == Assignment()
        router.observe("u", {"errors": 1.0}, OLD.id)
        assert trial.evidence(0, None)["tests"]["errors"]["seen"][0]["challenger"] == [1, 0]
        trial.close()

    asyncio.run(down())


def test_after_a_promotion_conversations_stay_where_they_were(tmp_path: Path, clock: FakeClock) -> None:
    async def promoted() -> None:
        trial = Trial(rollout(2), tmp_path / "r1", clock, iter((0.0, 0.9)).__next__, "process")
        router = RolloutRouter("site")
        router.follow(Pointers(1, OLD.id, NEW.id), trial)
        new, old = await router.assign("a"), await router.assign("b")
        trial.rollout = replace(trial.rollout, state="promoted")
        router.follow(Pointers(2, NEW.id, previous=OLD.id), trial)
        assert (await router.assign("a")).release == new.release == NEW.id
        assert await router.assign("b") == Assignment(old.release, "previous")
        assert await router.assign("c") == Assignment(NEW.id)
        router.follow(Pointers(2, NEW.id, previous=OLD.id), None)
        assert await router.assign("b") == Assignment()
        trial.close()

    asyncio.run(promoted())


# units and outcomes


def test_units_are_told_apart_by_caller_and_conversation() -> None:
    first = b'{"role":"user","content":"hi"}'
    units = {
        unit_of("t1", "c1", first),
        unit_of("t1", "c2", first),
        unit_of("t2", "c1", first),
        unit_of("t1", None, first),
        unit_of("t1", None, b"else"),
        unit_of(None, None, first),
    }
    assert len(units) == 6 and all(len(unit) == 16 for unit in units)
    assert unit_of("t1", "c1", b"one") == unit_of("t1", "c1", b"another")
    unit_of("t", "half of a pair \ud800", b"")


def test_what_a_release_refuses_counts_once_by_unit_and_never_as_its_failure() -> None:
    found = counting()
    found.assigned("clumsy", 1, CHALLENGER, 0)
    for i in range(100):
        found.observed("clumsy", outcome(RequestError("no such column"), 5.0, {}), i / 10)
    found.settle(60)
    tests = found.tests()
    assert tests["refused"]["seen"][0]["challenger"] == tests["refused"]["settled"][0]["challenger"] == [1, 1]
    assert tests["errors"]["settled"][0]["challenger"] == [1, 0]


def test_a_models_failure_counts_and_a_callers_mistake_does_not() -> None:
    assert outcome(ModelFailed("crash"), 5.0, {}) == {"errors": 1.0, "refused": 0.0}
    assert outcome(AnswerStopped("the guard g stopped the answer"), 5.0, {}) == {"errors": 1.0, "refused": 0.0}
    for refusal in (RequestStopped("the guard g stopped it"), RequestError("wrong"), UnsupportedType("not csv")):
        assert outcome(refusal, 5.0, {}) == {"errors": 0.0, "refused": 1.0}
    for own in (Unauthorized("no token"), RequestTooLarge("50 MB"), RefusedByPolicy("not now")):
        assert outcome(own, 5.0, {}) == {"errors": 0.0, "refused": 0.0}
    for busy in (Busy("full"), RateLimited("too many", 1.0)):
        assert outcome(busy, 5.0, {}) == {}
    assert outcome(Cancelled("the caller went away"), 5.0, {}) == {"errors": 0.0, "refused": 0.0, "latency": 5.0}
    assert outcome(None, 5.0, {"score": 0.5, "errors": 9.0, "refused": 9.0, "cost": 0.1}) == {
        **{"errors": 0.0, "refused": 0.0, "latency": 5.0},
        **{"score": 0.5, "cost": 0.1},
    }
