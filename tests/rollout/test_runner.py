"""The gateway's runner on a real ledger: to the end, back, held, suspended, taken up again. Time is made up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from canary import BEGAN, NEW, OLD, OTHER, policy, rollout

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.clock import FakeClock
from modelyard.errors import Busy
from modelyard.gateway.rollouts import Runner
from modelyard.lifecycle.canary import last_word
from modelyard.lifecycle.explain import explain
from modelyard.ports.records import SHADOW, Pointers, Rollout
from modelyard.serving.assignment import Values
from modelyard.serving.log import Log
from modelyard.serving.rollout import RolloutRouter, Trial

FAST = {"steps": [10, 50, 100], "margins": {"errors": 0.05, "latency": 0.2}, "settle": 1.0, "min_units": 20}


class Stage:
    """A ledger with a rollout under way, and a runner that follows it."""

    def __init__(self, folder: Path, start: Rollout) -> None:
        self.folder, self.clock, self.random = folder, FakeClock(BEGAN), random.Random(5)
        self.ledger = SqliteLedger(folder / "ledger.db", self.clock)
        self.rollouts = SqliteRollouts(folder / "ledger.db", self.clock)
        for one in (OLD, NEW, OTHER):
            self.ledger.add_release(one)
        self.ledger.move("site", 0, Pointers(champion=OLD.id), "me", "first", None)
        share = 0 if start.stage == SHADOW else start.share
        traffic = ((OLD.id, 100 - share), (NEW.id, share)) if share else ()
        self.rollouts.start(start, Pointers(champion=OLD.id, challenger=NEW.id, traffic=traffic), "canary", None)
        self.router = RolloutRouter("site")
        self.count = 0

    @asynccontextmanager
    async def runner(self) -> AsyncIterator[Runner]:
        path = self.folder / "ledger.db"
        made = Runner(
            "site",
            "gateway-1",
            self.router,
            lambda: self.ledger.pointers("site"),
            lambda: SqliteLedger(path, self.clock),
            lambda: SqliteRollouts(path, self.clock),
            self.folder / "rollouts",
            self.clock,
            durability="process",
        )
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

    async def traffic(self, units: int, answer: Callable[[str], Values]) -> set[str | None]:
        """New units, each asking twice; the releases that answered."""
        seen = set()
        for _ in range(units):
            self.count += 1
            unit = f"u{self.count}"
            for _ in range(2):
                given = await self.router.assign(unit)
                self.clock.advance(0.1)
                self.router.observe(unit, answer(given.arm), given.release)
                seen.add(given.release)
        self.clock.advance(2)
        return seen

    def healthy(self, arm: str) -> Values:
        return {"errors": float(self.random.random() < 0.005), "latency": self.random.lognormvariate(3, 0.5)}

    def broken(self, arm: str) -> Values:
        bad = arm == "challenger" and self.random.random() < 0.4
        return {**self.healthy(arm), **({"errors": 1.0} if bad else {})}

    def close(self) -> None:
        self.ledger.close()
        self.rollouts.close()


def play(folder: Path, start: Rollout, story: Callable[[Stage], Awaitable[None]]) -> Stage:
    stage = Stage(folder, start)
    try:
        asyncio.run(_story(stage, story))
    finally:
        stage.close()
    return stage


async def _story(stage: Stage, story: Callable[[Stage], Awaitable[None]]) -> None:
    await story(stage)


def quick(stage: int = 0, **more: Any) -> Rollout:
    return rollout(stage, policy={**policy(**FAST), **more})


def test_a_good_challenger_is_promoted_step_by_step(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            shares, states = [], []
            for _ in range(40):
                await stage.traffic(100, stage.healthy)
                await runner.look()
                if runner.trial is None or not runner.trial.rollout.live:
                    break
                shares.append(runner.trial.rollout.share)
            assert shares[0] == 10 and 50 in shares
            now = stage.ledger.pointers("site")
            assert (now.champion, now.challenger, now.previous, now.traffic) == (NEW.id, None, OLD.id, ())
            assert [event.what.split(":")[0] for event in runner.events] == ["running", "promoted"]
            assert await stage.traffic(20, stage.healthy) == {NEW.id}
            states = [one.state for one in stage.rollouts.all("site")]
            assert states == ["promoted"]
        moves = stage.ledger.history("site")
        assert [m.who for m in moves[:2]] == ["gateway", "gateway"]
        assert "promoted" in moves[0].why and "from 10 to 50 %" in moves[1].why
        for move in moves[:2]:
            assert move.decision is not None
            assert explain(stage.ledger.decision(move.decision))["replayed"] is True

    play(tmp_path, quick(), story)


def test_a_bad_one_goes_back_and_its_conversations_with_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            seen = set()
            for _ in range(20):
                seen |= await stage.traffic(50, stage.broken)
                if (decision := await runner.look()) is not None and decision.verdict == "fail":
                    break
            assert seen >= {OLD.id, NEW.id}
            row = stage.rollouts.all("site")[0]
            assert row.state == "reverted" and row.reason.startswith("errors")
            assert stage.ledger.pointers("site") == Pointers(3, OLD.id)
            await asyncio.sleep(0.1)
            assert await stage.traffic(5, stage.healthy) == {None}
            assert (await stage.router.assign("u1")).release is None

    play(tmp_path, quick(1), story)


def test_it_goes_back_by_itself_soon_after_failures(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner():
            for _ in range(100):
                await stage.traffic(10, stage.broken)
                await asyncio.sleep(0.06)
                if stage.rollouts.live("site") is None:
                    break
            assert stage.rollouts.all("site")[0].state == "reverted"

    play(tmp_path, quick(1, look_every=10.0**6), story)


def test_without_traffic_nothing_moves_until_the_policy_says(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            for _ in range(3):
                stage.clock.advance(86400)
                decision = await runner.look()
                assert decision is not None and decision.verdict == "abstain"
            word = last_word(tmp_path / "rollouts" / "r1")
            assert word is not None and word["reasons"] == list(decision.reasons)
            assert stage.ledger.pointers("site").generation == 2
            stage.clock.advance(5 * 86400)
            await runner.look()
            held = stage.rollouts.live("site")
            assert held is not None and held.state == "held" and stage.ledger.pointers("site").generation == 2
            # A fault that shows later still takes it back.
            for _ in range(10):
                await stage.traffic(60, stage.broken)
                await runner.look()
            assert stage.rollouts.all("site")[0].state == "reverted"

    play(tmp_path, quick(1), story)


def test_a_move_by_hand_suspends_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            now = stage.ledger.pointers("site")
            half = replace(now, traffic=((OLD.id, 50), (NEW.id, 50)))
            stage.ledger.move("site", now.generation, half, "ann", "a look", None)
            await asyncio.sleep(0.3)
            row = stage.rollouts.all("site")[0]
            assert not (tmp_path / "rollouts" / "r1").exists()
            assert (row.state, row.reason) == ("suspended", "ann moved the endpoint: a look")
            assert await runner.look() is None
            assert await stage.traffic(40, stage.healthy) == {OLD.id, NEW.id}
            assert stage.ledger.pointers("site").traffic == half.traffic

    play(tmp_path, quick(), story)


def test_who_moves_it_while_it_judges_wins(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            assert runner._task is not None
            runner._task.cancel()  # it must not look by itself meanwhile
            for _ in range(10):
                await stage.traffic(60, stage.broken)
            now = stage.ledger.pointers("site")
            stage.ledger.move("site", now.generation, Pointers(champion=OTHER.id, previous=OLD.id), "ann", "mine", None)
            with pytest.raises(Busy, match="moved meanwhile"):
                await runner.look()
        async with stage.runner():
            assert stage.rollouts.all("site")[0].state == "suspended"
            assert stage.ledger.pointers("site").champion == OTHER.id

    play(tmp_path, quick(1), story)


def test_started_again_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            await stage.traffic(100, stage.healthy)
            assert runner.trial is not None
            before = {f"u{i}": await stage.router.assign(f"u{i}") for i in range(1, 101)}
            counted = runner.trial.evidence(0, None)
        stage.router = RolloutRouter("site")
        async with stage.runner() as runner:
            assert runner.trial is not None
            assert {f"u{i}": await stage.router.assign(f"u{i}") for i in range(1, 101)} == before
            assert runner.trial.evidence(0, None) == counted

    play(tmp_path, quick(1), story)


def test_a_log_that_nobody_understands_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    written = Log.open(tmp_path / "rollouts" / "r1")
    written.write([b'["a","u",0,1,1.0]', b'["o","u",{"errors":"many"},2.0]'])
    written.close()

    async def story(stage: Stage) -> None:
        for _ in range(2):  # and holds nothing that the next one needs
            stage.router = RolloutRouter("site")
            async with stage.runner() as runner:
                assert runner.trial is None and (await stage.router.assign("u")).release is None
        Log.open(tmp_path / "rollouts" / "r1").close()

    play(tmp_path, quick(), story)


def test_a_challenger_that_does_not_start_goes_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.ledger.report_failed("site", NEW.id, "gateway-1", "its worker crashed three times")
        async with stage.runner() as runner:
            decision = await runner.look()
            assert decision is not None and decision.verdict == "fail"
            assert "crashed" in stage.rollouts.all("site")[0].reason

    play(tmp_path, quick(), story)


def test_while_one_rollout_follows_another_nobody_is_split_by_another_rule(tmp_path: Path) -> None:
    met: set[str | None] = set()

    class Watched(RolloutRouter):
        """What is new in every moment that it is told of."""

        def follow(self, pointers: Pointers, trial: Trial | None) -> None:
            super().follow(pointers, trial)
            if trial is None:
                met.update(self._by_hand(f"u{i}").release for i in range(100))

    async def story(stage: Stage) -> None:
        stage.router = Watched("site")
        async with stage.runner() as runner:
            first = stage.rollouts.live("site")
            assert first is not None
            stage.rollouts.step(replace(first, state="reverted"), Pointers(champion=OLD.id), "me", "for another", None)
            at = stage.ledger.pointers("site").generation
            after = replace(quick(1), id="r2", challenger=OTHER.id, generation=at)
            to = Pointers(at, OLD.id, OTHER.id, traffic=((OLD.id, 50), (OTHER.id, 50)))
            stage.rollouts.start(after, to, "go", None)
            await _until(lambda: runner.trial is not None and runner.trial.rollout.id == "r2")
            assert met == {None}

    play(tmp_path, quick(1), story)


async def _until(what: Callable[[], bool]) -> None:
    while not what():
        await asyncio.sleep(0.01)


def test_logs_of_rollouts_that_are_over_are_cleared_away(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        (tmp_path / "rollouts" / "gone").mkdir(parents=True)
        async with stage.runner():
            assert [path.name for path in (tmp_path / "rollouts").iterdir()] == ["r1"]

    play(tmp_path, quick(), story)


def test_conversations_stay_after_the_promotion_for_as_long_as_the_policy_says(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.runner() as runner:
            await stage.traffic(200, stage.healthy)
            before = {f"u{i}": (await stage.router.assign(f"u{i}")).release for i in range(1, 201)}
            for _ in range(60):
                await stage.traffic(100, stage.healthy)
                await runner.look()
                if stage.rollouts.live("site") is None:
                    break
            await asyncio.sleep(0.15)
            assert stage.rollouts.all("site")[0].state == "promoted"
            assert {f"u{i}": (await stage.router.assign(f"u{i}")).release for i in range(1, 201)} == before
            stage.clock.advance(3601)
            await asyncio.sleep(0.15)
            assert (await stage.router.assign("u1")).release is None

    play(tmp_path, quick(1), story)
