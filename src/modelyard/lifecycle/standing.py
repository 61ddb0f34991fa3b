"""What a rollout waits for, test by test: the figures behind one of its decisions. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelyard.calc.sequential import Arms, Counts, Pairs, difference, outweighs, worse
from modelyard.lifecycle.rollout import counts
from modelyard.ports.records import Decision

State = Literal["shown", "unsure", "waiting", "against", "aside"]


@dataclass(frozen=True)
class Standing:
    """One test of a rollout. Units and failures by arm are of those that settled; in the shadow, of pairs: `shadow` is
    (units that both answered, failed with the champion only, with the challenger only).

    `value` is the difference in the share of units that failed, challenger less champion, with limits `low` and `high`
    that hold at every look at once; `at_next` is how much worse the endpoint as a whole may be after the next step,
    `margin` the most that is allowed there. `evidence` is the e-value against "no worse", at `back_at` of which the
    challenger goes back (as logarithms to base 10).

    `state`: "shown" to be within the margin, "unsure" (more units are needed), "waiting" (one release has no figure
    yet), "against" (it goes back), "aside" (not measured here: holds nothing up).
    """

    test: str
    state: State
    champion: tuple[int, int]
    challenger: tuple[int, int]
    shadow: tuple[int, int, int]
    value: float | None
    low: float
    high: float
    at_next: float
    margin: float
    evidence: float
    back_at: float


def standings(decision: Decision) -> list[Standing]:
    """Of a decision of kind `rollout`, each test by name. Raises KeyError, ValueError where its inputs are none."""
    evidence, policy = decision.inputs["evidence"], decision.inputs["policy"]
    return [_standing(name, test, evidence, policy) for name, test in sorted(policy["tests"].items())]


def _standing(name: str, test: Mapping[str, Any], evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> Standing:
    found = evidence["tests"].get(name, {})
    settled, seen = counts(found.get("settled", ())), counts(found.get("seen", ()))
    limits = difference(settled, policy["alpha"], test["base"])
    against, back_at = worse(seen, test["base"]), math.log(len(policy["tests"]) / policy["alpha"])
    share = float(evidence["next"]) / 100
    arms = [one for one in settled if isinstance(one, Arms)]
    pairs = [one for one in settled if isinstance(one, Pairs)]
    state: State
    if against >= back_at:
        state = "against"
    elif not any(map(_units, settled)) or (evidence["shadow"] and not test["paired"]):
        state = "aside"
    elif not all(_has(settled, arm) for arm in ("champion", "challenger")):
        state = "waiting"
    elif outweighs(settled, min(1.0, float(test["margin"]) / share), test["base"]) < -math.log(policy["alpha"]):
        state = "unsure"
    else:
        state = "shown"
    return Standing(
        name,
        state,
        (sum(one.champion[0] for one in arms), sum(one.champion[1] for one in arms)),
        (sum(one.challenger[0] for one in arms), sum(one.challenger[1] for one in arms)),
        (
            sum(one.units for one in pairs),
            sum(one.champion_only for one in pairs),
            sum(one.challenger_only for one in pairs),
        ),
        limits.value,
        limits.low,
        limits.high,
        limits.high * share,
        float(test["margin"]),
        against / math.log(10),
        back_at / math.log(10),
    )


def _units(one: Counts) -> int:
    return one.units if isinstance(one, Pairs) else one.champion[0] + one.challenger[0]


def _has(settled: Sequence[Counts], arm: str) -> bool:
    return any(one.units if isinstance(one, Pairs) else getattr(one, arm)[0] for one in settled)
