"""Progress: long work tells how far it is, and somebody may show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, count: int = 1) -> None: ...

    def total(self, count: int) -> None:
        """The total became known, or changed."""
        ...

    def note(self, text: str) -> None:
        """What else there is to tell of how far it is: it stands in brackets behind the count."""
        ...

    def reached(self, share: float) -> None:
        """How much of all the work is done, from 0 to 1, where the count does not tell."""
        ...


class Progress(Protocol):
    """Where progress is shown. `with progress.bar("read", total=12, unit="documents") as bar: bar.advance()`."""

    def bar(self, label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Bar]: ...

    def say(self, text: str) -> None:
        """A line for people, on its own."""
        ...


class _Nothing:
    def advance(self, count: int = 1) -> None: ...

    def total(self, count: int) -> None: ...

    def note(self, text: str) -> None: ...

    def reached(self, share: float) -> None: ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def _bar(self) -> Iterator[Bar]:
        yield _Nothing()

    def bar(self, label: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Bar]:
        return self._bar()

    def say(self, text: str) -> None: ...
