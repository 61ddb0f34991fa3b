"""Files of delimited values (CSV, TSV) to pages of rows."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, Literal

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.formats import Progress, Reading
from modelyard.workloads.chatbot.reading.sheet_pages import Pages, clean, head_of, line_of
from modelyard.workloads.chatbot.reading.text import Section, decode

# The order in which they are believed where they fit alike: a comma stands in numbers and sentences too.
DELIMITERS = "\t;|,"
SAMPLE_CHARACTERS = 65_536
SAMPLE_ROWS = 60
SEEN = 20
SIGN_EVERY = 5_000
# A cell of more lines than this is a quotation mark somebody forgot to close.
LONGEST_CELL_LINES = 100

Numbered = tuple[int, list[str]]


class _Unbalanced(Exception):
    """A quotation mark was opened and never closed."""


def read_delimited(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """The rows as pages. It has no title of its own.

    The delimiter is told from the rows (or from a first line `sep=;`), the head from what stands under it. Rows are
    counted as a spreadsheet would, the head being row 1. Raises Unreadable for what is not text, or is too long.
    """
    text, certainty = decode(content)
    if len(text) > limits.max_characters:
        raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    csv.field_size_limit(max(1, limits.max_characters))
    told, text = _told(text)
    delimiter = told or delimiter_of(text[:SAMPLE_CHARACTERS])
    try:
        sections = _pages(_rows(text, delimiter, True), limits, progress)
    except _Unbalanced:
        sections = _pages(_rows(text, delimiter, False), limits, progress)
    except csv.Error as error:
        raise Unreadable(f"its rows cannot be told apart ({error})") from None
    if not sections:
        raise Unreadable("it holds no text")
    return Reading("", sections, certainty)


def delimiter_of(sample: str) -> str:
    """The character that cuts most rows into equally many cells, at least two; "," where none does.

    >>> delimiter_of("name;price\\nbread;1,50\\nmilk;0,99\\n")
    ';'
    """
    lines = sample[: sample.rfind("\n") + 1] or sample
    best, chosen = 0.0, ","
    for delimiter in DELIMITERS:
        widths = Counter(len(row) for row in islice(_reader(lines, delimiter, True), SAMPLE_ROWS) if any(row))
        cells, rows = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        share = rows / max(1, sum(widths.values()))
        # A difference of one row in many is chance; more rows than that are not.
        if cells > 1 and share > best + 0.02:
            best, chosen = share, delimiter
    return chosen


def _told(text: str) -> tuple[str, str]:
    """(delimiter, the rest) of a file that begins with the line spreadsheets write to name it."""
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first) == 5:
        return first[4], f"\n{rest}"
    return "", text


def _rows(text: str, delimiter: str, quoted: bool) -> Iterator[Numbered]:
    """(number from 1, cells) of every row that is not empty. Raises _Unbalanced, only where `quoted`."""
    reader = _reader(text, delimiter, quoted)
    last, odd = text.count("\n"), text.count('"') % 2 == 1
    before = 0
    for number, row in enumerate(reader, start=1):
        span, before = reader.line_num - before, reader.line_num
        if quoted and (span > LONGEST_CELL_LINES or (span > 1 and odd and before >= last)):
            raise _Unbalanced
        cells = [clean(cell) for cell in row]
        if any(cells):
            yield number, cells


def _reader(text: str, delimiter: str, quoted: bool) -> Any:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return csv.reader(io.StringIO(text), delimiter=delimiter, quoting=quoting, skipinitialspace=True)


def _pages(rows: Iterator[Numbered], limits: Limits, progress: Progress) -> list[Section]:
    first = list(islice(rows, SAMPLE_ROWS))
    width = _width([cells for _, cells in first])
    lead, end = head_of([cells for _, cells in first[:SEEN]])
    pages = Pages("", limits)
    words = [next(filter(None, cells)) for _, cells in first[:lead]]
    pages.table(words, [line_of(cells, width, head=True) for _, cells in first[lead:end]])
    for at, (number, cells) in enumerate(chain(first[end:], rows)):
        if at % SIGN_EVERY == 0:
            progress(0)
        pages.row(number, line_of(cells, width))
    return pages.sections()


def _width(rows: Sequence[Sequence[str]]) -> int:
    counts = Counter(len(row) for row in rows)
    return max(counts, key=lambda cells: (counts[cells], cells), default=1)
