"""A second way into a damaged PDF: its objects are looked for one by one and put together into a new file.

pdfium trusts the table of contents of a file, or rebuilds it where that fails; it gives up where the catalogue, the
page tree or the marks between objects are damaged, and shows such pages blank. Here nothing is trusted but `N G obj`:
what follows is an object, up to the next. Object streams are unpacked, lengths of streams are counted anew, and where
no page tree holds together a new one is made of every page that is there. Words keep their boxes, as in any file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from modelyard.workloads.chatbot.limits import Limits

OBJECT = re.compile(rb"(?<!\d)(\d{1,7})[ \t\r\n]+(\d{1,5})[ \t\r\n]+obj\b")
OPENING = re.compile(rb"stream(?:\r\n|\n|\r)?")
CLOSING = re.compile(rb"[\r\n]{0,2}endstream")
LENGTH = re.compile(rb"/Length\s+\d+(?:\s+\d+\s+R)?(?![\w.])")
CATALOG = re.compile(rb"/Type\s*/Catalog\b")
TREE = re.compile(rb"/Pages\s+(\d+)\s+\d+\s+R")
PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
PACKED = re.compile(rb"/Type\s*/ObjStm\b")
FLATE = re.compile(rb"/Filter\s*\[?\s*/(?:FlateDecode|Fl)\s*\]?\s*(?:/|>>)")
LOCK = re.compile(rb"/Encrypt\s+\d+\s+\d+\s+R")
IDENTITY = re.compile(rb"/ID\s*\[\s*<[0-9A-Fa-f\s]*>\s*<[0-9A-Fa-f\s]*>\s*\]")
MOST_OBJECTS = 500_000
MOST_PACKED = 64_000_000
HEAD = 65_536

Objects = dict[int, tuple[int, bytes]]


def normal(content: bytes) -> bytes:
    """The file from its first mark on: some are sent with headers of a mail or of the web before it, or without it."""
    at = content.find(b"%PDF-")
    if at > 0:
        return content[at:]
    return content if at == 0 else b"%PDF-1.7\n" + content


def cut_short(content: bytes) -> bool:
    """Whether the end of a PDF is missing: no mark of an end, or objects begin after the last one.

    pdfium would show what is left as if it were all.
    """
    end = max(content.rfind(b"%%EOF"), content.rfind(b"startxref"))
    return end < 0 or OBJECT.search(content, end) is not None


def holds_objects(content: bytes) -> bool:
    """Whether there is anything to be put together."""
    return OBJECT.search(content) is not None


def rebuilt(content: bytes, limits: Limits) -> Iterator[bytes]:
    """New files made of the objects of a damaged one: first by its own page tree, then by every page that is there."""
    objects = _objects(content, limits)
    if not objects:
        return
    extra = b" ".join(found[-1] for found in (LOCK.findall(content), IDENTITY.findall(content)) if found)
    roots = [number for number, (_, body) in objects.items() if CATALOG.search(body[:HEAD])]
    for root in reversed(roots):
        tree = TREE.search(objects[root][1])
        if tree and int(tree.group(1)) in objects:
            yield _assembled(objects, root, extra)
            break
    pages = [number for number, (_, body) in objects.items() if _is_page(body[:HEAD])]
    if pages:
        trunk = max(objects) + 1
        kids = b" ".join(b"%d %d R" % (number, objects[number][0]) for number in pages[: limits.max_pages])
        objects[trunk] = 0, b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(pages[: limits.max_pages]), kids)
        objects[trunk + 1] = 0, b"<< /Type /Catalog /Pages %d 0 R >>" % trunk
        yield _assembled(objects, trunk + 1, extra)


def _is_page(head: bytes) -> bool:
    if PAGE.search(head):
        return True
    return b"/Contents" in head and (b"/MediaBox" in head or b"/Resources" in head) and b"/Subtype" not in head


def _objects(content: bytes, limits: Limits) -> Objects:
    """Every object by number, the last of its name, as (generation, body)."""
    marks = []
    for mark in OBJECT.finditer(content):
        marks.append((mark.start(), mark.end(), int(mark.group(1)), int(mark.group(2))))
        if len(marks) > MOST_OBJECTS:
            return {}
    objects: Objects = {}
    left = min(limits.max_decoded, MOST_PACKED)
    for at, (_, begin, number, generation) in enumerate(marks):
        end = marks[at + 1][0] if at + 1 < len(marks) else len(content)
        close = content.rfind(b"endobj", begin, end)
        body = _whole(content[begin : close if close >= 0 else end])
        objects.pop(number, None)
        objects[number] = generation, body
        if left > 0 and PACKED.search(body[:HEAD]):
            left -= _unpack(body, objects, left)
    return objects


def _whole(body: bytes) -> bytes:
    """An object with the length its stream really has."""
    opening = OPENING.search(body)
    if opening is None or b">>" not in body[: opening.start()]:
        # What came after a missing `endobj` is no part of it.
        return re.split(rb"\b(?:xref|trailer|startxref)\b", body, maxsplit=1)[0]
    closings = list(CLOSING.finditer(body, opening.end()))
    data = body[opening.end() : closings[-1].start() if closings else len(body)]
    head = LENGTH.sub(b"", body[: opening.start()].rstrip())
    return head[: head.rfind(b">>")] + b" /Length %d >>\nstream\n" % len(data) + data + b"\nendstream"


def _unpack(body: bytes, objects: Objects, most: int) -> int:
    """Put the objects of an object stream beside the others; the bytes it unfolded to."""
    opening = OPENING.search(body)
    first = re.search(rb"/First\s+(\d+)", body)
    if opening is None or first is None:
        return 0
    head, data = body[: opening.start()], body[opening.end() :]
    if b"/Filter" in head:
        if not FLATE.search(head):
            return 0
        try:
            data = zlib.decompressobj().decompress(data, most)
        except zlib.error:
            return 0
    start = int(first.group(1))
    numbers = [int(each) for each in re.findall(rb"\d{1,9}", data[:start])]
    places = list(zip(numbers[::2], numbers[1::2], strict=False))
    for at, (number, offset) in enumerate(places):
        end = places[at + 1][1] if at + 1 < len(places) else len(data) - start
        if end > offset and number < 10_000_000:
            objects.pop(number, None)
            objects[number] = 0, data[start + offset : start + end]
    return len(data)


def _assembled(objects: Objects, root: int, extra: bytes) -> bytes:
    parts = [b"%PDF-1.7\n"]
    at = len(parts[0])
    rows = []
    for number, (generation, body) in objects.items():
        rows.append(b"%d 1\n%010d %05d n \n" % (number, at, generation))
        part = b"%d %d obj\n%s\nendobj\n" % (number, generation, body)
        parts.append(part)
        at += len(part)
    size = max(objects) + 1
    tail = b"trailer\n<< /Size %d /Root %d %d R %s >>\nstartxref\n%d\n%%%%EOF\n"
    parts += [b"xref\n0 1\n0000000000 65535 f \n", *rows, tail % (size, root, objects[root][0], extra, at)]
    return b"".join(parts)
