"""Progress for people, on stderr: bars at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_EVERY = 10.0


class Bars:
    """Shows bars with rate and time left where stderr is a terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._rich: Progress | None = None
        self._open = 0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def bar(self, label: str, total: int | None = None, unit: str = "") -> _Rich | _Plain:
        if not sys.stderr.isatty():
            return _Plain(self, label, total, unit)
        return _Rich(self, label, total, unit)

    def started(self) -> Progress:
        if self._rich is None:
            self._rich = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._rich.start()
        self._open += 1
        return self._rich

    def ended(self) -> None:
        self._open -= 1
        if self._open == 0 and self._rich is not None:
            self._rich.stop()
            self._rich = None


class _Rich:
    def __init__(self, bars: Bars, label: str, total: int | None, unit: str) -> None:
        self._bars, self._label, self._total, self._unit = bars, label, total, unit
        self._start, self._done = 0.0, 0
        self._task = TaskID(0)

    def __enter__(self) -> _Rich:
        self._start = time.monotonic()
        self._rich = self._bars.started()
        self._task = self._rich.add_task(self._label, total=self._total, rate="", note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._rich.remove_task(self._task)
        self._bars.ended()
        if kind is None and self._done:
            self._bars.say(_line(self._label, self._done, self._unit, time.monotonic() - self._start))

    def advance(self, count: int = 1) -> None:
        self._done += count
        seconds = time.monotonic() - self._start
        rate = f"{self._done / seconds:,.1f} {self._unit}/s" if seconds > 0.5 and self._unit else ""
        self._rich.update(self._task, advance=count, rate=rate)

    def total(self, count: int) -> None:
        self._rich.update(self._task, total=count)

    def note(self, text: str) -> None:
        self._rich.update(self._task, note=text[:40])


class _Plain:
    def __init__(self, bars: Bars, label: str, total: int | None, unit: str) -> None:
        self._bars, self._label, self._total, self._unit = bars, label, total, unit
        self._done, self._start, self._said = 0, 0.0, 0.0

    def __enter__(self) -> _Plain:
        self._start = self._said = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and self._done:
            self._bars.say(_line(self._label, self._done, self._unit, time.monotonic() - self._start))

    def advance(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said >= _EVERY:
            self._said = now
            of = f" of {self._total:,}" if self._total else ""
            self._bars.say(f"{self._label}: {self._done:,}{of} {self._unit}, {now - self._start:.0f} s")

    def total(self, count: int) -> None:
        self._total = count

    def note(self, text: str) -> None: ...


def _line(label: str, done: int, unit: str, seconds: float) -> str:
    return f"{label}: {done:,} {unit} in {seconds:.1f} s"
