"""The index port. Its central promise is snapshots: a search names a snapshot, and a snapshot never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROWS = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("document", pa.string()),
        ("page", pa.int32()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("kind", pa.string()),
        ("title", pa.string()),
        ("period", pa.string()),
        ("section", pa.string()),
        ("header", pa.string()),
        ("text", pa.string()),
        ("embedding", pa.list_(pa.float32())),
    ]
)
"""What an index is given of a chunk. A chunk id names one row for ever, its embedding included.

`text` is the exact slice of its page, `header` is indexed with it and never quoted, `embedding` is of unit length.
(document, page, start) orders the rows of a segment.
"""


@dataclass(frozen=True)
class Passage:
    """A stored chunk, as a search gives it back. `start` and `end` are character offsets in the text of its page."""

    chunk_id: str
    document: str
    page: int
    start: int
    end: int
    kind: str
    title: str
    period: str
    section: str
    header: str
    text: str


@dataclass(frozen=True)
class Where:
    """A filter, applied inside the index and before ranking. None lets everything through."""

    documents: frozenset[str] | None = None


@dataclass(frozen=True)
class Hit:
    """A passage and the score of the arm that found it: cosine similarity (dense) or BM25 (lexical)."""

    passage: Passage
    score: float
    row: int = field(compare=False, default=-1)


@dataclass(frozen=True)
class Written:
    """What making a snapshot searchable cost. `repaired`: parts of the store that were found damaged, and were written
    again."""

    visible: int
    added: int
    repaired: int = 0


class Searcher(Protocol):
    """One snapshot, opened for reading. Safe to call from several threads at once. Never changes."""

    snapshot: str
    capabilities: frozenset[str]

    def __len__(self) -> int:
        """Visible chunks."""
        ...

    def dense(self, vector: NDArray[np.float32], k: int, where: Where = Where()) -> Sequence[Hit]:
        """The `k` nearest by cosine, best first; ties in the order of (document, page, start). `vector` is of shape
        [dimension] and unit length. Beyond a size that the adapter states some of the nearest may be missed; `k` are
        found wherever `k` are visible. Raises RequestError for another dimension."""
        ...

    def lexical(self, text: str, k: int, where: Where = Where()) -> Sequence[Hit]:
        """The `k` best by BM25 over header and text, best first, only those with a score above 0; collection
        statistics are those of the visible rows. An adapter may limit the distinct terms of a text, and says to how
        many. Raises NotImplementedError without the capability "lexical"."""
        ...

    def page(self, document: str, page: int) -> Sequence[Passage]:
        """All visible passages of one page, in order. Empty where there is no such page."""
        ...

    def documents(self) -> Mapping[str, int]:
        """Visible documents and how many pages of each hold a visible passage."""
        ...

    def restricted(self, documents: frozenset[str]) -> Searcher:
        """The same snapshot as if it held nothing but `documents` (names it does not hold count for nothing):
        searches, statistics, pages, counts and sizes are, bit for bit, those of a snapshot of these documents alone.
        What a caller may not see is kept from them here, before anything is ranked. Costs in proportion to the
        visible chunks; keep what it gives."""
        ...

    def document_frequency(self, term: str) -> int:
        """Visible passages that hold the analysed `term` in header or text. Raises NotImplementedError without the
        capability "lexical"."""
        ...


@dataclass(frozen=True, slots=True)
class PageHit:
    """A page and its score. start: where in its text the passage begins that has this score."""

    document: str
    page: int
    score: float
    start: int


@runtime_checkable
class PageSearcher(Searcher, Protocol):
    """A searcher that ranks pages by itself, without passing every passage on, and knows how terms are spread over
    documents: the capability "pages". All lists are best first, ties in the order of (document, page)."""

    def dense_pages(self, vector: NDArray[np.float32], k: int, where: Where = Where()) -> Sequence[PageHit]:
        """The `k` pages with the nearest passages, each with the score `dense` gives its best one."""
        ...

    def lexical_pages(self, text: str, k: int, where: Where = Where()) -> Sequence[PageHit]:
        """The `k` pages with the best passages, each with the score `lexical` gives its best one; fewer where the
        best passages, at least `k`, stand on fewer pages."""
        ...

    def spread(self, term: str | None = None) -> Mapping[str, int]:
        """Visible passages of each document that hold the analysed `term`, where any does; of None, all passages."""
        ...


class Index(Protocol):
    """A store of chunks in which every snapshot stays searchable, as it was, until it is collected."""

    capabilities: frozenset[str]

    def write(
        self,
        snapshot: str,
        visible: Sequence[str],
        fetch: Callable[[Sequence[str]], Iterable[pa.RecordBatch]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Written:
        """Make `snapshot` searchable: exactly the chunks `visible` (chunk ids). Rows this store has not seen yet are
        asked for by `fetch`, in batches of schema ROWS; the cost is in proportion to these. Writing a snapshot again
        changes nothing. Interrupted, it leaves no half snapshot behind. A store that can tell mends what it finds
        damaged, from rows that it asks for again. Raises Damaged (also where `fetch` leaves
        rows out), StorageError, RequestError for the same snapshot with other chunks, or mixed dimensions."""
        ...

    def snapshots(self) -> Sequence[str]:
        """Snapshots that can be opened."""
        ...

    def open(self, snapshot: str) -> Searcher:
        """Raises NotFound for a snapshot that was never written, was collected, or was indexed by another format;
        Damaged when bytes are not what their digest says."""
        ...

    def export(self, snapshot: str, folder: Path) -> Mapping[str, str]:
        """Put what a release needs to search this snapshot under `folder` (hard links where the file system allows):
        {name relative to folder: sha-256}. For a remote store that is a small file that names the snapshot."""
        ...

    def collect(self, keep: frozenset[str]) -> None:
        """Forget every snapshot not in `keep`, and, at the latest with their segment, rows no kept snapshot shows."""
        ...
