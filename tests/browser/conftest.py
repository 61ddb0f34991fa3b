"""A gateway with a release for the page to talk to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "gateway"))

from town import Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    place = Town(tmp_path)
    yield place
    place.ledger.close()
