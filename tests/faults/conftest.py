"""Gateways come from the tests beside these, the steady traffic from the benchmark of that name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "gateway"), str(ROOT / "benchmarks")]

from town import Town  # noqa: E402


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    place = Town(tmp_path)
    yield place
    place.ledger.close()
