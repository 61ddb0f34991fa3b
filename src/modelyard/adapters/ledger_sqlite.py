"""The ledger in one SQLite file (WAL), shared by every process of a target.

Standard library only: moving a pointer must not wait for an import. Where an endpoint points is its newest move, so
pointer and history cannot disagree; triggers keep the history from being rewritten, even by hand.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from modelyard.adapters.ledger_file import LedgerFile
from modelyard.clock import stamp
from modelyard.errors import Busy, NotFound, UserError
from modelyard.ids import canonical, is_prefix, short
from modelyard.ports.records import Decision, Manifest, Move, Pointers, Release, State

_POINTERS = "generation, champion, challenger, previous, traffic"
_MOVE = f"endpoint, {_POINTERS}, who, why, decision, at"
_RELEASE = "id, manifest, state, created, version, code"
_DECISION = "kind, verdict, reasons, inputs, at"
_VERSION = re.compile(r"v([1-9][0-9]{0,17})")
_SHOWN = 5


class SqliteLedger(LedgerFile):
    """A ledger in the file `path`, made where it is not there. Raises as LedgerFile does.

    A plain `pointers` call costs some 20 microseconds: a gateway may poll with it.
    """

    def add_release(self, release: Release) -> None:
        manifest = canonical(release.manifest.to_json()).decode()
        row = (release.id, manifest, release.state, release.created, release.code)
        with self._write() as db:
            new = db.execute(
                "INSERT INTO releases (id, manifest, state, created, code) VALUES (?,?,?,?,?)"
                " ON CONFLICT (id) DO NOTHING",
                row,
            ).rowcount
            if new and release.version is not None:
                _set_version(db, release.id, release.version)

    def set_state(self, release: str, state: State) -> None:
        with self._write() as db:
            if db.execute("UPDATE releases SET state = ? WHERE id = ?", (state, release)).rowcount == 0:
                _no_release(release)

    def set_version(self, release: str, version: int) -> None:
        with self._write() as db:
            _set_version(db, release, version)

    def releases(self) -> Sequence[Release]:
        rows = self._rows(f"SELECT {_RELEASE} FROM releases ORDER BY created DESC, rowid DESC")
        return [_release(row) for row in rows]

    def release(self, name: str) -> Release:
        select = f"SELECT {_RELEASE} FROM releases WHERE"
        if match := _VERSION.fullmatch(name):
            rows = self._rows(f"{select} version = ?", int(match[1]))
        else:
            rows = self._rows(f"{select} id = ?", name) or self._by_prefix(select, name)
        if not rows:
            _no_release(name)
        if len(rows) > 1:
            _ambiguous(name, "releases", [row[0] for row in rows])
        return _release(rows[0])

    def pointers(self, endpoint: str) -> Pointers:
        with self._read() as db:
            return _pointers(db, endpoint)

    def move(self, endpoint: str, expected: int, to: Pointers, who: str, why: str, decision: str | None) -> Pointers:
        with self._write() as db:
            return make_move(db, stamp(self._clock.now()), endpoint, expected, to, who, why, decision)

    def history(self, endpoint: str | None = None) -> Sequence[Move]:
        where, values = ("", ()) if endpoint is None else ("WHERE endpoint = ?", (endpoint,))
        rows = self._rows(f"SELECT {_MOVE} FROM moves {where} ORDER BY number DESC", *values)
        return [Move(row[0], _where(row[1:6]), who=row[6], why=row[7], decision=row[8], at=row[9]) for row in rows]

    def add_decision(self, decision: Decision) -> str:
        identity = decision.id
        row = (
            identity,
            decision.kind,
            decision.verdict,
            json.dumps(decision.reasons, ensure_ascii=False),
            json.dumps(dict(decision.inputs), ensure_ascii=False, sort_keys=True, allow_nan=False),
            decision.at or stamp(self._clock.now()),
        )
        with self._write() as db:
            # Made again, it is as of now: what is looked for is the newest decision, not the first like it.
            db.execute(
                f"INSERT INTO decisions (id, {_DECISION}) VALUES (?,?,?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET at = excluded.at",
                row,
            )
        return identity

    def decision(self, name: str) -> Decision:
        select = f"SELECT id, {_DECISION} FROM decisions WHERE"
        rows = self._rows(f"{select} id = ?", name) or self._by_prefix(select, name)
        if not rows:
            raise NotFound(f"no decision {name!r} here: a decision is named by its id or its first 8 digits or more")
        if len(rows) > 1:
            _ambiguous(name, "decisions", [row[0] for row in rows])
        return _decision(rows[0][1:])

    def decisions(self, kind: str | None = None) -> Sequence[Decision]:
        where, values = ("", ()) if kind is None else ("WHERE kind = ?", (kind,))
        rows = self._rows(f"SELECT {_DECISION} FROM decisions {where} ORDER BY at DESC, rowid DESC", *values)
        return [_decision(row) for row in rows]

    def report_warm(self, endpoint: str, release: str, gateway: str) -> None:
        self._report(endpoint, release, gateway, None)

    def is_warm(self, endpoint: str, release: str, gateway: str) -> bool:
        return self._readiness(endpoint, release, gateway) == (None,)

    def report_failed(self, endpoint: str, release: str, gateway: str, reason: str) -> None:
        self._report(endpoint, release, gateway, reason)

    def report_gone(self, endpoint: str, release: str, gateway: str) -> None:
        with self._write() as db:
            where = "endpoint = ? AND release = ? AND gateway = ?"
            db.execute(f"DELETE FROM readiness WHERE {where}", (endpoint, release, gateway))

    def failure(self, endpoint: str, release: str, gateway: str) -> str | None:
        row = self._readiness(endpoint, release, gateway)
        return row[0] if row else None

    def _report(self, endpoint: str, release: str, gateway: str, failure: str | None) -> None:
        with self._write() as db:
            db.execute(
                "INSERT INTO readiness (endpoint, release, gateway, failure) VALUES (?,?,?,?)"
                " ON CONFLICT DO UPDATE SET failure = excluded.failure",
                (endpoint, release, gateway, failure),
            )

    def _readiness(self, endpoint: str, release: str, gateway: str) -> tuple[str | None] | None:
        where = "endpoint = ? AND release = ? AND gateway = ?"
        rows = self._rows(f"SELECT failure FROM readiness WHERE {where}", endpoint, release, gateway)
        return rows[0] if rows else None

    def _by_prefix(self, select: str, name: str) -> list[tuple[Any, ...]]:
        # 'g' follows every hexadecimal digit, so the primary key answers; no LIKE, no scan.
        return self._rows(f"{select} id >= ? AND id < ?", name, name + "g") if is_prefix(name) else []


def make_move(
    db: sqlite3.Connection,
    at: str,
    endpoint: str,
    expected: int,
    to: Pointers,
    who: str,
    why: str,
    decision: str | None,
) -> Pointers:
    """`Ledger.move` inside a transaction that somebody else opened."""
    moved = replace(to, generation=expected + 1)
    found = _pointers(db, endpoint).generation
    if found != expected:
        raise Busy(
            f"endpoint {endpoint!r} moved meanwhile (generation {found}, expected {expected}): look where it points "
            "now and try again"
        )
    for name in to.named():
        if not db.execute("SELECT 1 FROM releases WHERE id = ?", (name,)).fetchone():
            _no_release(name)
    row = (
        *(endpoint, moved.generation, moved.champion, moved.challenger, moved.previous, json.dumps(moved.traffic)),
        *(who, why, decision, at),
    )
    db.execute(f"INSERT INTO moves ({_MOVE}) VALUES ({','.join('?' * len(row))})", row)
    return moved


def _pointers(db: sqlite3.Connection, endpoint: str) -> Pointers:
    row = db.execute(
        f"SELECT {_POINTERS} FROM moves WHERE endpoint = ? ORDER BY generation DESC LIMIT 1", (endpoint,)
    ).fetchone()
    return _where(row) if row else Pointers()


def _where(row: tuple[Any, ...]) -> Pointers:
    generation, champion, challenger, previous, split = row
    traffic = json.loads(split) if split != "[]" else ()
    return Pointers(generation, champion, challenger, previous, tuple((name, percent) for name, percent in traffic))


def _set_version(db: sqlite3.Connection, release: str, version: int) -> None:
    # A registry that was lost and made anew counts from 1 again: its number means the release logged last.
    db.execute("UPDATE releases SET version = NULL WHERE version = ? AND id <> ?", (version, release))
    if db.execute("UPDATE releases SET version = ? WHERE id = ?", (version, release)).rowcount == 0:
        _no_release(release)


def _release(row: tuple[Any, ...]) -> Release:
    manifest = Manifest.from_json(json.loads(row[1]))
    return Release(id=row[0], manifest=manifest, state=row[2], created=row[3], version=row[4], code=row[5])


def _decision(row: tuple[Any, ...]) -> Decision:
    kind, verdict, reasons, inputs, at = row
    return Decision(kind, verdict, tuple(json.loads(reasons)), json.loads(inputs), at)


def _no_release(name: str) -> NoReturn:
    raise NotFound(
        f"no release {name!r} here: a release is named by its id, its first 8 digits or more, or its version as v7 "
        "(`modelyard release list` shows them)"
    )


def _ambiguous(name: str, what: str, ids: list[str]) -> NoReturn:
    shown = ", ".join(_enough(identity, ids) for identity in ids[:_SHOWN])
    rest = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    raise UserError(f"{name!r} fits {len(ids)} {what}: {shown}{rest}; give more digits")


def _enough(identity: str, others: list[str]) -> str:
    """The shortest form that people can type and that tells `identity` from `others`; 12 digits at least."""
    length = len(short(identity))
    while any(other != identity and other.startswith(identity[:length]) for other in others):
        length += 1
    return identity[:length]
