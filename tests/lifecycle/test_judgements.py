"""The gate and admission, as pure functions: what can never pass, planted regressions, null data, replay."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.lifecycle.admit import decide_admit
from modelyard.lifecycle.evaluate import Sitting, evidence
from modelyard.lifecycle.exam import Sheet
from modelyard.lifecycle.explain import explain
from modelyard.lifecycle.gate import decide_gate
from modelyard.ports.workload import Case, Row
from modelyard.workloads.base import BaseWorkload, mean

POLICY = {
    "floors": {"right": 0.3},
    "margins": {"right": 0.05},
    "min_cases": {"answerable": 30},
    "max_unscored": 0.0,
    "min_human": 0,
}


class Figures(BaseWorkload):
    metrics: Mapping[str, Any] = {"right": mean("right"), "wrong": mean("wrong", higher_is_better=False)}
    build = load = cases = score = None  # type: ignore[assignment]


def sitting(name: str, right: list[float | None]) -> Sitting:
    rows = [
        Row(f"c{i}", {"right": r, "wrong": 1 - r}, None, ("answerable",), f"c{i}")
        if r is not None
        else Row(f"c{i}", {}, "the model crashed", ("answerable",), f"c{i}")
        for i, r in enumerate(right)
    ]
    return Sitting(name, tuple(rows), (1.0,) * len(rows))


def judged(ours: list[float | None], theirs: list[float | None] | None, policy: Mapping[str, Any] = POLICY) -> Any:
    sheet = Sheet(tuple(Case(f"c{i}", {}, {}) for i in range(len(ours))), "0" * 64, (), "human")
    rival = sitting("old", theirs) if theirs is not None else None
    found = evidence(Figures(), sheet, sitting("new", ours), rival, 0.95)  # type: ignore[abstract]
    return decide_gate(found, policy)


def test_enough_good_cases_pass_and_say_so() -> None:
    decision = judged([1.0] * 40, None)
    assert decision.verdict == "pass" and decision.reasons == ("40 cases scored, every floor kept",)


def test_what_can_never_pass() -> None:
    assert judged([], None).verdict == "abstain"
    assert judged([None] * 40, None).verdict == "fail"
    assert judged([1.0] * 40, None, POLICY | {"floors": {}, "min_cases": {}}).verdict == "abstain"
    assert judged([1.0] * 29, None).verdict == "abstain"
    assert judged([1.0] * 39 + [None], None).verdict == "fail"
    assert judged([0.0] * 40, None).verdict == "fail"
    missing = judged([1.0] * 40, None, POLICY | {"floors": {"no_such_figure": 0.1}})
    assert missing.verdict == "fail" and "could not be measured" in missing.reasons[0]
    uncompared = judged([1.0] * 40, [1.0] * 40, POLICY | {"margins": {"no_such_figure": 0.1}})
    assert uncompared.verdict == "fail"
    people = judged([1.0] * 40, None, POLICY | {"min_human": 41})
    assert people.verdict == "abstain"


def test_the_same_answers_pass_against_the_champion_whatever_their_level() -> None:
    half = [float(i % 2) for i in range(40)]
    assert judged(half, half).verdict == "pass"


@pytest.mark.parametrize("count", [60, 200])
def test_a_planted_regression_is_found_and_null_changes_are_not_called_worse(count: int) -> None:
    rng = np.random.default_rng(7)
    found = false_alarms = 0
    for _ in range(20):
        old = (rng.random(count) < 0.8).astype(float)
        broken = np.where(rng.random(count) < 0.35, 0.0, old)
        found += judged(list(broken), list(old)).verdict == "fail"
        # A null change: a few answers flip either way with equal chance.
        flips = rng.random(count) < 0.04
        coin = (rng.random(count) < 0.5).astype(float)
        false_alarms += judged(list(np.where(flips, coin, old)), list(old)).verdict == "fail"
    assert found >= 19
    assert false_alarms <= 1


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=30, max_size=60), st.data())
def test_an_answer_that_turns_wrong_never_helps(right: list[float], data: st.DataObject) -> None:
    order = {"fail": 0, "abstain": 1, "pass": 2}
    worse = list(right)
    worse[data.draw(st.integers(0, len(right) - 1))] = 0.0
    assert order[judged(worse, right).verdict] <= order[judged(right, right).verdict]


def test_a_decision_survives_its_storage_and_is_made_again_the_same() -> None:
    decision = judged([1.0] * 35 + [0.0] * 5, [1.0] * 40)
    stored = json.loads(json.dumps({"inputs": decision.inputs}))
    again = decide_gate(**stored["inputs"])
    assert again.id == decision.id
    assert explain(decision)["replayed"] is True


@given(
    verdict=st.sampled_from(["pass", "fail", "abstain"]),
    champion=st.sampled_from([None, "passed", "unproven"]),
    policy=st.booleans(),
    person=st.booleans(),
    target=st.sampled_from(["test", "prod"]),
)
def test_admission(verdict: str, champion: str | None, policy: bool, person: bool, target: str) -> None:
    decision = decide_admit(verdict, champion, policy, person, target, "d")
    if verdict == "pass":
        assert decision.verdict == "pass"
    elif verdict == "fail":
        assert decision.verdict == "refuse"
    elif decision.verdict == "unproven":
        assert (person and target != "prod") or (policy and champion in (None, "unproven"))
    else:
        assert decision.verdict == "refuse"
    assert explain(decision)["replayed"] is True


def test_an_interval_that_cannot_be_had_is_doubt_not_a_pass() -> None:
    decision = judged([1.0] * 40, [1.0] * 40, POLICY | {"min_cases": {}})
    broken = json.loads(json.dumps(decision.inputs))
    broken["evidence"]["differences"]["right"]["low"] = None
    assert decide_gate(**broken).verdict == "abstain"
    assert not math.isnan(decision.inputs["evidence"]["metrics"]["right"]["value"])
