"""One file to rows of pages: what runs in the sandbox's child."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading import furniture, naming, outline, quality
from modelyard.workloads.chatbot.reading.compose import Composed, compose, vocabulary
from modelyard.workloads.chatbot.reading.grid import align
from modelyard.workloads.chatbot.reading.layout import Line, lines_of
from modelyard.workloads.chatbot.reading.pdf import Page, open_pdf
from modelyard.workloads.chatbot.reading.text import Section, read_sections
from modelyard.workloads.chatbot.schemas import HEADING, PAGES, WORD

BATCH_PAGES = 64


@dataclass(slots=True)
class Row:
    """One page on its way to a row."""

    page: int
    content: Composed = field(default_factory=Composed)
    width: float = 0.0
    height: float = 0.0
    section: str = ""
    paths: list[str] = field(default_factory=list)
    quality: float = 1.0
    reason: str | None = None


def parse(
    content: bytes,
    *,
    document: str,
    sha256: str,
    skip: Mapping[str, str],
    limits: Limits,
    progress: Callable[[int], None],
) -> Iterator[bytes]:
    """The rows of one file as Arrow streams.

    skip: pages (as text) that are known to bring the parser down, with the reason. Raises Unreadable with the reason
    where the whole document cannot be read.
    """
    if PurePosixPath(document).suffix.lower() == ".pdf":
        title, period, rows = _pdf(content, document, skip, limits, progress)
    else:
        title, period, rows = _text(content, document, limits)
    for at in range(0, len(rows), BATCH_PAGES):
        yield _stream(rows[at : at + BATCH_PAGES], document, sha256, title, period)


def _pdf(
    content: bytes, document: str, skip: Mapping[str, str], limits: Limits, progress: Callable[[int], None]
) -> tuple[str, str, list[Row]]:
    pdf = open_pdf(content, limits)
    rows: list[Row] = []
    pages: list[list[Line]] = []
    total = 0
    for index in range(len(pdf)):
        progress(index + 1)
        row = Row(index + 1, reason=skip.get(str(index + 1)))
        lines: list[Line] = []
        if row.reason is None:
            try:
                page = Page(pdf, index)
                try:
                    row.width, row.height = page.width, page.height
                    lines = align(lines_of(page.words(limits)))
                    outline.mark_bold(lines, page.bold)
                    if not lines:
                        row.reason = _why_empty(page)
                finally:
                    page.close()
            except Unreadable as reason:
                row.reason = str(reason)
        total += sum(len(line.text) for line in lines)
        if total > limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
        rows.append(row)
        pages.append(lines)
    metadata = pdf.get_metadata_value("Title")
    repeated = furniture.repeated((lines, row.height) for lines, row in zip(pages, rows, strict=True) if lines)
    pages = [furniture.without(lines, row.height, repeated) for lines, row in zip(pages, rows, strict=True)]
    outline.mark_headings(pages)
    words = vocabulary(pages)
    path = outline.Path()
    for row, lines in zip(rows, pages, strict=True):
        if row.reason is None:
            row.content = compose(lines, words)
            row.quality = quality.score(row.content.text)
        _follow(row, path)
        if row.reason is not None:
            row.quality = 0.0
    title = outline.title_of(document, pages[0], outline.body_size(pages), metadata)
    opening = "\n".join(row.content.text for row in rows[:2])
    _refuse_empty(rows)
    return title, naming.period_of(document, title, opening), rows


def _follow(row: Row, path: outline.Path) -> None:
    if not row.content.headings or row.content.headings[0][0] > 0:
        row.section = str(path)
    for start, end, level in row.content.headings:
        path.enter(level, row.content.text[start:end])
        row.paths.append(str(path))
        if start == 0:
            row.section = str(path)


def _why_empty(page: Page) -> str | None:
    images, shapes = page.drawn()
    if images > 0.05:
        return "the page is a picture without a text layer: it needs OCR"
    if shapes > 50:
        return "the page is drawn as shapes without a text layer: it needs OCR"
    return None


def _refuse_empty(rows: list[Row]) -> None:
    """A document of which nothing can be read is one row, not many."""
    if any(row.content.text.strip() for row in rows):
        return
    reasons = {row.reason for row in rows if row.reason}
    if len(reasons) == 1:
        raise Unreadable(reasons.pop().replace("the page is", "every page is" if len(rows) > 1 else "its only page is"))
    raise Unreadable("none of its pages has text" if not reasons else "; ".join(sorted(reasons)))


def _text(content: bytes, document: str, limits: Limits) -> tuple[str, str, list[Row]]:
    markdown = PurePosixPath(document).suffix.lower() in (".md", ".markdown")
    title, sections, certainty = read_sections(content, markdown, limits)
    path = outline.Path()
    rows = []
    for number, section in enumerate(sections, start=1):
        row = Row(number, _composed(section), quality=quality.score(section.text) * certainty)
        _follow(row, path)
        rows.append(row)
    title = title or naming.name_words(document)
    opening = "\n".join(section.text for section in sections[:3])
    return title, naming.period_of(document, title, opening), rows


def _composed(section: Section) -> Composed:
    headings = [(0, section.heading_end, section.level)] if section.level else []
    return Composed(text=section.text, headings=headings)


def _stream(rows: list[Row], document: str, sha256: str, title: str, period: str) -> bytes:
    count = len(rows)
    columns: list[pa.Array] = [
        pa.array([document] * count, pa.string()),
        pa.array([sha256] * count, pa.string()),
        pa.array([row.page for row in rows], pa.int32()),
        pa.array([row.content.text for row in rows], pa.string()),
        _words(rows),
        pa.array([row.width for row in rows], pa.float32()),
        pa.array([row.height for row in rows], pa.float32()),
        pa.array([title] * count, pa.string()),
        pa.array([period] * count, pa.string()),
        pa.array([row.section for row in rows], pa.string()),
        _headings(rows),
        pa.array([row.quality for row in rows], pa.float32()),
        pa.array([row.reason for row in rows], pa.string()),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PAGES) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=PAGES))
    return bytes(sink.getvalue())


def _words(rows: list[Row]) -> pa.Array:
    offsets = np.cumsum([0, *(len(row.content.spans) for row in rows)]).astype(np.int32)
    spans = np.array([span for row in rows for span in row.content.spans], np.int32).reshape(-1, 2)
    boxes = np.concatenate([row.content.boxes for row in rows])
    parts = [pa.array(spans[:, 0]), pa.array(spans[:, 1]), *(pa.array(boxes[:, side]) for side in range(4))]
    structs = pa.StructArray.from_arrays(parts, fields=list(WORD))
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def _headings(rows: list[Row]) -> pa.Array:
    return pa.array(
        [
            [
                {"start": start, "end": end, "level": level, "path": path}
                for (start, end, level), path in zip(row.content.headings, row.paths, strict=True)
            ]
            for row in rows
        ],
        pa.list_(HEADING),
    )
