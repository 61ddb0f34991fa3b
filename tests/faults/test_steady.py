"""A steady rate of requests through promote, canary, rollback, and kills: what clients saw beside what is on record."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
import steady
from tests.model.shop import NUMBERS, folder

REQUESTS = int(os.environ.get("MODELYARD_FAULT_REQUESTS", "500"))
RATE = 60.0

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(sys.platform != "linux", reason="finds workers through /proc"),
]


@pytest.mark.parametrize("kind", ["chat", "scores"])
def test_not_one_request_fails_or_goes_unrecorded(tmp_path: Path, kind: str) -> None:
    site, message = steady.chat(tmp_path) if kind == "chat" else steady.scores(tmp_path, folder("lightgbm"), NUMBERS)
    found = asyncio.run(steady.run(site, message, REQUESTS, RATE))
    assert steady.kept(found), (found, (tmp_path / "gateway.log").read_text())
    assert found["requests"] >= REQUESTS and found["rows"] > 0
