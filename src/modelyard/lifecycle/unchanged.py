"""The run that has nothing to do: one look at the data folder and the journal.

Nothing is written, and nothing heavy imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.errors import NotFound, UserError
from modelyard.ids import digest, digest_file, short
from modelyard.lifecycle.artifact import complete
from modelyard.lifecycle.canary import last
from modelyard.lifecycle.scan import Scan, scan
from modelyard.lifecycle.world import World
from modelyard.ports.records import Decision, Release, Rollout

STEPS = ("prepare", "build", "evaluate", "gate", "deploy")


@dataclass(frozen=True)
class Options:
    """`only`: this step alone, on what stands. `start`: from this step on, even where its inputs are unchanged."""

    only: str | None = None
    start: str | None = None
    allow_removals: bool = False
    wait: float = 0.0

    def __post_init__(self) -> None:
        for step in (self.only, self.start):
            if step is not None and step not in STEPS:
                raise UserError(f"{step!r} is not a step of a run: {', '.join(STEPS)}")

    def asked(self, step: str) -> bool:
        if self.only is not None:
            return step == self.only
        return self.start is None or STEPS.index(step) >= STEPS.index(self.start)

    @property
    def forced(self) -> bool:
        return self.only is not None or self.start is not None


@dataclass
class Outcome:
    """What a run came to. `steps` maps each step to "done", "skipped", "not asked for" or "refused", in order. `canary`
    is the rollout that the release is on its way by."""

    steps: dict[str, str] = field(default_factory=dict)
    release: Release | None = None
    evidence: Mapping[str, Any] | None = None
    decision: Decision | None = None
    deployed: bool = False
    unproven: bool = False
    canary: Rollout | None = None
    warnings: list[str] = field(default_factory=list)


def look(world: World) -> Scan:
    """What changed in the data folder since it was last ingested."""
    return scan(world.loaded.documents, world.journal.seen(), world.loaded.config.ingest.max_file)


def unchanged(world: World, options: Options, found: Scan) -> Outcome | None:
    """What the last whole run came to, when every input is what it was then; None when there is something to do."""
    if options.forced or found.touched or found.changes:
        return None
    done = world.journal.done("run", run_key(world))
    if done is None or not stands(world, str(done["release"])) or known(world, str(done["release"])) is None:
        return None
    return _as_it_was(world, str(done["release"]))


def run_key(world: World) -> str:
    """Everything but the data that a run's outcome depends on. Where it serves is not among it."""
    config = world.loaded.config.model_dump(mode="json", exclude={"serve", "rollout"})
    exam = world.loaded.exam
    about = [world.code, world.surroundings()]
    return digest([repr(sorted(config.items())), digest_file(exam) if exam.is_file() else "", *about])


def stands(world: World, release: str) -> bool:
    """Whether all files of a release are there."""
    return complete(world.layout.releases / release)


def known(world: World, release: str) -> Release | None:
    """The release as the ledger has it; None where the ledger was lost and does not."""
    try:
        return world.ledger.release(release)
    except NotFound:
        return None


def _as_it_was(world: World, name: str) -> Outcome:
    release, pointers = world.ledger.release(name), world.ledger.pointers(world.endpoint)
    out = Outcome(dict.fromkeys(STEPS, "skipped"), release, deployed=pointers.champion == release.id)
    out.unproven = release.state == "unproven"
    if not out.deployed and pointers.champion is not None:
        rollout = last(world, release.id)
        if rollout is not None and rollout.live:
            out.canary = rollout
        elif rollout is not None and rollout.state == "reverted":
            out.warnings.append(taken_back(rollout))
        else:
            out.warnings.append(moved_since(release.id, pointers.champion))
    return out


def taken_back(rollout: Rollout) -> str:
    """Said where a run leaves a release out whose canary did not go well."""
    return (
        f"the canary of release {short(rollout.challenger)} was taken back ({rollout.reason}), and a run does not "
        f"start it again: `modelyard release promote {short(rollout.challenger)} --canary` does"
    )


def moved_since(release: str, champion: str) -> str:
    return (
        f"release {short(release)} was deployed before, and {short(champion)} serves now: somebody moved the pointer "
        f"since (modelyard release history), and a run does not move it back"
    )
