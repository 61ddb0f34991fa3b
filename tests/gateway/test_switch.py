"""Moving the pointer under traffic, and workers that die. Real processes; not one request may fail because of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from town import Gateway, Town, eventually


@dataclass
class Traffic:
    """What clients that ask without pause were answered: status and text, in the order it came."""

    answers: list[tuple[int, str]] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[int, str]]:
        return [a for a in self.answers if a[0] != 200]

    def last(self, text: str) -> bool:
        return bool(self.answers) and self.answers[-1][1] == text


@contextmanager
def traffic(gateway: Gateway, clients: int = 4) -> Iterator[Traffic]:
    seen, stop = Traffic(), threading.Event()

    def ask(number: int) -> None:
        question = "slow 3" if number == 0 else "hi"
        body = {"messages": [{"role": "user", "content": question}], "stream": number % 2 == 1}
        with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                try:
                    reply = client.post("/v1/chat/completions", json=body)
                except httpx.HTTPError as error:
                    seen.answers.append((0, repr(error)))
                    continue
                whole = reply.status_code == 200 and ("[DONE]" in reply.text or not body["stream"])
                status = 0 if reply.status_code == 200 and not whole else reply.status_code
                if number or not whole:
                    seen.answers.append((status, _prefix(reply.text)))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _prefix(text: str) -> str:
    return next((name for name in ("one", "two", "three") if f"{name}:" in text), text)


def test_traffic_follows_the_pointer_and_no_request_fails(town: Town) -> None:
    one, two, three = (town.release(f"{name}: ") for name in ("one", "two", "three"))
    town.point(one)
    with town.gateway() as gateway:
        gateway.until_ready(one)
        with traffic(gateway) as seen:
            eventually(lambda: seen.last("one"), "answers of the first")
            town.point(one, challenger=two)
            eventually(lambda: town.ledger.is_warm("town", two, gateway.info.gateway_id), "the challenger to be warm")
            assert seen.last("one")
            town.point(two, previous=one)
            eventually(lambda: seen.last("two"), "answers of the second")
            town.point(one, previous=two)  # a rollback: its worker was kept
            eventually(lambda: seen.last("one"), "answers of the first again")
            town.point(three, previous=one)  # nobody warmed it
            eventually(lambda: seen.last("three"), "answers of the third")
        assert seen.failed == []
        assert {a[1] for a in seen.answers} == {"one", "two", "three"}
        eventually(lambda: len(gateway.workers()) == 2, "the second's worker to be let go")
        assert gateway.http.get("/ready").json()["champion"] == three


def test_an_answer_ends_where_it_began(town: Town) -> None:
    one, two = town.release("one: "), town.release("two: ")
    town.point(one, challenger=two)
    with town.gateway() as gateway:
        gateway.until_ready(one)
        eventually(lambda: len(gateway.workers()) == 2, "both workers")
        found: list[str] = []
        body = {"messages": [{"role": "user", "content": "slow 60"}], "stream": True}
        begun = threading.Event()

        def listen() -> None:
            with gateway.http.stream("POST", "/v1/chat/completions", json=body) as reply:
                found.append(reply.headers["modelyard-release"])
                for line in reply.iter_lines():
                    begun.set()
                    found.append(line)

        thread = threading.Thread(target=listen)
        thread.start()
        begun.wait(30)
        town.point(two)  # the first is needed by nobody any more
        gateway.until_ready(two)
        thread.join()
        assert found[0] == one and "data: [DONE]" in found
        eventually(lambda: len(gateway.workers()) == 1, "the first's worker to end")


def test_a_champion_that_does_not_start_leaves_traffic_where_it_was(town: Town) -> None:
    good, bad, dying = town.release("one: "), town.release("does not load"), town.release("dies")
    town.point(good)
    with town.gateway() as gateway:
        gateway.until_ready(good)
        gateway_id = gateway.info.gateway_id
        for broken, reason in ((bad, "no such weights"), (dying, "ended with code 5")):
            town.point(broken, previous=good)
            failure = eventually(lambda: town.ledger.failure("town", broken, gateway_id), "the report")  # noqa: B023
            assert reason in failure
            ready = gateway.http.get("/ready")
            assert ready.status_code == 200 and ready.json()["release"] == good
            assert reason in ready.json()["reason"] and "answers meanwhile" in ready.json()["reason"]
            assert gateway.ask("hi").status_code == 200
            town.point(good)


def test_a_damaged_release_is_reported_at_once(town: Town) -> None:
    release = town.release("one: ")
    member = town.layout.releases / release / "prefix.txt"
    member.chmod(0o644)
    member.write_text("something else")
    town.point(release)
    with town.gateway() as gateway:
        reason = eventually(lambda: town.ledger.failure("town", release, gateway.info.gateway_id), "the report")
        assert "prefix.txt" in reason and "\n" not in reason
        reply = gateway.ask("hi")
        assert reply.status_code == 503 and "prefix.txt" in reply.json()["error"]["message"]
        assert gateway.http.get("/ready").status_code == 503


@pytest.mark.parametrize("count", [1, 2])
def test_after_kill_9_of_a_worker_no_request_is_lost(town: Town, count: int) -> None:
    one = town.release("one: ")
    town.point(one)
    with town.gateway(limits={"workers": count}) as gateway:
        gateway.until_ready(one)
        eventually(lambda: len(gateway.workers()) == count, "all workers")
        with traffic(gateway) as seen:
            eventually(lambda: seen.last("one"), "answers")
            for worker in gateway.workers():
                os.kill(worker, signal.SIGKILL)
                before = len(seen.answers)
                eventually(lambda: len(w := gateway.workers()) == count and worker not in w, "a new one")  # noqa: B023
                eventually(lambda: len(seen.answers) > before + 20, "answers again")  # noqa: B023
        # A stream whose beginning was sent cannot be begun again: its client is told.
        assert all(status == 0 for status, _ in seen.failed) and len(seen.failed) <= 4 * count
        assert gateway.until_ready(one)["ready"]


def test_readiness_is_honest_while_a_worker_comes_back(town: Town) -> None:
    one = town.release("takes 1.5")
    town.point(one)
    with town.gateway() as gateway:
        gateway.until_ready(one)
        (worker,) = gateway.workers()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: gateway.http.get("/ready").status_code == 503, "not ready")
        assert gateway.http.get("/ping").status_code == 503
        assert gateway.http.get("/health").status_code == 200
        assert gateway.ask("hi").status_code == 200  # waits for it
        assert gateway.http.get("/ready").json()["release"] == one


def test_a_request_that_kills_its_worker_is_tried_again_but_not_for_ever(town: Town) -> None:
    one = town.release("one: ")
    town.point(one)
    with town.gateway() as gateway:
        gateway.until_ready(one)
        assert gateway.ask("crash-once mark").status_code == 200
        assert (town.root / "mark").read_text() == "xx"
        reply = gateway.ask("crash now")
        assert reply.status_code == 503 and "went away" in reply.json()["error"]["message"]
        gateway.until_ready(one)
        assert gateway.ask("hi").status_code == 200


@pytest.mark.parametrize("state", ["unproven", "passed"])
def test_the_state_of_what_answers_is_shown_and_followed(town: Town, state: str) -> None:
    one = town.release("one: ", state=state)
    town.point(one)
    with town.gateway() as gateway:
        assert gateway.until_ready(one)["state"] == state
        town.ledger.set_version(one, 7)
        eventually(lambda: gateway.http.get("/ready").json()["version"] == 7, "the version")
        (model,) = gateway.http.get("/v1/models").json()["data"]
        assert model["modelyard"]["state"] == state and model["modelyard"]["version"] == 7
