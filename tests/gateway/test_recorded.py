"""No answer without a record: each request is one row that was accepted and one that was finished, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from town import Gateway, Town, eventually

from modelyard.serving.log import replay
from modelyard.serving.rows import ACCEPTED, FINISHED, Accepted, Finished, Outcome, decode, kind_and_key

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


class Rows:
    """What the record of a town holds; its gateway must have ended."""

    def __init__(self, town: Town) -> None:
        self.accepted: dict[str, Accepted] = {}
        self.finished: dict[str, Finished] = {}
        self.outcomes: list[Outcome] = []
        for raw in replay(town.layout.record):
            view = memoryview(raw)
            kind, key = kind_and_key(view)
            fields, _, body = decode(view)
            if kind == ACCEPTED:
                assert key.hex() not in self.accepted
                self.accepted[key.hex()] = Accepted(key.hex(), *fields, body)
            elif kind == FINISHED:
                assert key.hex() not in self.finished
                self.finished[key.hex()] = Finished(key.hex(), *fields, body)
            else:
                self.outcomes.append(Outcome(key.hex(), *fields))

    def statuses(self) -> Counter[int]:
        assert self.accepted.keys() == self.finished.keys()
        return Counter(row.status for row in self.finished.values())


def stream(gateway: Gateway, question: str) -> tuple[list[str], httpx.Headers]:
    body = {"messages": [{"role": "user", "content": question}], "stream": True}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        return [line[6:] for line in reply.iter_lines() if line.startswith("data: ")], reply.headers


def test_what_an_answer_cost_is_on_record(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(prices={"prompt_tokens": 100_000.0, "completion_tokens": 200_000.0}) as gateway:
        gateway.until_ready()
        one = gateway.ask("two words").headers["x-request-id"]  # answered with four
        three = gateway.http.post("/invocations", json={"dataframe_records": [HELLO, HELLO, HELLO]})
        none = gateway.ask("nan").headers["x-request-id"]
    rows = Rows(town).finished
    assert rows[one].cost == 2 * 0.1 + 4 * 0.2
    assert rows[three.headers["x-request-id"]].cost == pytest.approx(3 * (1 * 0.1 + 3 * 0.2))
    assert rows[none].cost is None


def test_what_was_asked_and_answered_is_on_record(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        whole = gateway.ask("hello", client_request_id="mine")
        scored = gateway.http.post("/invocations", json={"dataframe_records": [HELLO, HELLO]})
        events, headers = stream(gateway, "slow 5")
        cut, cut_headers = stream(gateway, "later-bug")
        failed = gateway.ask("bug")
        wrong = gateway.ask(" ")
        never = gateway.http.post("/v1/chat/completions", content=b"{")
    rows = Rows(town)
    assert rows.statuses() == {200: 3, 500: 1, 503: 1, 400: 1}
    assert "x-request-id" not in never.headers

    one = rows.accepted[whole.headers["x-request-id"]]
    assert (one.endpoint, one.release, one.dialect, one.client_id) == ("town", release, "openai", "mine")
    assert json.loads(one.request or b"")["messages"] == HELLO["messages"] and one.requester == "anonymous"
    end = rows.finished[one.id]
    assert end.response == whole.content and end.usage["prompt_tokens"] == 1 and (end.duration_ms or 0) > 0

    assert rows.finished[scored.headers["x-request-id"]].response == scored.content
    said = json.loads(rows.finished[headers["x-request-id"]].response or b"")
    assert said["choices"][0]["message"]["content"] == "0 1 2 3 4 " and events[-1] == "[DONE]"
    streamed = rows.finished[headers["x-request-id"]]
    assert 0 < (streamed.first_ms or 0) < (streamed.duration_ms or 0) and end.first_ms is None
    broken = rows.finished[cut_headers["x-request-id"]]
    assert broken.truncated and broken.error == "Unavailable" and "error" in json.loads(cut[-1])
    assert rows.finished[failed.headers["x-request-id"]].error == "ModelyardError"
    assert rows.finished[wrong.headers["x-request-id"]].error == "RequestError"


def test_a_caller_who_goes_away_is_on_record(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        with contextlib.suppress(httpx.ReadTimeout):
            gateway.http.post("/invocations", json={"messages": say("slow 100")}, timeout=0.2)
        with gateway.http.stream(
            "POST", "/v1/chat/completions", json={"messages": say("slow 100"), "stream": True}
        ) as reply:
            next(reply.iter_lines())
        eventually((town.root / "given-up").exists, "the model to be told")
    rows = Rows(town)
    assert rows.statuses() == {499: 2} and all(row.aborted for row in rows.finished.values())


def test_the_deadline_is_that_of_all_rows_together(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway(timeout=1.0) as gateway:
        gateway.until_ready(release)
        row = {"messages": [{"role": "user", "content": "stuck 0.3"}]}
        assert gateway.http.post("/invocations", json={"dataframe_records": [row] * 64}).status_code == 504
    assert Rows(town).statuses() == {504: 1}


def test_a_killed_worker_loses_and_doubles_nothing(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        assert gateway.ask("crash-once notes").status_code == 200
        assert gateway.ask("after").status_code == 200
    assert Rows(town).statuses() == {200: 2}


def test_the_release_that_answered_is_on_record_also_where_nobody_could_know_it_yet(town: Town) -> None:
    first, then = town.release("takes 60"), town.release("then: ")
    town.point(first)
    with town.gateway() as gateway, ThreadPoolExecutor() as pool:
        waiting = pool.submit(gateway.ask, "hello " * 300)
        eventually(lambda: busy(gateway), "it to be accepted")
        town.point(then)
        answered = waiting.result().headers
    rows = Rows(town)
    began, ended = rows.accepted[answered["x-request-id"]], rows.finished[answered["x-request-id"]]
    assert began.release == first and answered["modelyard-release"] == (ended.release or first)
    assert ended.release == then


def test_a_killed_gateway_leaves_nothing_open(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway, ThreadPoolExecutor() as pool:
        gateway.until_ready(release)
        answered = gateway.ask("hello").headers["x-request-id"]
        lost = pool.submit(gateway.ask, "slow 500")
        eventually(lambda: busy(gateway), "a request under way")
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        assert isinstance(lost.exception(), httpx.TransportError)
    with town.gateway() as gateway:
        gateway.until_ready(release)
    rows = Rows(town)
    assert rows.statuses() == {200: 1, 500: 1} and rows.finished[answered].status == 200
    (aborted,) = [row for row in rows.finished.values() if row.aborted]
    assert aborted.error == "Aborted"


def test_what_cannot_be_recorded_is_refused_before_the_model_is_asked(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway(record={"limit": 200_000}) as gateway:
        gateway.until_ready(release)
        replies = [gateway.ask("x" * 10_000) for _ in range(40)]
        codes = [reply.status_code for reply in replies]
        assert set(codes) == {200, 503} and codes == sorted(codes)
        assert replies[-1].json()["error"]["code"] == "record_full"
        assert "record" in gateway.http.get("/ready").json()["reason"]
    assert Rows(town).statuses() == {200: codes.count(200)}


def test_policy_may_let_requests_through_unrecorded(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway(record={"limit": 200_000, "when_full": "unlogged"}) as gateway:
        gateway.until_ready(release)
        replies = [gateway.ask("x" * 10_000) for _ in range(40)]
        assert {reply.status_code for reply in replies} == {200}
        shown = gateway.http.get("/metrics").text
    recorded = Rows(town).statuses()[200]
    assert recorded < 40
    assert f'modelyard_unlogged_total{{endpoint="town"}} {40 - recorded}.0' in shown


def test_what_policy_keeps_out_is_never_written(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway(record={"redaction": "patterns", "patterns": [r"\d{4}-\d{4}"]}) as gateway:
        gateway.until_ready(release)
        headers = {"authorization": "Bearer not-of-ours"}
        gateway.http.post("/v1/chat/completions", json={"messages": say("card 1234-5678 please")}, headers=headers)
        gateway.http.post("/v1/chat/completions", json={"messages": say("bug 1234-5678")})
    log = (town.root / "gateway.log").read_text()
    assert "ZeroDivisionError" in log and "1234-5678" not in log
    written = b"".join(path.read_bytes() for path in town.layout.record.rglob("*") if path.is_file())
    assert b"please" in written and b"1234-5678" not in written and b"not-of-ours" not in written


def test_feedback_becomes_an_outcome(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        answer = gateway.ask("hello")
        identity = answer.headers["x-request-id"]
        for body in (
            {"request_id": identity, "kind": "thumb", "value": "down"},
            {"request_id": answer.json()["id"], "kind": "comment", "value": "no, twelve"},
            {"request_id": identity, "kind": "label", "value": 12},
        ):
            assert gateway.http.post("/feedback", json=body).status_code == 202
        for body, says in (
            ({"kind": "thumb", "value": "up"}, "request_id"),
            ({"request_id": identity, "kind": "star", "value": "up"}, "kind"),
            ({"request_id": identity, "kind": "thumb", "value": 5}, "up or down"),
            ({"request_id": identity, "kind": "comment", "value": " "}, "not empty"),
            ({"request_id": identity, "kind": "comment", "value": "x", "who": "me"}, "unknown who"),
        ):
            reply = gateway.http.post("/feedback", json=body)
            assert reply.status_code == 400 and says in reply.json()["error"]["message"]
    assert [(row.kind, row.value, row.by) for row in Rows(town).outcomes if row.id == identity] == [
        ("thumb", "down", "anonymous"),
        ("comment", "no, twelve", "anonymous"),
        ("label", "12", "anonymous"),
    ]


def say(question: str) -> Sequence[dict[str, Any]]:
    return [{"role": "user", "content": question}]


def busy(gateway: Gateway) -> bool:
    return any(path.stat().st_size > 1000 for path in gateway.town.layout.record.iterdir())
