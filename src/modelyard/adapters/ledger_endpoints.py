"""Served names in the ledger's file, beside the moves of where they point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from modelyard.adapters.ledger_file import LedgerFile
from modelyard.errors import Busy, NotFound, RefusedByPolicy
from modelyard.ports.endpoints import EndpointRow, Served, Update

_FIELDS = "name, id, who, created, changed, tags, extras, served, pending, version"
_SELECT = f"SELECT {_FIELDS} FROM endpoints"


class SqliteEndpoints(LedgerFile):
    """The served names of a target, in its ledger's file. Raises as LedgerFile does."""

    _own, _commits, _edition = 0, -1, 0

    def all(self) -> Sequence[EndpointRow]:
        return [_row(row) for row in self._rows(f"{_SELECT} ORDER BY name")]

    def find(self, name: str) -> EndpointRow | None:
        rows = self._rows(f"{_SELECT} WHERE name = ?", name)
        return _row(rows[0]) if rows else None

    def add(self, row: EndpointRow) -> None:
        with self._write() as db:
            if db.execute("SELECT 1 FROM endpoints WHERE name = ?", (row.name,)).fetchone():
                raise RefusedByPolicy(f"there is an endpoint {row.name!r} already")
            values = _values(row)
            db.execute(f"INSERT INTO endpoints ({_FIELDS}) VALUES ({','.join('?' * len(values))})", values)
            self._changed(db)

    def change(self, row: EndpointRow) -> EndpointRow:
        done = replace(row, version=row.version + 1)
        with self._write() as db:
            found = db.execute("SELECT version FROM endpoints WHERE name = ?", (row.name,)).fetchone()
            if found is None:
                raise NotFound(f"there is no endpoint {row.name!r} any more")
            if found[0] != row.version:
                raise Busy(f"endpoint {row.name!r} changed meanwhile: look at it again")
            names = [name.strip() for name in _FIELDS.split(",")]
            sets = ", ".join(f"{name} = ?" for name in names)
            db.execute(f"UPDATE endpoints SET {sets} WHERE name = ?", (*_values(done), row.name))
            self._changed(db)
        return done

    def remove(self, name: str) -> None:
        with self._write() as db:
            if db.execute("DELETE FROM endpoints WHERE name = ?", (name,)).rowcount:
                self._changed(db)

    def edition(self) -> int:
        # The pragma tells of the commits of others only, so our own are counted.
        commits = int(self._rows("PRAGMA data_version")[0][0]) + self._own
        if commits != self._commits:
            self._edition = int(self._rows("SELECT edition FROM endpoints_edition")[0][0])  # most are of other tables
            self._commits = commits
        return self._edition

    def _changed(self, db: Any) -> None:
        db.execute("UPDATE endpoints_edition SET edition = edition + 1")
        self._own += 1


def _values(row: EndpointRow) -> tuple[Any, ...]:
    served = [asdict(one) for one in row.served]
    pending = None if row.update is None else _json(asdict(row.update))
    parts = (_json(row.tags), _json(dict(row.extras)), _json(served), pending, row.version)
    return (row.name, row.id, row.who, row.created, row.changed, *parts)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _row(row: tuple[Any, ...]) -> EndpointRow:
    name, identity, who, created, changed, tags, extras, served, pending, version = row
    return EndpointRow(
        name,
        identity,
        who,
        created,
        changed,
        tuple((key, value) for key, value in json.loads(tags)),
        json.loads(extras),
        _served(json.loads(served)),
        None if pending is None else _update(json.loads(pending)),
        version,
    )


def _update(value: dict[str, Any]) -> Update:
    return Update(**{**value, "served": _served(value["served"])})


def _served(rows: list[dict[str, Any]]) -> tuple[Served, ...]:
    return tuple(Served(**row) for row in rows)
