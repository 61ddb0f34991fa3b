"""Would a rollback work now? Found out on the live endpoint, without changing what it serves.

The release that a rollback goes to must be warm, must answer questions of the exam over the gateway (its side effects
go where the exam's go), and the ledger must take the move: it is written, and taken back before anybody sees it. What
a drill cannot see: whether that release is still good, and a machine that breaks between drill and need.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from modelyard.errors import ModelyardError, NotFound, Unavailable
from modelyard.ids import short
from modelyard.lifecycle.exam import CASES, read_exam
from modelyard.lifecycle.release import present
from modelyard.lifecycle.world import World
from modelyard.ports.records import Pointers
from modelyard.serving.route import GatewayInfo, alive, probe_gateway

PROBES = 20
"""Questions of the exam that it is asked."""
_REHEARSALS = 5
POLL_SECONDS = 0.05
"""How long a gateway may take to look at the ledger again."""


@dataclass(frozen=True)
class Drilled:
    """What a drill measured. `pointer_ms` is the median time of the move in the ledger, `noticed_ms` the most that the
    gateway then takes to see it, `answer_ms` the median of the answers; `failures` are those that failed."""

    release: str
    champion: str
    probes: int
    answered: int
    pointer_ms: float
    noticed_ms: float
    answer_ms: float | None
    failures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def drill(world: World, to: str | None = None) -> Drilled:
    """Rehearse a rollback, to the previous release or to a named one.

    Raises NotFound where there is nothing to go back to, Unavailable where no gateway serves or the release is not
    warm there, and what stands in the way of the move; answers that fail are in the result.
    """
    pointers = world.ledger.pointers(world.endpoint)
    target = to or pointers.previous
    if target is None or pointers.champion is None:
        raise NotFound(f"there is no previous release of {world.endpoint} to go back to")
    release = world.ledger.release(target)
    gateway = alive(world.layout)
    if gateway is None:
        raise Unavailable(f"no gateway serves {world.endpoint} in {world.loaded.target}: a drill is of what is live")
    present(world, release)
    if not world.ledger.is_warm(world.endpoint, release.id, gateway.gateway_id):
        reason = world.ledger.failure(world.endpoint, release.id, gateway.gateway_id)
        raise Unavailable(f"release {short(release.id)} is not warm: {reason or 'a rollback would start it first'}")
    pointer = _rehearse(world, release.id)
    answers = [_probe(gateway, world.endpoint, release.id, request) for request in _probes(world)]
    times = [ms for ms in answers if isinstance(ms, float)]
    return Drilled(
        release.id,
        pointers.champion,
        len(answers),
        len(times),
        round(pointer, 2),
        POLL_SECONDS * 1000,
        round(statistics.median(times), 2) if times else None,
        tuple(why for why in answers if isinstance(why, str)),
    )


def _rehearse(world: World, release: str) -> float:
    """Median milliseconds of the move."""
    spent = []
    with closing(world.rollouts()) as rollouts:
        for _ in range(_REHEARSALS):
            began = world.clock.monotonic()
            now = world.ledger.pointers(world.endpoint)
            rollouts.rehearse(world.endpoint, Pointers(now.generation, release, previous=now.champion))
            spent.append((world.clock.monotonic() - began) * 1000)
    return statistics.median(spent)


def _probes(world: World) -> list[Mapping[str, Any]]:
    """Requests of the exam: of the user's own, else of the one that was generated. Raises NotFound where there is
    none."""
    workload, ctx = world.heavy.workload, world.heavy.context
    cases = workload.cases(ctx, read_exam(world.loaded.exam))
    found: list[Mapping[str, Any]] = [case.request for case in islice(cases, PROBES)]
    if not found and CASES.name in world.heavy.tables.names():
        rows = world.heavy.tables.read(CASES.name, ["row"]).column("row").to_pylist()
        found = [json.loads(row)["request"] for row in rows[:PROBES]]
    if not found:
        raise NotFound("there is no question to ask it: an exam is what a drill asks from")
    return found


def _probe(gateway: GatewayInfo, endpoint: str, release: str, request: Mapping[str, Any]) -> float | str:
    """Milliseconds of an answer, or why there is none."""
    try:
        return probe_gateway(gateway, endpoint, release, request)
    except ModelyardError as error:
        return str(error)
