"""The tokens as a running gateway knows them, when the ledger's file does not play along."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.clock import FakeClock, stamp
from modelyard.errors import BudgetSpent
from modelyard.gateway import keyring as module
from modelyard.gateway.auth import Caller
from modelyard.gateway.keyring import Keyring
from modelyard.lifecycle.tokens import create
from modelyard.ports.tokens import Limits, Spent

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)


async def until(found: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not found():
            await asyncio.sleep(0.005)


def test_what_cannot_be_written_down_is_held_until_it_can(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", FakeClock(START)
    tokens = SqliteTokens(path)
    secret, token = create(tokens, clock, "me", limits=Limits(requests_per_day=100))

    async def serve() -> None:
        ring = Keyring({}, True, lambda: SqliteTokens(path, patience=0.05), clock)
        ring.start()
        caller = ring.find(secret)
        assert caller is not None and caller.allowance is not None
        hand = sqlite3.connect(path, isolation_level=None)
        hand.execute("BEGIN IMMEDIATE")  # another process keeps the file locked
        for _ in range(5):
            caller.allowance.admit()
            await asyncio.sleep(0.02)
        caller.spend(70)
        assert ring.find(secret) is caller  # what was known holds
        hand.execute("ROLLBACK")
        hand.close()
        caller.allowance.admit()
        await until(lambda: tokens.spent("2026-05-01").get(token.id) == Spent(6, 70))
        caller.allowance.admit()
        await ring.stop()

    asyncio.run(serve())
    assert tokens.spent("2026-05-01") == {token.id: Spent(7, 70)}  # stopping writes down the rest
    assert tokens.all()[0].used == stamp(clock.now())
    tokens.close()


def test_what_is_spent_goes_to_the_day_it_was_spent_on(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", FakeClock(datetime(2026, 5, 1, 23, 59, 59, tzinfo=UTC))
    tokens = SqliteTokens(path)
    secret, token = create(tokens, clock, "me", limits=Limits(requests_per_day=2))

    async def serve() -> None:
        ring = Keyring({}, True, lambda: SqliteTokens(path), clock)
        caller = ring.find(secret)
        assert caller is not None and caller.allowance is not None
        caller.allowance.admit()
        caller.allowance.admit()
        with pytest.raises(BudgetSpent):
            caller.allowance.admit()
        clock.advance(2)
        caller.allowance.admit()
        await ring.stop()

    asyncio.run(serve())
    assert tokens.spent("2026-05-01") == {token.id: Spent(2, 0)}
    assert tokens.spent("2026-05-02") == {token.id: Spent(1, 0)}
    tokens.close()


def test_it_follows_the_tokens_and_their_hours(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", FakeClock(START)
    tokens = SqliteTokens(path)

    async def serve() -> None:
        ring = Keyring({"a secret of the configuration": Caller("serve")}, False, lambda: SqliteTokens(path), clock)
        assert not ring.required and ring.find("a secret of the configuration") == Caller("serve")
        ring.start()
        secret, token = create(tokens, clock, "me", groups=["hr"], expires_in=60)
        await until(lambda: ring.required)
        caller = ring.find(secret)
        assert caller is not None and (caller.id, caller.groups) == (token.id, frozenset({"hr"}))
        for wrong in ("", secret[:-1], secret + "x", token.digest, token.id):
            assert ring.find(wrong) is None
        assert caller.allowance is not None
        caller.allowance.admit()
        other, _ = create(tokens, clock, "me")
        await until(lambda: ring.find(other))
        again = ring.find(secret)
        assert again is not None and again.allowance is caller.allowance  # what it used is not forgotten
        clock.advance(timedelta(seconds=61).total_seconds())
        assert ring.find(secret) is None and ring.find(other) is not None
        tokens.revoke(create(tokens, clock, "me", name="third")[1].id, stamp(clock.now()))
        await until(lambda: ring.live == 1)
        await ring.stop()

    asyncio.run(serve())
    tokens.close()


def test_whatever_goes_wrong_a_revoked_token_is_heard_of(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", FakeClock(START)
    tokens, troubles = SqliteTokens(path), [RuntimeError("nobody thought of this"), ValueError("nor of that")]

    class Troubled(SqliteTokens):
        def version(self) -> int:
            if troubles and asking:
                raise troubles.pop()
            return super().version()

    asking = False
    secret, token = create(tokens, clock, "me")

    async def serve() -> None:
        nonlocal asking
        ring = Keyring({}, True, lambda: Troubled(path), clock)
        asking = True
        ring.start()
        await until(lambda: not troubles)
        assert ring.find(secret) is not None
        tokens.revoke(token.id, stamp(clock.now()))
        await until(lambda: ring.find(secret) is None)
        await ring.stop()

    asyncio.run(serve())
    tokens.close()
