"""Stopping a gateway: it says so first, lets what is under way end, and tells whoever it leaves."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import httpx
import pytest
from town import Gateway, Town, eventually


def listen(gateway: Gateway, question: str, lines: list[str], begun: threading.Event) -> threading.Thread:
    body = {"messages": [{"role": "user", "content": question}], "stream": True}

    def read() -> None:
        with (
            httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as reply,
        ):
            for line in reply.iter_lines():
                lines.append(line)
                begun.set()
        lines.append("closed")

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_it_says_that_it_is_leaving_before_it_refuses_anybody(town: Town) -> None:
    one = town.release("one: ")
    town.point(one)
    with town.gateway(notice=1.0, limits={"workers": 2}) as gateway:
        gateway.until_ready(one)
        eventually(lambda: len(gateway.workers()) == 2, "both workers")
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        said = eventually(lambda: (r := gateway.http.get("/ready")).status_code == 503 and r.json(), "it to be said")
        assert said["ready"] is False and said["stopping"] is True and said["release"] == one
        assert gateway.http.get("/ping").status_code == 503
        assert gateway.http.get("/health").status_code == 200
        with httpx.Client(base_url=gateway.url, trust_env=False) as another:  # a new connection
            body = {"messages": [{"role": "user", "content": "hi"}]}
            assert another.post("/v1/chat/completions", json=body).status_code == 200
        assert gateway.process.wait(30) == 0
        assert time.monotonic() - began >= 1.0


def test_asked_twice_it_does_not_wait_for_anybody_to_notice(town: Town) -> None:
    town.point(town.release("one: "))
    with town.gateway(notice=600.0) as gateway:
        gateway.until_ready()
        gateway.process.send_signal(signal.SIGINT)
        eventually(lambda: gateway.http.get("/ready").status_code == 503, "it to be said")
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(30) == 0


def test_a_stream_that_outlasts_draining_ends_with_an_error_event(town: Town) -> None:
    town.point(town.release("one: "))
    with town.gateway(limits={"drain": 0.5}) as gateway:
        gateway.until_ready()
        workers = gateway.workers()
        lines: list[str] = []
        begun = threading.Event()
        thread = listen(gateway, "slow 2000", lines, begun)
        begun.wait(30)
        gateway.process.send_signal(signal.SIGTERM)
        thread.join(30)
        assert gateway.process.wait(30) == 0
        *_, last, closed = filter(None, lines)
        assert closed == "closed" and "[DONE]" not in "".join(lines)
        error = json.loads(last.removeprefix("data: "))["error"]
        assert "is being stopped" in error["message"] and error["code"] == "unavailable"
        for pid in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_stream_whose_worker_dies_ends_with_an_error_event(town: Town) -> None:
    town.point(town.release("one: "))
    with town.gateway() as gateway:
        gateway.until_ready()
        (worker,) = gateway.workers()
        lines: list[str] = []
        begun = threading.Event()
        thread = listen(gateway, "slow 500", lines, begun)
        begun.wait(30)
        eventually(lambda: len(lines) > 4, "some of the answer")
        os.kill(worker, signal.SIGKILL)
        thread.join(30)
        assert "went away" in "".join(lines[-3:]) and lines[-1] == "closed" and "[DONE]" not in "".join(lines)


def test_past_the_bound_it_says_when_to_come_again(town: Town) -> None:
    town.point(town.release("one: "))
    with town.gateway(limits={"threads": 1, "queue": 0}) as gateway:
        gateway.until_ready()
        lines: list[str] = []
        begun = threading.Event()
        thread = listen(gateway, "slow 40", lines, begun)
        begun.wait(30)
        reply = gateway.ask("hi")
        assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1
        assert reply.headers["x-should-retry"] == "true" and reply.json()["error"]["code"] == "busy"
        thread.join(30)
        assert "data: [DONE]" in lines
        assert gateway.ask("hi").status_code == 200
