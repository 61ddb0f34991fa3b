"""The shadow: compared, never in the way, never more than it may hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from canary import BEGAN, NEW, OLD, rollout
from hypothesis import given
from hypothesis import strategies as st

from modelyard.clock import FakeClock
from modelyard.errors import Busy, ModelFailed, ModelyardError, RequestError, RequestTooLarge
from modelyard.ports.records import Pointers
from modelyard.serving.assignment import Values, outcome
from modelyard.serving.rollout import RolloutRouter, Trial
from modelyard.serving.shadow import Shadow, agreement

GOOD: Values = {"errors": 0.0, "latency": 5.0}
JOB = {"do": "predict", "request": {"messages": []}, "stream": True, "key": "k", "groups": ["staff"]}


def in_shadow(tmp_path: Path) -> tuple[Trial, RolloutRouter]:
    trial = Trial(rollout(), tmp_path / "r1", FakeClock(BEGAN), durability="process")
    router = RolloutRouter("site")
    router.follow(Pointers(1, OLD.id, NEW.id), trial)
    return trial, router


async def settled(shadow: Shadow) -> None:
    while shadow._tasks:
        await asyncio.sleep(0)


def test_the_challenger_is_asked_the_same_and_its_effects_go_elsewhere(tmp_path: Path) -> None:
    asked: list[tuple[str, Mapping[str, Any]]] = []

    async def ask(release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append((release, job))
        return {"text": "it is ten", "output": {}, "usage": {}, "signals": {"abstained": 0.0}}

    async def story() -> None:
        trial, router = in_shadow(tmp_path)
        router.shadow = shadow = Shadow(ask)
        assert (await router.assign("u")).release == OLD.id
        router.mirror("u", JOB, GOOD, {"text": "it is eleven"})
        assert not asked  # not before whoever answers live has gone on
        await settled(shadow)
        assert asked == [(NEW.id, {**JOB, "key": "k-shadow", "effects": "shadow", "stream": False})]
        found = trial.evidence(0, None)
        assert found["agreement"] == 0.6667
        assert found["tests"]["errors"]["seen"] == [{"units": 1, "champion_only": 0, "challenger_only": 0}]
        assert shadow.counts == {"mirrored": 1, "failed": 0}
        trial.close()

    asyncio.run(story())


def test_failures_of_the_challenger_are_counted_and_a_full_queue_is_none(tmp_path: Path) -> None:
    errors = iter((ModelFailed("crash"), Busy("full")))

    async def ask(release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        raise next(errors)

    async def story() -> None:
        trial, router = in_shadow(tmp_path)
        router.shadow = shadow = Shadow(ask)
        for unit in ("a", "b"):
            router.mirror(unit, JOB, GOOD, {"text": "x"})
            await settled(shadow)
        assert shadow.counts == {"mirrored": 1, "failed": 1, "dropped": 1}
        seen = trial.evidence(0, None)["tests"]["errors"]["seen"]
        assert seen == [{"units": 1, "champion_only": 0, "challenger_only": 1}]
        assert trial.faults == 1
        trial.close()

    asyncio.run(story())


@pytest.mark.parametrize("refusal", [RequestError("a column is missing"), RequestTooLarge("more than 20 rows")])
def test_to_refuse_what_was_answered_live_is_against_the_challenger(tmp_path: Path, refusal: ModelyardError) -> None:
    async def ask(release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        raise refusal

    async def story() -> None:
        trial, router = in_shadow(tmp_path)
        router.shadow = shadow = Shadow(ask)
        router.mirror("answered", JOB, outcome(None, 5.0, {}), {"text": "x"})
        router.mirror("refused", JOB, outcome(RequestError("a column is missing"), 5.0, {}), None)
        await settled(shadow)
        tests = trial.evidence(0, None)["tests"]
        assert tests["refused"]["seen"] == [{"units": 2, "champion_only": 0, "challenger_only": 1}]
        assert tests["errors"]["seen"] == [{"units": 2, "champion_only": 0, "challenger_only": 0}]
        assert trial.faults >= 1 and shadow.counts == {"mirrored": 2, "failed": 1}
        trial.close()

    asyncio.run(story())


def test_what_does_not_fit_is_dropped_and_counted_and_nothing_waits(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def ask(release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        await gate.wait()
        return {"text": "x"}

    async def story() -> None:
        trial, router = in_shadow(tmp_path)
        router.shadow = shadow = Shadow(ask, at_once=2, waiting=3)
        for i in range(20):
            router.mirror(f"u{i}", JOB, GOOD, {"text": "x"})
        assert shadow.counts["dropped"] == 15
        gate.set()
        await settled(shadow)
        assert shadow.counts["mirrored"] == 5
        gate.clear()
        router.mirror("late", JOB, GOOD, None)
        await asyncio.wait_for(shadow.close(), 5)
        trial.close()

    asyncio.run(story())


def test_outside_the_shadow_nothing_is_mirrored(tmp_path: Path) -> None:
    async def ask(release: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        raise AssertionError

    async def story() -> None:
        router = RolloutRouter("site")
        router.shadow = shadow = Shadow(ask)
        router.mirror("u", JOB, GOOD, {"text": "x"})
        trial = Trial(rollout(1), tmp_path / "r1", FakeClock(BEGAN), durability="process")
        router.follow(Pointers(1, OLD.id, NEW.id), trial)
        router.mirror("u", JOB, GOOD, {"text": "x"})
        assert not shadow._tasks
        trial.close()

    asyncio.run(story())


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(values, values)
def test_agreement_is_a_share_alike_both_ways_and_whole_with_itself(a: Any, b: Any) -> None:
    found = agreement(a, b)
    assert 0 <= found <= 1 and abs(found - agreement(b, a)) < 1e-9
    assert agreement(a, json.loads(json.dumps(a))) == 1


def test_agreement_by_kind() -> None:
    assert agreement("ten days of leave", "ten days") == 4 / 6
    assert agreement([0.5, 0.25], [0.5 + 1e-9, 0.3]) == 0.5
    assert agreement({"predictions": [1, 2]}, {"predictions": [1]}) == 0.5
    assert agreement(True, 1) == 0
