"""Rollouts in the ledger's file: a step and the move that it is are one transaction there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modelyard.adapters.ledger_file import LedgerFile
from modelyard.adapters.ledger_sqlite import make_move
from modelyard.clock import stamp
from modelyard.errors import Busy, NotFound
from modelyard.ids import short
from modelyard.ports.records import Pointers, Rollout

_FIELDS = (
    "id, endpoint, champion, challenger, policy, stage, state, started, stage_since, generation, who, reason, version"
)
_LIVE = f"SELECT {_FIELDS} FROM rollouts WHERE endpoint = ? AND state IN ('running', 'held')"


class SqliteRollouts(LedgerFile):
    """The rollouts of a target, in its ledger's file. Raises as LedgerFile does."""

    def live(self, endpoint: str) -> Rollout | None:
        rows = self._rows(_LIVE, endpoint)
        return _rollout(rows[0]) if rows else None

    def rollout(self, name: str) -> Rollout:
        rows = self._rows(f"SELECT {_FIELDS} FROM rollouts WHERE id = ?", name)
        if not rows:
            raise NotFound(f"no rollout {name!r} here")
        return _rollout(rows[0])

    def all(self, endpoint: str) -> Sequence[Rollout]:
        find = f"SELECT {_FIELDS} FROM rollouts WHERE endpoint = ? ORDER BY started DESC, rowid DESC"
        return [_rollout(row) for row in self._rows(find, endpoint)]

    def start(self, rollout: Rollout, to: Pointers, why: str, decision: str | None) -> Rollout:
        with self._write() as db:
            if (row := db.execute(_LIVE, (rollout.endpoint,)).fetchone()) is not None:
                raise Busy(f"release {short(_rollout(row).challenger)} is on its way on {rollout.endpoint} already")
            started = self._moved(db, rollout, to, rollout.who, why, decision)
            row = _row(started)
            db.execute(f"INSERT INTO rollouts ({_FIELDS}) VALUES ({','.join('?' * len(row))})", row)
        return started

    def step(self, rollout: Rollout, to: Pointers | None, who: str, why: str, decision: str | None) -> Rollout:
        with self._write() as db:
            row = db.execute("SELECT version FROM rollouts WHERE id = ?", (rollout.id,)).fetchone()
            if row is None:
                raise NotFound(f"no rollout {rollout.id!r} here")
            if row[0] != rollout.version:
                raise Busy(f"the rollout on {rollout.endpoint} changed meanwhile: look where it is now")
            done = self._moved(db, rollout, to, who, why, decision) if to is not None else rollout
            done = replace(done, version=rollout.version + 1)
            names = [name.strip() for name in _FIELDS.split(",")]
            db.execute(
                f"UPDATE rollouts SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?",
                (*_row(done), rollout.id),
            )
        return done

    def rehearse(self, endpoint: str, to: Pointers) -> None:
        try:
            with self._write() as db:
                at = stamp(self._clock.now())
                make_move(db, at, endpoint, to.generation, to, "drill", "a rehearsal", None)
                raise _Rehearsed
        except _Rehearsed:
            return

    def _moved(
        self, db: sqlite3.Connection, rollout: Rollout, to: Pointers, who: str, why: str, decision: str | None
    ) -> Rollout:
        at = stamp(self._clock.now())
        moved = make_move(db, at, rollout.endpoint, rollout.generation, to, who, why, decision)
        return replace(rollout, generation=moved.generation)


class _Rehearsed(Exception):
    """What takes a rehearsal back."""


def _row(rollout: Rollout) -> tuple[Any, ...]:
    policy = json.dumps(dict(rollout.policy), ensure_ascii=False, allow_nan=False, sort_keys=True)
    return (
        *(rollout.id, rollout.endpoint, rollout.champion, rollout.challenger, policy, rollout.stage, rollout.state),
        *(rollout.started, rollout.stage_since, rollout.generation, rollout.who, rollout.reason, rollout.version),
    )


def _rollout(row: tuple[Any, ...]) -> Rollout:
    identity, endpoint, champion, challenger, policy, *rest = row
    return Rollout(identity, endpoint, champion, challenger, json.loads(policy), *rest)
