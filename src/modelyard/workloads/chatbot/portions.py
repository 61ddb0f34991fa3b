"""Documents with their pages, in portions: few enough for memory, and for what a run that is killed may lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from modelyard.ports.workload import Context
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.schemas import SOURCES
from modelyard.workloads.chatbot.tally import Tally
from modelyard.workloads.chatbot.writer import Piece

PORTION_PAGES = 400
PORTION_SECONDS = 10.0
"""What a portion may take to be read, embedded and written: so much a run loses that is killed. It is looked at between
documents. The commits of a portion take some tenth of a second."""
FIRST_GUESS = 0.05
"""Seconds that a page takes to be embedded and written, before the first portion has told."""


class Portions:
    """Reads documents, and cuts portions where a document ends. How long one takes to be written is measured on those
    before: it is known to be over when the next is asked for."""

    def __init__(self, ctx: Context, limits: Limits, tally: Tally) -> None:
        self._ctx, self._stage, self._tally = ctx, partial(read_documents, limits=limits), tally
        self._page_seconds = FIRST_GUESS

    def of(self, groups: Iterable[list[Piece]]) -> Iterator[list[Piece]]:
        """The documents of each group, which have their bytes: with their pages, or the reason why there are none."""
        for group in groups:
            yield from self._of(group)

    def _of(self, group: list[Piece]) -> Iterator[list[Piece]]:
        readable = [piece for piece in group if piece.reason is None]
        by_name = {piece.document: piece for piece in readable}
        portion = [piece for piece in group if piece.reason is not None]
        clock = self._ctx.clock
        pages, last, began = 0, None, clock.monotonic()
        silent = {piece.document for piece in readable}
        for rows in _runs(self._ctx.ports.engine.run(self._stage, (_source(piece) for piece in readable))):
            piece = by_name[rows.column("document")[0].as_py()]
            if piece is not last and pages and self._full(pages, clock.monotonic() - began):
                yield from self._given(portion, pages)
                portion, pages, began = [], 0, clock.monotonic()
            if piece is not last:
                portion.append(piece)
                silent.discard(piece.document)
            last = piece
            piece.pages.append(rows)
            pages += rows.num_rows
            self._tally.pages(pc.sum(pc.greater(rows.column("page"), 0)).as_py())
        yield from self._given([*portion, *(by_name[name] for name in sorted(silent))], pages)

    def _full(self, pages: int, seconds: float) -> bool:
        return pages >= PORTION_PAGES or seconds + pages * self._page_seconds >= PORTION_SECONDS

    def _given(self, portion: list[Piece], pages: int) -> Iterator[list[Piece]]:
        self._ctx.check()
        began = self._ctx.clock.monotonic()
        yield portion
        self._tally.done(piece.document for piece in portion)
        if pages:
            self._page_seconds = (self._ctx.clock.monotonic() - began) / pages


def _source(piece: Piece) -> pa.RecordBatch:
    row = {"document": piece.document, "sha256": piece.sha256, "content": piece.content}
    return pa.RecordBatch.from_pylist([row], schema=SOURCES)


def _runs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches cut where the document changes."""
    for batch in batches:
        names = batch.column("document").to_pylist()
        start = 0
        for at in range(1, len(names) + 1):
            if at == len(names) or names[at] != names[start]:
                yield pa.Table.from_batches([batch.slice(start, at - start)])
                start = at
