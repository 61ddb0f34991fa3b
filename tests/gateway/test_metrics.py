"""What /metrics says, read by Prometheus' own parser."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from town import Gateway, Town, eventually

from modelyard.adapters.tokens_sqlite import SqliteTokens
from modelyard.clock import SystemClock
from modelyard.lifecycle.tokens import create
from modelyard.ports.records import Pointers
from modelyard.serving.meter import MEASURES, SECONDS, Meter

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(gateway: Gateway, **headers: str) -> Samples:
    reply = gateway.http.get("/metrics", headers=headers)
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain; version=")
    return samples(reply.text)


def of(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def test_requests_are_counted_and_timed(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        gateway.ask("one two")
        gateway.ask("three", stream=True)
        gateway.ask("bug")
        gateway.ask(" ")
        gateway.http.post("/invocations", json={"inputs": [{"messages": [{"role": "user", "content": "four"}]}] * 3})
        gateway.http.get("/metrics", headers={"host": "elsewhere.example"})
        found = scrape(gateway)

        def answered(dialect: str, status: str) -> float:
            labels = {
                "endpoint": "town",
                "release": release[:12],
                "arm": "champion",
                "dialect": dialect,
                "status": status,
            }
            return of(found, "modelyard_requests_total", **labels)

        assert answered("openai", "200") == 2 and answered("mlflow", "200") == 1
        assert answered("openai", "500") == 1 and answered("openai", "400") == 1
        labels = {"endpoint": "town", "release": release[:12], "arm": "champion"}
        assert of(found, "modelyard_request_duration_seconds_count", **labels) == 5
        assert of(found, "modelyard_request_duration_seconds_bucket", **labels, le="+Inf") == 5
        assert 0 < of(found, "modelyard_request_duration_seconds_sum", **labels) < 60
        assert of(found, "modelyard_usage_tokens_total", token="anonymous", kind="prompt") == 2 + 1 + 3
        assert of(found, "modelyard_refused_total", code="invalid_request") == 1
        assert of(found, "modelyard_ready", endpoint="town") == 1
        assert of(found, "modelyard_workers", endpoint="town", release=release[:12]) == 1
        assert of(found, "modelyard_traffic_percent", endpoint="town", release=release[:12]) == 100
        assert found["process_cpu_seconds_total", ()] > 0


def test_what_is_under_way_and_who_died(town: Town) -> None:
    release = town.release("you said: ")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        asking = threading.Thread(target=lambda: gateway.ask("slow 60"))
        asking.start()
        here = {"endpoint": "town", "release": release[:12]}
        eventually(lambda: of(scrape(gateway), "modelyard_requests_in_flight", **here) == 1, "it to be under way")
        asking.join()
        assert of(scrape(gateway), "modelyard_requests_in_flight", **here) == 0
        (town.root / "once").unlink(missing_ok=True)
        assert gateway.ask("crash-once once").status_code == 200
        found = scrape(gateway)
        assert of(found, "modelyard_retries_total", endpoint="town") == 1
        assert of(found, "modelyard_worker_restarts_total", endpoint="town") == 1


def test_the_record_and_the_split(town: Town) -> None:
    champion, challenger = town.release("a "), town.release("b ")
    split = Pointers(champion=champion, challenger=challenger, traffic=((champion, 95), (challenger, 5)))
    town.ledger.move("town", 0, split, "me", "a test", None)
    with town.gateway() as gateway:
        gateway.until_ready(champion)
        empty = of(scrape(gateway), "modelyard_record_bytes", endpoint="town")
        gateway.ask("hello")
        found = scrape(gateway)
        assert of(found, "modelyard_record_bytes", endpoint="town") > empty
        for name in ("record_unreadable", "record_refused_total", "unlogged_total"):
            assert found[(f"modelyard_{name}", (("endpoint", "town"),))] == 0
        assert of(found, "modelyard_record_lag_seconds", endpoint="town") < 60
        assert of(found, "modelyard_rollout_percent", endpoint="town", challenger=challenger[:12]) == 5
        assert of(found, "modelyard_traffic_percent", endpoint="town", release=champion[:12]) == 95


@pytest.mark.parametrize(("who", "allowed"), [("operate", "operate"), ("query", "query operate"), ("open", "nobody")])
def test_who_may_read_it(town: Town, who: str, allowed: str) -> None:
    tokens = SqliteTokens(town.layout.ledger)
    secrets = {scope: create(tokens, SystemClock(), "me", scope=scope)[0] for scope in ("query", "operate")}
    with town.gateway(metrics=who) as gateway:
        for scope, secret in secrets.items():
            reply = gateway.http.get("/metrics", headers={"authorization": f"Bearer {secret}"})
            assert reply.status_code == (200 if scope in allowed or who == "open" else 403)
        assert gateway.http.get("/metrics").status_code == (200 if who == "open" else 401)
        assert gateway.http.get("/v1/models").status_code == 401
    tokens.close()


def test_tokens_are_named_by_id(town: Town) -> None:
    town.point(town.release("you said: "))
    tokens = SqliteTokens(town.layout.ledger)
    secret, token = create(tokens, SystemClock(), "me", scope="operate")
    with town.gateway() as gateway:
        auth = {"authorization": f"Bearer {secret}"}
        eventually(lambda: gateway.http.get("/ready").status_code == 200, "a worker")
        body = {"messages": [{"role": "user", "content": "a b c"}]}
        assert gateway.http.post("/v1/chat/completions", json=body, headers=auth).status_code == 200
        gateway.http.post("/v1/chat/completions", json=body)
        found = scrape(gateway, **auth)
        assert of(found, "modelyard_usage_tokens_total", token=token.id, kind="prompt") == 3
        assert of(found, "modelyard_refused_total", code="unauthorized") == 1
        assert secret not in gateway.http.get("/metrics", headers=auth).text
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.wait(20)
    (spent,) = tokens.spent(SystemClock().now().strftime("%F")).values()
    assert spent.requests == 1 and spent.tokens == 8  # "a b c", and "you said: a b c"
    tokens.close()


def test_the_table_is_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for measure in MEASURES:
        labels = ", ".join(measure.labels)
        assert f"| `{measure.name}` | {measure.kind.removeprefix('live ')} | {labels} | {measure.help} |" in page
    assert set(re.findall(r"`(modelyard_\w+)` \|", page)) == {measure.name for measure in MEASURES}


def test_names_and_labels_are_those_of_the_table() -> None:
    meter = Meter()
    with pytest.raises(KeyError):
        meter.count("modelyard_request_total")
    with pytest.raises(ValueError):
        meter.count("modelyard_refused_total", "a", "b")
    with pytest.raises(ValueError):
        meter.live("modelyard_requests_total", lambda: [])
    meter.count("modelyard_refused_total", 'odd "code"\n\\')
    meter.answered("site", "abc", "champion", "openai", 200, 0.02)
    meter.live("modelyard_ready", lambda: [(("site",), 1.0)])
    found = samples(meter.text().decode())
    assert of(found, "modelyard_refused_total", code='odd "code"\n\\') == 1
    buckets = {
        labels["le"]: value
        for (name, pairs), value in found.items()
        if name == "modelyard_request_duration_seconds_bucket" and (labels := dict(pairs))
    }
    assert [buckets[str(bound)] for bound in SECONDS] == [0.0 if bound < 0.02 else 1.0 for bound in SECONDS]
