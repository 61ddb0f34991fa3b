"""The corpus as tables: which documents there are, what became of each, and the passages a snapshot shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelyard.errors import Damaged
from modelyard.ids import digest, digest_bytes
from modelyard.ports.index import ROWS
from modelyard.ports.records import Snapshot
from modelyard.ports.tables import Match, Tables, TableSpec
from modelyard.workloads.chatbot.limits import OFF
from modelyard.workloads.chatbot.schemas import CHUNKS, PAGES, prepare_version

READY, QUARANTINED, REMOVED, OPENED = "ready", "quarantined", "removed", "opened"
RAW_TABLE, PAGES_TABLE, CHUNKS_TABLE = "documents_raw", "pages", "chunks"
_TIME = pa.timestamp("us", tz="UTC")

DOCUMENTS = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("content", pa.binary()),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("modified", _TIME),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("pages", pa.int32(), nullable=False),
        pa.field("chunks", pa.int32(), nullable=False),
        pa.field("words", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("prepared", pa.string(), nullable=False),
        pa.field("embedder", pa.string(), nullable=False),
        pa.field("ingested_at", _TIME, nullable=False),
    ]
)
"""One row per document and digest of its bytes. At most one row of a document is not `removed`; what was replaced or
removed stays as `removed`: its bytes serve the page pictures of older releases. A file that could not be read at all
has `sha256` "" and `content` null. `prepared` (see `made_by`) and `embedder` say what made its pages and chunks. An
archive is `opened`: it has no pages and keeps no bytes, and the files in it are documents of their own below its name
(`a.zip/b/c.pdf`)."""

EMBEDDED = CHUNKS.append(pa.field("embed_key", pa.string(), nullable=False)).append(
    pa.field("embedding", pa.list_(pa.float32()), nullable=False)
)
"""Passages with their vectors. `embed_key` names the embedder and the embedded text: equal keys, equal vectors."""

_BY_OCR = "+ocr-"
_LIGHT = [name for name in DOCUMENTS.names if name != "content"]


@dataclass(frozen=True)
class Document:
    """A row of `documents_raw` without its bytes."""

    document: str
    sha256: str
    length: int
    modified: Any
    state: str
    reason: str | None
    pages: int
    chunks: int
    words: int
    title: str
    prepared: str
    embedder: str
    ingested_at: Any


@dataclass(frozen=True)
class Holdings:
    """What the tables hold, without the heavy columns. `pages` and `chunks` are (sha256, rows) by document, sha256 ""
    where rows of several digests are mixed; `keys` are columns embed_key and document of every passage."""

    history: Mapping[str, tuple[Document, ...]]
    pages: Mapping[str, tuple[str, int]]
    chunks: Mapping[str, tuple[str, int]]
    keys: pa.Table

    @property
    def current(self) -> Mapping[str, Document]:
        rows = (row for rows in self.history.values() for row in rows)
        return {row.document: row for row in rows if row.state != REMOVED}


def specs(dimension: int) -> tuple[TableSpec, ...]:
    """The chatbot's tables, for vectors of `dimension`."""
    named = {"document_is_named": "document <> ''"}
    vector = {"embedding_has_its_dimension": f"array_length(embedding) = {dimension}"}
    return (
        TableSpec(RAW_TABLE, DOCUMENTS, constraints=named),
        TableSpec(PAGES_TABLE, PAGES, feed=True, constraints=named),
        TableSpec(CHUNKS_TABLE, EMBEDDED, feed=True, constraints={**named, **vector, "text_is_there": "text <> ''"}),
    )


def embed_text(header: str, text: str) -> str:
    """What is embedded of a passage."""
    return f"{header}\n{text}"


def embed_key(embedder: str, text: str) -> str:
    """64 hex digits over the embedder's digest and the text."""
    return digest_bytes(embedder.encode(), b"\0", text.encode("utf-8", "surrogatepass"))


def documents(tables: Tables) -> list[Document]:
    """Every row of `documents_raw`, without the bytes."""
    if RAW_TABLE not in tables.names():
        return []
    return [Document(**row) for row in tables.read(RAW_TABLE, _LIGHT).to_pylist()]


def current(tables: Tables) -> dict[str, Document]:
    """The documents that are there now, ready or quarantined."""
    return {row.document: row for row in documents(tables) if row.state != REMOVED}


def holdings(tables: Tables) -> Holdings:
    """Raises NotFound where the tables were never created."""
    history: dict[str, tuple[Document, ...]] = {}
    for row in documents(tables):
        history[row.document] = (*history.get(row.document, ()), row)
    pages = tables.read(PAGES_TABLE, ["document", "sha256"])
    chunks = tables.read(CHUNKS_TABLE, ["document", "sha256", "embed_key"])
    return Holdings(history, _counted(pages), _counted(chunks), chunks.select(["embed_key", "document"]))


def _counted(rows: pa.Table) -> dict[str, tuple[str, int]]:
    counts = rows.group_by(["document", "sha256"]).aggregate([([], "count_all")]).to_pylist()
    found: dict[str, tuple[str, int]] = {}
    for row in counts:
        name = row["document"]
        found[name] = ("", 0) if name in found else (row["sha256"], row["count_all"])
    return found


def prepared(rows: Iterable[Document]) -> str:
    """How documents were prepared, for a snapshot of them: by what, and how much came of each. The same bytes give
    more passages and words once pages that are pictures can be read.

    Not told: two readings of a picture by the same languages that differ in letters alone.
    """
    came = sorted([row.document, row.chunks, row.words, *_languages(row)] for row in rows)
    return f"{prepare_version}+made-{digest(came)[:16]}"


def _languages(row: Document) -> list[str]:
    ocr = ocr_of(row.prepared)[1]
    return [] if ocr in (None, OFF) else [str(ocr)]


def made_by(ocr: str | None) -> str:
    """What `prepared` is of a document that is read today. ocr: the languages that pages of it were looked at by, "off"
    for not at all, None where OCR makes no difference to it."""
    return prepare_version if ocr is None else f"{prepare_version}{_BY_OCR}{ocr}"


def ocr_of(made: str) -> tuple[str, str | None]:
    """`prepared` of a row taken apart: what prepared it, and `ocr` as in `made_by`."""
    version, by_ocr, ocr = made.partition(_BY_OCR)
    return version, ocr if by_ocr else None


def status(tables: Tables) -> list[dict[str, Any]]:
    """[{document, state, pages, chunks, words, reason, title}], by document; what was removed is left out."""
    columns = ("document", "state", "pages", "chunks", "words", "reason", "title")
    rows = sorted(current(tables).values(), key=lambda row: row.document)
    return [{column: getattr(row, column) for column in columns} for row in rows]


def page_texts(tables: Tables, match: Match | None = None) -> Iterator[dict[str, Any]]:
    """{document, page, text, title, period, section, headings} of every page that has text, in no promised order."""
    if PAGES_TABLE in tables.names():
        columns = ["document", "page", "text", "title", "period", "section", "headings"]
        for batch in tables.scan(PAGES_TABLE, columns, match):
            yield from (row for row in batch.to_pylist() if row["text"].strip())


def visible(tables: Tables, snapshot: Snapshot, embedder: str) -> dict[str, str]:
    """The passages of exactly the documents of `snapshot`, as {row id: document}. The id of a row is its chunk's with
    what was embedded of it, so that passages embedded anew are new rows of the index.

    Raises Damaged where the tables do not hold all of them, or hold them as prepared or embedded otherwise.
    """
    wanted = dict(snapshot.entries)
    known = current(tables)
    for name, sha256 in wanted.items():
        row = known.get(name)
        made = (sha256, READY, prepare_version, embedder)
        if row is None or (row.sha256, row.state, ocr_of(row.prepared)[0], row.embedder) != made:
            raise Damaged(f"{name} is not in the tables as the snapshot has it: prepare again (`modelyard run`)")
    if prepared(known[name] for name in wanted) != snapshot.prepared:
        raise Damaged("the tables do not hold the documents as the snapshot has them: prepare again (`modelyard run`)")
    rows: dict[str, str] = {}
    counts = dict.fromkeys(wanted, 0)
    for batch in tables.scan(CHUNKS_TABLE, ["chunk_id", "document", "sha256", "embed_key"]):
        columns = (batch.column(name).to_pylist() for name in ("chunk_id", "document", "sha256", "embed_key"))
        for chunk, document, sha256, key in zip(*columns, strict=True):
            if wanted.get(document) == sha256:
                rows[row_id(chunk, key)] = document
                counts[document] += 1
    for name, count in counts.items():
        if count != known[name].chunks:
            raise Damaged(f"{name} has {count} passages, not {known[name].chunks}: prepare again (`modelyard run`)")
    return rows


def row_id(chunk_id: str, key: str) -> str:
    """The id under which an index holds a passage: other words, vectors or ways of preparing are another row."""
    return f"{chunk_id}.{digest_bytes(key.encode(), prepare_version.encode())[:16]}"


def fetcher(tables: Tables, shown: Mapping[str, str]) -> Callable[[Sequence[str]], Iterator[pa.RecordBatch]]:
    """What `Index.write` calls for the rows it has not seen: batches of ROWS."""

    def fetch(ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        wanted = pa.array(list(ids), pa.string())
        names = sorted({shown[name] for name in ids})
        # Most of the corpus is cheaper in one pass than asked for document by document.
        groups: list[Match | None] = [None]
        if len(ids) * 4 < len(shown):
            groups = [{"document": names[at : at + 256]} for at in range(0, len(names), 256)]
        for match in groups:
            for batch in tables.scan(CHUNKS_TABLE, [*ROWS.names, "embed_key"], match):
                yield from _index_rows(batch, wanted)

    return fetch


def _index_rows(batch: pa.RecordBatch, wanted: pa.Array) -> Iterator[pa.RecordBatch]:
    chunks, keys = (batch.column(name).to_pylist() for name in ("chunk_id", "embed_key"))
    ids = pa.array([row_id(chunk, key) for chunk, key in zip(chunks, keys, strict=True)], pa.string())
    rows = pa.table({**{name: batch.column(name) for name in ROWS.names}, "chunk_id": ids})
    yield from rows.filter(pc.is_in(ids, value_set=wanted)).select(ROWS.names).cast(ROWS).to_batches()
