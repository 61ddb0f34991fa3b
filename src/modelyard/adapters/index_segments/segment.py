"""A segment: rows ordered by (document, page, start), their packed vectors and their postings, written once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard import ids
from modelyard.adapters.index_segments import disk, postings, vectors
from modelyard.adapters.index_segments.postings import Postings
from modelyard.calc.text import ANALYSER, analyse
from modelyard.errors import Damaged, NotFound, RequestError
from modelyard.ports.index import ROWS, Passage

FORMAT = 1
_ORDER = [("document", "ascending"), ("page", "ascending"), ("start", "ascending"), ("chunk_id", "ascending")]
_REPEATED = ("document", "kind", "title", "period", "section", "header")  # stored once, and by number in each row
_FIELDS = pa.schema([f for f in ROWS if f.name != "embedding"]).set(10, pa.field("text", pa.large_string()))
_FILES = ("rows.arrow", "vectors.bin", "postings.bin")


@dataclass(frozen=True)
class Part:
    """Rows in memory on their way into a segment: plain columns, packed vectors [n, d], inverse lengths, postings."""

    table: pa.Table
    packed: NDArray[np.int8]
    inverse: NDArray[np.float32]
    postings: Postings
    keep: NDArray[np.bool_]


class Segment:
    """An opened segment, mapped into memory."""

    def __init__(self, folder: Path, *, verify: bool = False) -> None:
        """Raises Damaged when a file is missing, of another size, or (`verify`) of another digest; NotFound when it
        was written by other rules than this version of modelyard follows."""
        self.folder = folder
        self.digest = folder.name
        try:
            head = disk.read_json(folder / "segment.json", self.digest)
        except FileNotFoundError as error:
            raise Damaged(f"{folder / 'segment.json'}: is missing") from error
        if head["format"] != FORMAT:
            raise NotFound(f"{folder}: index format {head['format']}, this version reads {FORMAT}; build again")
        self.analyser: str = head["analyser"]
        self.dimension: int = head["dimension"]
        self.size: int = head["rows"]
        self.bytes: int = sum(entry["bytes"] for entry in head["files"].values())
        self._files = head["files"]
        if verify:
            for name in _FILES:
                disk.verify(folder / name, self._files[name])
        self.rows = disk.read_batch(folder / "rows.arrow", self._files["rows.arrow"])
        arrays = disk.read_arrays(folder / "vectors.bin", self._files["vectors.bin"])
        self.packed: NDArray[np.int8] = arrays["packed"]
        self.inverse: NDArray[np.float32] = arrays["inverse"]
        self._signs: NDArray[np.uint64] | None = arrays.get("signs")
        self.postings = Postings.of(disk.read_arrays(folder / "postings.bin", self._files["postings.bin"]))

    def __len__(self) -> int:
        return self.size

    @cached_property
    def documents(self) -> list[str]:
        """Its documents, in order: the number in `document_of` is a place in this list."""
        names: list[str] = self.rows.column("document").dictionary.to_pylist()
        return names

    @cached_property
    def document_of(self) -> NDArray[np.int32]:
        """The document of each row [n], as a number that never falls from one row to the next."""
        return _integers(self.rows.column("document").indices)

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """The first row of each document, and after the last the number of rows: a document's rows lie together."""
        return np.searchsorted(self.document_of, np.arange(len(self.documents) + 1, dtype=np.int32))

    @cached_property
    def pages(self) -> NDArray[np.int32]:
        """The page of each row [n]."""
        return _integers(self.rows.column("page"))

    @cached_property
    def signs(self) -> NDArray[np.uint64]:
        """Signs of the vectors, see `vectors.signs`; taken now where an older version wrote the segment without."""
        return vectors.signs(self.packed) if self._signs is None else self._signs

    @cached_property
    def starts(self) -> NDArray[np.int32]:
        """Where the passage of each row [n] begins in the text of its page."""
        return _integers(self.rows.column("start"))

    @property
    def chunk_ids(self) -> pa.Array:
        return self.rows.column("chunk_id")

    @cached_property
    def _columns(self) -> list[Callable[[int], Any]]:
        return [_reader(self.rows.column(name)) for name in Passage.__dataclass_fields__]

    def passage(self, row: int) -> Passage:
        """The passage in a row."""
        return Passage(*[column(row) for column in self._columns])

    def part(self, keep: NDArray[np.bool_]) -> Part:
        """The rows of `keep` [n], for another segment; analysed anew where other rules made the postings."""
        table = pa.Table.from_batches([self.rows]).cast(_FIELDS)
        held = self.postings if self.analyser == ANALYSER else _analysed(table)
        return Part(table, self.packed, self.inverse, held, keep)

    def files(self) -> dict[str, str]:
        """{file name: sha-256} of all its files."""
        return {"segment.json": self.digest} | {name: self._files[name]["sha256"] for name in _FILES}


def _reader(column: pa.Array) -> Callable[[int], Any]:
    """What gives the value of a row. Ten times faster than through Arrow's scalars: a search reads many rows."""
    if pa.types.is_dictionary(column.type):
        numbers, word = _integers(column.indices).data, lru_cache(maxsize=1 << 12)(_reader(column.dictionary))
        return lambda row: word(numbers[row])
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return _integers(column).data.__getitem__
    _, bounds, text = column.buffers()
    wide = np.int64 if pa.types.is_large_string(column.type) else np.int32
    ends = (np.frombuffer(bounds, wide)[column.offset :] if bounds else np.zeros(1, wide)).data
    data = memoryview(text) if text else memoryview(b"")
    return lambda row: str(data[ends[row] : ends[row + 1]], "utf-8")


def _integers(array: pa.Array) -> NDArray[np.int32]:
    """The int32 values of `array`, which has no nulls, without a copy. (Arrow's own way to NumPy imports pandas.)"""
    values = np.frombuffer(array.buffers()[1], np.int32)
    return values[array.offset : array.offset + len(array)]


def fresh(table: pa.Table, packed: NDArray[np.int8], inverse: NDArray[np.float32]) -> Part:
    """New rows, analysed: header and text are what a lexical search finds."""
    return Part(table, packed, inverse, _analysed(table), np.ones(len(table), np.bool_))


def received(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, NDArray[np.int8], NDArray[np.float32]]:
    """A batch of schema ROWS as columns to store, packed vectors and their inverse lengths.

    Raises RequestError for missing columns, missing values, embeddings of differing lengths or not finite.
    """
    lacking = [name for name in ROWS.names if name not in batch.schema.names]
    if lacking:
        raise RequestError(f"rows for the index lack the column {lacking[0]!r}")
    columns = []
    for field in _FIELDS:
        column = batch.column(field.name).cast(field.type)
        if column.null_count:
            if field.name in ("chunk_id", "document") or not pa.types.is_string(field.type):
                raise RequestError(f"a row for the index has no {field.name}")
            column = column.fill_null("")
        columns.append(column)
    rows = pa.RecordBatch.from_arrays(columns, schema=_FIELDS)
    return (rows, *vectors.pack(_embeddings(batch.column("embedding"), len(rows))))


def _embeddings(column: pa.Array, rows: int) -> NDArray[np.float32]:
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    sizes = np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    if rows and (column.null_count or len(sizes) != 1 or not sizes[0] > 0):
        raise RequestError("rows for the index have embeddings that are missing or of different dimensions")
    if not np.isfinite(flat).all():
        raise RequestError("rows for the index have embeddings with values that are not numbers")
    return flat.reshape(rows, -1) if rows else np.empty((0, 0), np.float32)


def _analysed(table: pa.Table) -> Postings:
    return postings.count(
        analyse(header) + analyse(text)
        for batch in table.select(["header", "text"]).to_batches(max_chunksize=1024)
        for header, text in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )


def write(parts: Sequence[Part], root: Path) -> str:
    """Put the kept rows of all parts into one segment and publish it under `root`/segments; returns its digest.

    The same rows give the same bytes and so the same digest, in whatever parts they come. All parts are of the same
    dimension. Raises OSError.
    """
    order, places = _order(parts)
    dimension = parts[0].packed.shape[1]
    packed, inverse = np.empty((len(order), dimension), np.int8), np.empty(len(order), np.float32)
    for part, goes in zip(parts, places, strict=True):
        packed[goes[part.keep]] = part.packed[part.keep]
        inverse[goes[part.keep]] = part.inverse[part.keep]
    with disk.partial(root) as folder:
        # One file after the other, so that what the first needed is free again for the next.
        files = {
            "vectors.bin": disk.write_arrays(
                folder / "vectors.bin", {"packed": packed, "inverse": inverse, "signs": vectors.signs(packed)}
            ),
            "rows.arrow": disk.write_batch(folder / "rows.arrow", _batch(parts, order)),
        }
        del packed, inverse
        merged = postings.merge([(part.postings, goes) for part, goes in zip(parts, places, strict=True)], len(order))
        files["postings.bin"] = disk.write_arrays(folder / "postings.bin", merged.arrays())
        head: dict[str, Any] = {"format": FORMAT, "analyser": ANALYSER, "rows": len(order), "dimension": dimension}
        data = ids.canonical(head | {"files": files})
        digest = ids.digest_bytes(data)
        disk.write_bytes(folder / "segment.json", data)
        disk.publish(folder, root / "segments" / digest)
    return digest


def _order(parts: Sequence[Part]) -> tuple[pa.Array, list[NDArray[np.int64]]]:
    """The order of the kept rows (as places in all of them, part after part), and where each part's rows go [n]
    (-1: left out)."""
    keys = pa.table({name: _kept(parts, name) for name, _ in _ORDER})
    order = pc.sort_indices(keys, sort_keys=_ORDER)
    place = np.empty(len(order), np.int64)
    place[order.to_numpy()] = np.arange(len(order))
    places, done = [], 0
    for part in parts:
        goes = np.full(len(part.keep), -1, np.int64)
        kept = int(part.keep.sum())
        goes[part.keep] = place[done : done + kept]
        places.append(goes)
        done += kept
    return order, places


def _batch(parts: Sequence[Part], order: pa.Array) -> pa.RecordBatch:
    """The rows as they are stored: what repeats is stored once, numbered as it first appears."""
    columns = []
    for name in _FIELDS.names:
        column = pa.concat_arrays(_kept(parts, name).take(order).chunks)
        columns.append(column.dictionary_encode() if name in _REPEATED else column)
    return pa.RecordBatch.from_arrays(columns, names=_FIELDS.names)


def _kept(parts: Sequence[Part], name: str) -> pa.ChunkedArray:
    """One column of all parts, kept rows only."""
    columns = [p.table.column(name) if p.keep.all() else p.table.column(name).filter(pa.array(p.keep)) for p in parts]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], _FIELDS.field(name).type)
