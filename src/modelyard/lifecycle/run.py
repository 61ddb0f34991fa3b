"""The loop: prepare, build, evaluate, gate, deploy.

This file is the table of contents of a run. Each step is skipped when its inputs are what they were. Interrupted
anywhere, the same command goes on where it stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from modelyard.errors import Cancelled, Damaged, GateAbstained, GateFailed, ModelyardError, NotFound, UserError
from modelyard.ids import digest, short
from modelyard.lifecycle import canary
from modelyard.lifecycle import release as pointer
from modelyard.lifecycle.build import build, build_key, register
from modelyard.lifecycle.evaluate import evidence, sit
from modelyard.lifecycle.exam import set_exam
from modelyard.lifecycle.gate import decide_gate
from modelyard.lifecycle.scan import Scan, guard_removals, without
from modelyard.lifecycle.unchanged import Options, Outcome, known, moved_since, run_key, stands, taken_back
from modelyard.lifecycle.world import World
from modelyard.ports.records import Decision, Release, Rollout, Snapshot, State
from modelyard.ports.registry import Registry, Run
from modelyard.ports.workload import CanWarm, Context, HasCorpus, Workload

T = TypeVar("T")

_STATE: Mapping[str, State] = {"pass": "passed", "fail": "failed", "abstain": "abstained"}


def run(world: World, options: Options, found: Scan) -> Outcome:
    """Take the project to a deployed release, or say why not. The caller holds the run lock; `found` is its look at the
    data folder.

    Raises UserError for bad input, GateFailed, GateAbstained (not admitted), RefusedByPolicy (too many documents are
    gone), Cancelled (interrupted), StorageError.
    """
    ingest = world.loaded.config.ingest
    if world.journal.last("prepare") is None:
        found = without(found, _held(world))
    guard_removals(found, 1.0 if options.allow_removals else ingest.max_removals, world.loaded.documents)
    return _Loop(world, options, found, run_key(world)).go()


def _held(world: World) -> list[str]:
    """Every document the tables hold, whatever became of it."""
    workload, ctx = world.heavy.workload, world.heavy.context
    if isinstance(workload, HasCorpus):
        return [str(row["document"]) for row in workload.corpus_status(ctx)]
    return [path for path, _ in workload.snapshot(ctx).entries]


class _Loop:
    """One run that has something to do. Each step either works, or takes what stands from before."""

    def __init__(self, world: World, options: Options, found: Scan, key: str) -> None:
        self.world, self.options, self.look, self.key = world, options, found, key
        self.out = Outcome()

    def go(self) -> Outcome:
        world, workload, ctx = self.world, self.world.heavy.workload, self.world.heavy.context
        if self.look.touched or self.look.changes:
            # Cut short from here on, the next run must not take the one before for its own: by then the files look
            # as they were last seen.
            world.journal.finish("run", "", {})
        # The registry takes seconds to import and to make, and so does what the workload opens: meanwhile documents are
        # read.
        opening, models = _aside(self._registry), _aside(lambda: self._warm(workload, ctx))
        began, name = world.clock.now(), f"run {world.loaded.target}"
        try:
            snapshot = self._prepare(workload, ctx, (opening, models))
        except BaseException as e:
            _end_early(e, opening, models, name, began)
            raise
        over = world.clock.now()
        models.result()
        registry = opening.result()
        self.out.warnings += pointer.moved_by_hand(world)
        with registry.run(name, since=began) as record:
            if self.out.steps["prepare"] == "done":
                with record.step("prepare", since=began, until=over) as child:
                    child.params({"changed": str(len(self.look.changes.changed)), "files": str(len(self.look.paths))})
            if self._ends_with("prepare"):
                return self.out
            release = self.out.release = self._build(record, snapshot)
            record.tags({"modelyard.release": release.id, "modelyard.snapshot": snapshot.root})
            if self._ends_with("build"):
                return self.out
            if self._asked("evaluate") or self._asked("gate"):
                self.out.evidence, self.out.decision = judge(world, release, record, self.out.steps, self.options)
                if self.options.only in ("evaluate", "gate"):
                    return self.out
            else:
                self.out.decision = pointer.stored_verdict(world, release.id)
            try:
                self._deploy(release)
            except (GateFailed, GateAbstained) as e:
                self.out.steps["deploy"] = "refused"
                e.outcome = self.out
                raise
        if self.options.only is None:
            world.journal.finish("run", self.key, {"release": release.id})
        return self.out

    def _registry(self) -> Registry:
        registry = self.world.heavy.registry
        registry.check()
        return registry

    def _warm(self, workload: Workload, ctx: Context) -> None:
        if isinstance(workload, CanWarm) and any(map(self.options.asked, ("build", "evaluate", "gate"))):
            workload.warm(ctx)

    def _asked(self, step: str) -> bool:
        asked = self.options.asked(step)
        self.out.steps[step] = "done" if asked else "not asked for"
        self.world.heavy.context.check()
        return asked

    def _ends_with(self, step: str) -> bool:
        return self.options.only == step

    def _prepare(self, workload: Workload, given: Context, opening: Sequence[Future[Any]]) -> Snapshot:
        """Ends where one of `opening` failed."""
        world = self.world
        ctx = replace(given, cancelled=lambda: given.cancelled() or any(map(_failed, opening)))
        if self._asked("prepare"):
            prepared = workload.prepared(ctx)
            stale = world.journal.done("prepare", prepared) is None
            if self.look.touched or self.look.changes or stale or self.options.forced:
                share = 1.0 if self.options.allow_removals else world.loaded.config.ingest.max_removals
                changes = replace(self.look.changes, max_removals=share)
                world.journal.doubt([*(s.path for s in changes.changed), *changes.removed, *changes.unreadable])
                workload.ingest(ctx, changes)
                world.journal.see(self.look.touched, self.look.changes.removed)
                world.journal.finish("prepare", prepared, {})
            else:
                self.out.steps["prepare"] = "skipped"
        return workload.snapshot(ctx)

    def _build(self, record: Run, snapshot: Snapshot) -> Release:
        world, asked = self.world, self._asked("build")
        key = build_key(world, snapshot)
        before = world.journal.done("build", key)
        if asked and (before is None or self.options.forced or not stands(world, before["release"])):
            with record.step("build") as child:
                release = register(world, build(world, snapshot), child)
                child.params({"release": release.id, "documents": str(len(snapshot.entries))})
            world.journal.finish("build", key, {"release": release.id})
            return release
        if asked:
            self.out.steps["build"] = "skipped"
        last = before or world.journal.last("build")
        standing = known(world, str(last["release"])) if last is not None else None
        if standing is None or standing.manifest.snapshot != snapshot.root:
            raise NotFound("nothing is built from what the documents folder holds now: `modelyard run --from build`")
        return register(world, standing, record)

    def _deploy(self, release: Release) -> None:
        world = self.world
        verdict = self.out.decision
        if not self._asked("deploy"):
            return
        pointers = world.ledger.pointers(world.endpoint)
        if not self.options.forced and pointers.champion and pointer.moved_away(world, release.id):
            self.out.steps["deploy"] = "skipped"
            self.out.warnings.append(moved_since(release.id, pointers.champion))
            return
        if verdict is not None and verdict.verdict == "fail":
            raise GateFailed(f"the gate failed release {short(release.id)}: {verdict.reasons[0]} ({_explain(verdict)})")
        by_canary = world.loaded.config.rollout.policy == "canary"
        before = canary.last(world, release.id) if by_canary and not self.options.forced else None
        if before is not None and before.state == "reverted":
            self.out.steps["deploy"] = "skipped"
            self.out.warnings.append(taken_back(before))
            return
        try:
            go = canary.start if by_canary else pointer.promote
            moved = go(world, release.id, by_person=False, why=pointer.BY_RUN)
        except GateAbstained as e:
            doubt = verdict.reasons[0] if verdict is not None else ""
            raise GateAbstained(f"{e}; {doubt}") from None
        if isinstance(moved, Rollout):
            self.out.canary, self.out.release = moved, world.ledger.release(release.id)
        try:
            pointer.project_aliases(world)
        except ModelyardError as e:
            # The pointer has moved, and that is what counts: the next run that has something to do tries again.
            self.out.warnings.append(f"the registry's aliases do not follow yet: {e}")
        if isinstance(moved, Rollout):
            return
        self.out.deployed, self.out.unproven = True, moved.unproven
        self.out.release = moved.release
        self.out.warnings += moved.warnings
        if moved.before == release.id:
            self.out.steps["deploy"] = "skipped"


def _aside(work: Callable[[], T]) -> Future[T]:
    """`work` under way in a thread that the end of the process does not wait for: a server may take minutes."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as e:  # noqa: BLE001 raised where it is asked for
            found.set_exception(e)

    threading.Thread(target=run, name="open", daemon=True).start()
    return found


def _failed(opening: Future[Any]) -> bool:
    return opening.done() and opening.exception() is not None


def _end_early(
    error: BaseException, opening: Future[Registry], models: Future[None], name: str, began: datetime
) -> None:
    """Raises what failed of the two where that is why the first step was cancelled; else records the error, as far as
    can be: it is the one to show, whatever the registry says."""
    wait([models])  # the end of the process must not cut compiling short
    if isinstance(error, Cancelled):
        for each in (opening, models):
            if _failed(each):
                each.result()
    if isinstance(error, KeyboardInterrupt | SystemExit | Cancelled) and not opening.done():
        return  # nobody waits for a registry after Ctrl-C
    with (
        suppress(BaseException),
        opening.result().run(name, since=began) as record,
        record.step("prepare", since=began),
    ):
        raise error


def _explain(decision: Decision) -> str:
    return f"modelyard explain {short(decision.id)}"


def judge(
    world: World, release: Release, record: Run, steps: dict[str, str], options: Options = Options()
) -> tuple[Mapping[str, Any], Decision]:
    """Evaluate and gate: let the release, and the champion, sit the exam; decide; write both down.

    Rows of a release that sat this very exam before are taken from the table, and the step says "skipped".
    """
    workload, ledger = world.heavy.workload, world.ledger
    policy = gate_policy(world)
    with record.step("evaluate") as child:
        sheet = set_exam(world)
        champion = ledger.pointers(world.endpoint).champion
        key = digest([release.id, sheet.digest, champion or ""])
        unchanged = world.journal.done("evaluate", key) is not None and not options.forced
        ours = sit(world, release, sheet, "release", again=options.forced)
        rival, absent = None, None
        if champion is not None and champion != release.id:
            try:
                rival = sit(world, ledger.release(champion), sheet, "champion", again=options.forced)
            except (Damaged, UserError) as e:
                # It could not serve either: there is nothing to protect, and nothing may be blocked by it for ever.
                absent = str(e)
        found = evidence(workload, sheet, ours, rival, world.loaded.config.gate.confidence)
        if absent is not None:
            found["champion_unavailable"] = absent
        child.metrics({name: figure["value"] for name, figure in found["metrics"].items()})
        world.journal.finish("evaluate", key, {})
        steps["evaluate"] = "skipped" if unchanged else "done"
    with record.step("gate") as child:
        decision = decide_gate(found, policy)
        stored = pointer.stored_verdict(world, release.id)
        steps["gate"] = "skipped" if stored is not None and stored.id == decision.id else "done"
        ledger.add_decision(decision)
        child.tags({"modelyard.verdict": decision.verdict, "modelyard.decision": decision.id})
        state = ledger.release(release.id).state
        # Too little evidence today takes nothing back that was shown, or admitted, before.
        if state != "redacted" and (decision.verdict != "abstain" or state in ("built", "failed")):
            ledger.set_state(release.id, _STATE[decision.verdict])
    return found, decision


def gate_policy(world: World) -> dict[str, Any]:
    """The gate's policy in force: the workload's own, with what the project file says over it."""
    workload, config = world.heavy.workload, world.loaded.config.gate
    return {
        "floors": {**workload.floors, **config.floors},
        "margins": {**workload.margins, **config.margins},
        "min_cases": {**workload.min_cases, **config.min_cases},
        "max_unscored": config.max_unscored,
        "min_human": config.min_human,
    }
