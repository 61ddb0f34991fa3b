"""What operations see of a gateway and may do with it: gathered as plain data, for a page and for programs.

Figures come from memory; moves, decisions and releases from the ledger, in a thread of its own and only when the
endpoint moved. Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from modelyard import __version__
from modelyard.clock import stamp
from modelyard.errors import Busy, NotFound, Unavailable
from modelyard.gateway.metrics import record_lag
from modelyard.gateway.rollouts import Runner
from modelyard.lifecycle.release import Moved
from modelyard.lifecycle.standing import standings
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import SHADOW, Decision, Move, Pointers, Release, Rollout
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.recall import Recalled
from modelyard.serving.windows import Tally

MOVES = 12
"""Moves that are shown, the newest."""
REQUESTS = 50
POINTS, POINT_SECONDS = 60, 30
"""The charts: so many points of so many seconds."""
DRILL_SECONDS = 180.0
_DECISIONS = 256

T = TypeVar("T")
Back = Callable[[str, str | None, str], Moved]
"""(who, to which release or None for the previous, why): what `modelyard release rollback` does."""


@dataclass(frozen=True)
class Powers:
    """What the console may do beyond looking. `ledger` is opened, and used, in the console's thread; `back` is called
    in a thread; `project` is the folder and the target that a drill is of."""

    ledger: Callable[[], Ledger]
    back: Back | None = None
    project: tuple[Path, str] | None = None


@dataclass
class _Told:
    """What the ledger said when the endpoint was at `generation`."""

    generation: int
    moves: Sequence[Move]
    releases: Mapping[str, Release]
    reasons: Mapping[str, tuple[str, ...]]


class Console:
    """Of one endpoint. `guard` is the secret that a form of the page carries: another site cannot know it."""

    def __init__(self, endpoint: Endpoint, runner: Runner | None = None, powers: Powers | None = None) -> None:
        self.endpoint, self.guard = endpoint, secrets.token_urlsafe(24)
        self._runner, self._powers = runner, powers
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="console")
        self._ledger: Ledger | None = None
        self._told: _Told | None = None
        self._read_at = -1e9
        self._decisions: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._tests: tuple[str, list[dict[str, Any]]] = ("", [])
        self._acting = asyncio.Lock()
        self._started = stamp(endpoint.clock.now())

    async def close(self) -> None:
        """Let go of the ledger."""
        if self._ledger is not None:
            await self._aside(self._ledger.close)
        self._thread.shutdown()

    # looking

    async def overview(self) -> dict[str, Any]:
        """Everything that the page shows, as JSON has it. Raises StorageError where the ledger cannot be read."""
        here = self.endpoint
        pointers, told = here.fleet.pointers, await self._tell()
        return {
            "at": stamp(here.clock.now()),
            "version": __version__,
            "started": self._started,
            "endpoints": [
                {
                    "name": here.name,
                    **self._serving(),
                    "releases": [self._release(r, pointers, told) for r in pointers.named()],
                    "back": self._goes_back_to(),
                    "rollout": (await self.rollout())["rollout"],
                    "moves": [_moved(move, told) for move in told.moves],
                    "counts": {name: here.fleet.counts[name] for name in _COUNTS},
                    "record": self._record(),
                    "windows": self._windows(),
                    "requests": [seen._asdict() for seen in here.recent.newest()[:REQUESTS]],
                }
            ],
        }

    async def rollout(self) -> dict[str, Any]:
        """{"rollout"}: the one that is under way with what it waits for, or None. Its `tests` are those of the newest
        look; `decision` is None before the first."""
        trial = self._runner.trial if self._runner is not None else None
        if self._runner is None or trial is None:
            return {"rollout": None}
        rollout, last = trial.rollout, self._runner.last
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
            "events": [asdict(e) for e in self._runner.events if e.rollout == rollout.id],
        }
        if own is not None:
            evidence = own.inputs["evidence"]
            found["decision"] = {"verdict": own.verdict, "reasons": list(own.reasons)}
            found |= {"units": evidence["units"], "age": evidence["age"], "agreement": evidence["agreement"]}
            found["tests"] = await asyncio.to_thread(self._table, own)
        return {"rollout": found}

    def request(self, identity: str) -> tuple[dict[str, Any], Recalled | None]:
        """One of the newest requests, and its rows in the record where they are still at hand. Raises NotFound."""
        seen = next((one for one in self.endpoint.recent.newest() if one.id == identity), None)
        if seen is None:
            raise NotFound("this request is not among the newest any more: the table `inference` has it")
        return seen._asdict(), self.endpoint.record.recall.find(identity)

    # acting

    async def roll_back(self, who: str, to: str | None, why: str, generation: int | None) -> Moved:
        """As `modelyard release rollback`. `generation`: where the endpoint must be for it, as whoever asks saw it.

        Raises Busy where it moved since, or somebody rolls back already; Unavailable where this gateway cannot; what
        a rollback raises.
        """
        if self._powers is None or self._powers.back is None:
            raise Unavailable("this gateway cannot move the pointer: `modelyard release rollback` does")
        if self._acting.locked():
            raise Busy("a rollback or a drill is under way")
        async with self._acting:
            if generation is not None and generation != self.endpoint.fleet.pointers.generation:
                raise Busy("the endpoint moved since you looked at it: look again")
            return await asyncio.to_thread(self._powers.back, who, to, why)

    async def drill(self) -> dict[str, Any]:
        """As `modelyard release rollback --drill`, in a process of its own: what it measured. Raises Busy, and what
        stands in the way as Unavailable."""
        if self._powers is None or self._powers.project is None:
            raise Unavailable("this gateway cannot drill: `modelyard release rollback --drill` does")
        if self._acting.locked():
            raise Busy("a rollback or a drill is under way")
        async with self._acting:
            return await _drilled(*self._powers.project)

    # parts

    def _serving(self) -> dict[str, Any]:
        standing = self.endpoint.fleet.standing()
        refused = self.endpoint.record.refuses
        return {
            "ready": standing.ready and refused is None,
            "reason": refused or standing.reason,
            "release": standing.release,
            "generation": standing.generation,
            "stopping": standing.stopping,
            "cold": standing.cold,
            "cold_start_seconds": standing.cold_start_seconds,
        }

    def _release(self, release: str, pointers: Pointers, told: _Told) -> dict[str, Any]:
        known, pool = told.releases.get(release), self.endpoint.fleet.pool(release)
        roles = [r for r in ("champion", "challenger", "previous") if getattr(pointers, r) == release]
        return {
            "release": release,
            "roles": roles,
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

    def _goes_back_to(self) -> dict[str, Any] | None:
        """What a rollback now would come to."""
        pointers, rollout = self.endpoint.fleet.pointers, self._live()
        if rollout is not None:
            return {"release": rollout.champion, "from": rollout.challenger, "canary": True}
        if pointers.previous is None or pointers.champion is None:
            return None
        return {"release": pointers.previous, "from": pointers.champion, "canary": False}

    def _live(self) -> Rollout | None:
        trial = self._runner.trial if self._runner is not None else None
        return trial.rollout if trial is not None and trial.rollout.live else None

    def _record(self) -> dict[str, Any]:
        record = self.endpoint.record
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

    def _windows(self) -> dict[str, Any]:
        now = time.time()
        read = self.endpoint.recent.windows.read(now, POINTS, POINT_SECONDS)
        releases = list(dict.fromkeys(release for point in read for release in point))
        return {
            "seconds": POINT_SECONDS,
            "until": now,
            "series": [{"release": r, "points": [_point(p.get(r)) for p in read]} for r in releases],
        }

    def _table(self, decision: Decision) -> list[dict[str, Any]]:
        key = decision.id
        if self._tests[0] != key:
            self._tests = key, [asdict(one) for one in standings(decision)]
        return self._tests[1]

    # the ledger

    async def _tell(self) -> _Told:
        pointers = self.endpoint.fleet.pointers
        told = self._told
        now = self.endpoint.clock.monotonic()
        if told is None or told.generation != pointers.generation or now - self._read_at > _REFRESH_SECONDS:
            told = self._told = await self._aside(self._read, pointers)
            self._read_at = now
        return told

    def _read(self, pointers: Pointers) -> _Told:
        if self._powers is None:
            return _Told(pointers.generation, (), {}, {})
        if self._ledger is None:
            self._ledger = self._powers.ledger()
        ledger = self._ledger
        moves = list(ledger.history(self.endpoint.name))[:MOVES]
        named = {*pointers.named(), *(r for move in moves for r in move.pointers.named())}
        releases = {release: ledger.release(release) for release in named}
        reasons = {move.decision: self._reasons(ledger, move.decision) for move in moves if move.decision}
        return _Told(pointers.generation, moves, releases, reasons)

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
_COUNTS = ("restarts", "retries", "given_up", "refused", "streams_cut")


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


async def _drilled(project: Path, target: str) -> dict[str, Any]:
    words = ["release", "rollback", "--drill", "--json", "-C", str(project), "-t", target]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "modelyard",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DRILL_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"the drill took longer than {DRILL_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        lines = err.decode(errors="replace").strip().splitlines()
        raise Unavailable(lines[-1] if lines else f"the drill ended with {process.returncode}") from None
    return found
