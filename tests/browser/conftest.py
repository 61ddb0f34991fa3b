"""A browser, and gateways for its pages to talk to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "gateway"))
sys.path.insert(0, str(Path(__file__).parent))

from chrome import Chrome
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
    place.point(place.release("you said: ", state="unproven"))
    with place.gateway() as gateway:
        gateway.until_ready()
        yield gateway
    place.ledger.close()


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with Chrome(tmp_path_factory.mktemp("profile")) as browser:
        yield browser
