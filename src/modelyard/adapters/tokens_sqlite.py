"""Tokens in the ledger's file: who may move what is served stands beside what was moved."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.adapters.ledger_file import LedgerFile
from modelyard.errors import NotFound, UserError
from modelyard.ports.tokens import Limits, Spent, Token

_LIMITS = "requests_per_minute, tokens_per_minute, requests_per_day, tokens_per_day"
_TOKEN = f"id, digest, name, scope, groups, created, made_by, expires, revoked, used, {_LIMITS}"


class SqliteTokens(LedgerFile):
    """The tokens of a target, in its ledger's file. Raises as LedgerFile does."""

    _own, _commits, _changes = 0, -1, 0

    def add(self, token: Token) -> None:
        limits = token.limits
        row = (
            *(token.id, token.digest, token.name, token.scope, json.dumps(token.groups, ensure_ascii=False)),
            *(token.created, token.by, token.expires, token.revoked, token.used),
            *(limits.requests_per_minute, limits.tokens_per_minute, limits.requests_per_day, limits.tokens_per_day),
        )
        with self._write() as db:
            taken = "SELECT 1 FROM tokens WHERE name = ? AND revoked IS NULL"
            if token.name and db.execute(taken, (token.name,)).fetchone():
                raise UserError(f"there is a token named {token.name!r}: revoke it first, or choose another name")
            db.execute(f"INSERT INTO tokens ({_TOKEN}) VALUES ({','.join('?' * len(row))})", row)
        self._own += 1

    def all(self) -> Sequence[Token]:
        return [_token(row) for row in self._rows(f"SELECT {_TOKEN} FROM tokens ORDER BY created DESC, rowid DESC")]

    def revoke(self, name: str, at: str) -> Token:
        # Of several that had the name, the one that still has it.
        find = f"SELECT {_TOKEN} FROM tokens WHERE id = ? OR name = ? AND name <> '' ORDER BY revoked IS NOT NULL"
        with self._write() as db:
            row = db.execute(find, (name, name)).fetchone()
            if row is None:
                raise NotFound(f"no token {name!r} here: `modelyard token list` shows them")
            db.execute("UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL", (at, row[0]))
            revoked = _token(db.execute(f"SELECT {_TOKEN} FROM tokens WHERE id = ?", (row[0],)).fetchone())
        self._own += 1
        return revoked

    def spent(self, day: str) -> Mapping[str, Spent]:
        rows = self._rows("SELECT token, requests, tokens FROM spent WHERE day = ?", day)
        return {token: Spent(requests, tokens) for token, requests, tokens in rows}

    def spend(self, day: str, more: Mapping[str, Spent], used: Mapping[str, str]) -> None:
        with self._write() as db:
            db.executemany(
                "INSERT INTO spent (token, day, requests, tokens) VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET"
                " requests = requests + excluded.requests, tokens = tokens + excluded.tokens",
                [(token, day, spent.requests, spent.tokens) for token, spent in more.items()],
            )
            db.executemany(
                "UPDATE tokens SET used = ? WHERE id = ? AND (used IS NULL OR used < ?)",
                [(at, token, at) for token, at in used.items()],
            )

    def version(self) -> int:
        # The pragma tells of the commits of others only, so our own are counted.
        commits = int(self._rows("PRAGMA data_version")[0][0]) + self._own
        if commits != self._commits:
            # Most commits are of other tables. Tokens are only added and revoked, which this tells.
            self._changes = int(self._rows("SELECT count(*) + count(revoked) FROM tokens")[0][0])
            self._commits = commits
        return self._changes


def _token(row: tuple[Any, ...]) -> Token:
    identity, digest, name, scope, groups, created, by, expires, revoked, used, *limits = row
    return Token(
        identity, digest, name, scope, tuple(json.loads(groups)), Limits(*limits), created, by, expires, revoked, used
    )
