"""Rollouts in the ledger: a step and its move are one thing, and two writers never both win."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.adapters.ledger_schema import STEPS, statements
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.errors import Busy, NotFound
from modelyard.ids import digest
from modelyard.ports.records import SHADOW, Manifest, Pointers, Release, Rollout


def release(name: str) -> Release:
    manifest = Manifest("echo", 1, {"a.txt": digest(name)}, digest("snapshot"), {"name": name})
    return Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z")


OLD, NEW, OTHER = release("old"), release("new"), release("other")
START = Rollout(
    "r1",
    "site",
    OLD.id,
    NEW.id,
    {"steps": [1, 25, 100], "alpha": 0.01},
    SHADOW,
    "running",
    "2026-01-01T00:00:00.000Z",
    "2026-01-01T00:00:00.000Z",
    1,
    "me",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    made = SqliteLedger(tmp_path / "ledger.db")
    for one in (OLD, NEW, OTHER):
        made.add_release(one)
    made.move("site", 0, Pointers(champion=OLD.id), "me", "first", None)
    yield made
    made.close()


@pytest.fixture
def rollouts(tmp_path: Path, ledger: SqliteLedger) -> Iterator[SqliteRollouts]:
    made = SqliteRollouts(tmp_path / "ledger.db")
    yield made
    made.close()


def started(rollouts: SqliteRollouts) -> Rollout:
    return rollouts.start(START, Pointers(champion=OLD.id, challenger=NEW.id), "canary", None)


def test_a_rollout_starts_with_its_move(ledger: SqliteLedger, rollouts: SqliteRollouts) -> None:
    assert rollouts.live("site") is None
    found = started(rollouts)
    assert found == replace(START, generation=2)
    assert rollouts.live("site") == rollouts.rollout("r1") == found
    assert ledger.pointers("site") == Pointers(2, OLD.id, NEW.id)
    assert found.share == 0 and found.next_share == 1


def test_a_step_is_a_row_and_a_move(ledger: SqliteLedger, rollouts: SqliteRollouts) -> None:
    traffic = ((OLD.id, 99), (NEW.id, 1))
    to = Pointers(champion=OLD.id, challenger=NEW.id, traffic=traffic)
    done = rollouts.step(replace(started(rollouts), stage=0), to, "gateway", "step", "d1")
    assert (done.generation, done.stage, done.version, done.share) == (3, 0, 1, 1)
    assert ledger.pointers("site").traffic == traffic
    move = ledger.history("site")[0]
    assert (move.who, move.why, move.decision) == ("gateway", "step", "d1")
    over = rollouts.step(replace(done, state="suspended", reason="moved by hand"), None, "gateway", "x", None)
    assert rollouts.live("site") is None and rollouts.all("site") == [over]
    assert ledger.pointers("site").generation == 3


def test_one_at_a_time(rollouts: SqliteRollouts) -> None:
    started(rollouts)
    with pytest.raises(Busy, match="on its way"):
        rollouts.start(replace(START, id="r2", generation=2), Pointers(champion=OLD.id), "again", None)


def test_of_two_writers_one_wins_and_nothing_is_half_done(ledger: SqliteLedger, rollouts: SqliteRollouts) -> None:
    first = started(rollouts)
    rollouts.step(replace(first, stage=0), None, "a", "", None)
    with pytest.raises(Busy, match="meanwhile"):
        rollouts.step(replace(first, stage=1), None, "b", "", None)
    now = rollouts.rollout("r1")
    ledger.move("site", 2, Pointers(champion=OTHER.id), "me", "by hand", None)
    with pytest.raises(Busy, match="moved meanwhile"):
        rollouts.step(replace(now, stage=1), Pointers(champion=NEW.id), "a", "", None)
    assert rollouts.rollout("r1") == now and ledger.pointers("site").champion == OTHER.id
    with pytest.raises(NotFound):
        rollouts.step(replace(now, id="none"), None, "a", "", None)


def test_a_release_nobody_knows_starts_nothing(ledger: SqliteLedger, rollouts: SqliteRollouts) -> None:
    with pytest.raises(NotFound):
        rollouts.start(START, Pointers(champion=OLD.id, challenger="0" * 64), "canary", None)
    assert rollouts.live("site") is None and ledger.pointers("site").generation == 1


def test_a_rehearsal_changes_nothing(ledger: SqliteLedger, rollouts: SqliteRollouts) -> None:
    before = ledger.history("site")
    rollouts.rehearse("site", Pointers(1, champion=NEW.id, previous=OLD.id))
    assert ledger.history("site") == before
    with pytest.raises(Busy):
        rollouts.rehearse("site", Pointers(7, champion=NEW.id))
    with pytest.raises(NotFound):
        rollouts.rehearse("site", Pointers(1, champion="0" * 64))


def test_a_ledger_of_before_is_brought_forward(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db")
    for step in STEPS[:3]:
        for statement in statements(step):
            old.execute(statement)
    old.execute("PRAGMA user_version = 3")
    old.close()
    new = SqliteRollouts(tmp_path / "old.db")
    assert new.all("site") == []
    new.close()
