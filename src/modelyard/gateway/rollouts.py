"""The gateway's side of a rollout: it follows the ledger, looks at the evidence, and steps.

One rollout at a time. Every step is a move in the ledger with the decision it is made by, in one transaction with the
rollout's row; whoever moves the endpoint meanwhile wins, and the rollout is suspended. Started again, a gateway takes
up a rollout where its log ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from modelyard.clock import Clock, stamp
from modelyard.errors import Busy, ModelyardError
from modelyard.ids import short
from modelyard.lifecycle.canary import GATEWAY, stepped, write_word
from modelyard.lifecycle.rollout import decide_rollout
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import Decision, Pointers, Rollout
from modelyard.ports.rollouts import Rollouts
from modelyard.serving.log import Durability
from modelyard.serving.rollout import RolloutRouter, Trial

POLL_SECONDS = 0.05
SOON_SECONDS = 1.0
"""A look follows that soon on an answer that failed, or on many new units."""
MANY_UNITS = 50
_EVENTS = 100

T = TypeVar("T")
log = logging.getLogger("modelyard.gateway")


@dataclass(frozen=True)
class Event:
    """Something that happened to a rollout, in words."""

    at: str
    rollout: str
    what: str
    decision: str | None = None


class Runner:
    """Runs the rollouts of one endpoint. `pointers` is where the endpoint points as the gateway knows it; `ledger` and
    `rollouts` are opened, and used, in a thread of the runner's own. `folder` holds the logs of rollouts.

    `last` is the newest decision, stored or not; `events` the newest events, oldest first.
    """

    def __init__(
        self,
        endpoint: str,
        gateway: str,
        router: RolloutRouter,
        pointers: Callable[[], Pointers],
        ledger: Callable[[], Ledger],
        rollouts: Callable[[], Rollouts],
        folder: Path,
        clock: Clock,
        durability: Durability = "disk",
    ) -> None:
        self.last: Decision | None = None
        self.events: deque[Event] = deque(maxlen=_EVENTS)
        self._endpoint, self._gateway, self._router, self._pointers = endpoint, gateway, router, pointers
        self._open_ledger, self._open_rollouts = ledger, rollouts
        self._folder, self._clock, self._durability = folder, clock, durability
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollouts")
        self._ledger: Ledger | None = None
        self._rollouts: Rollouts | None = None
        self._seen: Pointers | None = None
        self._trial: Trial | None = None
        self._task: asyncio.Task[None] | None = None
        self._looked, self._units, self._faults = 0.0, 0, 0
        self._broken = ""
        self._looking = asyncio.Lock()

    @property
    def trial(self) -> Trial | None:
        """The rollout that is under way, or whose conversations still stay where they were."""
        return self._trial

    async def start(self) -> None:
        """Take up what the ledger says is under way, before the first request. Raises what opening it raises."""
        self._ledger = await self._aside(self._open_ledger)
        self._rollouts = await self._aside(self._open_rollouts)
        try:
            await self._follow(self._pointers())
        except Exception as error:
            # Answers go on without it, and the loop tries again.
            known = isinstance(error, ModelyardError)
            self._broken = str(error) if known else "a defect"
            log.error("the rollout of %s cannot be taken up: %s", self._endpoint, error, exc_info=not known)
        else:
            await self._aside(self._sweep)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop looking, and close the log. What was under way goes on with the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._thread.shutdown)
            for opened in (self._ledger, self._rollouts):
                if opened is not None:
                    ending.push_async_callback(self._aside, opened.close)
            await self._take(None)

    async def look(self) -> Decision | None:
        """Judge the evidence there is now, and step where that says so. The decision; None where nothing is on its
        way. Raises Busy where somebody else moved the endpoint meanwhile."""
        async with self._looking:
            return await self._look()

    async def _look(self) -> Decision | None:
        trial = self._trial
        if trial is None or not trial.rollout.live:
            return None
        self._looked, self._units, self._faults = self._clock.monotonic(), trial.units, trial.faults
        rollout = trial.rollout
        age = (self._clock.now() - datetime.fromisoformat(rollout.started)).total_seconds()
        down = await self._aside(self._failure, rollout)
        evidence = trial.evidence(max(age, 0.0), down)
        decision, done = await self._aside(self._judge, rollout, evidence)
        self.last = decision
        if done is not None:
            self._say(done, decision)
            trial.rollout = done
            self._seen = None
            await self._follow(self._pointers())
        return decision

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                if (now := self._pointers()) != self._seen:
                    await self._follow(now)
                elif self._trial is not None and not self._trial.rollout.live and self._is_over(self._trial.rollout):
                    await self._take(None)
                    await self._aside(self._sweep)
                if self._is_due():
                    await self.look()
                self._broken = ""
            except Busy:
                self._seen = None  # somebody moved it meanwhile: look again
            except ModelyardError as error:
                if str(error) != self._broken:
                    log.error("the rollout of %s cannot go on: %s", self._endpoint, error)
                self._broken = str(error)
            except Exception:
                # Traffic goes on as it is split; a rollout that cannot be judged must not take the gateway with it.
                if not self._broken:
                    log.exception("the rollout of %s cannot be judged", self._endpoint)
                self._broken = "a defect"

    def _is_due(self) -> bool:
        trial = self._trial
        if trial is None or not trial.rollout.live:
            return False
        waited = self._clock.monotonic() - self._looked
        soon = trial.faults > self._faults or trial.units - self._units >= MANY_UNITS
        return waited >= trial.rollout.policy["look_every"] or (soon and waited >= SOON_SECONDS)

    # following the ledger

    async def _follow(self, pointers: Pointers) -> None:
        found = await self._aside(self._newest)
        if found is not None and found.live and pointers.generation > found.generation:
            found = await self._aside(self._suspend, found, pointers)
        if found is not None and found.live and pointers.generation < found.generation:
            return  # the rollout was read after the pointers: they follow in a moment
        before = self._trial
        wanted = found if found is not None and (found.live or not self._is_over(found)) else None
        await self._take(wanted)
        self._seen = pointers
        self._router.follow(pointers, self._trial)
        if before is not None and before is not self._trial:
            await self._aside(self._sweep)

    def _newest(self) -> Rollout | None:
        assert self._rollouts is not None
        live = self._rollouts.live(self._endpoint)
        return live or next(iter(self._rollouts.all(self._endpoint)), None)

    def _suspend(self, rollout: Rollout, pointers: Pointers) -> Rollout:
        assert self._rollouts is not None and self._ledger is not None
        moves = self._ledger.history(self._endpoint)
        move = next((m for m in moves if m.pointers.generation == rollout.generation + 1), None)
        reason = f"{move.who} moved the endpoint: {move.why}" if move is not None else "the endpoint was moved"
        with contextlib.suppress(Busy):
            done = self._rollouts.step(replace(rollout, state="suspended", reason=reason), None, GATEWAY, reason, None)
            self._say(done, None)
            return done
        return self._rollouts.rollout(rollout.id)

    async def _take(self, wanted: Rollout | None) -> None:
        """Have this rollout in mind, and no other."""
        trial = self._trial
        if trial is not None and wanted is not None and trial.rollout.id == wanted.id:
            trial.rollout = wanted
            return
        if trial is not None:
            self._trial = None
            between = self._pointers()
            if wanted is not None:  # the coin of a unit that is new in this moment must not fall by another rule
                between = replace(between, traffic=())
            self._router.follow(between, None)
            await self._aside(trial.close)
        if wanted is not None:
            self._trial = await self._aside(self._open, wanted)
            self._looked, self._units, self._faults = self._clock.monotonic(), 0, 0
        self._router.follow(self._pointers(), self._trial)

    def _open(self, rollout: Rollout) -> Trial:
        return Trial(rollout, self._folder / rollout.id, self._clock, durability=self._durability)

    def _is_over(self, rollout: Rollout) -> bool:
        """Whether nothing has to be kept in mind of it: conversations stay where they were for a while after a
        promotion, and after nothing else."""
        pointers = self._pointers()
        if rollout.state != "promoted" or pointers.generation > rollout.generation:
            return True
        since = (self._clock.now() - datetime.fromisoformat(rollout.stage_since)).total_seconds()
        return since >= float(rollout.policy["linger"])

    def _sweep(self) -> None:
        """Logs of rollouts that are over hold nothing that anybody will ask for."""
        kept = self._trial.rollout.id if self._trial is not None else None
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name != kept:
                    shutil.rmtree(path, ignore_errors=True)

    # judging

    def _failure(self, rollout: Rollout) -> str | None:
        assert self._ledger is not None
        return self._ledger.failure(self._endpoint, rollout.challenger, self._gateway)

    def _judge(self, rollout: Rollout, evidence: Mapping[str, Any]) -> tuple[Decision, Rollout | None]:
        """The decision, and the rollout as it is in the ledger after it; None where all stays as it is. Raises Busy."""
        assert self._ledger is not None and self._rollouts is not None
        policy = {name: rollout.policy[name] for name in ("tests", "alpha", "min_units", "max_age", "at_max_age")}
        decision = decide_rollout(evidence, policy)
        at = stamp(self._clock.now())
        with contextlib.suppress(OSError):  # a full disk: the word is for people, the decision stands
            write_word(self._folder / rollout.id, decision, at)
        found = stepped(rollout, self._ledger.pointers(self._endpoint), decision, at)
        if found is None:
            return decision, None
        after, to = found
        decided = self._ledger.add_decision(decision)
        why = f"{_words(after, rollout)}: {decision.reasons[-1] if after.state == 'held' else decision.reasons[0]}"
        return decision, self._rollouts.step(after, to, GATEWAY, why, decided)

    def _say(self, rollout: Rollout, decision: Decision | None) -> None:
        what = rollout.reason if not rollout.live or rollout.state == "held" else f"at {rollout.share} % now"
        decided = decision.id if decision is not None else None
        self.events.append(Event(stamp(self._clock.now()), rollout.id, f"{rollout.state}: {what}", decided))
        log.info("rollout of release %s: %s: %s", short(rollout.challenger), rollout.state, what)

    async def _aside(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


def _words(after: Rollout, before: Rollout) -> str:
    if after.state == "running":
        return f"canary from {before.share} to {after.share} %"
    return {"promoted": "canary promoted", "reverted": "canary taken back", "held": "canary held"}[after.state]
