"""Progress for people, on stderr: bars at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from modelyard.clock import Clock, SystemClock

_EVERY = 10.0
"""Seconds between two lines where nobody watches."""
_TELLING = 0.5
"""Seconds before a rate says anything."""


class Bars:
    """Shows bars with rate and time left where stderr is a terminal."""

    def __init__(self, quiet: bool = False, clock: Clock | None = None) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self.clock: Clock = clock or SystemClock()
        self._rich: Progress | None = None
        self._open: list[_Bar] = []
        self._said = 0.0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def bar(self, label: str, total: int | None = None, unit: str = "") -> _Bar:
        return _Bar(self, Count(label, unit, total))

    def opened(self, bar: _Bar) -> Progress | None:
        """What shows the bar; None where nobody watches."""
        if not self._open:
            self._said = self.clock.monotonic()
            self._rich = self._started() if sys.stderr.isatty() else None
        self._open.append(bar)
        return self._rich

    def closed(self, bar: _Bar) -> None:
        self._open.remove(bar)
        if not self._open and self._rich is not None:
            self._rich.stop()
            self._rich = None

    def moved(self) -> None:
        """Something went on. Of bars within bars the outermost alone gets lines."""
        now = self.clock.monotonic()
        if self._rich is None and now - self._said >= _EVERY:
            self._said = now
            self.say(self._open[0].count.line(now))

    def _started(self) -> Progress:
        rich = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            _Said(self.clock),
            console=self._console,
            transient=True,
        )
        rich.start()
        return rich


@dataclass
class Count:
    """How far a piece of work is. share: of all of it what is done, from 0 to 1, where the count does not tell.
    at: when that was so, start: when it began, in seconds of the clock."""

    label: str
    unit: str = ""
    total: int | None = None
    done: int = 0
    note: str = ""
    share: float | None = None
    start: float = 0.0
    at: float = 0.0

    def left(self, now: float) -> float | None:
        """Seconds left, if it goes on as it went so far; None where that cannot be told."""
        share = self.share if self.share is not None else self.done / self.total if self.total else 0.0
        spent = self.at - self.start
        if not 0.0 < share < 1.0 or spent < _TELLING:
            return None
        return max(0.0, spent * (1.0 - share) / share - (now - self.at))

    def line(self, now: float) -> str:
        """`read: 1,234 pages (12 of 100 documents), 85/s, 3 min left`"""
        left = self.left(now)
        rate = self._rate(now)
        told = (f"{self.label}: {self.count()}", f"{rate}" if rate else "", f"{lasting(left)} left" if left else "")
        return ", ".join(filter(None, told))

    def summary(self, now: float) -> str:
        """`read: 1,234 pages (100 of 100 documents) in 14.2 s`"""
        noted = f" ({self.note})" if self.note else ""
        return f"{self.label}: {self.done:,} {self.unit}{noted} in {now - self.start:.1f} s"

    def count(self) -> str:
        """`12 of 40 cases`"""
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.done:,}{of} {self.unit}{f' ({self.note})' if self.note else ''}"

    def _rate(self, now: float) -> str:
        seconds = now - self.start
        if not self.done or seconds < _TELLING:
            return ""
        rate = self.done / seconds
        return f"{rate:,.{0 if rate >= 10 else 1}f}/s"


class _Bar:
    """One piece of work under way; a context manager."""

    def __init__(self, bars: Bars, count: Count) -> None:
        self._bars, self.count = bars, count
        self._rich: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> _Bar:
        self.count.start = self.count.at = self._bars.clock.monotonic()
        self._rich = self._bars.opened(self)
        if self._rich is not None:
            self._task = self._rich.add_task(self.count.label, total=self.count.total, count=self.count)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._rich is not None:
            self._rich.remove_task(self._task)
        self._bars.closed(self)
        if kind is None and (self.count.done or self.count.note):
            self._bars.say(self.count.summary(self._bars.clock.monotonic()))

    def advance(self, count: int = 1) -> None:
        self.count.done += count
        if self.count.share is None:
            self.count.at = self._bars.clock.monotonic()
        self._moved()

    def total(self, count: int) -> None:
        self.count.total = count
        self._moved()

    def note(self, text: str) -> None:
        self.count.note = text
        self._moved()

    def reached(self, share: float) -> None:
        self.count.share, self.count.at = share, self._bars.clock.monotonic()
        self._moved()

    def _moved(self) -> None:
        if self._rich is None:
            self._bars.moved()
        elif self.count.share is not None:
            self._rich.update(self._task, total=1.0, completed=self.count.share)
        else:
            self._rich.update(self._task, total=self.count.total, completed=self.count.done)


class _Said(ProgressColumn):
    """The line of a bar, after its label."""

    max_refresh = 0.2

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        count: Count = task.fields["count"]
        said = count.line(self._clock.monotonic()).removeprefix(f"{count.label}: ")
        return Text(said, no_wrap=True, overflow="ellipsis")


def lasting(seconds: float) -> str:
    """
    >>> [lasting(seconds) for seconds in (0.2, 75, 200, 4_000)]
    ['1 s', '75 s', '4 min', '1 h 7 min']
    """
    whole = max(1, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = -(-whole // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
