"""How much one token may use: a minute (token buckets) and a day (budgets). Pure but for what it remembers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from modelyard.clock import Clock
from modelyard.errors import BudgetSpent, RateLimited
from modelyard.ports.tokens import Limits, Spent

_MINUTE = 60.0


class Bucket:
    """Holds `size` at most and fills up evenly within a minute. What is taken may exceed what is there: the debt has to
    fill up first. Times in seconds of a monotonic clock."""

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self._level, self._at = float(size), now

    def left(self, now: float) -> int:
        """Whole units that may be taken."""
        return max(0, math.floor(self._filled(now) + 1e-9))

    def wait(self, now: float) -> float:
        """Seconds until one unit may be taken."""
        return max(0.0, (1.0 - self._filled(now)) * _MINUTE / self.size)

    def reset(self, now: float) -> float:
        """Seconds until it is full."""
        return (self.size - self._filled(now)) * _MINUTE / self.size

    def take(self, units: int, now: float) -> None:
        self._level = self._filled(now) - units
        self._at = now

    def _filled(self, now: float) -> float:
        return min(float(self.size), self._level + max(0.0, now - self._at) * self.size / _MINUTE)


@dataclass
class Day:
    """What was spent on one day (UTC, YYYY-MM-DD)."""

    date: str
    requests: int = 0
    tokens: int = 0


class Allowance:
    """What one token used, and whether it may go on. `spent` is what it used today before this process started.

    A request is counted when it is let in. What the model read and wrote for it is known only afterwards and is counted
    then, so the last answer may go over a limit on tokens: the next ones wait until that is made up for.
    """

    def __init__(self, limits: Limits, clock: Clock, spent: Spent = Spent()) -> None:
        self.limits, self._clock = limits, clock
        now = clock.monotonic()
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        today = clock.now()
        self._ordinal = today.toordinal()
        self.day = Day(today.strftime("%F"), spent.requests, spent.tokens)
        self._unsaved: dict[str, Spent] = {}

    def admit(self, question: bool = True) -> None:
        """Count a request. What is no `question` to a model counts by the minute only. Raises BudgetSpent, RateLimited,
        and then counts nothing."""
        now = self._clock.monotonic()
        if question:
            self._within_the_day()
        for bucket, what in ((self._requests, "requests"), (self._tokens if question else None, "tokens of usage")):
            if bucket is not None and (wait := bucket.wait(now)) > 0:
                raise RateLimited(f"this token may use {bucket.size:,} {what} a minute", wait)
        if self._requests is not None:
            self._requests.take(1, now)
        if question:
            self._count(Spent(requests=1))

    def spend(self, tokens: int) -> None:
        """Count what a model read and wrote."""
        if tokens > 0:
            if self._tokens is not None:
                self._tokens.take(tokens, self._clock.monotonic())
            self._count(Spent(tokens=tokens))

    def headers(self) -> list[tuple[str, str]]:
        """OpenAI's x-ratelimit-* of what is limited by the minute."""
        now, out = self._clock.monotonic(), []
        for bucket, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            if bucket is not None:
                out += [
                    (f"x-ratelimit-limit-{what}", str(bucket.size)),
                    (f"x-ratelimit-remaining-{what}", str(bucket.left(now))),
                    (f"x-ratelimit-reset-{what}", _span(bucket.reset(now))),
                ]
        return out

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The same as ASGI has them; none where nothing is limited by the minute."""
        if self._requests is None and self._tokens is None:
            return []
        return [(name.encode(), value.encode()) for name, value in self.headers()]

    def unsaved(self) -> dict[str, Spent]:
        """What was used since this was asked last, by day. Give it back with `again` when it could not be saved."""
        out, self._unsaved = self._unsaved, {}
        return out

    def again(self, day: str, spent: Spent) -> None:
        """Have it among the unsaved again."""
        before = self._unsaved.get(day, Spent())
        self._unsaved[day] = Spent(before.requests + spent.requests, before.tokens + spent.tokens)

    def _within_the_day(self) -> None:
        today = self._today()
        for spent, most, what in (
            (today.requests, self.limits.requests_per_day, "requests"),
            (today.tokens, self.limits.tokens_per_day, "tokens of usage"),
        ):
            if most is not None and spent >= most:
                raise BudgetSpent(
                    f"this token's budget of {most:,} {what} a day is spent; the next day begins at 00:00 UTC",
                    _until_midnight(self._clock.now()),
                )

    def _count(self, spent: Spent) -> None:
        today = self._today()
        today.requests += spent.requests
        today.tokens += spent.tokens
        self.again(today.date, spent)

    def _today(self) -> Day:
        now = self._clock.now()
        if now.toordinal() != self._ordinal:
            self._ordinal, self.day = now.toordinal(), Day(now.strftime("%F"))
        return self.day


def _until_midnight(now: datetime) -> float:
    now = now.astimezone(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()


def _span(seconds: float) -> str:
    """As OpenAI writes them: 20ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < _MINUTE:
        return f"{round(seconds, 3):g}s"
    return f"{int(seconds // _MINUTE)}m{int(seconds % _MINUTE)}s"
