"""Rollouts of a challenger that is the champion under another name, judged after every failure as a gateway would: by
all tests together, on callers that are heavy, unequal, clumsy and slow each in a way of its own."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from canary import evidence, policy

from modelyard.lifecycle.rollout import decide_rollout
from modelyard.serving.evidence import CHALLENGER, CHAMPION, Evidence

CALLERS, REQUESTS, STAGE = 40, 400, 1
PLAN = {"steps": [5, 50, 100]}


class Caller:
    """Somebody with a volume, a pace, and habits."""

    def __init__(self, rng: random.Random) -> None:
        self.weight = rng.paretovariate(1.0)
        self.fails, self.refused = rng.betavariate(0.3, 5.0), rng.betavariate(0.2, 2.0)
        self.pace = math.exp(rng.gauss(3, 1))

    def asks(self, rng: random.Random) -> dict[str, float]:
        if rng.random() < self.refused:
            return {"errors": 0.0, "refused": 1.0}
        if rng.random() < self.fails:
            return {"errors": 1.0, "refused": 0.0}
        return {"errors": 0.0, "refused": 0.0, "latency": self.pace * math.exp(rng.gauss(0, 0.3))}


def goes_back(seed: str, *, by_request: bool) -> bool:
    """Whether a null rollout at 50 % is sent back at some look. `by_request`: as if each request were a unit."""
    rng, plan = random.Random(seed), policy(**PLAN)
    people = [Caller(rng) for _ in range(CALLERS)]
    arms = [rng.choice((CHAMPION, CHALLENGER)) for _ in people]
    found = Evidence(plan["tests"], plan["steps"], settle=20.0)
    for number, who in enumerate(rng.choices(range(CALLERS), [one.weight for one in people], k=REQUESTS)):
        unit = f"{who} {number}" if by_request else str(who)
        found.assigned(unit, STAGE, arms[who], number)
        values = people[who].asks(rng)
        found.observed(unit, values, number)
        if (values["errors"] or values["refused"] or not number % 100) and _back(found, plan):
            return True
    return False


def _back(found: Evidence, plan: dict[str, object]) -> bool:
    judged = evidence(stage=STAGE, share=50, next=100, units=found.units(STAGE), tests=found.tests())
    return decide_rollout(judged, plan).verdict == "fail"


@pytest.mark.parametrize(("by_request", "least", "most"), [(False, 0, 4), (True, 6, 30)])
def test_what_is_no_worse_is_sent_back_no_more_often_than_the_bound_says(
    by_request: bool, least: int, most: int
) -> None:
    # One in a hundred, of thirty, is under four but for once in five thousand times.
    back = Counter(goes_back(str(seed), by_request=by_request) for seed in range(30))
    assert least <= back[True] < most
