"""The contract of the endpoints port, on every adapter of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.adapters.ledger_endpoints import SqliteEndpoints
from modelyard.errors import Busy, NotFound, RefusedByPolicy
from modelyard.ports.endpoints import EndpointRow, Endpoints, Served, Update

ENDPOINTS: dict[str, Callable[[Path], Endpoints]] = {"sqlite": lambda folder: SqliteEndpoints(folder / "ledger.db")}
AT = "2026-01-01T00:00:00.000Z"
A = Served("a-1", "a" * 64, "town", "1", 90, {"workload_size": "Small"})
B = Served("b-2 🦊", "b" * 64, "main.default.town", "2", 10)
ROW = EndpointRow("desk", "f" * 32, "me", AT, AT, (("team", "ops"), ("plain", "")), {"description": "a desk"}, (A, B))


@pytest.fixture(params=sorted(ENDPOINTS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Endpoints]]:
    opened: list[Endpoints] = []

    def make() -> Endpoints:
        opened.append(ENDPOINTS[request.param](tmp_path))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_a_row_comes_back_as_it_was_written(make: Callable[[], Endpoints]) -> None:
    endpoints = make()
    assert list(endpoints.all()) == [] and endpoints.find("desk") is None
    whole = replace(
        ROW, update=Update((B,), "you", AT, "failed", "no such weights", 7, {B.release: "d"}, {"b": "passed"})
    )
    endpoints.add(whole)
    endpoints.add(replace(ROW, name="another", id="e" * 32))
    assert make().find("desk") == whole
    assert [row.name for row in make().all()] == ["another", "desk"]
    with pytest.raises(RefusedByPolicy, match="already"):
        endpoints.add(whole)


def test_of_two_that_change_a_row_one_is_told(make: Callable[[], Endpoints]) -> None:
    one, other = make(), make()
    one.add(ROW)
    changed = one.change(replace(ROW, tags=()))
    assert changed.version == 1 and other.find("desk") == changed
    with pytest.raises(Busy, match="meanwhile"):
        other.change(replace(ROW, extras={}))
    other.remove("desk")
    other.remove("desk")  # the missing is no error
    with pytest.raises(NotFound):
        one.change(changed)


def test_changes_are_told_whoever_makes_them(make: Callable[[], Endpoints]) -> None:
    one, other = make(), make()
    seen = [(one.edition(), other.edition())]
    for change in (lambda: one.add(ROW), lambda: other.change(ROW), lambda: one.remove("desk")):
        change()
        seen.append((one.edition(), other.edition()))
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in itertools.pairwise(seen))
    assert seen[-1] == (one.edition(), other.edition())
