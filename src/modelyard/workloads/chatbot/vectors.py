"""Vectors of passages: the embedder is asked only for texts that no row of the table has yet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.ports.embedder import Embedder
from modelyard.ports.progress import Bar
from modelyard.ports.tables import Tables
from modelyard.ports.workload import Context
from modelyard.workloads.chatbot.corpus import CHUNKS_TABLE, embed_key, embed_text

_ASKED_AT_ONCE = 1_000
_KNOWN = pa.schema([("embed_key", pa.string()), ("document", pa.string())])


class Vectors:
    """Vectors by what they are of: those in the table are never computed again."""

    def __init__(self, tables: Tables, embedder: Embedder, keys: pa.Table, bar: Bar, ctx: Context) -> None:
        self._tables, self._embedder, self._bar, self._ctx = tables, embedder, bar, ctx
        # A hint of where to look, never a promise: the rows may be gone by then.
        self._known = pa.Table.from_batches([], _KNOWN)
        self.remember(keys.column("embed_key"), keys.column("document"))

    def of(self, chunks: pa.Table) -> tuple[list[str], NDArray[np.float32]]:
        """(embed keys, vectors [n, dimension]) of rows of CHUNKS."""
        pairs = zip(chunks.column("header").to_pylist(), chunks.column("text").to_pylist(), strict=True)
        texts = [embed_text(header, text) for header, text in pairs]
        keys = [embed_key(self._embedder.digest, text) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        found = self._stored(list(by_key))
        missing = [key for key in by_key if key not in found]
        # What reading the pages took is given back before the embedder takes its own.
        pa.default_memory_pool().release_unused()
        fresh = self._embedder.embed([by_key[key] for key in missing], progress=self._progress())
        found.update(zip(missing, fresh, strict=True))
        vectors = np.stack([found[key] for key in keys]) if keys else np.empty((0, self._embedder.dimension), "f4")
        return keys, vectors.astype(np.float32, copy=False)

    def remember(self, keys: pa.Array | pa.ChunkedArray, documents: pa.ChunkedArray) -> None:
        """These are in the table now."""
        new = pa.table({"embed_key": keys, "document": documents}).cast(_KNOWN)
        self._known = pa.concat_tables([self._known, new])

    def _stored(self, keys: list[str]) -> dict[str, NDArray[np.float32]]:
        here = self._known.filter(pc.is_in(self._known.column("embed_key"), value_set=pa.array(keys, pa.string())))
        found: dict[str, NDArray[np.float32]] = {}
        known = sorted(set(here.column("embed_key").to_pylist()))
        names = sorted(set(here.column("document").to_pylist()))
        for at in range(0, len(known), _ASKED_AT_ONCE):
            match = {"embed_key": known[at : at + _ASKED_AT_ONCE], "document": names}
            rows = self._tables.read(CHUNKS_TABLE, ["embed_key", "embedding"], match)
            stored = zip(rows.column("embed_key").to_pylist(), rows.column("embedding"), strict=True)
            found.update((key, vector.values.to_numpy(zero_copy_only=False)) for key, vector in stored)
        return found

    def _progress(self) -> Callable[[int], None]:
        shown = 0

        def progress(done: int) -> None:
            nonlocal shown
            self._ctx.check()
            self._bar.advance(done - shown)
            shown = done

        return progress
