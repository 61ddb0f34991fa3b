"""How much a page holds that shows nothing: what was too much for the reader must not pass for blank."""

from __future__ import annotations

import contextlib
import io
import re
import zlib

import pypdfium2

CONTENTS = re.compile(rb"/Contents\s*(?:\[([^\]]*)\]|(\d+) 0 R)")
REFERENCE = re.compile(rb"(\d+) 0 R")
FILTERS = re.compile(rb"/Filter\s*(?:\[([^\]]*)\]|/(\w+))")
PACKED = re.compile(rb"/FlateDecode[^\x00]{0,400}?>>\s*stream\r?\n")
BLOCK = 1 << 20
FED = 1 << 16


def content_weight(document: pypdfium2.PdfDocument, index: int, cap: int) -> int:
    """Bytes of operators a page is drawn with, unfolded, counted up to `cap`; 0 where they cannot be told."""
    total = 0
    sizes: dict[bytes, int] = {}
    data, named = _contents(document, index)
    for number in named:
        if number not in sizes:
            sizes[number] = _unfolded(data, number, cap)
        total += sizes[number]
        if total >= cap:
            return cap
    return total


def torn_page(document: pypdfium2.PdfDocument, index: int, cap: int) -> bool:
    """Whether the operators of a page end in the middle because they do not unfold."""
    data, named = _contents(document, index)
    streams = (_stream(data, number) for number in set(named))
    return any(_unpacked(packed, cap)[1] for packed, filters in streams if filters)


def any_torn(content: bytes, cap: int) -> bool:
    """Whether some packed stream of a file may be damaged: cheap, and certain only where it says no."""
    view = memoryview(content)
    left = cap
    for found in PACKED.finditer(content):
        size, damaged = _unpacked(view[found.end() :], left)
        left -= size
        if damaged or left <= 0:
            return True
    return False


def _unpacked(packed: bytes | memoryview, cap: int) -> tuple[int, bool]:
    """(bytes counted up to `cap`, whether a Flate stream is damaged before its end); a wrong checksum loses nothing."""
    engine = zlib.decompressobj()
    total = at = 0
    left: bytes = b""
    try:
        while total < cap and not engine.eof:
            if not left:
                left, at = bytes(packed[at : at + FED]), at + FED
            if not left:
                break
            total += len(engine.decompress(left, BLOCK))
            left = engine.unconsumed_tail
    except zlib.error as error:
        return total, "incorrect data check" not in str(error)
    return total, False


def _contents(document: pypdfium2.PdfDocument, index: int) -> tuple[bytes, list[bytes]]:
    """(a file of this page alone, the numbers of its content streams).

    The page is copied into a new document first: pdfium writes that plainly, whatever the first one looked like.
    """
    single = pypdfium2.PdfDocument.new()
    out = io.BytesIO()
    try:
        single.import_pages(document, [index])
        single.save(out)
    except pypdfium2.PdfiumError:
        return b"", []
    finally:
        single.close()
    data = out.getvalue()
    contents = CONTENTS.search(data)
    if contents is None:
        return b"", []
    return data, REFERENCE.findall(contents.group(1)) if contents.group(1) is not None else [contents.group(2)]


def _stream(data: bytes, number: bytes) -> tuple[bytes, list[bytes]]:
    """(bytes, filters) of a stream; the filters are empty where it is plain or has others than Flate."""
    head = re.search(rb"[\r\n]%s 0 obj\s*<<(.*?)>>\s*stream\r?\n" % number, data, re.S)
    length = re.search(rb"/Length (\d+)", head.group(1)) if head else None
    if head is None or length is None:
        return b"", []
    packed = data[head.end() : head.end() + int(length.group(1))]
    filters = FILTERS.search(head.group(1))
    names = re.findall(rb"\w+", filters.group(1) or filters.group(2)) if filters else []
    return packed, names if set(names) == {b"FlateDecode"} else []


def _unfolded(data: bytes, number: bytes, cap: int) -> int:
    packed, names = _stream(data, number)
    if not names:
        return min(len(packed), cap)
    with contextlib.suppress(zlib.error):
        for _ in names[1:]:
            packed = zlib.decompressobj().decompress(packed, cap)
    # What does not unfold is damaged, and still is no blank page.
    return min(max(_unpacked(packed, cap)[0], len(packed)), cap)
