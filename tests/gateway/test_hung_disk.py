"""A gateway whose disk stops answering: it says so, refuses, and can be stopped."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import httpx
import pytest
from test_recorded import Rows
from test_server import config
from town import Town, eventually

from modelyard.gateway.server import serve
from modelyard.serving import appender
from modelyard.serving import log as log_module
from modelyard.serving.segment import OPEN, listed

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def test_nobody_waits_for_ever_for_a_disk_that_does_not_answer(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    town.point(town.release("you said: "))
    hangs, answers, stop = threading.Event(), threading.Event(), threading.Event()
    urls, codes = list[str](), list[int]()

    def sync(file: int) -> None:
        if hangs.is_set():
            answers.wait()
        os.fsync(file)

    monkeypatch.setattr(appender, "sync", sync)
    monkeypatch.setattr(log_module, "STEADY", 1 << 30)  # else the loop itself may be in that commit
    monkeypatch.setattr(log_module, "STUCK_SECONDS", 0.3)
    monkeypatch.setattr(log_module, "CLOSE_SECONDS", 0.3)
    given = config(town, port=0, timeout=2.0, record={"fold_every": None}, stop=stop, on_ready=urls.append)
    gateway = threading.Thread(target=lambda: codes.append(serve(given)))
    gateway.start()

    async def story() -> None:
        async with httpx.AsyncClient(base_url=urls[0], trust_env=False, timeout=30) as http:

            async def ask() -> httpx.Response:
                return await http.post("/v1/chat/completions", json=HELLO)

            assert (await ask()).status_code == 200
            hangs.set()
            waits = asyncio.create_task(ask())
            reason = ""
            while not reason:
                ready: dict[str, Any] = (await http.get("/ready")).json()
                reason = "" if ready["ready"] else ready["reason"]
            assert "does not answer" in reason
            refused, waited = await ask(), await waits
            for reply, said in ((refused, "does not answer"), (waited, "did not answer in time")):
                assert reply.status_code == 503 and reply.json()["error"]["code"] == "record_full"
                assert said in reply.json()["error"]["message"] and "retry-after" in reply.headers
            assert (await http.get("/health")).status_code == 200

    try:
        eventually(lambda: urls, "a gateway that is ready")
        asyncio.run(story())
        stop.set()
        gateway.join(30)
        assert codes == [0] and "its disk does not answer" in caplog.text
    finally:
        stop.set()
        answers.set()
        gateway.join(30)

    # A disk that answers after all gets what waited for it.
    eventually(lambda: not listed(town.layout.record, OPEN), "the rest to be written")
    assert Rows(town).statuses() == {200: 1, 503: 1}
