"""The order of writes, and what a document becomes in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.ports.workload import Context
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot.chunk import chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.corpus import (
    CHUNKS_TABLE,
    OPENED,
    PAGES_TABLE,
    QUARANTINED,
    RAW_TABLE,
    READY,
    REMOVED,
)
from modelyard.workloads.chatbot.schemas import CHUNKS, PAGES
from modelyard.workloads.chatbot.vectors import Vectors

T = TypeVar("T")
_AT_ONCE = 32
_NO_PAGES, _NO_CHUNKS = pa.Table.from_batches([], PAGES), pa.Table.from_batches([], CHUNKS)


@dataclass
class Piece:
    """A document on its way: its bytes, and the row that will be written of it."""

    document: str
    sha256: str
    content: bytes | None
    modified_ns: int | None
    reason: str | None = None
    passing: bool = False
    """The reason may be gone next time: the file is tried again by every ingest."""
    pages: list[pa.Table] = field(default_factory=list)
    opened: bool = False
    """It is an archive, and the files in it are documents of their own."""
    size: int = 0
    """Bytes of a file that are not kept."""

    def give_up(self, reason: str) -> None:
        """The file cannot be read just now."""
        self.reason, self.passing = reason, True


class Writer:
    """The order of writes, and what a portion becomes."""

    def __init__(self, ctx: Context, held: corpus.Holdings, embedder: str, refused: str) -> None:
        self._ctx, self._tables = ctx, ctx.ports.tables
        self._embedder, self._refused = embedder, refused
        self._history = dict(held.history)
        # Documents that have, or may have, rows to replace; all others are only added.
        self._touched = {*held.pages, *held.chunks}

    def write(self, portion: list[Piece], vectors: Vectors) -> None:
        """Parse results to chunks, vectors and rows; committed when this returns."""
        pages = _readable(portion)
        # Word boxes are most of a page's bytes and no chunk needs them: they need not travel. One batch, as readers are
        # still at work on what comes next, and chunking is not worth more processes beside them.
        texts = with_heads(pages.drop_columns(["words"]).combine_chunks().to_batches())
        chunks = _table(self._ctx.ports.engine.run(chunk_pages, texts), CHUNKS)
        chunked = set(chunks.column("document").to_pylist())
        for piece in portion:
            if piece.reason is None and piece.document not in chunked:
                piece.reason = "no text was found in it"
        pages = pages.filter(pc.is_in(pages.column("document"), value_set=pa.array(sorted(chunked), pa.string())))
        keys, embedded = vectors.of(chunks)
        names = [piece.document for piece in portion]
        self._put(PAGES_TABLE, pages, names)
        self._put(CHUNKS_TABLE, _with_vectors(chunks, keys, embedded), names)
        self._record([self._row(piece, pages, chunks) for piece in portion])
        vectors.remember(pa.array(keys, pa.string()), chunks.column("document"))
        self._touched.update(names)

    def opened(self, pieces: Sequence[Piece]) -> None:
        """Archives whose files are all written: nothing of them is kept but what they were."""
        for some in _batched(pieces):
            self._ctx.check()
            self._record([self._row(piece, _NO_PAGES, _NO_CHUNKS) for piece in some])
            self.sweep([piece.document for piece in some])

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Files that cannot be read: nothing of them is left in the corpus but the reason."""
        self.opened([Piece(name, "", None, None, reason, passing=True) for name, reason in reasons.items()])

    def drop(self, names: Sequence[str]) -> None:
        """Documents that are gone: their rows stay as removed, their pages and chunks do not."""
        for some in _batched(names):
            self._ctx.check()
            self._record([], some)
            self.sweep(some)

    def sweep(self, names: Sequence[str]) -> None:
        """Delete pages and chunks of these documents."""
        there = [name for name in names if name in self._touched]
        for table in (PAGES_TABLE, CHUNKS_TABLE) if there else ():
            self._tables.delete(table, {"document": there})

    def _put(self, table: str, rows: pa.Table, names: list[str]) -> None:
        if self._touched.isdisjoint(names):
            if rows.num_rows:
                self._tables.append(table, rows)
        else:
            self._tables.replace(table, rows, {"document": names})

    def _record(self, rows: list[dict[str, Any]], leaving: Sequence[str] = ()) -> None:
        """Rows of `documents_raw`, one commit: what they replace, and documents that leave, become `removed`."""
        names = [row["document"] for row in rows]
        before = [row for name in (*names, *leaving) for row in self._history.get(name, ())]
        if before:
            # Bytes are large: only the rows that change are read and written again.
            keys = {(row["document"], row["sha256"]): row for row in rows}
            moved = [r for r in before if r.state != REMOVED or (r.document, r.sha256) in keys]
            hashes = {row["sha256"] for row in rows} | {row.sha256 for row in moved}
            match = {"document": sorted({*names, *leaving}), "sha256": sorted(hashes)}
            old = self._tables.read(RAW_TABLE, corpus.DOCUMENTS.names, match).to_pylist()
            for row in old:
                new = keys.get((row["document"], row["sha256"]))
                # Bytes that are there are kept, even when the file cannot be read again.
                if new is not None and new["content"] is None:
                    new["content"] = row["content"]
            left = [row for row in old if (row["document"], row["sha256"]) not in keys and row["content"] is not None]
            stay = [{**row, "state": REMOVED} for row in left]
            self._tables.replace(RAW_TABLE, pa.Table.from_pylist([*stay, *rows], schema=corpus.DOCUMENTS), match)
        elif rows:
            self._tables.append(RAW_TABLE, pa.Table.from_pylist(rows, schema=corpus.DOCUMENTS))
        self._remember(rows, [*names, *leaving])

    def _remember(self, rows: list[dict[str, Any]], names: list[str]) -> None:
        fresh = {row["document"]: corpus.Document(**{k: v for k, v in row.items() if k != "content"}) for row in rows}
        for name in names:
            new = [fresh[name]] if name in fresh else []
            hashes = {row.sha256 for row in new}
            old = [replace(row, state=REMOVED) for row in self._history.get(name, ()) if row.sha256 not in hashes]
            self._history[name] = (*old, *new)

    def _row(self, piece: Piece, pages: pa.Table, chunks: pa.Table) -> dict[str, Any]:
        own = pages.filter(pc.equal(pages.column("document"), piece.document))
        texts = own.column("text").to_pylist()
        modified = piece.modified_ns
        state = QUARANTINED if piece.reason is not None else OPENED if piece.opened else READY
        looked = next(filter(None, own.column("ocr").to_pylist()), None)
        made = {
            READY: corpus.made_by(looked),
            OPENED: self._refused,
            QUARANTINED: "" if piece.passing else self._refused,
        }
        return {
            "document": piece.document,
            "sha256": piece.sha256,
            "content": piece.content,
            "length": len(piece.content or b"") or piece.size,
            "modified": None if modified is None else datetime.fromtimestamp(modified / 1e9, UTC),
            "state": state,
            "reason": piece.reason or _gaps(own),
            "pages": own.num_rows,
            "chunks": pc.sum(pc.equal(chunks.column("document"), piece.document)).as_py() or 0,
            "words": sum(len(text.split()) for text in texts),
            "title": own.column("title")[0].as_py() if own.num_rows else "",
            "prepared": made[state],
            "embedder": self._embedder if state == READY else "",
            "ingested_at": self._ctx.clock.now(),
        }


def _batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(items), _AT_ONCE):
        yield items[at : at + _AT_ONCE]


def _table(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([batch.select(schema.names).cast(schema) for batch in batches], schema)


def _readable(portion: list[Piece]) -> pa.Table:
    """The pages of a portion; documents that could not be read get their reason."""
    tables = [_NO_PAGES]
    for piece in portion:
        rows = pa.concat_tables(piece.pages) if piece.pages else None
        piece.pages = []
        if rows is None:
            piece.reason = piece.reason or "the parser gave no page of it"
        elif rows.column("page")[0].as_py() == 0:
            piece.reason = rows.column("reason")[0].as_py() or "it cannot be read"
        else:
            tables.append(rows.select(PAGES.names).cast(PAGES))
    return pa.concat_tables(tables)


def _gaps(pages: pa.Table) -> str | None:
    """What a document that was read is missing."""
    bad = [(row["page"], row["reason"]) for row in pages.select(["page", "reason"]).to_pylist() if row["reason"]]
    if not bad:
        return None
    page, reason = bad[0]
    more = f" (and {len(bad) - 1} more pages)" if len(bad) > 1 else ""
    return f"page {page} of {pages.num_rows} could not be read: {reason}{more}"


def _with_vectors(chunks: pa.Table, keys: list[str], vectors: NDArray[np.float32]) -> pa.Table:
    offsets = pa.array(np.arange(len(keys) + 1, dtype=np.int32) * np.int32(vectors.shape[1]))
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1), pa.float32()))
    columns = {name: chunks.column(name) for name in CHUNKS.names}
    return pa.table({**columns, "embed_key": pa.array(keys, pa.string()), "embedding": lists}, schema=corpus.EMBEDDED)
