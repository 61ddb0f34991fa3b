"""How far an ingest is: pages, documents, and the share of all bytes, by which the time left is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelyard.ports.progress import Bar


class Tally:
    """Counts onto a bar of pages. sizes: {document: bytes} of what is to be read. What is to be read of an archive is
    found when it is opened, and comes to it."""

    def __init__(self, bar: Bar, sizes: Mapping[str, int]) -> None:
        self._bar, self._left = bar, dict(sizes)
        self._documents, self._of = 0, len(sizes)
        self._bytes, self._of_bytes = 0, sum(sizes.values())
        if sizes:
            self.done(())

    def found(self, document: str, size: int) -> None:
        """A document to be read besides: it is in an archive."""
        self._left[document] = size
        self._of += 1
        self._of_bytes += size

    def pages(self, count: int) -> None:
        """Pages that are read, and not yet in the tables."""
        self._bar.advance(count)

    def done(self, documents: Iterable[str]) -> None:
        """These are in the tables, or need not be."""
        for name in documents:
            size = self._left.pop(name, None)
            if size is not None:
                self._documents += 1
                self._bytes += size
        self._bar.note(f"{self._documents:,} of {self._of:,} documents")
        if self._bytes:
            self._bar.reached(self._bytes / self._of_bytes)
