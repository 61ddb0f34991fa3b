"""Pages to chunks, as a pure function of Arrow batches. Every page stands alone, with what `continued` says of it.

The spans of a page's chunks follow each other without gap and cover its text. A chunk does not cut a sentence or a
table row, unless that alone is longer than the limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from modelyard.workloads.chatbot.reading.naming import name_words
from modelyard.workloads.chatbot.reading.regions import Table, head_of, tables_of
from modelyard.workloads.chatbot.reading.sentence import sentence_ends, token_count
from modelyard.workloads.chatbot.schemas import CHUNKER_VERSION, CHUNKS

# In estimated tokens. The embedder sees 256: 200 of text leave room for the header.
TARGET = 200
ENOUGH = 130
SMALL = 25
LONGEST = 230
ENTRY_LENGTH = 70


@dataclass(slots=True)
class Unit:
    """What is never cut: a sentence, a table row, a heading. `fresh`: a paragraph begins with it."""

    start: int
    end: int
    tokens: int
    table: int = -1
    heading: bool = False
    fresh: bool = False


@dataclass(slots=True)
class Span:
    """One chunk: [start, end) of the page's text; `table` numbers the table it shows, -1 for prose."""

    start: int
    end: int
    tokens: int
    table: int = -1
    headed: bool = False
    only_heading: bool = False


def chunk_pages(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of PAGES and `above` (see `continued.with_heads`) to CHUNKS rows, batch by batch. Rows with a reason, and
    blank pages, give none."""
    needed = ("document", "sha256", "page", "text", "title", "period", "section", "headings", "reason", "above")
    for batch in batches:
        rows: list[dict[str, Any]] = []
        columns = [batch.column(name).to_pylist() for name in needed]
        for values in zip(*columns, strict=True):
            page = dict(zip(needed, values, strict=True))
            if page["reason"] is None and page["text"].strip():
                rows += _rows(page)
        yield pa.RecordBatch.from_pylist(rows, schema=CHUNKS)


def _rows(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text: str = page["text"]
    headings: list[dict[str, Any]] = page["headings"]
    spans, repeated = split(text, [(heading["start"], heading["end"]) for heading in headings], page["above"])
    for span in spans:
        section = page["section"]
        for heading in headings:
            # A chunk that begins with headings belongs to the last of them.
            if heading["start"] <= span.start or (span.headed and heading["end"] <= _headings_end(span, headings)):
                section = heading["path"]
        header = _header(page, section)
        if span.start in repeated:
            header = f"{header}\n{repeated[span.start]}"
        yield {
            "chunk_id": _chunk_id(page, span),
            "document": page["document"],
            "sha256": page["sha256"],
            "page": page["page"],
            "start": span.start,
            "end": span.end,
            "kind": "table" if span.table >= 0 else "prose",
            "title": page["title"],
            "period": page["period"],
            "section": section,
            "header": header,
            "text": text[span.start : span.end],
        }


def _headings_end(span: Span, headings: list[dict[str, Any]]) -> int:
    """Where the run of headings at the beginning of a chunk ends."""
    end = span.start
    for heading in headings:
        if span.start <= heading["start"] <= end + 2:
            end = heading["end"]
    return end


def _chunk_id(page: dict[str, Any], span: Span) -> str:
    parts = (page["sha256"], page["document"], page["page"], span.start, span.end, CHUNKER_VERSION)
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _header(page: dict[str, Any], section: str) -> str:
    """What the chunk belongs to: document title, the file's name where it says more, period, headings."""
    title, name = page["title"], name_words(page["document"])
    parts = [title]
    said = {word.lower() for word in title.replace(",", " ").split()}
    if not {word.lower() for word in name.split()} <= said:
        parts.append(name)
    if page["period"] and page["period"] not in " ".join(parts):
        parts.append(page["period"])
    entries = [entry[:ENTRY_LENGTH] for entry in section.split(" > ") if entry and entry.lower() != title.lower()]
    return " | ".join([*parts, *entries[-3:]])


def split(text: str, headings: list[tuple[int, int]], above: str = "") -> tuple[list[Span], dict[int, str]]:
    """(spans that cover the text, {start of a span: caption and column lines of the table it continues}). above: those
    of the table in which the page begins, if it does."""
    units, heads = _units(text, headings, above)
    spans = _merge_small(_pack(units, [min(token_count(head), TARGET // 3) for head in heads], bool(above)))
    repeated: dict[int, str] = {}
    if above and spans[0].table == 0:
        repeated[spans[0].start] = above
    for before, span in pairwise(spans):
        if span.table >= 0 and before.table == span.table and heads[span.table]:
            repeated[span.start] = heads[span.table]
    return spans, repeated


def _units(text: str, headings: list[tuple[int, int]], above: str) -> tuple[list[Unit], list[str]]:
    """The page as units in order, and per table its caption and column lines."""
    lines, bounds, headed = lines_of(text, headings)
    tables = tables_of(lines, headed, bool(above))
    units: list[Unit] = []
    heads: list[str] = []
    at = 0
    for number, table in enumerate([*tables, Table(len(lines), len(lines), len(lines), len(lines))]):
        _prose(text, bounds, at, table.caption, headed, units)
        for line in range(table.caption, table.end):
            if not lines[line].strip() and units:
                units[-1].end = bounds[line + 1]
                continue
            _cut(text, Unit(bounds[line], bounds[line + 1], token_count(lines[line]), number), units)
        at = table.end
        if number < len(tables):
            heads.append(above if above and number == 0 else head_of(lines, table))
    if units:
        units[0].start, units[-1].end = 0, len(text)
    return units, heads


def lines_of(text: str, headings: list[tuple[int, int]]) -> tuple[list[str], list[int], frozenset[int]]:
    """(lines with their ends, where each begins and the last ends, indices of those in headings)."""
    bounds = [*_line_starts(text), len(text)]
    lines = [text[a:b] for a, b in pairwise(bounds)]
    headed = frozenset(
        at
        for at, line in enumerate(lines)
        if line.strip() and any(a < bounds[at + 1] and b > bounds[at] for a, b in headings)
    )
    return lines, bounds, headed


def _line_starts(text: str) -> list[int]:
    starts = [0]
    at = text.find("\n")
    while 0 <= at < len(text) - 1:
        starts.append(at + 1)
        at = text.find("\n", at + 1)
    return starts


def _prose(text: str, bounds: list[int], first: int, last: int, headed: frozenset[int], units: list[Unit]) -> None:
    """Sentences and headings of the lines [first, last)."""
    line = first
    fresh = True
    while line < last:
        begin = line
        if units and text[bounds[line] : bounds[line + 1]].isspace():
            units[-1].end, fresh = bounds[line + 1], True
            line += 1
            continue
        heading = line in headed
        while line < last and (line in headed) == heading:
            if line > begin and text[bounds[line] : bounds[line + 1]].isspace():
                break
            line += 1
        start, end = bounds[begin], bounds[line]
        # Headings below each other are a unit each: only one that alone is too long is cut.
        for at in bounds[begin + 1 : line + 1] if heading else sentence_ends(text, start, end):
            _cut(text, Unit(start, at, token_count(text[start:at]), heading=heading, fresh=fresh), units)
            start, fresh = at, False
        fresh = heading


def _cut(text: str, unit: Unit, units: list[Unit]) -> None:
    """Append the unit; one longer than a chunk in pieces, cut after a comma or a blank where there is one."""
    while unit.tokens > LONGEST:
        room = max(1, (unit.end - unit.start) * TARGET // unit.tokens)
        limit = unit.start + room
        at = max(text.rfind(mark, unit.start + room // 2, limit) for mark in ("; ", ", ", " ", "\t")) + 1
        at = at if unit.start < at < unit.end else min(limit, unit.end - 1)
        if at <= unit.start:
            break
        units.append(Unit(unit.start, at, token_count(text[unit.start : at]), unit.table, unit.heading, unit.fresh))
        unit = Unit(at, unit.end, token_count(text[at : unit.end]), unit.table, unit.heading)
    units.append(unit)


def _pack(units: list[Unit], heads: list[int], goes_on: bool) -> list[Span]:
    """heads: tokens of each table's caption and column lines, which its later parts carry in their header. goes_on: all
    parts of the first table are later ones."""
    spans: list[Span] = []
    for at, unit in enumerate(units):
        current = spans[-1] if spans else None
        later = current is not None and len(spans) > 1 and 0 <= current.table == spans[-2].table
        later = later or (goes_on and unit.table == 0)
        room = TARGET - (heads[unit.table] if later and unit.table >= 0 else 0)
        if current is None or _breaks(current, unit, units, at, room):
            spans.append(Span(unit.start, unit.end, unit.tokens, unit.table, unit.heading, unit.heading))
            continue
        current.end = unit.end
        current.tokens += unit.tokens
        current.only_heading = current.only_heading and unit.heading
        current.table = max(current.table, unit.table)
    return spans


def _breaks(current: Span, unit: Unit, units: list[Unit], at: int, room: int) -> bool:
    """Whether a new chunk begins with this unit."""
    if current.tokens + unit.tokens > room:
        return True
    if current.only_heading:
        return False
    if unit.heading or unit.table != current.table:
        return True
    # A paragraph that would have to be cut begins a chunk of its own, when the one before is long enough.
    return unit.fresh and current.tokens >= ENOUGH and current.tokens + _paragraph(units, at) > TARGET


def _paragraph(units: list[Unit], at: int) -> int:
    total = units[at].tokens
    for unit in units[at + 1 :]:
        if unit.fresh or unit.heading or unit.table != units[at].table or total > TARGET:
            break
        total += unit.tokens
    return total


def _merge_small(spans: list[Span]) -> list[Span]:
    """A few words alone are found by nothing: they join the chunk before, or announce the table after."""
    merged: list[Span] = []
    for span in spans:
        before = merged[-1] if merged else None
        if before is None or before.tokens + span.tokens > LONGEST:
            merged.append(span)
        elif before.tokens < SMALL and before.table < 0 and not span.headed:
            before.end, before.table = span.end, max(before.table, span.table)
            before.tokens += span.tokens
        elif span.tokens < SMALL and not span.headed and span.table in (-1, before.table):
            before.end = span.end
            before.tokens += span.tokens
        else:
            merged.append(span)
    return merged
