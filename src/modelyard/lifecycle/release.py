"""Moving the pointer: promote, rollback, and what the registry shows of it.

Imports nothing heavy: a rollback is one transaction in the ledger, and the projections follow right after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelyard.errors import GateAbstained, GateFailed, NotFound, RefusedByPolicy, Unavailable
from modelyard.ids import short
from modelyard.lifecycle import artifact
from modelyard.lifecycle.admit import decide_admit
from modelyard.lifecycle.world import World
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import Decision, Pointers, Release
from modelyard.serving.route import alive, cold_at_gateway

BY_RUN = "run"
"""Why a run moves the pointer; a person gives another reason."""
ALIASES = ("champion", "challenger", "previous")
WARM_WITHIN = 120.0
"""Seconds a gateway is given to have a worker of the new release ready."""


@dataclass(frozen=True)
class Moved:
    """What a promote or rollback did; `warnings` are for people."""

    release: Release
    before: str | None
    generation: int
    unproven: bool
    warnings: tuple[str, ...] = ()


def stored_verdict(world: World, release: str) -> Decision | None:
    """The newest judgement of the gate on this release."""
    return _verdict(world.ledger, release)


def _verdict(ledger: Ledger, release: str) -> Decision | None:
    found = (d for d in ledger.decisions("gate") if d.inputs["evidence"].get("release") == release)
    return next(found, None)


def promote(world: World, name: str, *, by_person: bool, why: str) -> Moved:
    """Make a release the champion: admitted first, warmed where a gateway is up, then the pointer moves.

    Raises NotFound, GateFailed, GateAbstained, RefusedByPolicy (never judged), Unavailable (its worker does not come
    up), Busy (moved meanwhile).
    """
    release = world.ledger.release(name)
    before = world.ledger.pointers(world.endpoint)
    if before.champion == release.id:
        return Moved(release, before.champion, before.generation, release.state == "unproven")
    admission = admit(world, release, before, by_person=by_person)
    unproven = admission.verdict == "unproven"
    present(world, release)
    standing = warmed(world, before, release, why, admission.id)
    # Before the move: a champion whose state is not written yet would be taken for something it is not.
    world.ledger.set_state(release.id, "unproven" if unproven else "passed")
    to = Pointers(champion=release.id, previous=before.champion or before.previous)
    done = world.ledger.move(world.endpoint, standing.generation, to, world.who, why, admission.id)
    warnings = tuple(admission.reasons) if unproven else ()
    # Of a run too: a file that kept a folder closed may only have been lost on the way here.
    warnings += _wider(world, before.champion, release.id)
    return Moved(world.ledger.release(release.id), before.champion, done.generation, unproven, warnings)


def admit(world: World, release: Release, pointers: Pointers, *, by_person: bool) -> Decision:
    """The decision of admission, written down. Raises where it refuses."""
    config = world.loaded
    return admission(
        world.ledger, release, pointers, config.config.gate.admit_unproven, config.target, by_person=by_person
    )


def admission(
    ledger: Ledger, release: Release, pointers: Pointers, admit_unproven: bool, target: str, *, by_person: bool
) -> Decision:
    """`admit`, for who has the ledger and the policy only."""
    verdict = _verdict(ledger, release.id)
    if verdict is None:
        raise RefusedByPolicy(
            f"release {short(release.id)} was never judged here: `modelyard evaluate {short(release.id)}` lets it "
            "sit the exam"
        )
    champion = ledger.release(pointers.champion).state if pointers.champion else None
    decision = decide_admit(verdict.verdict, champion, admit_unproven, by_person, target, verdict.id)
    ledger.add_decision(decision)
    if decision.verdict == "refuse":
        why = f"{decision.reasons[0]} (modelyard explain {short(verdict.id)})"
        line = f"release {short(release.id)} is not deployed: {why}"
        raise GateFailed(line) if verdict.verdict == "fail" else GateAbstained(line)
    return decision


def rollback(world: World, to: str | None, why: str) -> Moved:
    """Go back to the previous champion, or to the named one that was champion before. Needs no exam.

    Raises NotFound where there is nothing to go back to, RefusedByPolicy for a release that never was champion here.
    """
    before = world.ledger.pointers(world.endpoint)
    target = to or before.previous
    if target is None:
        raise NotFound(f"there is no previous release of {world.endpoint} to go back to")
    release = world.ledger.release(target)
    if before.champion == release.id:
        return Moved(release, before.champion, before.generation, release.state == "unproven")
    served = {m.pointers.champion for m in world.ledger.history(world.endpoint)}
    if release.id not in served:
        raise RefusedByPolicy(f"release {short(release.id)} was never champion of {world.endpoint}: promote it instead")
    present(world, release)
    standing, slow = before, _slow(world, release) if release.id == before.previous else ()
    if world.gateway() is not None and release.id != before.previous:
        standing = warmed(world, before, release, why, None)
    to_pointers = Pointers(champion=release.id, previous=before.champion)
    done = world.ledger.move(world.endpoint, standing.generation, to_pointers, world.who, why, None)
    warnings = (*slow, *_wider(world, before.champion, release.id))
    return Moved(release, before.champion, done.generation, release.state == "unproven", warnings)


def _slow(world: World, release: Release) -> tuple[str, ...]:
    """A warning where the gateway that serves has no worker of the release: how long one will take."""
    gateway = alive(world.layout)
    if gateway is None or world.ledger.is_warm(world.endpoint, release.id, gateway.gateway_id):
        return ()
    seconds = cold_at_gateway(gateway, release.id)
    how_long = "" if seconds is None else f": about {seconds:.1f} s, as the last time"
    return (f"release {short(release.id)} is cold; traffic follows as soon as its workers are up{how_long}",)


def _wider(world: World, old: str | None, new: str) -> tuple[str, ...]:
    """A warning where `new` shows documents to callers that `old` keeps them from: a release has the rules of access
    that it was built with."""
    releases = world.layout.releases
    if old is None or not artifact.complete(releases / old):
        return ()
    before, after = artifact.read_snapshot(releases / old), artifact.read_snapshot(releases / new)
    closed, now = dict(before.access), dict(after.access)
    names = [name for name, _ in after.entries if name in closed and not set(now.get(name, ("",))) <= {*closed[name]}]
    if not names:
        return ()
    some, many = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else ""), len(names) > 1
    return (
        f"release {short(new)} shows {len(names)} document{'s' * many} ({some}) to callers that {short(old)} kept "
        f"{'them' if many else 'it'} from: a release has the rules of access of its build (docs/access.md)",
    )


def moved_away(world: World, release: str) -> bool:
    """Whether this release was champion, and a person moved the pointer away from it since."""
    moves = world.ledger.history(world.endpoint)
    if not moves or moves[0].pointers.champion == release:
        return False
    return moves[0].why != BY_RUN and any(move.pointers.champion == release for move in moves)


def present(world: World, release: Release) -> None:
    """Its files are there. Raises NotFound, Damaged. Bytes are looked at where no worker did so when it loaded them."""
    folder = world.layout.releases / release.id
    if not folder.is_dir():
        raise NotFound(f"the files of release {short(release.id)} are gone from {folder.parent}")
    if not artifact.complete(folder) or world.gateway() is None:
        artifact.verify(folder, release.id)


def warmed(world: World, before: Pointers, release: Release, why: str, decision: str | None) -> Pointers:
    """Make the release the challenger until a gateway that is up has a worker of it ready; where it gets none, the
    challenger is taken back and the error passed on."""
    challenger = replace(before, challenger=release.id)
    standing = world.ledger.move(world.endpoint, before.generation, challenger, world.who, why, decision)
    try:
        _wait_warm(world, release)
    except BaseException:
        dropped = replace(standing, challenger=before.challenger)
        world.ledger.move(world.endpoint, standing.generation, dropped, world.who, "its worker did not start", None)
        raise
    return standing


def _wait_warm(world: World, release: Release) -> None:
    """Wait until the gateway that is up, if one is, has a worker of the release ready.

    Raises Unavailable with the gateway's reason, or when it takes too long.
    """
    until = world.clock.monotonic() + WARM_WITHIN
    while (gateway := world.gateway()) is not None:
        if world.ledger.is_warm(world.endpoint, release.id, gateway):
            return
        reason = world.ledger.failure(world.endpoint, release.id, gateway)
        if reason is not None:
            raise Unavailable(f"release {short(release.id)} does not start: {reason}; traffic stays where it was")
        if world.clock.monotonic() > until:
            raise Unavailable(
                f"no worker of release {short(release.id)} within {WARM_WITHIN:.0f} s; traffic stays where it was"
            )
        world.clock.sleep(0.02)


def project_aliases(world: World) -> None:
    """Bring the registry's aliases in line with the ledger, which is right whatever somebody did there by hand."""
    registry, pointers = world.heavy.registry, world.ledger.pointers(world.endpoint)
    found = registry.aliases(world.endpoint)
    wanted: dict[str, int] = {}
    for alias in ALIASES:
        identity = getattr(pointers, alias)
        version = world.ledger.release(identity).version if identity else None
        if found.get(alias) != version:
            registry.set_alias(world.endpoint, alias, version)
        if version is not None:
            wanted[alias] = version
    world.journal.finish("aliases", "", wanted)


def moved_by_hand(world: World) -> list[str]:
    """Aliases that differ from what was last projected: somebody moved them in the registry."""
    projected = world.journal.last("aliases")
    if projected is None:
        return []
    found = world.heavy.registry.aliases(world.endpoint)
    ours = {k: v for k, v in found.items() if k in ALIASES}
    return [
        f"the alias {alias} of {world.endpoint} was moved to version {ours.get(alias)} in the registry by hand; the "
        f"ledger says version {projected.get(alias)}, and it is put back (`modelyard release promote` moves it)"
        for alias in sorted(set(ours) | set(projected))
        if ours.get(alias) != projected.get(alias)
    ]
