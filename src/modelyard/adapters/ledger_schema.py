"""The tables of the SQLite ledger, as the steps from each version of the file to the next.

A step that was published never changes: a newer version is a step more at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

_RECORD = """
CREATE TABLE releases (
    id TEXT PRIMARY KEY, manifest TEXT NOT NULL, state TEXT NOT NULL, created TEXT NOT NULL, version INTEGER UNIQUE,
    code TEXT NOT NULL);
CREATE TABLE moves (
    number INTEGER PRIMARY KEY, endpoint TEXT NOT NULL, generation INTEGER NOT NULL,
    champion TEXT, challenger TEXT, previous TEXT,
    who TEXT NOT NULL, why TEXT NOT NULL, decision TEXT, at TEXT NOT NULL,
    UNIQUE (endpoint, generation));
CREATE TABLE decisions (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, verdict TEXT NOT NULL, reasons TEXT NOT NULL, inputs TEXT NOT NULL,
    at TEXT NOT NULL);
CREATE TABLE readiness (
    endpoint TEXT NOT NULL, release TEXT NOT NULL, gateway TEXT NOT NULL, failure TEXT,
    PRIMARY KEY (endpoint, release, gateway));
CREATE TRIGGER moves_are_not_changed BEFORE UPDATE ON moves
    BEGIN SELECT RAISE(ABORT, 'the history of moves is only added to'); END;
CREATE TRIGGER moves_are_not_deleted BEFORE DELETE ON moves
    BEGIN SELECT RAISE(ABORT, 'the history of moves is only added to'); END;
CREATE TRIGGER moves_follow_each_other BEFORE INSERT ON moves
    WHEN NEW.generation <> (SELECT coalesce(max(generation), 0) + 1 FROM moves WHERE endpoint = NEW.endpoint)
        OR EXISTS (SELECT 1 FROM moves WHERE number = NEW.number)
    BEGIN SELECT RAISE(ABORT, 'a move takes the next generation of its endpoint'); END;
"""
# The insert trigger also stops INSERT OR REPLACE, which deletes without asking the delete trigger.

_TRAFFIC = """
ALTER TABLE moves ADD COLUMN traffic TEXT NOT NULL DEFAULT '[]';
"""

_TOKENS = """
CREATE TABLE tokens (
    id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, scope TEXT NOT NULL, groups TEXT NOT NULL,
    created TEXT NOT NULL, made_by TEXT NOT NULL, expires TEXT, revoked TEXT, used TEXT,
    requests_per_minute INTEGER, tokens_per_minute INTEGER, requests_per_day INTEGER, tokens_per_day INTEGER);
CREATE TABLE spent (
    token TEXT NOT NULL, day TEXT NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (token, day));
"""

_ROLLOUTS = """
CREATE TABLE rollouts (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, champion TEXT NOT NULL, challenger TEXT NOT NULL, policy TEXT NOT NULL,
    stage INTEGER NOT NULL, state TEXT NOT NULL, started TEXT NOT NULL, stage_since TEXT NOT NULL,
    generation INTEGER NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, version INTEGER NOT NULL);
CREATE UNIQUE INDEX one_rollout_at_a_time ON rollouts (endpoint) WHERE state IN ('running', 'held');
"""

_ENDPOINTS = """
CREATE TABLE endpoints (
    name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, who TEXT NOT NULL, created TEXT NOT NULL, changed TEXT NOT NULL,
    tags TEXT NOT NULL, extras TEXT NOT NULL, served TEXT NOT NULL, pending TEXT, version INTEGER NOT NULL);
CREATE TABLE endpoints_edition (edition INTEGER NOT NULL);
INSERT INTO endpoints_edition (edition) VALUES (0);
"""

STEPS = (_RECORD, _TRAFFIC, _TOKENS, _ROLLOUTS, _ENDPOINTS)
"""Step n makes version n + 1, which the file keeps in `PRAGMA user_version`."""


def statements(step: str) -> Iterator[str]:
    """One by one: `executescript` would commit the transaction it stands in."""
    statement = ""
    for line in step.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
