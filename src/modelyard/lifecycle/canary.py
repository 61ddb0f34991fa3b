"""A release on its way to be champion by a canary: started here, stepped by the gateway that serves, taken back by a
person. Which step comes next is `lifecycle.rollout`'s to say; what a step is, is said here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelyard.clock import stamp
from modelyard.errors import NotFound
from modelyard.ids import short
from modelyard.lifecycle.release import Moved, admit, present, promote, rollback, warmed
from modelyard.lifecycle.rollout import act_on
from modelyard.lifecycle.world import World
from modelyard.ports.records import SHADOW, Decision, Pointers, Rollout
from modelyard.project.model import Rollout as Policy

_WORD = "last.json"
GATEWAY = "gateway"
"""Who makes the steps of a rollout."""

TESTS: Mapping[str, Mapping[str, Any]] = {
    "errors": {"value": "errors", "side": "any", "margin": 0.02, "paired": True},
    "refused": {"value": "refused", "side": "any", "margin": 0.02, "paired": True},
    "latency": {"value": "latency", "side": "high", "quantile": 0.9, "margin": 0.05, "paired": False},
    "abstained": {"value": "abstained", "side": "any", "margin": 0.05, "paired": True},
    "groundedness": {"value": "groundedness", "side": "low", "quantile": 0.9, "margin": 0.05, "paired": True},
    "score high": {"value": "score", "side": "high", "quantile": 0.9, "margin": 0.05, "paired": True},
    "score low": {"value": "score", "side": "low", "quantile": 0.9, "margin": 0.05, "paired": True},
    "cost": {"value": "cost", "side": "high", "quantile": 0.9, "margin": 0.05, "paired": True},
    "feedback": {"value": "feedback", "side": "any", "margin": 0.02, "paired": False},
}
"""The built-in tests. `paired`: whether answers to the same request can be compared in the shadow; latency there is
that of another queue, and nobody gives a thumb to what they were not shown."""


def policy_of(config: Policy) -> dict[str, Any]:
    """The policy as a rollout keeps it, tests spelled out: what the project file says later changes nothing of it."""
    tests = {name: dict(test) for name, test in TESTS.items()}
    for name, own in config.tests.items():
        if own is None:
            tests.pop(name, None)
        else:
            tests[name] = {**own.model_dump(), "paired": own.value not in ("latency", "feedback")}
    for name, margin in config.margins.items():
        if name not in tests:
            raise NotFound(f"rollout.margins: there is no test {name!r} (there are {', '.join(sorted(tests))})")
        tests[name]["margin"] = margin
    for test in tests.values():
        # What share of units fails, roughly, where nothing is wrong.
        test["base"] = 0.0 if test["side"] == "any" else round(1 - test["quantile"], 6)
    more = ("steps", "alpha", "min_units", "settle", "max_age", "at_max_age", "look_every", "linger")
    return {"tests": tests, **{name: getattr(config, name) for name in more}}


def write_word(folder: Path, decision: Decision, at: str) -> None:
    """Leave in the folder of a rollout's log what was decided last, for people: most decisions are to wait, and are not
    kept. Raises OSError."""
    value = {"at": at, "verdict": decision.verdict, "reasons": list(decision.reasons)}
    new = folder / f".{_WORD}"
    new.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    new.replace(folder / _WORD)


def last_word(folder: Path) -> Mapping[str, Any] | None:
    """{at, verdict, reasons} of the newest decision; None where there is none yet, or it is over."""
    try:
        found: dict[str, Any] = json.loads((folder / _WORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def split(rollout: Rollout) -> tuple[tuple[str, int], ...]:
    """The traffic of what is new at the rollout's stage."""
    if rollout.stage == SHADOW:
        return ()
    return (rollout.champion, 100 - rollout.share), (rollout.challenger, rollout.share)


def start(world: World, name: str, *, by_person: bool, why: str) -> Rollout | Moved:
    """Send a release on its way: admitted and warmed as for a promote, then in the shadow or at the first step.

    Where no gateway serves, or nothing is champion yet, there is no traffic to go by: it is promoted, and Moved says
    so. One that is on its way already is left alone; another one is taken back for it. Raises as `promote` does.
    """
    release, before = world.ledger.release(name), world.ledger.pointers(world.endpoint)
    policy = policy_of(world.loaded.config.rollout)
    with closing(world.rollouts()) as rollouts:
        live = rollouts.live(world.endpoint)
        if live is not None and live.challenger == release.id and live.generation == before.generation:
            return live
        at_once = world.gateway() is None or (policy["steps"] == [100] and not world.loaded.config.rollout.shadow)
        if at_once or before.champion in (None, release.id):
            return promote(world, name, by_person=by_person, why=why)
        admission = admit(world, release, before, by_person=by_person)
        present(world, release)
        if live is not None:
            _end(world, live, f"release {short(release.id)} takes its place")
            before = world.ledger.pointers(world.endpoint)
        standing = warmed(world, before, release, why, admission.id)
        world.ledger.set_state(release.id, "unproven" if admission.verdict == "unproven" else "passed")
        now = stamp(world.clock.now())
        new = Rollout(
            id=uuid.uuid4().hex,
            endpoint=world.endpoint,
            champion=str(before.champion),
            challenger=release.id,
            policy=policy,
            stage=SHADOW if world.loaded.config.rollout.shadow else 0,
            state="running",
            started=now,
            stage_since=now,
            generation=standing.generation,
            who=world.who,
        )
        return rollouts.start(new, replace(standing, traffic=split(new)), why, admission.id)


def last(world: World, release: str) -> Rollout | None:
    """The newest rollout of a release here, whatever became of it."""
    with closing(world.rollouts()) as rollouts:
        return next((one for one in rollouts.all(world.endpoint) if one.challenger == release), None)


def take_back(world: World, to: str | None, why: str) -> Moved:
    """Back to what was before: where a challenger is on its way and no release is named, all traffic to the champion;
    else as `rollback`. Raises as that does."""
    with closing(world.rollouts()) as rollouts:
        live = rollouts.live(world.endpoint)
    before = world.ledger.pointers(world.endpoint)
    if to is not None or live is None or live.generation != before.generation:
        return rollback(world, to, why)
    done = _end(world, live, why)
    champion = world.ledger.release(live.champion)
    said = f"release {short(live.challenger)} was on its way at {live.share} %, and gets nothing any more"
    return Moved(champion, live.champion, done.generation, champion.state == "unproven", (said,))


def _end(world: World, live: Rollout, why: str) -> Rollout:
    with closing(world.rollouts()) as rollouts:
        before = world.ledger.pointers(world.endpoint)
        over = replace(live, state="reverted", reason=why, generation=before.generation)
        return rollouts.step(over, Pointers(champion=before.champion, previous=before.previous), world.who, why, None)


def stepped(
    rollout: Rollout, pointers: Pointers, decision: Decision, at: str
) -> tuple[Rollout, Pointers | None] | None:
    """What a decision makes of a live rollout, and where the endpoint then points (None: where it does). None where
    all stays as it is. One that is held only goes back."""
    act = act_on(decision)
    reason = decision.reasons[-1] if act == "hold" else decision.reasons[0]
    if act == "revert":
        back = Pointers(champion=rollout.champion, previous=pointers.previous)
        return replace(rollout, state="reverted", reason=reason), back
    if rollout.state == "held" or act == "wait":
        return None
    if act == "hold":
        return replace(rollout, state="held", reason=reason), None
    if rollout.next_share == 100:
        on = Pointers(champion=rollout.challenger, previous=rollout.champion)
        return replace(rollout, state="promoted", stage_since=at, reason=reason), on
    next_ = replace(rollout, stage=rollout.stage + 1, stage_since=at)
    return next_, replace(pointers, traffic=split(next_))
