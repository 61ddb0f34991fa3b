"""May more traffic go to the challenger, must it go back, or is it too early to tell? A pure function.

- **Back** as soon as one test's e-value against "no worse" reaches (number of tests) / alpha: a challenger that is no
  worse is sent back with probability alpha at most, however often and whenever it is looked at.
- **On** when every test shows, with confidence 1 - alpha at all looks together, that the step would make the endpoint
  as a whole worse by less than the test's margin: at 5 % of the traffic a twentieth of a difference reaches it, so
  early steps need less evidence than the last one. A step also needs `min_units` of its own.
- Else it **stays**. No traffic, no step: silence is no evidence. Past `max_age` the policy says whether to go back.

What it cannot see: faults that show in none of the tests, what happens after a unit has settled (it can still send the
challenger back, but no longer holds up a step), and units of which a figure is missing because the answer failed or was
refused: those count as errors or as refused, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from modelyard.calc.sequential import Arms, Counts, Pairs, difference, outweighs, worse
from modelyard.ports.records import Decision

Act = Literal["advance", "revert", "hold", "wait"]


def decide_rollout(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> Decision:
    """Verdict pass (the next step), fail (back) or abstain (stay), with reasons.

    `evidence`: `shadow` (whether challenger's answers are only compared), `next` (percent after the step), `units`
    ({champion, challenger}: settled in this stage), `age` in seconds since the start, `down` (why the challenger's
    workers do not start, or None), `tests` {name: {seen, settled}}: lists of counts, each {share, champion: [units,
    failed], challenger: [units, failed]} or {units, champion_only, challenger_only} for units that both answered.
    `seen` is as of now, `settled` of units whose outcome is final. `policy`: `tests` {name: {margin, base, paired}},
    alpha, min_units, max_age in seconds, at_max_age.
    """
    inputs = {"evidence": evidence, "policy": policy}
    against = _against(evidence, policy)
    if against:
        return Decision("rollout", "fail", tuple(against), inputs)
    doubts = _too_few(evidence, policy) + _unsure(evidence, policy)
    if doubts:
        if evidence["age"] >= policy["max_age"]:
            doubts.append(f"it has run for {_days(evidence['age'])}: the policy says to {policy['at_max_age']}")
        return Decision("rollout", "abstain", tuple(doubts), inputs)
    return Decision("rollout", "pass", tuple(_shown_safe(evidence, policy)), inputs)


def act_on(decision: Decision) -> Act:
    """What a decision comes to: one that abstained past `max_age` holds for good, or goes back."""
    if decision.verdict == "pass":
        return "advance"
    if decision.verdict == "fail":
        return "revert"
    evidence, policy = decision.inputs["evidence"], decision.inputs["policy"]
    if evidence["age"] < policy["max_age"]:
        return "wait"
    return "revert" if policy["at_max_age"] == "revert" else "hold"


def counts(rows: Sequence[Mapping[str, Any]]) -> list[Counts]:
    """Counts from their JSON form. Raises KeyError, ValueError for what is none."""
    return [
        Pairs(row["units"], row["champion_only"], row["challenger_only"])
        if "units" in row
        else Arms(row["share"], (row["champion"][0], row["champion"][1]), (row["challenger"][0], row["challenger"][1]))
        for row in rows
    ]


def _against(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    out = [f"the challenger does not run: {evidence['down']}"] if evidence["down"] else []
    needed = math.log(len(policy["tests"]) / policy["alpha"])
    for name, test in sorted(policy["tests"].items()):
        seen = counts(evidence["tests"].get(name, {}).get("seen", ()))
        against = worse(seen, test["base"])
        if against >= needed:
            out.append(
                f"{name}: {_tally(seen)}; were the challenger no worse, evidence this strong would come up once in "
                f"{_times(against)} rollouts at most"
            )
    return out


def _too_few(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    units, least = evidence["units"], policy["min_units"]
    if not any(units.values()):
        return ["no traffic yet: nothing is decided by silence"]
    out = [f"the challenger settled {units['challenger']} units at this step, {least} are needed"]
    return out if units["challenger"] < least else []


def _unsure(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    out = []
    for name, test, settled in _asked(evidence, policy):
        missing = _missing(settled)
        if missing is not None:
            out.append(f"{name}: no unit of the {missing} has a figure yet")
        elif outweighs(settled, _most(evidence, test), test["base"]) < -math.log(policy["alpha"]):
            high = difference(settled, policy["alpha"], test["base"]).high * evidence["next"] / 100
            out.append(
                f"{name}: at {evidence['next']} % the endpoint may be worse by {_points(high)}, and "
                f"{_points(test['margin'])} is the most allowed ({_tally(settled)})"
            )
    return out


def _shown_safe(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    out = [f"{evidence['units']['challenger']} units of the challenger settled at this step"]
    if evidence["shadow"] and evidence.get("agreement") is not None:
        out.append(f"answers in the shadow agreed to {evidence['agreement']:.0%}")
    for name, test, settled in _asked(evidence, policy):
        high = difference(settled, policy["alpha"], test["base"]).high * evidence["next"] / 100
        out.append(
            f"{name}: at {evidence['next']} % the endpoint is worse by {_points(max(high, 0.0))} at most "
            f"({_tally(settled)})"
        )
    aside = [name for name in sorted(policy["tests"]) if name not in {n for n, _, _ in _asked(evidence, policy)}]
    return out + ([f"not measured here: {', '.join(aside)}"] if aside else [])


def _asked(evidence: Mapping[str, Any], policy: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], list[Counts]]]:
    """The tests a step waits for: those with any figure, and in the shadow those that compare two answers to one
    request."""
    out = []
    for name, test in sorted(policy["tests"].items()):
        settled = counts(evidence["tests"].get(name, {}).get("settled", ()))
        if (test["paired"] or not evidence["shadow"]) and any(_units(one) for one in settled):
            out.append((name, test, settled))
    return out


def _most(evidence: Mapping[str, Any], test: Mapping[str, Any]) -> float:
    """The difference of the arms that, at the next share, is the margin of the endpoint as a whole."""
    return min(1.0, float(test["margin"]) * 100 / float(evidence["next"]))


def _units(one: Counts) -> int:
    return one.units if isinstance(one, Pairs) else one.champion[0] + one.challenger[0]


def _missing(settled: Sequence[Counts]) -> str | None:
    for which in ("challenger", "champion"):
        if not any(one.units if isinstance(one, Pairs) else getattr(one, which)[0] for one in settled):
            return which
    return None


def _tally(rows: Sequence[Counts]) -> str:
    arms = [one for one in rows if isinstance(one, Arms)]
    pairs = [one for one in rows if isinstance(one, Pairs) and one.units]
    out = []
    if arms:
        sides = (("challenger", [a.challenger for a in arms]), ("champion", [a.champion for a in arms]))
        out += [
            " against ".join(f"{sum(k for _, k in n):,} of {sum(u for u, _ in n):,} units ({who})" for who, n in sides)
        ]
    for pair in pairs:
        out.append(
            f"in the shadow {pair.challenger_only:,} of {pair.units:,} units with the challenger only, "
            f"{pair.champion_only:,} with the champion only"
        )
    return "; ".join(out)


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _times(log_e: float) -> str:
    return f"{math.exp(log_e):,.0f}" if log_e < 20 else f"10^{log_e / math.log(10):.0f}"


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 86400 else f"{seconds / 3600:.1f} hours"
