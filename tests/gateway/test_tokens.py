"""Tokens at a running gateway: who gets in, what for, how much; and no longer once revoked. Real processes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from town import Gateway, Town, eventually

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.clock import SystemClock, stamp
from modelyard.errors import RefusedByPolicy
from modelyard.gateway.server import ServeConfig, serve
from modelyard.lifecycle.tokens import create
from modelyard.ports.tokens import Limits, Spent
from modelyard.serving.route import ask_gateway

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
CLOCK = SystemClock()


class Doors:
    """A gateway that asks for tokens, and the tokens of its target."""

    def __init__(self, town: Town, gateway: Gateway, tokens: SqliteTokens) -> None:
        self.town, self.gateway, self.tokens = town, gateway, tokens

    def token(self, **more: Any) -> str:
        """A new one, once the gateway knows it."""
        secret, _ = create(self.tokens, CLOCK, "me", **more)
        eventually(lambda: self.get("/v1/models", secret).status_code == 200, "the gateway to know the token")
        return secret

    def get(self, path: str, secret: str) -> httpx.Response:
        return self.gateway.http.get(path, headers={"authorization": f"Bearer {secret}"})

    def ask(self, secret: str, path: str = "/invocations", **headers: str) -> httpx.Response:
        return self.gateway.http.post(path, json=HELLO, headers={"authorization": f"Bearer {secret}", **headers})


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    town = Town(tmp_path_factory.mktemp("town"))
    release = town.release("you said: ")
    town.point(release)
    tokens = SqliteTokens(town.layout.ledger)
    create(tokens, CLOCK, "me", name="first")
    with town.gateway(host="0.0.0.0") as gateway:
        gateway.until_ready(release)
        yield Doors(town, gateway, tokens)
    tokens.close()
    town.ledger.close()


def test_other_addresses_are_served_as_soon_as_there_is_a_token_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELYARD_TOKEN", raising=False)
    town = Town(tmp_path)
    tokens = SqliteTokens(town.layout.ledger)

    def config() -> ServeConfig:
        at = town.layout.ledger
        ledger, rollouts, keys = lambda: SqliteLedger(at), lambda: SqliteRollouts(at), lambda: SqliteTokens(at)
        return ServeConfig("town", town.layout, ledger, rollouts, "0.0.0.0", 0, tokens=keys)

    _, dead = create(tokens, CLOCK, "me")
    tokens.revoke(dead.id, stamp(CLOCK.now()))
    with pytest.raises(RefusedByPolicy, match="modelyard token create"):
        serve(config())
    create(tokens, CLOCK, "me")
    with town.gateway(host="0.0.0.0") as gateway:
        assert gateway.http.get("/health").status_code == 200
        assert gateway.http.get("/v1/models").status_code == 401
    tokens.close()
    town.ledger.close()


def test_a_token_has_its_groups(doors: Doors) -> None:
    secret, none = doors.token(groups=["hr", "board"]), doors.token()
    assert doors.ask(secret).json()[0]["groups"] == ["board", "hr"]
    assert "groups" not in doors.ask(none, **{"x-groups": "hr"}).json()[0]
    assert ask_gateway(doors.gateway.info, HELLO)["answer"] == "you said: hello"  # the user's own processes


def test_only_operators_operate(doors: Doors) -> None:
    query, operate = doors.token(), doors.token(scope="operate")
    for path in ("/metrics", "/ops/panel", "/api/2.0/serving-endpoints"):
        assert doors.get(path, "nobody's").status_code == 401
        refused = doors.get(path, query)
        assert refused.status_code == 403 and "scope operate" in refused.text and query not in refused.text
        assert doors.get(path, operate).status_code in (200, 404)
    assert doors.get("/api/2.0/serving-endpoints", query).json()["error_code"] == "PERMISSION_DENIED"
    assert doors.ask(operate).status_code == 200


def test_a_revoked_token_is_good_for_nothing_within_a_second(doors: Doors) -> None:
    secret = doors.token(name="guest")
    doors.tokens.revoke("guest", stamp(CLOCK.now()))
    time.sleep(1)
    reply = doors.ask(secret)
    assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer" and secret not in reply.text


def test_an_expired_token_is_good_for_nothing(doors: Doors) -> None:
    secret = doors.token(expires_in=1.0)
    eventually(lambda: doors.ask(secret).status_code == 401, "it to expire")


def test_when_all_are_revoked_nobody_gets_in(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.point(town.release("you said: "))
    tokens = SqliteTokens(town.layout.ledger)
    with town.gateway() as gateway:
        gateway.until_ready()
        assert gateway.ask("hello").status_code == 200  # on loopback, where there are no tokens
        assert gateway.http.get("/v1/models", headers={"authorization": "Bearer any-old-key"}).status_code == 200
        _, one = create(tokens, CLOCK, "me")
        eventually(lambda: gateway.ask("hello").status_code == 401, "the gateway to ask for it")
        tokens.revoke(one.id, stamp(CLOCK.now()))
        time.sleep(1)
        assert gateway.ask("hello").status_code == 401
    tokens.close()
    town.ledger.close()


def test_more_than_a_minute_allows(doors: Doors) -> None:
    secret = doors.token(limits=Limits(requests_per_minute=2, tokens_per_minute=9000))
    first = doors.ask(secret)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert re.fullmatch(r"[0-9.ms]+", first.headers["x-ratelimit-reset-requests"])
    doors.ask(secret)
    refused = doors.ask(secret)
    assert refused.status_code == 429 and refused.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert 1 <= int(refused.headers["retry-after"]) <= 30 and refused.headers["x-should-retry"] == "true"
    assert doors.get("/v1/models", secret).status_code == 200  # no question
    assert doors.ask(doors.token()).status_code == 200  # of another token

    client = openai.OpenAI(base_url=f"{doors.gateway.url}/v1", api_key=secret, max_retries=0)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="town", messages=HELLO["messages"])  # type: ignore[arg-type]
    assert caught.value.code == "rate_limit_exceeded"


def test_pictures_and_feedback_count_by_the_minute_and_not_by_the_day(doors: Doors) -> None:
    secret = doors.token(limits=Limits(requests_per_minute=2, requests_per_day=1))
    assert doors.get("/pages/a.pdf/1.png", secret).status_code == 200
    assert doors.ask(secret).status_code == 200
    refused = doors.get("/pages/a.pdf/1.png", secret)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_budget_outlives_the_gateway(tmp_path: Path) -> None:
    town = Town(tmp_path)
    town.point(town.release("you said: "))
    tokens = SqliteTokens(town.layout.ledger)
    secret, token = create(tokens, CLOCK, "me", limits=Limits(requests_per_day=3))
    headers = {"authorization": f"Bearer {secret}"}

    def ask(gateway: Gateway) -> httpx.Response:
        return gateway.http.post("/v1/chat/completions", json=HELLO, headers=headers)

    with town.gateway() as gateway:
        gateway.until_ready()
        assert [ask(gateway).status_code for _ in range(2)] == [200, 200]
    assert sum(s.requests for s in _spent(tokens, token.id)) == 2  # written down when it stopped
    with town.gateway() as gateway:
        gateway.until_ready()
        assert ask(gateway).status_code == 200
        refused = ask(gateway)
        assert refused.status_code == 429 and refused.headers["x-should-retry"] == "false"
        assert refused.json()["error"]["code"] == "insufficient_quota"
        eventually(lambda: sum(s.requests for s in _spent(tokens, token.id)) == 3, "it to be written down")
        gateway.process.kill()
        gateway.process.wait()
    assert tokens.all()[0].used is not None
    tokens.close()
    town.ledger.close()


def _spent(tokens: SqliteTokens, token: str) -> list[Spent]:
    now = CLOCK.now()
    days = {now.strftime("%F")}
    return [spent for day in days for one, spent in tokens.spent(day).items() if one == token]


def test_no_secret_is_in_a_log_or_on_the_disk(doors: Doors) -> None:
    secret = doors.token()
    doors.ask(secret)
    doors.ask(secret + "x")
    for path in doors.town.layout.home.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
