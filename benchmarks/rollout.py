"""What a rollout's bounds are worth: null rollouts under constant peeking, and how soon planted faults are found.

`python benchmarks/rollout.py [--rollouts N] [--nulls N] [--part callers|faults|steps] [--seed 0]` prints tables for
docs/rollouts.md, and a JSON line per figure.

The first part looks after every single unit, or every request, with the bets of `calc.sequential` alone. The others
run whole rollouts by the default policy, or with other steps (shadow aside), with the product's own counting, judging
and stepping, on traffic made up: conversations of three requests in the mean, one a second, 0.5 % of answers failed,
latencies log-normal, 10 % of conversations with an answer that says it does not know, 1 % with a mistake of the
caller's, which either release refuses. Nothing here is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.sequential import ODDS, bets
from modelyard.lifecycle.canary import policy_of, stepped
from modelyard.lifecycle.rollout import decide_rollout
from modelyard.ports.records import Pointers, Rollout
from modelyard.project.model import Rollout as Policy
from modelyard.serving.evidence import CHALLENGER, CHAMPION, Evidence

ALPHA = 0.01
LADDERS = ((1, 5, 25, 100), (5, 25, 100), (5, 10, 25, 50, 100), (10, 25, 50, 100), (25, 50, 100), (50, 100))
CHAMPION_ID, CHALLENGER_ID = "c" * 64, "d" * 64


def capital(challenger: NDArray[np.bool_], failed: NDArray[np.bool_], share: float, base: float) -> NDArray[np.float64]:
    """log capital after each unit, [rollouts, units]."""
    found = None
    for odds in ODDS:
        table = np.log(np.array(bets(share, base, odds), dtype=np.float64))
        run = np.cumsum(table[challenger.astype(np.int8), failed.astype(np.int8)], axis=1)
        found = run if found is None else np.logaddexp(found, run)
    assert found is not None
    return found - math.log(len(ODDS))


def null_by_caller(
    callers: int, share: float, rollouts: int, rng: np.random.Generator, requests: int = 4000
) -> tuple[float, float]:
    """Share of null rollouts that are sent back at some look: counted by request, and by unit. Each caller is a unit
    with a weight and a failure rate of its own; 5 % of requests fail in the mean."""
    by_request = by_unit = 0
    for _ in range(0, rollouts, 250):
        n = min(250, rollouts)
        weight = rng.pareto(1.0, (n, callers)) + 0.05
        edges = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
        draws = rng.random((n, requests))
        caller = np.array([np.searchsorted(e, d) for e, d in zip(edges, draws, strict=True)]).clip(0, callers - 1)
        rates = rng.beta(0.3, 5.7, (n, callers))
        failed = rng.random((n, requests)) < np.take_along_axis(rates, caller, axis=1)
        arm = np.take_along_axis(rng.random((n, callers)) < share, caller, axis=1)
        first = np.zeros_like(failed)
        for row in range(n):
            where = np.flatnonzero(failed[row])
            first[row, where[np.unique(caller[row, where], return_index=True)[1]]] = True
        by_request += int((capital(arm, failed, share, 0).max(axis=1) >= -math.log(ALPHA)).sum())
        by_unit += int((capital(arm, first, share, 0).max(axis=1) >= -math.log(ALPHA)).sum())
    return by_request / rollouts, by_unit / rollouts


@dataclass(frozen=True)
class Fault:
    """What the challenger does differently. `errors` is the share of its answers that fail, `slower` its latency's
    factor, `tail` the share of its answers that are ten times as slow, `abstained` its share of conversations with an
    answer that does not know, `score` a shift of its scores in standard deviations, `narrow` the share of conversations
    of which it refuses every request, because they send what it does not take."""

    name: str
    errors: float = 0.005
    slower: float = 1.0
    tail: float = 0.0
    abstained: float = 0.1
    score: float = 0.0
    narrow: float = 0.0


WRONG = 0.01
"""Share of conversations in which a request is the caller's mistake."""
SCENARIOS = (
    Fault("none (null)"),
    Fault("errors 0.5 % -> 1 %", errors=0.01),
    Fault("errors 0.5 % -> 3 %", errors=0.03),
    Fault("errors 0.5 % -> 10 %", errors=0.10),
    Fault("latency +30 %", slower=1.3),
    Fault("latency x2", slower=2.0),
    Fault("2 % of answers ten times as slow", tail=0.02),
    Fault("does not know in 10 % -> 20 %", abstained=0.2),
    Fault("does not know in 10 % -> 40 %", abstained=0.4),
    Fault("refuses what 3 % of conversations send", narrow=0.03),
    Fault("refuses what 10 % of conversations send", narrow=0.10),
    Fault("refuses what 50 % of conversations send", narrow=0.50),
    Fault("scores shifted by half a deviation", score=0.5),
)


def answers(fault: Fault, rng: random.Random) -> list[dict[str, float]]:
    """What the answers of one conversation were."""
    pace = math.exp(rng.gauss(0, 0.3))
    unsure, narrow, wrong = (rng.random() < share for share in (fault.abstained, fault.narrow, WRONG))
    asked = 1
    while rng.random() < 2 / 3:
        asked += 1
    out = []
    for i in range(asked):
        milliseconds = 100 * pace * fault.slower * math.exp(rng.gauss(0, 0.4))
        if rng.random() < fault.tail:
            milliseconds *= 10
        if narrow or (wrong and i == 0):
            out.append({"errors": 0.0, "refused": 1.0})
        elif rng.random() < fault.errors:
            out.append({"errors": 1.0, "refused": 0.0})
        else:
            abstained = float(unsure and i == 0)
            score = rng.gauss(fault.score, 1)
            found = {"errors": 0.0, "refused": 0.0, "latency": milliseconds, "abstained": abstained, "score": score}
            out.append(found)
    return out


@dataclass
class Run:
    """What became of one rollout: its state, units in all and of the challenger, and the highest step it came to."""

    state: str
    units: int
    challenger: int
    share: int


def play(fault: Fault, policy: Mapping[str, Any], rng: random.Random, most: int, every: int = 50) -> Run:
    """One rollout, looked at after every `every` units, and after every unit of the challenger with a failed answer;
    given up after `most` units."""
    good = Fault("good")
    at = "2026-01-01T00:00:00.000Z"
    rollout = Rollout("r", "site", CHAMPION_ID, CHALLENGER_ID, policy, 0, "running", at, at, 1, "bench")
    judged_by = {name: policy[name] for name in ("tests", "alpha", "min_units", "max_age", "at_max_age")}
    found = Evidence(policy["tests"], policy["steps"], policy["settle"])
    pointers, challengers = Pointers(1, CHAMPION_ID, CHALLENGER_ID), 0
    for number in range(most):
        unit, now = str(number), float(number)
        arm = CHALLENGER if rng.random() * 100 < rollout.share else CHAMPION
        challengers += arm
        found.assigned(unit, rollout.stage, arm, now)
        said = answers(fault if arm else good, rng)
        for values in said:
            found.observed(unit, values, now)
        if number % every and not (arm and any(values["errors"] or values["refused"] for values in said)):
            continue
        evidence = {
            "rollout": "r",
            "stage": rollout.stage,
            "share": rollout.share,
            "next": rollout.next_share,
            "shadow": False,
            "units": found.units(rollout.stage),
            "age": now,
            "down": None,
            "tests": found.tests(),
        }
        done = stepped(rollout, pointers, decide_rollout(evidence, judged_by), at)
        if done is not None:
            share, rollout = rollout.share, done[0]
            if not rollout.live:
                return Run(rollout.state, number + 1, challengers, share)
    return Run("under way", most, challengers, rollout.share)


def describe(runs: list[Run], state: str, field: Callable[[Run], int]) -> str:
    found = sorted(field(run) for run in runs if run.state == state)
    if not found:
        return "-"
    return f"{statistics.median(found):,.0f} ({found[min(len(found) - 1, int(0.9 * len(found)))]:,})"


def by_callers(nulls: int, seed: int) -> None:
    """What the bound is worth by request, and by unit."""
    rng = np.random.default_rng(seed)
    print("\n| callers | share | sent back, by request | sent back, by unit |\n|---|---|---|---|")
    for callers in (40, 100, 200):
        for share in (0.05, 0.25, 0.5):
            by_request, by_unit = null_by_caller(callers, share, nulls, rng)
            print(f"| {callers} | {share:.0%} | {by_request:.1%} | {by_unit:.2%} |", flush=True)
            figures = {"callers": callers, "share": share, "by_request": by_request, "by_unit": by_unit}
            print(json.dumps({"figure": "null", **figures, "rollouts": nulls}))


def several(fault: Fault, policy: Mapping[str, Any], count: int, most: int, seed: int) -> list[Run]:
    dice = random.Random(f"{seed} {fault.name}")
    return [play(fault, policy, dice, most) for _ in range(count)]


def told(label: str, fault: Fault, runs: list[Run], **more: Any) -> None:
    """A line of a table, and one of JSON."""
    states = Counter(run.state for run in runs)
    end = "promoted" if states["promoted"] > states["reverted"] else "reverted"
    units, theirs = describe(runs, end, lambda r: r.units), describe(runs, end, lambda r: r.challenger)
    back, on = states["reverted"] / len(runs), states["promoted"] / len(runs)
    print(f"| {label} | {back:.1%} | {on:.1%} | {units} | {theirs} |", flush=True)
    shares = Counter(run.share for run in runs)
    print(json.dumps({"figure": "fault", "fault": fault.name, **more, **states, "rollouts": len(runs), "ends": shares}))


def by_faults(rollouts: int, most: int, seed: int) -> None:
    """How soon each fault is found, by the default policy."""
    print("\n| fault | sent back | promoted | units to the end, median (90 %) | the challenger's |")
    print("|---|---|---|---|---|")
    for fault in SCENARIOS:
        count = rollouts * (4 if fault is SCENARIOS[0] else 1)
        told(fault.name, fault, several(fault, policy_of(Policy()), count, most, seed))


def by_steps(rollouts: int, most: int, seed: int) -> None:
    """What other steps would cost."""
    print("\n| steps, fault | sent back | promoted | units to the end, median (90 %) | the challenger's |")
    print("|---|---|---|---|---|")
    for steps in LADDERS:
        for fault in (SCENARIOS[0], SCENARIOS[2]):
            runs = several(fault, policy_of(Policy(steps=list(steps))), rollouts, most, seed)
            told(f"{list(steps)}, {fault.name}", fault, runs, steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--nulls", type=int, default=2000)
    parser.add_argument("--most", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("callers", "faults", "steps"), help="one table only")
    args = parser.parse_args()
    if args.part in (None, "callers"):
        by_callers(args.nulls, args.seed)
    if args.part in (None, "faults"):
        by_faults(args.rollouts, args.most, args.seed)
    if args.part in (None, "steps"):
        by_steps(args.rollouts, args.most, args.seed)


if __name__ == "__main__":
    main()
