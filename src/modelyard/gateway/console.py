"""What operations see of a gateway and may do with it: gathered as plain data, for a page and for programs.

Figures come from memory; moves, decisions and releases from the ledger, in a thread of its own and only when the
endpoint moved. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from modelyard import __version__
from modelyard.clock import stamp
from modelyard.errors import Busy, ModelyardError, NotFound, Unavailable
from modelyard.gateway.drilling import drilled
from modelyard.gateway.metrics import record_lag
from modelyard.gateway.rollouts import Runner
from modelyard.lifecycle.release import Moved
from modelyard.lifecycle.standing import standings
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import SHADOW, Decision, Move, Pointers, Release
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.recall import Recalled
from modelyard.serving.record import Record
from modelyard.serving.windows import Tally

MOVES = 12
"""Moves that are shown, the newest."""
REQUESTS = 50
POINTS, POINT_SECONDS = 60, 30
"""The charts: so many points of so many seconds."""
_DECISIONS = 256

T = TypeVar("T")
Back = Callable[[str, str, str | None, str], Moved]
"""(who, endpoint, to which release or None for the previous, why): what `modelyard release rollback` does."""


@dataclass(frozen=True)
class Watched:
    """An endpoint, and who runs its rollouts."""

    endpoint: Endpoint
    runner: Runner | None = None


@dataclass(frozen=True)
class Powers:
    """What the console may do beyond looking. `ledger` is opened, and used, in the console's thread; `back` is called
    in a thread; `project` is the folder and the target that a drill is of."""

    ledger: Callable[[], Ledger]
    back: Back | None = None
    project: tuple[Path, str] | None = None


@dataclass(frozen=True)
class _Told:
    """What the ledger said at the time `at` (monotonic), when the endpoint was at `generation`."""

    at: float
    generation: int
    moves: Sequence[Move]
    releases: Mapping[str, Release]
    reasons: Mapping[str, tuple[str, ...]]
    trouble: str | None = None
    """Why this is what it said before, and not now."""


class Console:
    """Of the endpoints of a gateway: `shown` gives them as they are now, the project's own first. `guard` is the secret
    that a form of the page carries: another site cannot know it."""

    def __init__(self, shown: Callable[[], Sequence[Watched]], powers: Powers | None = None) -> None:
        self.guard = secrets.token_urlsafe(24)
        self._shown, self._powers = shown, powers
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="console")
        self._ledger: Ledger | None = None
        self._told: dict[str, _Told] = {}
        self._decisions: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._tests: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._acting = asyncio.Lock()
        self._started = stamp(shown()[0].endpoint.clock.now())

    async def close(self) -> None:
        """Let go of the ledger."""
        if self._ledger is not None:
            await self._aside(self._ledger.close)
        self._thread.shutdown()

    # looking

    async def overview(self) -> dict[str, Any]:
        """Everything that the page shows, as JSON has it. Where the ledger cannot be read, `trouble` says why."""
        watched = self._shown()
        return {
            "at": stamp(watched[0].endpoint.clock.now()),
            "version": __version__,
            "started": self._started,
            "record": _record(watched[0].endpoint.record),
            "endpoints": [{**await self._one(one), "own": one is watched[0]} for one in watched],
        }

    async def _one(self, watched: Watched) -> dict[str, Any]:
        here = watched.endpoint
        pointers, told = here.fleet.pointers, await self._tell(here)
        return {
            "name": here.name,
            **_serving(here),
            "trouble": told.trouble,
            "releases": [_release(here, r, told) for r in pointers.named()],
            "back": _goes_back_to(watched),
            "rollout": (await self._rollout(watched)),
            "moves": [_moved(move, told) for move in told.moves],
            "counts": {name: here.fleet.counts[name] for name in _COUNTS},
            "windows": _windows(here),
            "requests": [seen._asdict() for seen in here.recent.newest()[:REQUESTS]],
        }

    async def rollout(self, endpoint: str | None = None) -> dict[str, Any]:
        """{"endpoint", "rollout"}: the rollout that is in mind there (default: at the project's own endpoint) with what
        it waits for, or None. Its `tests` are those of the newest look; `decision` is None before the first. Raises
        NotFound."""
        watched = self._find(endpoint)
        return {"endpoint": watched.endpoint.name, "rollout": await self._rollout(watched)}

    async def _rollout(self, watched: Watched) -> dict[str, Any] | None:
        runner = watched.runner
        trial = runner.trial if runner is not None else None
        if runner is None or trial is None:
            return None
        rollout, last = trial.rollout, runner.last
        own = last if last is not None and last.inputs["evidence"]["rollout"] == rollout.id else None
        found: dict[str, Any] = {
            "id": rollout.id,
            "champion": rollout.champion,
            "challenger": rollout.challenger,
            "state": rollout.state,
            "reason": rollout.reason,
            "shadow": rollout.stage == SHADOW,
            "share": rollout.share,
            "next": rollout.next_share if rollout.live else None,
            "started": rollout.started,
            "stage_since": rollout.stage_since,
            "who": rollout.who,
            "steps": rollout.policy["steps"],
            "alpha": rollout.policy["alpha"],
            "min_units": rollout.policy["min_units"],
            "max_age": rollout.policy["max_age"],
            "look_every": rollout.policy["look_every"],
            "unrecorded": trial.unrecorded,
            "decision": None,
            "tests": [],
            "events": [asdict(e) for e in runner.events if e.rollout == rollout.id],
        }
        if own is not None:
            evidence = own.inputs["evidence"]
            found["decision"] = {"verdict": own.verdict, "reasons": list(own.reasons)}
            found |= {"units": evidence["units"], "age": evidence["age"], "agreement": evidence["agreement"]}
            found["tests"] = await asyncio.to_thread(self._table, own)
        return found

    def request(self, identity: str) -> tuple[dict[str, Any], Recalled | None]:
        """One of the newest requests, and its rows in the record where they are still at hand. Raises NotFound."""
        for watched in self._shown():
            here = watched.endpoint
            seen = next((one for one in here.recent.newest() if one.id == identity), None)
            if seen is not None:
                return {"endpoint": here.name, **seen._asdict()}, here.record.recall.find(identity)
        raise NotFound("this request is not among the newest any more: the table `inference` has it")

    def serves(self, endpoint: str, release: str, generation: int) -> bool:
        """Whether the gateway has followed a move, and this release answers."""
        fleet = self._find(endpoint).endpoint.fleet
        return fleet.pointers.generation >= generation and fleet.standing().release == release

    def guards(self, secret: str) -> bool:
        """Whether a form has the secret of this gateway."""
        return secrets.compare_digest(secret.encode(), self.guard.encode())

    # acting

    async def roll_back(self, who: str, endpoint: str, to: str | None, why: str, generation: int | None) -> Moved:
        """As `modelyard release rollback`. `generation`: where the endpoint must be for it, as whoever asks saw it.

        Raises NotFound, Busy where it moved since or somebody acts already, Unavailable where this gateway cannot; what
        a rollback raises.
        """
        here = self._find(endpoint).endpoint
        if self._powers is None or self._powers.back is None:
            raise Unavailable("this gateway cannot move the pointer: `modelyard release rollback` does")
        if self._acting.locked():
            raise Busy("a rollback or a drill is under way")
        async with self._acting:
            if generation is not None and generation != here.fleet.pointers.generation:
                raise Busy("the endpoint moved since you looked at it: look again")
            return await asyncio.to_thread(self._powers.back, who, here.name, to, why)

    async def drill(self, endpoint: str | None = None) -> dict[str, Any]:
        """As `modelyard release rollback --drill`, in a process of its own: what it measured. Raises NotFound, Busy,
        and what stands in the way as Unavailable."""
        here = self._find(endpoint).endpoint
        if self._powers is None or self._powers.project is None:
            raise Unavailable("this gateway cannot drill: `modelyard release rollback --drill` does")
        if self._acting.locked():
            raise Busy("a rollback or a drill is under way")
        async with self._acting:
            return await drilled(*self._powers.project, here.name)

    # parts

    def _find(self, endpoint: str | None) -> Watched:
        found = next((one for one in self._shown() if endpoint in (None, one.endpoint.name)), None)
        if found is None:
            raise NotFound("there is no endpoint of this name here")
        return found

    def _table(self, decision: Decision) -> list[dict[str, Any]]:
        key = decision.id
        if key not in self._tests:
            self._tests[key] = [asdict(one) for one in standings(decision)]
            while len(self._tests) > _TABLES:
                self._tests.popitem(last=False)
        return self._tests[key]

    async def _tell(self, here: Endpoint) -> _Told:
        pointers, now = here.fleet.pointers, here.clock.monotonic()
        told = self._told.get(here.name)
        if told is None or told.generation != pointers.generation or now - told.at > _REFRESH_SECONDS:
            try:
                told = await self._aside(self._read, here.name, pointers, now)
            except ModelyardError as error:  # all else is worth seeing, and most of all then
                before = told or _Told(now, pointers.generation, (), {}, {})
                told = replace(before, at=now, generation=pointers.generation, trouble=str(error))
            self._told[here.name] = told
        return told

    def _read(self, endpoint: str, pointers: Pointers, now: float) -> _Told:
        if self._powers is None:
            return _Told(now, pointers.generation, (), {}, {})
        if self._ledger is None:
            self._ledger = self._powers.ledger()
        ledger = self._ledger
        moves = list(ledger.history(endpoint))[:MOVES]
        named = {*pointers.named(), *(r for move in moves for r in move.pointers.named())}
        releases = {release: ledger.release(release) for release in named}
        reasons = {move.decision: self._reasons(ledger, move.decision) for move in moves if move.decision}
        return _Told(now, pointers.generation, moves, releases, reasons)

    def _reasons(self, ledger: Ledger, decision: str) -> tuple[str, ...]:
        if decision not in self._decisions:
            try:
                self._decisions[decision] = ledger.decision(decision).reasons
            except NotFound:
                return ()
            if len(self._decisions) > _DECISIONS:
                self._decisions.popitem(last=False)
        return self._decisions[decision]

    async def _aside(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


_REFRESH_SECONDS = 5.0
"""How long what the ledger says of releases may be out of date where nothing moved."""
_TABLES = 16
_COUNTS = ("restarts", "retries", "given_up", "refused", "streams_cut")


def _serving(here: Endpoint) -> dict[str, Any]:
    standing, refused = here.fleet.standing(), here.record.refuses
    return {
        "ready": standing.ready and refused is None,
        "reason": refused or standing.reason,
        "release": standing.release,
        "generation": standing.generation,
        "stopping": standing.stopping,
        "cold": standing.cold,
        "cold_start_seconds": standing.cold_start_seconds,
    }


def _release(here: Endpoint, release: str, told: _Told) -> dict[str, Any]:
    pointers, known, pool = here.fleet.pointers, told.releases.get(release), here.fleet.pool(release)
    return {
        "release": release,
        "roles": [r for r in ("champion", "challenger", "previous") if getattr(pointers, r) == release],
        "state": known.state if known else None,
        "version": known.version if known else None,
        "created": known.created if known else None,
        "percent": dict(pointers.split).get(release, 0),
        "workers": len(pool.workers) if pool else 0,
        "wanted": pool.limits.workers if pool else 0,
        "under_way": pool.under_way if pool else 0,
        "waiting": pool.waiting if pool else 0,
        "out": pool.out if pool else False,
        "trouble": pool.reason if pool else None,
        "start_seconds": pool.start_seconds if pool else None,
    }


def _goes_back_to(watched: Watched) -> dict[str, Any] | None:
    """What a rollback now would come to."""
    pointers, runner = watched.endpoint.fleet.pointers, watched.runner
    trial = runner.trial if runner is not None else None
    if trial is not None and trial.rollout.live:
        return {"release": trial.rollout.champion, "from": trial.rollout.challenger, "canary": True}
    if pointers.previous is None or pointers.champion is None:
        return None
    return {"release": pointers.previous, "from": pointers.champion, "canary": False}


def _record(record: Record) -> dict[str, Any]:
    return {
        "bytes": record.log.size,
        "limit": record.log.limit_bytes,
        "lag_seconds": round(record_lag(record), 1),
        "open": record.open_requests,
        "trouble": record.trouble,
        "unreadable": record.unreadable,
        "durability": record.log.durability,
        "slowest_commit_ms": round(record.log.slowest * 1000, 2),
        **asdict(record.counts),
    }


def _windows(here: Endpoint) -> dict[str, Any]:
    now = time.time()
    read = here.recent.windows.read(now, POINTS, POINT_SECONDS)
    releases = list(dict.fromkeys(release for point in read for release in point))
    return {
        "seconds": POINT_SECONDS,
        "until": now,
        "series": [{"release": r, "points": [_point(p.get(r)) for p in read]} for r in releases],
    }


def _moved(move: Move, told: _Told) -> dict[str, Any]:
    to = move.pointers
    return {
        "generation": to.generation,
        "at": move.at,
        "who": move.who,
        "why": move.why,
        "champion": to.champion,
        "challenger": to.challenger,
        "previous": to.previous,
        "traffic": dict(to.traffic),
        "decision": move.decision,
        "reasons": list(told.reasons.get(move.decision, ())) if move.decision else [],
    }


def _point(tally: Tally | None) -> dict[str, Any]:
    tally = tally or Tally()
    return {
        "requests": tally.requests,
        "failed": tally.failed,
        "refused": tally.refused,
        "p50": tally.quantile(0.5),
        "p95": tally.quantile(0.95),
    }
