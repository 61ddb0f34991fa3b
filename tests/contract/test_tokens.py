"""The contract of the tokens port, on every adapter of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.adapters.ledger_schema import STEPS, statements
from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.errors import NotFound, UserError
from modelyard.ports.tokens import SECRET, Limits, Spent, Token, Tokens, digest_of, new_secret

TOKENS: dict[str, Callable[[Path], Tokens]] = {"sqlite": lambda folder: SqliteTokens(folder / "ledger.db")}
AT = "2026-01-01T00:00:00.000Z"
LATER = "2026-02-01T00:00:00.000Z"


@pytest.fixture(params=sorted(TOKENS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Tokens]]:
    opened: list[Tokens] = []

    def make() -> Tokens:
        opened.append(TOKENS[request.param](tmp_path))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def token(name: str = "", **more: object) -> Token:
    secret, identity = new_secret()
    return Token(identity, digest_of(secret), name, created=AT, by="me", **more)  # type: ignore[arg-type]


def test_a_token_comes_back_as_it_was_written_and_without_its_secret(make: Callable[[], Tokens]) -> None:
    plain = token()
    whole = token(
        "sales desk 🦊", scope="operate", groups=("hr", "Vorstand"), limits=Limits(60, 9000, 10, 500), expires=LATER
    )
    tokens = make()
    assert list(tokens.all()) == []
    tokens.add(plain)
    tokens.add(whole)
    assert list(make().all()) == [whole, plain]
    assert whole.digest not in repr(whole)


def test_names_are_of_one_live_token(make: Callable[[], Tokens]) -> None:
    tokens, first, second = make(), token("desk"), token("desk")
    tokens.add(first)
    with pytest.raises(UserError, match="there is a token named 'desk'"):
        tokens.add(second)
    assert tokens.revoke("desk", AT).id == first.id
    tokens.add(second)
    assert tokens.revoke("desk", AT).id == second.id
    tokens.add(token())
    tokens.add(token())  # nameless ones do not collide


def test_revoking(make: Callable[[], Tokens]) -> None:
    tokens, one = make(), token("desk")
    tokens.add(one)
    assert one.state(AT) == "live"
    assert tokens.revoke(one.id, AT).state(AT) == "revoked"
    assert tokens.revoke(one.id, LATER).revoked == AT
    for unknown in ("nobody", "", one.id[:8]):
        with pytest.raises(NotFound, match="modelyard token list"):
            tokens.revoke(unknown, AT)


def test_a_token_expires_at_its_hour() -> None:
    one = token(expires=LATER)
    assert one.state(AT) == "live" and one.state(LATER) == "expired"


def test_what_is_spent_adds_up_by_day_and_is_there_after_a_restart(make: Callable[[], Tokens]) -> None:
    tokens, one = make(), token()
    tokens.add(one)
    assert tokens.spent("2026-01-01") == {}
    tokens.spend("2026-01-01", {one.id: Spent(2, 100), "serve": Spent(1, 0)}, {one.id: LATER})
    tokens.spend("2026-01-01", {one.id: Spent(1, 5)}, {one.id: AT})
    tokens.spend("2026-01-02", {one.id: Spent(9, 9)}, {})
    again = make()
    assert again.spent("2026-01-01") == {one.id: Spent(3, 105), "serve": Spent(1, 0)}
    assert again.all()[0].used == LATER  # an older note does not go before a newer one


def test_the_version_tells_of_changes_whoever_makes_them(make: Callable[[], Tokens]) -> None:
    mine, theirs, one = make(), make(), token()
    seen = mine.version()
    assert mine.version() == seen
    theirs.add(one)
    assert (after := mine.version()) != seen
    theirs.revoke(one.id, AT)
    assert (revoked := mine.version()) != after
    mine.add(token())
    assert mine.version() != revoked


def test_secrets_are_long_different_and_found_wherever_they_stand() -> None:
    made = {new_secret()[0] for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        found = SECRET.search(f'{{"key": "{secret}"}}')
        assert found and found[0] == secret and len(secret) == 57
        assert len(digest_of(secret)) == 64


def test_a_ledger_of_before_there_were_tokens_gets_them(tmp_path: Path) -> None:
    hand = sqlite3.connect(tmp_path / "ledger.db")
    for statement in (s for step in STEPS[:2] for s in statements(step)):
        hand.execute(statement)
    hand.execute("PRAGMA user_version = 2")
    hand.commit()
    hand.close()
    tokens = SqliteTokens(tmp_path / "ledger.db")
    tokens.add(token())
    assert len(tokens.all()) == 1
    tokens.close()
