"""The gate: may this release replace the champion? A pure function of evidence and policy that fails closed.

- A floor is broken when the figure is below it, or missing though there are cases enough.
- A comparison with the champion is decided by the interval of the paired difference: the whole of it within the margin
  passes, the whole of it past the margin fails, anything between is too little evidence.
- Unscored cases over the limit, too few cases, no exam: never a pass.

What it cannot see: questions unlike those of the exam, and a judge that is wrong in the same way for both arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.ports.records import Decision


def decide_gate(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> Decision:
    """Verdict pass, fail or abstain, with reasons.

    `evidence` is what `evaluate.evidence` gives (figures of the release, and paired `differences` where a champion sat
    the same exam). `policy`: floors {metric: least value}, margins {metric: largest loss}, max_unscored (share),
    min_cases {slice: count}, min_human (count).
    """
    failures, unmeasured = _floors(evidence, policy)
    failures += _unscored(evidence, policy)
    doubts = _nothing_to_judge_by(evidence, policy) + _too_few(evidence, policy)
    if evidence.get("champion") is not None:
        worse, unsure, uncompared = _comparisons(evidence, policy)
        failures, doubts, unmeasured = failures + worse, doubts + unsure, unmeasured + uncompared
    # With enough cases a figure that is missing is a fault; with too few it is one more thing not known yet.
    if doubts:
        doubts += unmeasured
    else:
        failures += unmeasured
    inputs = {"evidence": evidence, "policy": policy}
    if failures:
        return Decision("gate", "fail", tuple(failures + doubts), inputs)
    if doubts:
        return Decision("gate", "abstain", tuple(doubts), inputs)
    return Decision("gate", "pass", tuple(_passed(evidence, policy)), inputs)


def _floors(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Floors that are broken, and those whose figure is missing."""
    if not evidence["scored"]:
        # None of the cases there are: a fault. No cases at all: nothing is known.
        return (["no case was scored"] if evidence["unscored"] else []), []
    broken, missing = [], []
    for name, floor in sorted(policy["floors"].items()):
        figure = evidence["metrics"].get(name)
        if figure is None:
            missing.append(f"{name} could not be measured, and its floor is {floor:g}")
        elif not figure["value"] >= floor:
            broken.append(f"{name} is {figure['value']:.3f} (n={figure['n']}), under its floor of {floor:g}")
    return broken, missing


def _nothing_to_judge_by(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    if not evidence["scored"] and not evidence["unscored"]:
        return ["the exam has no cases: write some, or prepare documents that one can be generated from"]
    if not policy["floors"] and not (policy["margins"] and evidence.get("champion")):
        return ["there is no floor, and no champion to compare with by a margin: nothing to judge by"]
    return []


def _unscored(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    lost = evidence["unscored"]
    total = len(lost) + evidence["scored"]
    if total and len(lost) > policy["max_unscored"] * total:
        first = lost[0]
        return [
            f"{len(lost)} of {total} cases could not be scored (at most {policy['max_unscored']:.0%} may be); "
            f"{first['case']}: {first['reason']}"
        ]
    return []


def _too_few(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    out = []
    for name, least in sorted(policy["min_cases"].items()):
        count = evidence["by_slice"].get(name, 0)
        if count < least:
            out.append(f"{count} scored cases are {name}: at least {least} are needed to judge")
    if evidence["scored_human"] < policy["min_human"]:
        out.append(
            f"{evidence['scored_human']} scored cases were written by a person: at least {policy['min_human']} are "
            "needed"
        )
    return out


def _comparisons(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Figures that are worse than the champion's, those that may be, and those that could not be compared."""
    worse: list[str] = []
    unsure: list[str] = []
    missing: list[str] = []
    for name, margin in sorted(policy["margins"].items()):
        found = evidence["differences"].get(name)
        if found is None:
            missing.append(f"{name} could not be compared with the champion's")
            continue
        gain = _gain(evidence, name, found)
        if gain is None:
            unsure.append(f"{name}: too few cases for an interval of the difference to the champion's")
            continue
        value, low, high = gain
        shown = f"{value:+.3f} ({low:+.3f} to {high:+.3f}, n={found['n']})"
        if high < -margin:
            worse.append(f"{name} is worse than the champion's by more than {margin:g}: {shown}")
        elif low < -margin:
            unsure.append(
                f"{name} may be worse than the champion's by more than {margin:g}: {shown}; "
                f"{_told(found['detectable'])}"
            )
    return worse, unsure, missing


def _told(detectable: float | None) -> str:
    if detectable is None:
        return "these cases cannot tell any difference"
    return f"with these cases a difference of {detectable:.3f} can be told"


def _gain(evidence: Mapping[str, Any], name: str, found: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """The difference turned so that more is better."""
    if found["low"] is None or found["high"] is None:
        return None
    figure = evidence["metrics"].get(name)
    if figure is not None and not figure["higher_is_better"]:
        return -found["value"], -found["high"], -found["low"]
    return found["value"], found["low"], found["high"]


def _passed(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    out = [f"{evidence['scored']} cases scored, every floor kept"]
    if "champion_unavailable" in evidence:
        out.append(f"the champion cannot be opened to compare with: {evidence['champion_unavailable']}")
    if evidence.get("champion") is not None:
        changed = len(evidence["changed_answers"])
        out.append(f"no figure worse than the champion's beyond its margin; {changed} answers changed")
    aside = len(evidence["exam"]["set_aside"])
    if aside:
        out.append(
            f"{aside} cases set aside: what they ask about changed since they were written "
            "(modelyard evaluate --rebind ID takes one back)"
        )
    return out
