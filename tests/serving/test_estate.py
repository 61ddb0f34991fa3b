"""Several endpoints behind a gateway: one that cannot be served keeps no other from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.clock import SystemClock
from modelyard.errors import StorageError
from modelyard.ports.endpoints import EndpointRow
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.estate import Estate
from modelyard.serving.meter import Meter
from modelyard.serving.record import Record
from modelyard.serving.rollout import RolloutRouter
from modelyard.serving.supervise import Fleet


class Written:
    """What is written down of endpoints."""

    def __init__(self, *names: str) -> None:
        self.names, self.number = list(names), 1

    def edition(self) -> int:
        return self.number

    def rows(self) -> Sequence[EndpointRow]:
        return [EndpointRow(name, name, "who", "", "") for name in self.names]

    def close(self) -> None:
        pass


class Place:
    """Endpoints without workers; those of `broken` do not start."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broken, self.tried = folder, set[str](), list[str]()
        self.record = Record.open(folder / "record")

    def endpoint(self, name: str) -> Endpoint:
        fleet = Fleet(name, "g", lambda: SqliteLedger(self.folder / "ledger"), lambda release, sock: ())
        return Endpoint(fleet, self.record, Meter(), 60.0, SystemClock(), RolloutRouter(name))

    def begin(self, name: str) -> One:
        return One(self, name)


class One:
    def __init__(self, place: Place, name: str) -> None:
        self.place, self.endpoint, self.stopped = place, place.endpoint(name), False

    async def start(self) -> None:
        self.place.tried.append(self.endpoint.name)
        if self.endpoint.name in self.place.broken:
            raise StorageError("its folder cannot be written")
        await self.endpoint.fleet.start()

    async def stop(self) -> None:
        self.stopped = True
        if self.endpoint.name not in self.place.broken:
            await self.endpoint.fleet.stop()
        elif "unstoppable" in self.endpoint.name:
            raise StorageError("it does not stop")


def test_one_that_cannot_be_served_is_said_to_and_the_others_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, written, told = Place(tmp_path), Written("a", "bad", "unstoppable", "c"), list[list[str]]()
    place.broken = {"bad", "unstoppable"}

    async def story() -> None:
        estate = Estate(
            place.endpoint("own"), lambda: written, place.begin, lambda rows: told.append([row.name for row in rows])
        )
        await estate.start()
        served = lambda: [here.name for here in estate]  # noqa: E731
        assert served() == ["own", "a", "c"] and told == [written.names]
        for _ in range(5):
            await estate.look()
        assert place.tried.count("bad") <= 2  # not at every look
        written.names.append("d")
        written.number += 1
        await estate.look()
        assert served() == ["own", "a", "c", "d"]
        place.broken.clear()
        for _ in range(1000):
            if len(served()) == 6:
                break
            await asyncio.sleep(0.01)
        assert sorted(served()) == ["a", "bad", "c", "d", "own", "unstoppable"]
        await estate.stop()

    asyncio.run(story())
    said = [record.getMessage() for record in caplog.records]
    assert sum("bad cannot be served: its folder cannot be written" in one for one in said) >= 1
    place.record.close()


def test_one_that_does_not_stop_keeps_no_other_from_it(tmp_path: Path) -> None:
    place, written = Place(tmp_path), Written("a", "unstoppable", "c")
    begun = list[One]()

    def begin(name: str) -> One:
        begun.append(place.begin(name))
        return begun[-1]

    async def story() -> None:
        estate = Estate(place.endpoint("own"), lambda: written, begin)
        await estate.start()
        place.broken = {"unstoppable"}
        with pytest.raises(StorageError, match="does not stop"):
            await estate.stop()

    asyncio.run(story())
    assert all(one.stopped for one in begun) and len(begun) == 3
    place.record.close()
