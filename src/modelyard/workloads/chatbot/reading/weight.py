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
BLOCK = 1 << 20


def content_weight(document: pypdfium2.PdfDocument, index: int, cap: int) -> int:
    """Bytes of operators a page is drawn with, unfolded, counted up to `cap`; 0 where they cannot be told.

    The page is copied alone into a new document first: pdfium writes that plainly, whatever the first one looked like.
    """
    single = pypdfium2.PdfDocument.new()
    out = io.BytesIO()
    try:
        single.import_pages(document, [index])
        single.save(out)
    except pypdfium2.PdfiumError:
        return 0
    finally:
        single.close()
    data = out.getvalue()
    contents = CONTENTS.search(data)
    if contents is None:
        return 0
    named = REFERENCE.findall(contents.group(1)) if contents.group(1) is not None else [contents.group(2)]
    sizes: dict[bytes, int] = {}
    total = 0
    for number in named:
        if number not in sizes:
            sizes[number] = _unfolded(data, number, cap)
        total += sizes[number]
        if total >= cap:
            return cap
    return total


def _unfolded(data: bytes, number: bytes, cap: int) -> int:
    head = re.search(rb"[\r\n]%s 0 obj\s*<<(.*?)>>\s*stream\r?\n" % number, data, re.S)
    length = re.search(rb"/Length (\d+)", head.group(1)) if head else None
    if head is None or length is None:
        return 0
    packed = data[head.end() : head.end() + int(length.group(1))]
    filters = FILTERS.search(head.group(1))
    names = re.findall(rb"\w+", filters.group(1) or filters.group(2)) if filters else []
    if not names or set(names) != {b"FlateDecode"}:
        return min(len(packed), cap)
    with contextlib.suppress(zlib.error):
        for _ in names[1:]:
            packed = zlib.decompressobj().decompress(packed, cap)
    return _inflated(packed, cap)


def _inflated(packed: bytes, cap: int) -> int:
    """Bytes a stream unfolds to, without ever holding more than a block of them."""
    engine = zlib.decompressobj()
    total = 0
    left = packed
    with contextlib.suppress(zlib.error):
        while left and total < cap and not engine.eof:
            total += len(engine.decompress(left, BLOCK))
            left = engine.unconsumed_tail
    # What does not unfold is damaged, and still is no blank page.
    return min(max(total, len(packed)), cap)
