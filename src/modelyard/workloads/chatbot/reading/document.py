"""One file to rows of pages: what runs in the sandbox's child."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pypdfium2

from modelyard.workloads.chatbot.limits import MEGABYTE, NEEDS_OCR, Limits, Unreadable, looks
from modelyard.workloads.chatbot.reading import footnotes, furniture, naming, outline, quality, second
from modelyard.workloads.chatbot.reading.compose import Composed, compose, vocabulary
from modelyard.workloads.chatbot.reading.formats import Reading, format_of, reader_of
from modelyard.workloads.chatbot.reading.grid import align
from modelyard.workloads.chatbot.reading.layout import Line, lines_of
from modelyard.workloads.chatbot.reading.ocr import Signs, advice, read_page
from modelyard.workloads.chatbot.reading.pdf import Drawn, Page, open_pdf, open_rebuilt
from modelyard.workloads.chatbot.reading.rows import Row, arrow_stream
from modelyard.workloads.chatbot.reading.text import Section
from modelyard.workloads.chatbot.reading.weight import any_torn, content_weight, torn_page

BATCH_PAGES = 64
# A page under a picture is a scan; what it says may be in the picture alone.
SCANNED = 0.5
# Fewer words than this, and it is asked what else a page shows; from how many pieces of text on, most of which say
# nothing, its letters cannot be told.
FEW_WORDS = 40
STAMPED = 15
# The share of words whose letters the fonts tell, below which a look is better than the text layer.
MAPPED = 0.5
MUTE = 5
# A page without text: from how many shapes on it is a drawing of letters, from how many bytes on it is no blank page.
SHAPES = 50
HEAVY = 100_000
# A page that shows nothing at all: from how many bytes on something must have been meant to be seen.
MEANT = 1_000
PICTURE = f"the page is a picture without a text layer: {NEEDS_OCR}"
DRAWN = f"the page is drawn as shapes without a text layer: {NEEDS_OCR}"
DAMAGED = "the page is damaged"
BURIED = "what the page shows is nested too deeply to be read"
BROKEN = "the page shows nothing though it has content: it is damaged"
GARBLED = f"the page's characters cannot be told: its fonts do not say which letters they show; {NEEDS_OCR}"


def parse(
    content: bytes, *, document: str, sha256: str, skip: Mapping[str, str], limits: Limits, progress: Signs
) -> Iterator[bytes]:
    """The rows of one file as Arrow streams.

    skip: pages (as text) that are known to bring the parser down, with the reason. Raises Unreadable with the reason
    where the whole document cannot be read.
    """
    kind = format_of(document)
    if kind is None or not kind.reader:
        title, period, rows = _pdf(content, document, skip, limits, progress)
    else:
        # Only pages of a PDF can be skipped: the signs of other readers name none.
        reading = reader_of(kind)(content, document, limits, lambda _: progress(0))
        title, period, rows = _sections(reading, document, limits)
    for at in range(0, len(rows), BATCH_PAGES):
        yield arrow_stream(rows[at : at + BATCH_PAGES], document, sha256, title, period)


def _pdf(
    content: bytes, document: str, skip: Mapping[str, str], limits: Limits, progress: Signs
) -> tuple[str, str, list[Row]]:
    pdf = open_pdf(content, limits)
    sheets = _sheets(pdf, document, skip, limits, progress)
    if sheets.lost():
        # What pdfium cannot show may be found when the file is put together anew.
        for again in open_rebuilt(content, limits):
            other = _sheets(again, document, skip, limits, progress)
            sheets = other if other.characters() > sheets.characters() else sheets
    if second.cut_short(content) and not sheets.characters():
        raise Unreadable("it is truncated: its end is missing")
    _refuse_empty(sheets.rows)
    opening = "\n".join(row.content.text for row in sheets.rows[:2])
    rows = [*sheets.rows, *_told(content, pdf, sheets, limits)]
    return sheets.title, naming.period_of(document, sheets.title, opening), rows


@dataclass(frozen=True, slots=True)
class _Sheets:
    """The pages of a PDF, read in one way."""

    title: str
    rows: list[Row]

    def characters(self) -> int:
        return sum(len(row.content.text.strip()) for row in self.rows)

    def lost(self) -> bool:
        """Whether pages are damaged, or nothing was found at all and nothing else explains it."""
        damaged = any(row.reason in (DAMAGED, BROKEN) for row in self.rows)
        return damaged or not (self.characters() or any(row.reason for row in self.rows))


def _sheets(
    pdf: pypdfium2.PdfDocument, document: str, skip: Mapping[str, str], limits: Limits, progress: Signs
) -> _Sheets:
    rows: list[Row] = []
    pages: list[list[Line]] = []
    scanned: list[bool] = []
    total = heavy = 0
    for index in range(len(pdf)):
        progress(index + 1)
        row, lines, picture = _page(pdf, index, skip.get(str(index + 1)), limits)
        if looks(limits.ocr) and _doubtful(row, lines, picture):
            lines, picture = _looked_at(pdf, index, row, lines, limits, progress), False
        rows.append(row)
        pages.append(lines)
        scanned.append(picture)
        total += sum(len(line.text) for line in lines)
        heavy += row.reason is not None and "unfolded" in row.reason
        if total > limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
        if heavy > limits.bad_pages:
            raise Unreadable(f"{heavy} and more of its pages have no text though their content is large")
    kept = _without_furniture(rows, pages, scanned)
    outline.mark_headings(kept)
    _compose(rows, kept, advice(limits.ocr))
    title = outline.title_of(document, kept[0], outline.body_size(kept), pdf.get_metadata_value("Title"))
    return _Sheets(title, rows)


def _doubtful(row: Row, lines: list[Line], picture: bool) -> bool:
    """Whether a look at the page may tell more than its text layer."""
    stamped = picture and sum(len(line.words) for line in lines) < STAMPED
    return row.reason in (PICTURE, DRAWN, GARBLED) or (row.reason is None and (stamped or row.quality < MAPPED))


def _looked_at(
    pdf: pypdfium2.PdfDocument, index: int, row: Row, lines: list[Line], limits: Limits, progress: Signs
) -> list[Line]:
    """The lines of a page as OCR reads them; those that are there, or a better reason, where it reads none."""
    try:
        words, confidence = read_page(pdf, index, limits, progress)
    except Unreadable as reason:
        if not lines:
            row.refuse(str(reason))
        return lines
    row.reason, row.quality = None, confidence
    return align(footnotes.last(lines_of(words)))


def _told(content: bytes, pdf: pypdfium2.PdfDocument, sheets: _Sheets, limits: Limits) -> list[Row]:
    """Rows after the last page that say what of the text is lost though no page is."""
    said: list[str] = []
    # What is encrypted unfolds nowhere; only pdfium has the key.
    if b"/Encrypt" not in content and any_torn(content, limits.max_decoded):
        pages = [row for row in sheets.rows if row.content.text and row.page <= len(pdf)]
        torn = [str(row.page) for row in pages if torn_page(pdf, row.page - 1, limits.max_decoded)]
        if torn:
            named = f"page{'s' if len(torn) > 1 else ''} {', '.join(torn[:10])}{' ...' if len(torn) > 10 else ''}"
            said.append(f"a part of {named} is lost: the content there is damaged")
    if second.cut_short(content):
        said.append(f"the file's end is missing: what may have come after page {len(sheets.rows)} is lost")
    rows = [Row(len(sheets.rows) + at) for at in range(1, len(said) + 1)]
    for row, reason in zip(rows, said, strict=True):
        row.refuse(reason)
    return rows


def _page(pdf: pypdfium2.PdfDocument, index: int, known: str | None, limits: Limits) -> tuple[Row, list[Line], bool]:
    """(row so far, lines, whether a picture covers the page) of one page, loaded apart from the others."""
    row = Row(index + 1)
    if known is not None:
        row.refuse(known)
        return row, [], False
    try:
        page = Page(pdf, index)
    except Unreadable as reason:
        row.refuse(str(reason))
        return row, [], False
    try:
        row.width, row.height = page.width, page.height
        words = page.words(limits)
        row.quality = 1.0 - page.unmapped(words)
        lines = align(footnotes.last(lines_of(words)))
        outline.mark_bold(lines, page.bold)
        drawn = page.drawn() if len(words.text) < FEW_WORDS else Drawn()
        mute = drawn.silent > (MUTE + 2 * sum(map(len, words.text)) if lines else MUTE) and page.shows()
    except Unreadable as reason:
        row.refuse(str(reason))
        return row, [], False
    finally:
        page.close()
    if mute or quality.garbled(" ".join(line.text for line in lines)):
        row.refuse(GARBLED)
    elif not lines and (why := _why_empty(pdf, index, drawn, limits)):
        row.refuse(why)
    return row, lines if row.reason is None else [], drawn.images > SCANNED


def _why_empty(pdf: pypdfium2.PdfDocument, index: int, drawn: Drawn, limits: Limits) -> str | None:
    """Why a page without text cannot be read; None for one that is blank."""
    if drawn.buried:
        return BURIED
    if drawn.images > 0.05:
        return PICTURE
    if drawn.shapes > SHAPES:
        return DRAWN
    weight = content_weight(pdf, index, limits.max_decoded)
    if weight > HEAVY:
        more = "more than " if weight >= limits.max_decoded else ""
        return f"the page has no text though its content is large ({more}{weight / MEGABYTE:,.1f} MB unfolded)"
    return BROKEN if weight > MEANT and not drawn.objects else None


def _without_furniture(rows: list[Row], pages: list[list[Line]], scanned: list[bool]) -> list[list[Line]]:
    repeated = furniture.repeated((lines, row.height) for lines, row in zip(pages, rows, strict=True) if lines)
    kept: list[list[Line]] = []
    for row, lines, picture in zip(rows, pages, scanned, strict=True):
        content = furniture.without(lines, row.height, repeated)
        if lines and not content and picture:
            row.refuse(PICTURE)
        # What is all a page has is its content, however often it stands elsewhere.
        kept.append(content or lines if row.reason is None else [])
    return kept


def _compose(rows: list[Row], pages: list[list[Line]], ocr_advice: str) -> None:
    words = vocabulary(pages)
    path = outline.Path()
    for row, lines in zip(rows, pages, strict=True):
        if row.reason is None:
            row.content = compose(lines, words)
            row.quality *= quality.score(row.content.text)
        elif NEEDS_OCR in row.reason:
            row.reason += ocr_advice
        _follow(row, path)


def _follow(row: Row, path: outline.Path) -> None:
    """Write down the heading path at the page's start and at each of its headings."""
    row.section = str(path)
    for start, end, level in row.content.headings:
        path.enter(level, row.content.text[start:end])
        row.paths.append(str(path))
        if start == 0:
            row.section = str(path)


def _refuse_empty(rows: list[Row]) -> None:
    """A document of which nothing can be read is one row, not many."""
    if any(row.content.text.strip() for row in rows):
        return
    reasons = sorted({row.reason for row in rows if row.reason})
    if not reasons:
        raise Unreadable("none of its pages has text: they are blank, or damaged beyond reading")
    if len(reasons) == 1 and all(row.reason for row in rows):
        which = "every page " if len(rows) > 1 else "its only page "
        raise Unreadable(reasons[0].replace("the page ", which, 1))
    raise Unreadable(f"none of its {len(rows):,} pages can be read: {'; '.join(reasons[:3])}")


def _sections(reading: Reading, document: str, limits: Limits) -> tuple[str, str, list[Row]]:
    path = outline.Path()
    rows: list[Row] = []
    total = 0
    for number, page in enumerate(reading.pages, start=1):
        row = Row(number)
        if isinstance(page, Section):
            row.content, row.quality = _composed(page), quality.score(page.text) * reading.certainty
            total += len(page.text)
        else:
            row.refuse(page)
        _follow(row, path)
        rows.append(row)
    if total > limits.max_characters:
        raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
    if len(rows) > limits.max_pages:
        raise Unreadable(f"it has {len(rows):,} pages, more than the limit of {limits.max_pages:,}")
    _refuse_empty(rows)
    title = reading.title or naming.name_words(document)
    opening = "\n".join(row.content.text for row in rows[:3])
    return title, naming.period_of(document, title, opening), rows


def _composed(section: Section) -> Composed:
    headings = [(0, section.heading_end, section.level)] if section.level else []
    return Composed(text=section.text, headings=headings)
