"""Projects to serve, and gateways that serve them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from town import Gateway, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    place = Town(tmp_path)
    yield place
    place.ledger.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one release, shared by the tests of a file that leave it as it is."""
    place = Town(tmp_path_factory.mktemp("town"))
    release = place.release("you said: ")
    place.point(release)
    with place.gateway() as gateway:
        gateway.until_ready(release)
        yield gateway
    place.ledger.close()
