"""Words with boxes from a PDF page. pdfium is not thread-safe and may abort: only for the sandbox's child."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pypdfium2
import pypdfium2.raw as pdfium

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading import second
from modelyard.workloads.chatbot.reading.notes import drawn_over

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SPACES = np.array(
    [0, 9, 10, 11, 12, 13, 32, 0xA0, 0x1680, *range(0x2000, 0x200C), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF]
)
# pdfium marks a hyphen at the end of a line by either of the first two.
SOFT_HYPHENS = (0x02, 0xFFFE, 0xAD)


def _bare(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    """The same C function without ctypes' typed pointers: half the cost of a call, and there are two per word."""
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    return ctypes.PYFUNCTYPE(result, *arguments)(address)


_loose_box = _bare(pdfium.FPDFText_GetLooseCharBox, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_unicode = _bare(pdfium.FPDFText_GetUnicode, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int)
_angle = _bare(pdfium.FPDFText_GetCharAngle, ctypes.c_float, ctypes.c_void_p, ctypes.c_int)
_weight = _bare(pdfium.FPDFText_GetFontWeight, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_unmapped = _bare(pdfium.FPDFText_HasUnicodeMapError, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_font = _bare(
    pdfium.FPDFText_GetFontInfo,
    ctypes.c_ulong,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a page in the order of the content stream.

    text: n strings without white space. boxes: (n, 4) x0, y0, x1, y1 in points, origin top left of the page as shown.
    first: (n,) index of the word's first character in pdfium's list. turn: (n,) quarter turns of the writing direction,
    clockwise as shown, -1 for writing that follows no axis. soft: (n,) whether a soft hyphen ended the word. attached:
    (n,) whether no white space stands before the word: it is the rest of one in another size, or of another cell.
    """

    text: list[str]
    boxes: Floats
    first: Ints
    turn: Ints
    soft: npt.NDArray[np.bool_]
    attached: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Drawn:
    """images: share of the page under them, from 0 to 1; forms count as images. shapes, objects: how many. texts:
    pieces of text; silent: those of them whose letters nothing tells. buried: whether forms lie in forms deeper than
    pdfium looks."""

    images: float = 0.0
    shapes: int = 0
    objects: int = 0
    texts: int = 0
    silent: int = 0
    buried: bool = False


def open_pdf(content: bytes, limits: Limits) -> pypdfium2.PdfDocument:
    """Raises Unreadable with the reason. A file whose structure is damaged is put together anew from its objects."""
    content = second.normal(content)
    try:
        document = _opened(content)
        if len(document):
            return _within(document, limits)
        document.close()
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code == pdfium.FPDF_ERR_PASSWORD:
            raise Unreadable("it is encrypted and needs a password") from None
        if code == pdfium.FPDF_ERR_SECURITY:
            raise Unreadable("it is encrypted in a way that is not supported") from None
    for document in open_rebuilt(content, limits):
        return document
    if not second.holds_objects(content):
        raise Unreadable("it is named .pdf but holds no PDF")
    if second.cut_short(content):
        raise Unreadable("it is truncated: its end is missing, and what is left holds no whole page")
    raise Unreadable("its structure is damaged: no pages can be found in it")


def open_rebuilt(content: bytes, limits: Limits) -> Iterator[pypdfium2.PdfDocument]:
    """What can be put together from the objects of a damaged file, the likeliest first. Raises Unreadable."""
    for made in second.rebuilt(second.normal(content), limits):
        try:
            document = _opened(made)
            if len(document):
                yield _within(document, limits)
        except pypdfium2.PdfiumError:
            continue


def _opened(content: bytes) -> pypdfium2.PdfDocument:
    document = pypdfium2.PdfDocument(content)
    # What was filled into a form is drawn only where the form is known before the pages.
    if document.get_formtype() != pdfium.FORMTYPE_NONE:
        document.init_forms()
    return document


def _within(document: pypdfium2.PdfDocument, limits: Limits) -> pypdfium2.PdfDocument:
    if len(document) > limits.max_pages:
        raise Unreadable(f"it has {len(document):,} pages, more than the limit of {limits.max_pages:,}")
    return document


# Forms within forms: pdfium follows some forty.
DEEPEST = 30
# The longer side, in pixels, of the picture that tells a blank page.
GLANCE = 600
# The share by which letters of one word may differ in height.
RESIZED = 0.12
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Page:
    """One open page: size as shown, words, fonts, what else is drawn. Close it before the document."""

    def __init__(self, document: pypdfium2.PdfDocument, index: int) -> None:
        """Raises Unreadable where pdfium cannot load the page."""
        try:
            self._page = document[index]
            if drawn_over(self._page):
                self._page.close()
                self._page = document[index]
            self._text = self._page.get_textpage()
        except pypdfium2.PdfiumError:
            raise Unreadable("the page is damaged") from None
        self._handle = ctypes.cast(self._text.raw, ctypes.c_void_p).value
        box = pdfium.FS_RECTF()
        pdfium.FPDF_GetPageBoundingBox(self._page.raw, box)
        self._bounds = (box.left, box.bottom, box.right, box.top)
        self._rotation = max(0, pdfium.FPDFPage_GetRotation(self._page.raw)) % 4
        self.width: float = pdfium.FPDF_GetPageWidthF(self._page.raw)
        self.height: float = pdfium.FPDF_GetPageHeightF(self._page.raw)

    def close(self) -> None:
        self._text.close()
        self._page.close()

    def words(self, limits: Limits) -> Words:
        """Raises Unreadable where the page draws more characters than the limit."""
        count = pdfium.FPDFText_CountChars(self._text.raw)
        if count > limits.max_glyphs:
            raise Unreadable(f"the page holds {count:,} characters, more than the limit of {limits.max_glyphs:,}")
        if count <= 0:
            none = np.empty(0, bool)
            return Words([], np.empty((0, 4), np.float32), _ints(()), _ints(()), none, none)
        codes = self._codes(count)
        starts, ends = _runs(codes)
        words_begin = starts
        starts, ends, boxes = self._split_odd(starts, ends)
        turn = self._turns(starts, boxes)
        soft = np.isin(codes[ends - 1], SOFT_HYPHENS)
        text = codes.astype(np.uint32).tobytes().decode("utf-32-le", "replace")
        words = [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        for at in self._raised(boxes, words, turn):
            words[at] = words[at].translate(RAISED)
        return Words(words, self._shown(boxes), starts, turn, soft, ~np.isin(starts, words_begin))

    def unmapped(self, words: Words) -> float:
        """The share of the words, of a sample, whose font does not tell which characters its glyphs are."""
        sample = words.first[:: max(1, len(words.first) // 64)].tolist()
        return float(sum(_unmapped(self._handle, first) == 1 for first in sample)) / max(1, len(sample))

    def bold(self, first: int) -> bool:
        """Whether the character stands in a bold font, by its weight or its font's name."""
        if _weight(self._handle, first) >= 600:
            return True
        name = ctypes.create_string_buffer(128)
        _font(self._handle, first, name, 128, None)
        return any(mark in name.value.lower() for mark in (b"bold", b"black", b"heavy", b"semibold", b"demi"))

    def drawn(self) -> Drawn:
        """What else than text is drawn, and how much of the text says nothing."""
        page = self._page.raw
        count = pdfium.FPDFPage_CountObjects(page)
        area, shapes, texts, silent = 0.0, 0, 0, 0
        buried = False
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        for index in range(count):
            thing = pdfium.FPDFPage_GetObject(page, index)
            kind = pdfium.FPDFPageObj_GetType(thing)
            shapes += kind in (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_SHADING)
            if kind == pdfium.FPDF_PAGEOBJ_TEXT:
                texts += 1
                # Two bytes are the end of the string alone.
                silent += pdfium.FPDFTextObj_GetText(thing, self._text.raw, None, 0) <= 2
            buried = buried or (kind == pdfium.FPDF_PAGEOBJ_FORM and _depth(thing) >= DEEPEST)
            large = kind in (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM)
            if large and pdfium.FPDFPageObj_GetBounds(thing, left, bottom, right, top):
                area += max(0.0, right.value - left.value) * max(0.0, top.value - bottom.value)
        return Drawn(min(1.0, area / max(1.0, self.width * self.height)), shapes, count, texts, silent, buried)

    def shows(self) -> bool:
        """Whether anything at all can be seen on the page."""
        scale = GLANCE / max(self.width, self.height, 1.0)
        try:
            seen = self._page.render(scale=scale, grayscale=True).to_numpy()
        except pypdfium2.PdfiumError:
            return True
        return bool(seen.size) and int(seen.max()) - int(seen.min()) > 40

    def _codes(self, count: int) -> Ints:
        """Unicode code points, one per character of pdfium's list."""
        buffer = (ctypes.c_ushort * (count + 1))()
        written = pdfium.FPDFText_GetText(self._text.raw, 0, count, buffer)
        codes = np.ctypeslib.as_array(buffer)[:count].astype(np.int64)
        # The text as one string leaves out characters without a code and doubles those beyond 16 bits: then one by one.
        if written != count + 1 or bool(((codes >= 0xD800) & (codes < 0xE000)).any()):
            codes = _ints(map(_unicode, repeat(self._handle), range(count)))
            codes[(codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))] = 0xFFFD
        return codes

    def _boxes(self, indices: Ints) -> Floats:
        """(n, 4) x0, y0, x1, y1 in the page's own space, origin at the bottom left; y0 is the lower edge."""
        raw = np.zeros((len(indices), 4), np.float32)
        base = raw.ctypes.data
        slots = range(base, base + 16 * len(indices), 16)
        deque(map(_loose_box, repeat(self._handle), indices.tolist(), slots), maxlen=0)
        return np.stack(
            [
                np.minimum(raw[:, 0], raw[:, 2]),
                np.minimum(raw[:, 1], raw[:, 3]),
                np.maximum(raw[:, 0], raw[:, 2]),
                np.maximum(raw[:, 1], raw[:, 3]),
            ],
            axis=1,
        )

    def _split_odd(self, starts: Ints, ends: Ints) -> tuple[Ints, Ints, Floats]:
        """Boxes of words, after a look into those that are too wide or too high for their letters, or change their
        size: cells that touch, two lines in one, a raised mark of a note."""
        head, tail = self._boxes(starts), self._boxes(ends - 1)
        boxes = _union(head, tail)
        length = ends - starts
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        size = np.minimum(height, self._median_height(height, length))
        resized = np.abs((tail - head)[:, 3] - (tail - head)[:, 1]) > RESIZED * height
        odd = (length > 1) & ((width > size * (0.62 * length + 0.7)) | (height > 1.6 * size) | resized)
        if not odd.any():
            return starts, ends, boxes
        cuts: list[int] = []
        for start, end in zip(starts[odd].tolist(), ends[odd].tolist(), strict=True):
            cuts += _cuts(start, self._boxes(np.arange(start, end)))
        if cuts:
            starts, ends = np.union1d(starts, _ints(cuts)), np.union1d(ends, _ints(cuts))
            boxes = _union(self._boxes(starts), self._boxes(ends - 1))
        return starts, ends, boxes

    @staticmethod
    def _raised(boxes: Floats, words: list[str], turn: Ints) -> list[int]:
        """Which words are small digits hung on to the word before: a note or a power, no part of the value."""
        raised: list[int] = []
        for at, word in enumerate(words):
            if at and len(word) <= 3 and word.isdecimal() and turn[at] == 0:
                before, box = boxes[at - 1], boxes[at]
                height = before[3] - before[1]
                smaller, higher = box[3] - box[1] < (1 - RESIZED) * height, box[1] - before[1] > 0.1 * height
                if smaller and higher and abs(box[0] - before[2]) < 0.3 * height:
                    raised.append(at)
        return raised

    @staticmethod
    def _median_height(height: Floats, length: Ints) -> float:
        return float(np.median(np.repeat(height, np.minimum(length, 20)))) * 1.5

    def _turns(self, starts: Ints, boxes: Floats) -> Ints:
        """Writing direction of each word; asked of pdfium only where the page or a word looks turned."""
        height = boxes[:, 3] - boxes[:, 1]
        if self._rotation == 0 and bool((height <= 3 * np.median(height)).all()) and not _stacked(boxes):
            return np.zeros(len(starts), np.int64)
        angles = np.fromiter(map(_angle, repeat(self._handle), starts.tolist()), np.float64, len(starts))
        quarter = np.round(angles / (np.pi / 2))
        off_axis = np.abs(angles - quarter * np.pi / 2) > 0.1
        turn = (quarter.astype(np.int64) + self._rotation) % 4
        return np.where(off_axis, -1, turn)

    def _shown(self, boxes: Floats) -> Floats:
        """From the page's own space to the page as it is shown: cropped, turned, origin at the top left."""
        left, bottom, right, top = self._bounds
        x0, x1, y0, y1 = boxes[:, 0] - left, boxes[:, 2] - left, boxes[:, 1] - bottom, boxes[:, 3] - bottom
        width, height = right - left, top - bottom
        if self._rotation == 0:
            shown = (x0, height - y1, x1, height - y0)
        elif self._rotation == 1:
            shown = (y0, x0, y1, x1)
        elif self._rotation == 2:
            shown = (width - x1, y0, width - x0, y1)
        else:
            shown = (height - y1, width - x1, height - y0, width - x0)
        return np.stack(shown, axis=1).astype(np.float32)


def _depth(form: Any) -> int:
    """How many forms lie in each other, by the last form in each."""
    depth = 1
    while depth < DEEPEST:
        count = pdfium.FPDFFormObj_CountObjects(form)
        inner = [pdfium.FPDFFormObj_GetObject(form, index) for index in range(max(0, count - 20), count)]
        forms = [each for each in inner if each and pdfium.FPDFPageObj_GetType(each) == pdfium.FPDF_PAGEOBJ_FORM]
        if not forms:
            return depth
        form, depth = forms[-1], depth + 1
    return depth


def _stacked(boxes: Floats) -> bool:
    """Whether words follow each other straight up or down, as closely as letters: so pdfium parts turned writing."""
    size = np.minimum(boxes[:-1, 2:] - boxes[:-1, :2], boxes[1:, 2:] - boxes[1:, :2]).max(axis=1)
    step = np.abs(boxes[1:, :2] - boxes[:-1, :2])
    close = (step[:, 0] < 0.3 * size) & (step[:, 1] > 0.1 * size) & (step[:, 1] < 0.9 * size)
    return int(close.sum()) >= 4


def _union(one: Floats, other: Floats) -> Floats:
    return np.concatenate([np.minimum(one[:, :2], other[:, :2]), np.maximum(one[:, 2:], other[:, 2:])], axis=1)


def _cuts(start: int, box: Floats) -> list[int]:
    """Where a word falls apart, as indices of characters: at a gap, at a step to another line, at a change of size."""
    em = np.maximum(box[:-1, 3] - box[:-1, 1], 1.0)
    apart = box[1:, 0] - box[:-1, 2]
    lower = np.abs(box[1:, 1] - box[:-1, 1])
    forward = (box[1:, 0] - box[:-1, 0]) > -0.5 * em
    resized = np.abs((box[1:, 3] - box[1:, 1]) - em) > RESIZED * em
    found: list[int] = (start + 1 + np.flatnonzero((np.where(forward, apart, lower) > 0.5 * em) | resized)).tolist()
    return found


def _runs(codes: Ints) -> tuple[Ints, Ints]:
    """[start, end) of every run of characters that are no white space; a soft hyphen ends its run."""
    inside = ~np.isin(codes, SPACES)
    soft = np.isin(codes, SOFT_HYPHENS)
    before = np.concatenate([[False], inside[:-1] & ~soft[:-1]])
    after = np.concatenate([inside[1:], [False]]) & ~soft
    return np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), np.int64)
