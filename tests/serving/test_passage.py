"""A request's way through, where what stands beside it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.clock import SystemClock
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.log import replay
from modelyard.serving.meter import Meter
from modelyard.serving.passage import Arrival, Passage
from modelyard.serving.record import Record
from modelyard.serving.rollout import RolloutRouter
from modelyard.serving.rows import ACCEPTED, FINISHED, kind_and_key
from modelyard.serving.supervise import Fleet


def test_what_cannot_be_counted_is_on_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(usage: Mapping[str, int]) -> None:
        raise ZeroDivisionError

    async def story() -> None:
        record = Record.open(tmp_path / "record")
        fleet = Fleet("e", "g", lambda: SqliteLedger(tmp_path / "ledger"), lambda release, sock: ())
        endpoint = Endpoint(fleet, record, Meter(), 60.0, SystemClock(), RolloutRouter("e"))
        passage = Passage(endpoint, Arrival("d", b"{}", "k", "u"), broken)
        await passage.enter()
        passage.usage["prompt_tokens"] = 1
        await passage.finish(200, b"{}")
        assert record.open_requests == 0
        record.close()

    asyncio.run(story())
    kinds = [kind_and_key(memoryview(raw))[0] for raw in replay(tmp_path / "record")]
    assert kinds == [ACCEPTED, FINISHED] and "cannot be counted" in caplog.text
