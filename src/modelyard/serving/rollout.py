"""Who answers a conversation or an entity while a challenger is on its way, and what became of it.

The coin of a unit falls at first sight, and is on disk before a model is entered; a step up concerns new units only.
All of it is in the rollout's own log, and is read from there when a gateway starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from modelyard.clock import Clock
from modelyard.errors import RecordFull
from modelyard.ports.records import SHADOW, Pointers, Rollout
from modelyard.serving.assignment import Assignment, Values
from modelyard.serving.evidence import CHALLENGER, CHAMPION, Evidence
from modelyard.serving.log import Durability, Log, replay

MOST_UNITS = 1_000_000
"""Units that a rollout keeps in mind; past them new ones go to the champion and are not counted."""
LOG_BYTES = 1 << 30
COIN_SECONDS = 5.0
"""How long a new unit waits for its coin to be on disk; past it the log takes no more of them anyway."""
_ARMS = ("champion", "challenger")


class Trial:
    """One rollout as a gateway has it in mind. Use from one event loop; close it."""

    def __init__(
        self,
        rollout: Rollout,
        folder: Path,
        clock: Clock,
        coin: Callable[[], float] = random.SystemRandom().random,
        durability: Durability = "disk",
    ) -> None:
        """Raises Busy when another process has its log, StorageError."""
        self.rollout = rollout
        self.unrecorded = 0
        """New units that went to the champion because they could not be written down, or were too many."""
        self.faults = 0
        """Answers of the challenger that failed or refused: what a look is worth at once for."""
        self._clock, self._coin = clock, coin
        policy = rollout.policy
        self._early_until = datetime.fromisoformat(rollout.started).timestamp() + float(policy["linger"])
        self._found = Evidence(policy["tests"], policy["steps"], policy["settle"])
        self._durable: dict[str, asyncio.Future[None]] = {}
        self._log = Log.open(folder, durability=durability, limit_bytes=LOG_BYTES, clock=clock)
        self._now = 0.0
        try:
            for row in replay(folder):
                self._apply(json.loads(row))
        except BaseException:
            self._log.close()
            raise

    async def assign(self, unit: str, begun: bool = False) -> Assignment:
        """The release of a unit; of a new one it is durable when this returns. `begun`: the request shows that the
        conversation is under way, so in the first time of a rollout (`linger`) it is not taken for a new one. Raises
        RecordFull where the disk does not answer: the coin falls when it does."""
        if (waiting := self._durable.get(unit)) is not None:
            await _fallen(waiting)
        if (known := self._found.known(unit)) is None:
            known = await self._first(unit, begun)
        stage, arm = known
        share = 0.0 if stage == SHADOW else self.rollout.policy["steps"][stage] / 100
        release = self.rollout.challenger if arm == CHALLENGER else self.rollout.champion
        return Assignment(release, _ARMS[arm], share if arm == CHALLENGER else 1 - share)

    def stays(self, unit: str) -> str | None:
        """The release that a unit was assigned, of one that was."""
        known = self._found.known(unit)
        return None if known is None else (self.rollout.champion, self.rollout.challenger)[known[1]]

    def observe(self, unit: str, values: Values) -> None:
        """An answer to a unit, or feedback on one (`feedback` 1 for a thumb down)."""
        known = self._found.known(unit)
        if known is not None and known[0] != SHADOW and values:
            self.faults += known[1] == CHALLENGER and _bad(values)
            self._note(["o", unit, dict(values), self._time()])

    def lose(self, unit: str) -> None:
        """The release of a unit was not up, and another answers it from now on: it says nothing of either any more."""
        self._note(["x", unit, self._time()])

    def mirrored(self, unit: str, champion: Values, challenger: Values) -> None:
        """What both said to one request, the challenger in the shadow."""
        if self._found.pairs >= MOST_UNITS:
            return
        self.faults += _bad(challenger)
        self._note(["m", unit, dict(champion), dict(challenger), self._time()])

    def evidence(self, age: float, down: str | None) -> dict[str, Any]:
        """What `decide_rollout` judges by, as of now. `age` in seconds since the start; `down`: why the challenger's
        workers do not start."""
        self._found.settle(self._time())
        rollout = self.rollout
        return {
            "rollout": rollout.id,
            "stage": rollout.stage,
            "share": rollout.share,
            "next": rollout.next_share,
            "shadow": rollout.stage == SHADOW,
            "units": self._found.units(rollout.stage),
            "age": round(age, 3),
            "down": down,
            "agreement": self._found.agreement(),
            "tests": self._found.tests(),
        }

    @property
    def in_shadow(self) -> bool:
        """Whether the challenger is asked copies only."""
        return self.rollout.live and self.rollout.stage == SHADOW

    @property
    def units(self) -> int:
        """New units so far: what a look is worth after."""
        return len(self._found)

    def close(self) -> None:
        self._log.close()

    async def _first(self, unit: str, begun: bool) -> tuple[int, int]:
        # Later on, who always sends a history would never be counted.
        early = begun and self._time() < self._early_until
        stage = SHADOW if early else self.rollout.stage
        if len(self._found) >= MOST_UNITS:
            self.unrecorded += 1
            return SHADOW, CHAMPION
        arm = CHALLENGER if stage != SHADOW and self._coin() * 100 < self.rollout.policy["steps"][stage] else CHAMPION
        row = ["a", unit, stage, arm, self._time()]
        # Whoever asks for the same unit meanwhile waits for this coin, and it falls even if this caller goes away.
        self._durable[unit] = waiting = asyncio.ensure_future(self._durably(row))
        waiting.add_done_callback(lambda _: self._durable.pop(unit, None))
        await _fallen(waiting)
        return self._found.known(unit) or (SHADOW, CHAMPION)

    async def _durably(self, row: list[Any]) -> None:
        try:
            await self._log.append(_encoded(row))
        except RecordFull:
            self.unrecorded += 1
            row[2:4] = SHADOW, CHAMPION
        self._apply(row)

    def _note(self, row: list[Any]) -> None:
        # What is lost with the machine, or where the log is full, is an outcome: the coin it belongs to is on disk.
        if not self._log.full:
            with contextlib.suppress(RecordFull):
                self._log.post(_encoded(row), b"")
        self._apply(row)

    def _apply(self, row: list[Any]) -> None:
        self._now = max(self._now, row[-1])
        match row[0]:
            case "a":
                self._found.assigned(row[1], row[2], row[3], self._now)
            case "o":
                self._found.observed(row[1], row[2], self._now)
            case "x":
                self._found.lost(row[1], self._now)
            case "m":
                self._found.mirrored(row[1], row[2], row[3], self._now)

    def _time(self) -> float:
        return round(self._clock.now().timestamp(), 3)


async def _fallen(coin: asyncio.Future[None]) -> None:
    try:
        async with asyncio.timeout(COIN_SECONDS):
            await asyncio.shield(coin)
    except TimeoutError:
        raise RecordFull("the disk that a rollout is written to does not answer: try again") from None


class Mirror(Protocol):
    """Who asks a challenger in the shadow: `serving.shadow.Shadow`."""

    def mirror(self, trial: Trial, unit: str, job: Mapping[str, Any], values: Values, response: Any) -> None: ...


class RolloutRouter:
    """The routing of an endpoint: by its rollout where one runs, by a split made by hand where there is
    one, else whichever release answers now."""

    def __init__(self, endpoint: str, up: Callable[[str], bool] = lambda release: True) -> None:
        """`up` says whether a release has workers, or will have some in a moment."""
        self._endpoint, self._up = endpoint, up
        self._pointers = Pointers()
        self._trial: Trial | None = None
        self.shadow: Mirror | None = None

    def follow(self, pointers: Pointers, trial: Trial | None) -> None:
        """From now on route by these. A trial whose rollout was promoted keeps its units where they were."""
        self._pointers, self._trial = pointers, trial

    @property
    def generation(self) -> int:
        """The move of the endpoint that this routes by."""
        return self._pointers.generation

    @property
    def trial(self) -> Trial | None:
        """The rollout in mind."""
        return self._trial

    async def assign(self, unit: str, begun: bool = False) -> Assignment:
        """The release of a unit, durable before it is returned; whichever answers now where that one does not run."""
        trial = self._trial
        if trial is not None and trial.rollout.live:
            found = await trial.assign(unit, begun)
        elif trial is not None and trial.rollout.state == "promoted":
            # Who is new gets the new champion also in the moment in which the workers are told of it.
            stays = trial.stays(unit) or trial.rollout.challenger
            found = Assignment(stays, self._arm(stays))
        else:
            found = self._by_hand(unit) if self._pointers.traffic and trial is None else Assignment()
        if found.release is None or self._up(found.release):
            return found
        if trial is not None and trial.rollout.live:
            trial.lose(unit)
        return Assignment()

    def observe(self, unit: str, values: Values, release: str | None = None) -> None:
        """What an answer to a unit was (see `outcome`), and which release gave it, where that is known."""
        trial = self._trial
        # An answer of before the unit was assigned, by whichever release, is no evidence.
        if trial is not None and trial.rollout.live and release in (None, trial.stays(unit)):
            trial.observe(unit, values)

    def mirror(self, unit: str, job: Mapping[str, Any], values: Values, response: Any) -> None:
        """Once an answer is given: have the challenger asked the same where one is in the shadow (see `Shadow`)."""
        trial = self._trial
        if self.shadow is not None and trial is not None and trial.in_shadow:
            self.shadow.mirror(trial, unit, job, values, response)

    def _by_hand(self, unit: str) -> Assignment:
        place = hashlib.blake2b(f"{self._endpoint}\0{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        left = int.from_bytes(place, "big") / 2**64 * 100
        for release, percent in self._pointers.traffic:
            left -= percent
            if left < 0:
                return Assignment(release, self._arm(release), percent / 100)
        return Assignment()

    def _arm(self, release: str) -> str:
        pointers = self._pointers
        named = {pointers.previous: "previous", pointers.challenger: "challenger", pointers.champion: "champion"}
        return named.get(release, "split")


def _bad(values: Values) -> bool:
    return values.get("errors", 0.0) > 0 or values.get("refused", 0.0) > 0


def _encoded(row: list[Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
