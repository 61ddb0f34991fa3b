"""Groups come from the token and from nothing else that a client sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from town import Gateway, Town

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.adapters.rollouts_sqlite import SqliteRollouts
from modelyard.errors import RefusedByPolicy
from modelyard.gateway.server import ServeConfig, serve
from modelyard.serving.route import ask_gateway, search_gateway

TOKEN = "a-token-of-the-test"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
CLAIMS = {"x-groups": "hr", "modelyard-groups": "hr", "x-forwarded-groups": "hr", "groups": "hr", "x-user": "hr"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    place = Town(tmp_path_factory.mktemp("town"))
    release = place.release("you said: ")
    place.point(release)
    with place.gateway(token=TOKEN, groups=["hr", "board"]) as gateway:
        gateway.until_ready(release)
        yield gateway
    place.ledger.close()


def headers(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}", **CLAIMS}


def test_who_has_the_token_has_its_groups(guarded: Gateway) -> None:
    post, get = guarded.http.post, guarded.http.get
    assert post("/invocations", json=HELLO, headers=headers(TOKEN)).json()[0]["groups"] == ["board", "hr"]
    found = post("/search", json={"query": "q", "k": 1}, headers=headers(TOKEN)).json()
    assert found["results"][0]["text"] == "q board hr"
    assert get("/pages/hr/pay.pdf/1.png", headers=headers(TOKEN)).status_code == 200
    rows = {"inputs": [HELLO, HELLO]}
    answers = post("/invocations", json=rows, headers=headers(TOKEN)).json()["predictions"]
    assert [answer["groups"] for answer in answers] == [["board", "hr"]] * 2


def test_nobody_else_has_any_whatever_they_claim(guarded: Gateway, served: Gateway) -> None:
    local = guarded.info.secret
    for gateway, sent in ((guarded, headers(local)), (served, CLAIMS)):
        assert "groups" not in gateway.http.post("/invocations", json=HELLO, headers=sent).json()[0]
        found = gateway.http.post("/search", json={"query": "q", "k": 1}, headers=sent).json()
        assert found["results"][0]["text"] == "q"
        closed = gateway.http.get("/pages/hr/pay.pdf/1.png?groups=hr", headers=sent)
        absent = gateway.http.get("/pages/hr/day.pdf/1.png?groups=hr", headers=sent)
        assert closed.status_code == absent.status_code == 404
        assert closed.text.replace("pay", "day") == absent.text
    assert "groups" not in ask_gateway(guarded.info, HELLO)
    assert search_gateway(guarded.info, "q", 1)[0]["text"] == "q"


def test_a_body_cannot_claim_groups(served: Gateway) -> None:
    for body in ({**HELLO, "groups": ["hr"]}, {"inputs": [{**HELLO, "groups": ["hr"]}]}):
        assert served.http.post("/invocations", json=body).status_code == 400
    chat = served.http.post("/v1/chat/completions", json={**HELLO, "groups": ["hr"], "user": "hr"})
    assert chat.status_code == 200 and "hr" not in chat.text


def test_groups_without_a_token_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELYARD_TOKEN", raising=False)
    town = Town(tmp_path)
    ledger, rollouts = lambda: SqliteLedger(town.layout.ledger), lambda: SqliteRollouts(town.layout.ledger)
    with pytest.raises(RefusedByPolicy, match=r"serve\.groups are those of who has the token"):
        serve(ServeConfig("town", town.layout, ledger, rollouts, port=0, groups=["hr"]))
    town.ledger.close()
