"""What became of the units of a rollout, counted as it comes: a unit once per test, whatever it asks.

A test looks at one value of the answers (1 for a failed answer, milliseconds, a signal of the workload) and says of a
unit whether it failed: `any` answer had it, or their mean lies past a quantile of the champion's units, `high` or
`low`. The quantile is that of champion units that settled before, so no test knows an absolute threshold. A unit
settles `settle` seconds after it was first seen: what counts for a step is what it came to by then.

Deterministic: the same calls give the same counts, so a log of them is all that a restart needs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.ports.records import SHADOW
from modelyard.serving.assignment import Values

CHAMPION, CHALLENGER = 0, 1
KEPT = 1000
"""Settled units of the champion that a quantile is taken of."""
LEAST_KEPT = 30
"""Fewer make no quantile: units that settle before there are so many have no figure."""
_STAGES = 7
"""Bits of a unit's code that its stage takes."""


@dataclass
class _Open:
    """A unit that has not settled: when it was first seen, and sum and count of each value, by arm."""

    since: float
    sums: tuple[dict[str, list[float]], dict[str, list[float]]] = field(default_factory=lambda: ({}, {}))


@dataclass
class _Pair:
    """A unit that both arms answer: when it was first seen, the tests it failed by arm, those that are decided."""

    since: float
    failed: list[int] = field(default_factory=lambda: [0, 0])
    sums: tuple[dict[str, list[float]], dict[str, list[float]]] = field(default_factory=lambda: ({}, {}))


@dataclass
class _Kept:
    """The newest settled values of the champion, in the order they came and sorted."""

    order: deque[float] = field(default_factory=deque)
    ranked: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        if len(self.order) == KEPT:
            del self.ranked[bisect_left(self.ranked, self.order.popleft())]
        self.order.append(value)
        insort(self.ranked, value)

    def past(self, value: float, side: str, quantile: float) -> bool | None:
        """Whether `value` lies past that quantile; None while there are too few to say."""
        if len(self.ranked) < LEAST_KEPT:
            return None
        rank = quantile * len(self.ranked)
        if side == "high":
            return bisect_left(self.ranked, value) >= rank
        return len(self.ranked) - bisect_right(self.ranked, value) >= rank


class Evidence:
    """Units and their outcomes. `tests` is {name: {value, side, quantile}} as the policy of a rollout has it, `shares`
    its steps in percent. Times are in seconds and never go back."""

    def __init__(self, tests: Mapping[str, Mapping[str, Any]], shares: Sequence[int], settle: float) -> None:
        self._tests, self._shares, self._settle_after = tests, shares, settle
        self._any = {name: 1 << i for i, (name, test) in enumerate(tests.items()) if test["side"] == "any"}
        self._level = {name: test for name, test in tests.items() if test["side"] != "any"}
        self._values = {str(test["value"]) for test in self._level.values()}
        self._codes: dict[str, int] = {}
        # In the order they were first seen, and taken from that end: a plain dict would look at every gap again.
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._pairs: OrderedDict[str, _Pair] = OrderedDict()
        self._paired: set[str] = set()
        self._kept: dict[str, _Kept] = {}
        # [stage][arm] -> units; [test][stage][arm] -> [units, failed]
        self._met: dict[int, list[int]] = {}
        self._settled_units: dict[int, list[int]] = {}
        self._seen: dict[str, dict[int, list[int]]] = {name: {} for name in self._any}
        self._settled: dict[str, dict[int, list[list[int]]]] = {name: {} for name in tests}
        self._pairs_seen: dict[str, list[int]] = {name: [0, 0, 0] for name in tests}
        self._pairs_settled: dict[str, list[int]] = {name: [0, 0, 0] for name in tests}
        self._pairs_done = 0
        self._agreed = [0.0, 0]

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def pairs(self) -> int:
        """Units that both arms answered."""
        return self._pairs_done + len(self._pairs)

    def known(self, unit: str) -> tuple[int, int] | None:
        """Stage and arm of a unit that was assigned."""
        code = self._codes.get(unit)
        if code is None:
            return None
        return ((code >> 1) & ((1 << _STAGES) - 1)) + SHADOW, code & 1

    def assigned(self, unit: str, stage: int, arm: int, now: float) -> None:
        """A unit is seen for the first time. In the shadow it stays with the champion and is not counted."""
        self.settle(now)
        if unit in self._codes:
            return
        self._codes[unit] = (stage - SHADOW) << 1 | arm
        if stage != SHADOW:
            self._open[unit] = _Open(now)
            self._met.setdefault(stage, [0, 0])[arm] += 1

    def observed(self, unit: str, values: Values, now: float) -> None:
        """An answer to a unit, or a word on one. Of a unit that is not known, or of the shadow, nothing is counted."""
        self.settle(now)
        found = self.known(unit)
        if found is None or found[0] == SHADOW:
            return
        stage, arm = found
        failed = self._flags(values) & ~(self._codes[unit] >> (1 + _STAGES))
        if failed:
            self._codes[unit] |= failed << (1 + _STAGES)
            for name, bit in self._any.items():
                if failed & bit:
                    self._seen[name].setdefault(stage, [0, 0])[arm] += 1
        if (opened := self._open.get(unit)) is not None:
            self._add(opened.sums[arm], values)

    def lost(self, unit: str, now: float) -> None:
        """A unit that is answered by another release than its own from now on: what follows is not counted, and it
        stays with the champion."""
        self.settle(now)
        if unit in self._codes:
            self._codes[unit] = 0
            self._open.pop(unit, None)

    def mirrored(self, unit: str, champion: Values, challenger: Values, now: float) -> None:
        """One request that both answered, the challenger in the shadow."""
        self.settle(now)
        if unit in self._paired:
            return
        pair = self._pairs.setdefault(unit, _Pair(now))
        before = pair.failed[CHAMPION] | pair.failed[CHALLENGER]
        for arm, values in enumerate((champion, challenger)):
            pair.failed[arm] |= self._flags(values)
            self._add(pair.sums[arm], values)
        if (agreed := challenger.get("agreement")) is not None:
            self._agreed[0] += agreed
            self._agreed[1] += 1
        new = (pair.failed[CHAMPION] | pair.failed[CHALLENGER]) & ~before
        for name, bit in self._any.items():
            # The first request with a failure decides: later ones share what made it fail.
            if new & bit:
                _compare(self._pairs_seen[name], pair.failed[CHAMPION] & bit, pair.failed[CHALLENGER] & bit)

    def settle(self, now: float) -> None:
        """Close the units whose time is over."""
        due = now - self._settle_after
        while self._open and (unit := next(iter(self._open))) and self._open[unit].since <= due:
            self._close(unit, self._open.pop(unit))
        while self._pairs and (unit := next(iter(self._pairs))) and self._pairs[unit].since <= due:
            self._close_pair(unit, self._pairs.pop(unit))

    def units(self, stage: int) -> dict[str, int]:
        """Units that settled in a stage, by arm; in the shadow each is one of both."""
        found = [self._pairs_done] * 2 if stage == SHADOW else self._settled_units.get(stage, [0, 0])
        return {"champion": found[CHAMPION], "challenger": found[CHALLENGER]}

    def agreement(self) -> float | None:
        """How far answers in the shadow agree, in the mean over requests; None without any."""
        total, count = self._agreed
        return round(total / count, 4) if count else None

    def tests(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """{test: {seen, settled}}, as `decide_rollout` takes them."""
        return {name: {"seen": self._rows(name, seen=True), "settled": self._rows(name)} for name in self._tests}

    def _rows(self, name: str, seen: bool = False) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        live = seen and name in self._any
        pairs = self._pairs_seen[name] if live else self._pairs_settled[name]
        units = self.pairs if live else pairs[0]
        if units:
            rows.append({"units": units, "champion_only": pairs[1], "challenger_only": pairs[2]})
        for stage in sorted(self._met):
            if live:
                failed = self._seen[name].get(stage, [0, 0])
                both = [[n, k] for n, k in zip(self._met[stage], failed, strict=True)]
            else:
                both = [list(one) for one in self._settled[name].get(stage, [[0, 0], [0, 0]])]
            if any(n for n, _ in both) and self._shares[stage] < 100:
                rows.append({"share": self._shares[stage] / 100, "champion": both[0], "challenger": both[1]})
        return rows

    def _flags(self, values: Values) -> int:
        return sum(bit for name, bit in self._any.items() if values.get(str(self._tests[name]["value"]), 0) >= 0.5)

    def _add(self, sums: dict[str, list[float]], values: Values) -> None:
        for name in self._values:
            if (value := values.get(name)) is not None:
                one = sums.setdefault(name, [0.0, 0])
                one[0] += value
                one[1] += 1

    def _close(self, unit: str, opened: _Open) -> None:
        code = self._codes[unit]
        stage, arm = ((code >> 1) & ((1 << _STAGES) - 1)) + SHADOW, code & 1
        self._settled_units.setdefault(stage, [0, 0])[arm] += 1
        for name, bit in self._any.items():
            self._count(name, stage, arm, bool(code >> (1 + _STAGES) & bit))
        means = _means(opened.sums[arm])
        for name, test in self._level.items():
            if (failed := self._past(test, means)) is not None:
                self._count(name, stage, arm, failed)
        if arm == CHAMPION:
            self._keep(means)

    def _close_pair(self, unit: str, pair: _Pair) -> None:
        self._paired.add(unit)
        self._pairs_done += 1
        for name, bit in self._any.items():
            self._pairs_settled[name][0] += 1
            _compare(self._pairs_settled[name], pair.failed[CHAMPION] & bit, pair.failed[CHALLENGER] & bit)
        ours, theirs = _means(pair.sums[CHAMPION]), _means(pair.sums[CHALLENGER])
        for name, test in self._level.items():
            before, after = self._past(test, ours), self._past(test, theirs)
            if before is not None and after is not None and test["paired"]:
                for counts in (self._pairs_settled[name], self._pairs_seen[name]):
                    counts[0] += 1
                    _compare(counts, before, after)
        self._keep(ours)

    def _past(self, test: Mapping[str, Any], means: Mapping[str, float]) -> bool | None:
        value, kept = means.get(test["value"]), self._kept.get(test["value"])
        return None if value is None or kept is None else kept.past(value, test["side"], test["quantile"])

    def _keep(self, means: Mapping[str, float]) -> None:
        for name, value in means.items():
            self._kept.setdefault(name, _Kept()).add(value)

    def _count(self, name: str, stage: int, arm: int, failed: bool) -> None:
        one = self._settled[name].setdefault(stage, [[0, 0], [0, 0]])[arm]
        one[0] += 1
        one[1] += failed


def _compare(counts: list[int], champion: object, challenger: object) -> None:
    counts[1] += bool(champion) and not challenger
    counts[2] += bool(challenger) and not champion


def _means(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: total / count for name, (total, count) in sums.items()}
