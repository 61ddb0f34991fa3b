"""The operations page and what is beside it: who sees it, what it shows and does. Real gateways, no browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from typing import Any

import httpx
import pytest
from town import Gateway, Town, eventually
from yard import configured, examined, judged, serving

import modelyard
from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.ports.records import Rollout
from modelyard.ports.tokens import Token, digest_of, new_secret

PATHS = (
    "/ops/panel",
    "/ops/api/state",
    "/ops/api/rollout",
    f"/ops/requests/{'0' * 32}",
    f"/ops/api/requests/{'0' * 32}",
)


def token(town: Town, scope: str, name: str) -> dict[str, str]:
    """The header of a new token of the town."""
    secret, identity = new_secret()
    tokens = SqliteTokens(town.layout.ledger)
    tokens.add(Token(identity, digest_of(secret), name, scope))  # type: ignore[arg-type]
    tokens.close()
    return {"Authorization": f"Bearer {secret}"}


def guard(page: str) -> str:
    found = re.search(r'name="guard" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def form(gateway: Gateway, **fields: str) -> httpx.Response:
    return gateway.http.post("/ops/do", data=fields, headers={"origin": gateway.url})


def test_the_page_shows_what_is_served_without_a_script(town: Town) -> None:
    old, new = town.release("old: "), town.release("new: ")
    town.point(new, previous=old)
    with town.gateway() as gateway:
        gateway.until_ready(new)
        assert gateway.ask("how much?").status_code == 200
        assert gateway.ask("bug").status_code == 500
        reply = gateway.http.get("/ops")
        state = gateway.http.get("/ops/api/state").json()
    assert reply.status_code == 200 and "default-src 'none'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert reply.headers["cache-control"] == "no-store"
    for shown in (old[:12], new[:12], "champion", "previous", "a test", "Roll back to", "<svg", ">500<"):
        assert shown in reply.text
    one = state["endpoints"][0]
    assert (one["name"], one["ready"], one["release"], one["back"]["release"]) == ("town", True, new, old)
    assert [r["roles"] for r in one["releases"]] == [["champion"], ["previous"]]
    assert [r["status"] for r in one["requests"]] == [500, 200]
    assert state["record"]["accepted"] == state["record"]["finished"] == 2
    assert one["moves"][0]["why"] == "a test"


def test_what_is_shown_is_for_tokens_that_may_operate(town: Town) -> None:
    release = town.release("a: ")
    town.point(release)
    asks, operates = token(town, "query", "asks"), token(town, "operate", "operates")
    with town.gateway() as gateway:
        eventually(lambda: gateway.http.get("/ready", headers=operates).status_code == 200, "ready")
        bare = gateway.http.get("/ops")
        assert bare.status_code == 200 and release[:12] not in bare.text and "guard" not in bare.text
        assert release[:12] not in gateway.http.get("/ops", headers=asks).text
        assert release[:12] in gateway.http.get("/ops", headers=operates).text
        for path in PATHS:
            assert gateway.http.get(path).status_code == 401
            assert gateway.http.get(path, headers=asks).status_code == 403
            assert gateway.http.get(path, headers=operates).status_code in (200, 404)
        for path in ("/ops/do", "/ops/api/rollback", "/ops/api/drill"):
            assert gateway.http.post(path, json={}).status_code == 401
            assert gateway.http.post(path, json={}, headers=asks).status_code == 403


def test_details_are_what_the_record_keeps_and_none_of_it_is_markup(town: Town) -> None:
    town.point(town.release("you said: "))
    attack = "<script>alert(1)</script> & \" ' <img src=x onerror=alert(1)>"
    with town.gateway() as gateway:
        gateway.until_ready()
        identity = gateway.ask(attack).headers["x-request-id"]
        page = gateway.http.get(f"/ops/requests/{identity}").text
        found = gateway.http.get(f"/ops/api/requests/{identity}").json()
        assert "<img" not in page and "<script>alert" not in page
        assert json.dumps(attack, ensure_ascii=False) in unescape(page)
        assert json.loads(found["request"])["messages"][0]["content"] == attack
        assert json.loads(found["response"])["choices"][0]["message"]["content"] == f"you said: {attack}"
        assert gateway.http.get(f"/ops/requests/{'0' * 32}").status_code == 404
        assert gateway.http.get("/ops/requests/x").status_code == 400


def test_what_is_not_to_be_kept_is_not_shown(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(record={"redaction": "drop"}) as gateway:
        gateway.until_ready()
        identity = gateway.ask("a secret").headers["x-request-id"]
        page = gateway.http.get(f"/ops/requests/{identity}").text
        found = gateway.http.get(f"/ops/api/requests/{identity}").json()
        assert "a secret" not in page + gateway.http.get("/ops").text and "not kept" in page
        assert found["request"] is None and found["response"] is None


def test_a_form_of_the_page_rolls_back_and_nothing_else_does(town: Town) -> None:
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(old)
    town.point(new, previous=old)
    with serving(town) as gateway:
        gateway.until_ready(new)
        page = gateway.http.get("/ops").text
        good = {"act": "rollback", "endpoint": "town", "generation": "2", "why": "<b>slow</b>", "guard": guard(page)}
        eventually(lambda: len(gateway.http.get("/ready").json()["warm"]) == 2, "both to be warm")
        assert form(gateway, **{**good, "guard": "guessed"}).status_code == 403
        assert form(gateway, **{**good, "endpoint": "village"}).status_code == 404
        assert form(gateway, **{**good, "act": "dance"}).status_code == 400
        late = form(gateway, **{**good, "generation": "1"})
        assert late.status_code == 503 and "moved since" in late.text
        for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            assert gateway.http.post("/ops/do", data=good, headers=headers).status_code == 403
        assert gateway.http.post("/ops/api/rollback", content=b"{}").status_code == 400
        assert town.ledger.pointers("town").champion == new
        done = form(gateway, **good)
        assert (done.status_code, done.headers["location"]) == (303, "/ops")
        assert gateway.http.get("/ready").json()["release"] == old
        shown = gateway.http.get("/ops").text
        assert "&lt;b&gt;slow&lt;/b&gt;" in shown and "<b>slow" not in shown
    move = town.ledger.history("town")[0]
    assert (move.who, move.why, move.pointers.champion) == ("operations page", "<b>slow</b>", old)


def test_the_history_says_whose_token_it_was(town: Town) -> None:
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(old)
    town.point(new, previous=old)
    operates = token(town, "operate", "night shift")
    with serving(town) as gateway:
        body = {"endpoint": "town", "why": "slow", "generation": 2}
        ready = "/ready"
        eventually(lambda: len(gateway.http.get(ready, headers=operates).json()["warm"]) == 2, "both to be warm")
        for wrong in ({**body, "more": 1}, {**body, "generation": "1"}, {**body, "why": "x" * 501}, {"endpoint": 1}):
            assert gateway.http.post("/ops/api/rollback", json=wrong, headers=operates).status_code == 400
        reply = gateway.http.post("/ops/api/rollback", json=body, headers=operates)
        assert reply.status_code == 200, reply.text
        done = reply.json()
        assert (done["release"], done["before"], done["serving"]) == (old, new, True)
    assert re.fullmatch(r"night shift \(token [0-9a-f]{10}\)", town.ledger.history("town")[0].who)


def test_a_drill_says_what_it_found_and_changes_nothing(town: Town) -> None:
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(new, previous=old)
    with serving(town) as gateway:
        eventually(lambda: len(gateway.http.get("/ready").json()["warm"]) == 2, "both to be warm")
        nothing = gateway.http.post("/ops/api/drill", json={})
        assert nothing.status_code == 503 and "no question" in nothing.json()["error"]["message"]
        examined(town)
        done = gateway.http.post("/ops/api/drill", json={}).json()
        assert (done["release"], done["answered"], done["probes"], done["failures"]) == (old, 1, 1, [])
        said = form(gateway, act="drill", guard=guard(gateway.http.get("/ops").text))
        assert said.status_code == 200 and "answered 1 of 1 questions" in said.text
    assert len(town.ledger.history("town")) == 1


def test_a_rollout_says_what_it_waits_for(town: Town) -> None:
    configured(town, "rollout: {shadow: false, steps: [50, 100], min_units: 1000, look_every: 100ms, settle: 100ms}\n")
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(old)
    with serving(town) as gateway, modelyard.open(town.root) as project:
        assert gateway.http.get("/ops/api/rollout").json() == {"endpoint": "town", "rollout": None}
        assert project.under_way() is None
        assert isinstance(project.canary(new), Rollout)
        eventually(project.under_way, "the gateway to have it in mind")
        for i in range(12):
            assert gateway.http.post(
                "/v1/chat/completions",
                json={"messages": [{"role": "user", "content": "how much?"}]},
                headers={"x-conversation-id": str(i)},
            ).is_success

        def looked() -> object:
            found = project.under_way()
            settled = found is not None and found["decision"] and sum(found["units"].values()) == 12
            return found if settled else None

        found = eventually(looked, "a look at all of them")
        tests = {test["test"]: test for test in found["tests"]}
        errors = tests["errors"]
        assert errors["champion"][0] + errors["challenger"][0] == 12
        assert errors["state"] == "unsure" and errors["low"] < 0 < errors["high"] and errors["margin"] == 0.02
        assert tests["cost"]["state"] == "aside"
        assert "1000 are needed" in found["decision"]["reasons"][0]
        page = unescape(gateway.http.get("/ops").text)
        assert all(reason in page for reason in found["decision"]["reasons"]) and "The step to 100 % waits" in page
        command = [sys.executable, "-m", "modelyard", "release", "rollouts", "-C", str(town.root)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "1000 are needed" in said and re.search(r"errors .* 2\.00 +more units needed", said)
        assert gateway.http.get("/ops/api/rollout?endpoint=village").status_code == 404
        back = gateway.http.post("/ops/api/rollback", json={"endpoint": "town"}).json()
        assert back["release"] == old and "was on its way" in back["warnings"][0]


@pytest.mark.parametrize("document", ["a folder/travel \u2603.pdf", "a?b#c%20d.pdf"])
def test_a_picture_is_asked_for_without_anything_of_it_in_an_address(served: Gateway, document: str) -> None:
    release = served.http.get("/ready").json()["release"]
    asked = {"document": document, "page": 2, "quote": "145 euros", "release": release}
    picture = served.http.post("/pages/picture", json=asked)
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.endswith(f"{document}|2|145 euros".encode())
    for wrong in (
        {"page": 2},
        {**asked, "page": "2"},
        {**asked, "page": True},
        {**asked, "quote": 1},
        {**asked, "release": "x"},
    ):
        assert served.http.post("/pages/picture", json=wrong).status_code == 400
    assert served.http.post("/pages/picture", json={**asked, "document": "nothing.pdf"}).status_code == 404


def test_endpoints_beside_the_project_s_own_are_shown_and_rolled_back_too(town: Town) -> None:
    old, new = judged(town, "old: "), judged(town, "new: ")
    town.point(new)
    with serving(town) as gateway:

        def serve(method: str, path: str, release: str, **more: str) -> None:
            config = {"served_entities": [{"entity_name": "town", "entity_version": release, "name": "it"}]}
            body = {**more, "config": config} if more else config
            reply = gateway.http.request(method, f"/api/2.0/serving-endpoints{path}", json=body)
            assert reply.is_success, reply.text
            there = "/api/2.0/serving-endpoints/village"
            done = {"ready": "READY", "config_update": "NOT_UPDATING"}
            eventually(lambda: gateway.http.get(there).json()["state"] == done, "it to be served")
            assert second()["release"] == release

        def second() -> Any:
            shown = gateway.http.get("/ops/api/state").json()["endpoints"]
            return next((one for one in shown if one["name"] == "village"), None)

        serve("POST", "", old, name="village")
        serve("PUT", "/village/config", new)
        assert not second()["own"] and second()["back"] == {"release": old, "from": new, "canary": False}
        done = gateway.http.post("/ops/api/rollback", json={"endpoint": "village", "why": "slow"})
        assert done.status_code == 200, done.text
        assert (done.json()["release"], done.json()["serving"]) == (old, True)
        assert gateway.http.get("/ops/api/rollout?endpoint=village").json() == {"endpoint": "village", "rollout": None}
    assert town.ledger.pointers("village").champion == old and town.ledger.pointers("town").champion == new


def test_while_the_ledger_cannot_be_read_the_rest_is_shown(town: Town) -> None:
    release = town.release("a: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        gateway.ask("how much?")
        town.layout.ledger.rename(town.layout.ledger.with_suffix(".aside"))
        town.layout.ledger.mkdir()
        page = gateway.http.get("/ops")
        town.layout.ledger.rmdir()
        town.layout.ledger.with_suffix(".aside").rename(town.layout.ledger)
        assert page.status_code == 200
        assert "the ledger cannot be read" in page.text and release[:12] in page.text and ">200<" in page.text
