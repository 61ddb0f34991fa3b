"""The judgement of a rollout as a pure function: when it goes back, on, and neither; and that it can be made again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from canary import NEW, OLD, arms, evidence, policy, rollout
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import NotFound
from modelyard.lifecycle.canary import policy_of, split, stepped
from modelyard.lifecycle.explain import explain
from modelyard.lifecycle.rollout import act_on, decide_rollout
from modelyard.ports.records import SHADOW, Decision, Pointers
from modelyard.project.model import Rollout as Policy

CLEAN = {"errors": arms((4750, 20), (250, 0)), "latency": arms((4750, 475), (250, 22))}


def decided(found: dict[str, Any], **more: Any) -> Decision:
    return decide_rollout(found, {**policy(), **more})


def test_a_challenger_that_does_well_goes_on() -> None:
    decision = decided(evidence(tests=CLEAN))
    assert decision.verdict == "pass" and act_on(decision) == "advance"
    assert any("errors" in reason and "at 25 %" in reason for reason in decision.reasons)
    assert decision.reasons[-1].startswith("not measured here: abstained")


def test_one_that_fails_more_often_goes_back_and_says_by_how_much() -> None:
    decision = decided(evidence(tests={**CLEAN, "errors": arms((1900, 9), (100, 12))}))
    assert decision.verdict == "fail" and act_on(decision) == "revert"
    assert "12 of 100 units (challenger) against 9 of 1,900 units (champion)" in decision.reasons[0]


def test_callers_mistakes_are_against_nobody_and_more_of_them_are_against_the_challenger() -> None:
    clumsy = decided(evidence(tests={**CLEAN, "refused": arms((1900, 190), (100, 10))}))
    assert clumsy.verdict == "abstain" and any(reason.startswith("refused: ") for reason in clumsy.reasons)
    narrow = decided(evidence(tests={**CLEAN, "refused": arms((1900, 19), (100, 20))}))
    assert act_on(narrow) == "revert" and narrow.reasons[0].startswith("refused: 20 of 100 units (challenger)")
    assert policy(margins={"refused": 0.1})["tests"]["refused"]["margin"] == 0.1
    assert "refused" not in policy(tests={"refused": None})["tests"]


@pytest.mark.parametrize("age", [0.0, 10.0**9])
def test_silence_decides_nothing(age: float) -> None:
    decision = decided(evidence(units={"champion": 0, "challenger": 0}, age=age))
    assert decision.verdict == "abstain" and "no traffic" in decision.reasons[0]
    assert act_on(decision) == ("wait" if not age else "hold")


def test_past_its_age_the_policy_says_what_becomes_of_it() -> None:
    found = evidence(units={"champion": 40, "challenger": 2}, age=8 * 86400.0)
    assert act_on(decided(found)) == "hold"
    assert act_on(decided(found, at_max_age="revert")) == "revert"
    assert "8.0 days" in decided(found).reasons[-1]


def test_traffic_without_the_challenger_is_too_little() -> None:
    decision = decided(evidence(units={"champion": 500, "challenger": 0}, tests={"errors": arms((500, 0), (0, 0))}))
    assert decision.verdict == "abstain"
    assert "errors: no unit of the challenger has a figure yet" in decision.reasons


def test_a_step_is_as_hard_as_the_traffic_it_gives() -> None:
    tests = {"errors": arms((4750, 20), (250, 0))}
    assert decided(evidence(tests=tests, next=25)).verdict == "pass"
    assert decided(evidence(tests=tests, next=100)).verdict == "abstain"


def test_a_challenger_that_does_not_run_goes_back_at_once() -> None:
    decision = decided(evidence(units={"champion": 0, "challenger": 0}, down="it crashes"))
    assert decision.verdict == "fail" and decision.reasons[0].endswith("it crashes")


def test_in_the_shadow_only_what_can_be_compared_there_is_waited_for() -> None:
    pairs = {"units": 40, "champion_only": 0, "challenger_only": 0}
    row = {"seen": [pairs], "settled": [pairs]}
    found = evidence(
        stage=SHADOW, share=0, next=1, shadow=True, units={"champion": 40, "challenger": 40}, agreement=0.93
    )
    decision = decided({**found, "tests": {"errors": row}})
    assert decision.verdict == "pass"
    assert "answers in the shadow agreed to 93%" in decision.reasons and "latency" in decision.reasons[-1]
    worse = {"seen": [{**pairs, "challenger_only": 20}], "settled": []}
    assert decided({**found, "tests": {"errors": worse}}).verdict == "fail"


tallies = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda t: (t[0] + t[1], t[1]))


@given(tallies, tallies, st.sampled_from((1, 5, 25)), st.sampled_from(("errors", "latency", "score low")))
def test_every_decision_can_be_made_again_and_more_failures_never_help(
    old: tuple[int, int], new: tuple[int, int], share: int, name: str
) -> None:
    def judged(failed: int) -> Decision:
        units = {"champion": old[0], "challenger": new[0]}
        tests = {name: arms(old, (new[0], failed), share / 100)}
        return decided(evidence(share=share, next=5 * share if share < 25 else 100, units=units, tests=tests))

    decision = judged(new[1])
    stored = Decision("rollout", decision.verdict, decision.reasons, json.loads(json.dumps(decision.inputs)))
    assert explain(stored)["replayed"] is True
    order = ["pass", "abstain", "fail"]
    if new[1] < new[0]:
        assert order.index(judged(new[1] + 1).verdict) >= order.index(decision.verdict)


def judged(verdict: str, **more: Any) -> Decision:
    inputs = {"evidence": evidence(**more), "policy": policy()}
    return Decision("rollout", verdict, ("because",), inputs)


def test_what_a_decision_makes_of_a_rollout() -> None:
    at = "2026-01-02T00:00:00.000Z"
    shadow = rollout()
    pointers = Pointers(1, OLD.id, NEW.id, previous="p" * 64)
    on, to = stepped(shadow, pointers, judged("pass"), at) or (None, None)
    assert on is not None and to is not None
    assert (on.stage, on.share, on.stage_since, on.state) == (0, 1, at, "running")
    assert to.traffic == ((OLD.id, 99), (NEW.id, 1)) == split(on) and to.previous == "p" * 64
    assert stepped(on, to, judged("abstain"), at) is None
    last = replace(on, stage=2)
    done, to = stepped(last, to, judged("pass"), at) or (None, None)
    assert done is not None and done.state == "promoted" and not done.live
    assert to == Pointers(champion=NEW.id, previous=OLD.id)
    back, to = stepped(last, pointers, judged("fail"), at) or (None, None)
    assert back is not None and (back.state, back.reason) == ("reverted", "because")
    assert to == Pointers(champion=OLD.id, previous="p" * 64)


def test_one_that_is_held_only_goes_back() -> None:
    late = judged("abstain", age=10.0**7)
    held, to = stepped(rollout(1), Pointers(1, OLD.id, NEW.id), late, "") or (None, None)
    assert held is not None and held.state == "held" and held.live and to is None
    for verdict in ("pass", "abstain"):
        assert stepped(held, Pointers(1, OLD.id, NEW.id), judged(verdict, age=10.0**7), "") is None
    assert stepped(held, Pointers(1, OLD.id, NEW.id), judged("fail"), "") is not None


def test_the_policy_spells_out_its_tests() -> None:
    own = {"refunds": {"value": "refund", "side": "any", "margin": 0.02}, "cost": None}
    found = policy_of(Policy.model_validate({"tests": own, "margins": {"errors": 0.001}}))
    assert "cost" not in found["tests"] and found["tests"]["errors"]["margin"] == 0.001
    assert found["tests"]["refunds"] == {
        **{"value": "refund", "side": "any", "quantile": 0.9, "margin": 0.02},
        **{"paired": True, "base": 0.0},
    }
    assert found["tests"]["latency"]["base"] == 0.1
    with pytest.raises(NotFound, match="no test 'speed'"):
        policy_of(Policy.model_validate({"margins": {"speed": 0.1}}))
    assert json.loads(json.dumps(found)) == found
