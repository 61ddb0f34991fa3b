"""PDF files written byte by byte, whole ones and broken ones, so that no test needs a file it cannot explain."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

Objects = dict[int, bytes]
PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


def shown(x: float, y: float, text: str, size: float = 11, font: str = "F1") -> str:
    """Operators that show a line of text; y counts from the foot of the page."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size} Tf 1 0 0 1 {x} {y} Tm ({escaped}) Tj ET\n"


def column(x: float, top: float, lines: Sequence[str], size: float = 11, leading: float = 13, font: str = "F1") -> str:
    """Lines below each other."""
    return "".join(shown(x, top - at * leading, line, size, font) for at, line in enumerate(lines))


def stream(content: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), extra, content)


def objects_of(
    pages: Sequence[str], page_extra: bytes = b"", resources: bytes = b"", info: bytes = b"", box: str = "0 0 595 842"
) -> Objects:
    """1 the catalogue, 2 the page tree, 3-4 fonts, 5 information, then a page and its content each."""
    kids = b" ".join(b"%d 0 R" % (10 + 2 * at) for at in range(len(pages)))
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /%s /Encoding /WinAnsiEncoding >>"
    objects: Objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        3: font % b"Helvetica",
        4: font % b"Helvetica-Bold",
        5: b"<< %s >>" % info,
    }
    for at, content in enumerate(pages):
        objects[10 + 2 * at] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [%s] /Contents %d 0 R %s "
            b"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> %s >> >>"
        ) % (box.encode(), 11 + 2 * at, page_extra, resources)
        objects[11 + 2 * at] = stream(content.encode("cp1252"))
    return objects


def assemble(objects: Objects, trailer: bytes = b"") -> bytes:
    """Objects with a table of where they stand."""
    out = bytearray(b"%PDF-1.7\n")
    places: dict[int, int] = {}
    for number, body in sorted(objects.items()):
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    size = max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        out += b"%010d 00000 %s \n" % (places.get(number, 0), b"n" if number in places else b"f")
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, start)
    return bytes(out)


def pdf(pages: Sequence[str], page_extra: bytes = b"", info: bytes = b"", box: str = "0 0 595 842") -> bytes:
    """A sound PDF of these pages; each is a string of operators."""
    return assemble(objects_of(pages, page_extra=page_extra, info=info, box=box))


def encrypted(pages: Sequence[str], user: bytes, owner: bytes) -> bytes:
    """With the standard handler of PDF 1.4 (RC4, 40 bits): opens without asking where `user` is empty."""
    identity, permissions = b"0123456789abcdef", -4
    owner_key = hashlib.md5((owner + PADDING)[:32]).digest()[:5]
    owner_entry = _rc4(owner_key, (user + PADDING)[:32])
    seed = (user + PADDING)[:32] + owner_entry + permissions.to_bytes(4, "little", signed=True) + identity
    key = hashlib.md5(seed).digest()[:5]
    objects = objects_of(pages)
    for number in [11 + 2 * at for at in range(len(pages))]:
        salt = number.to_bytes(3, "little") + b"\0\0"
        content = objects[number].split(b"stream\n", 1)[1].rsplit(b"\nendstream", 1)[0]
        objects[number] = stream(_rc4(hashlib.md5(key + salt).digest()[:10], content))
    objects[6] = b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P %d >>" % (
        owner_entry.hex().encode(),
        _rc4(key, PADDING).hex().encode(),
        permissions,
    )
    return assemble(objects, b"/Encrypt 6 0 R /ID [<%s> <%s>]" % (identity.hex().encode(), identity.hex().encode()))


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def flate_bomb(megabytes: int, twice: bool = False, sound_pages: Sequence[str] = ()) -> bytes:
    """A page whose content unfolds to so many megabytes of white space."""
    packer = zlib.compressobj(9)
    block = b" " * 1_000_000
    packed = b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()
    filters = b"/Filter /FlateDecode"
    if twice:
        packed, filters = zlib.compress(packed, 9), b"/Filter [/FlateDecode /FlateDecode]"
    objects = objects_of(["", *sound_pages])
    objects[11] = stream(packed, filters)
    return assemble(objects)


def endless_contents(entries: int, sound_pages: Sequence[str] = ()) -> bytes:
    """A page whose content is one stream of blanks, named over and over again."""
    objects = objects_of([" " * 1000, *sound_pages])
    objects[10] = objects[10].replace(b"/Contents 11 0 R", b"/Contents [" + b"11 0 R " * entries + b"]")
    return assemble(objects)


def nested_forms(depth: int, width: int, sound_pages: Sequence[str] = ()) -> bytes:
    """A page that draws a form that draws `width` forms that draw ...: width ** depth drawings in a few kilobytes."""
    objects = objects_of(["/X0 Do", *sound_pages])
    names = b" ".join(b"/X%d %d 0 R" % (at, 1000 + at) for at in range(depth))
    for at in range(depth):
        body = b"/X%d Do " % (at + 1) * width if at + 1 < depth else shown(10, 10, "deep").encode()
        form = (
            b"/Type /XObject /Subtype /Form /BBox [0 0 600 800] "
            b"/Resources << /Font << /F1 3 0 R >> /XObject << %s >> >>"
        )
        objects[1000 + at] = stream(body, form % names)
    objects[10] = objects[10].replace(b"/Font <<", b"/XObject << %s >> /Font <<" % names)
    return assemble(objects)


def picture_only(pages: int = 1, text: str = "") -> bytes:
    """Pages that hold a picture over the whole sheet, as a scanner makes them."""
    objects = objects_of([f"q 595 0 0 842 0 0 cm /Im Do Q {text}"] * pages, resources=b"/XObject << /Im 900 0 R >>")
    picture = b"/Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace /DeviceGray /BitsPerComponent 8"
    objects[900] = stream(bytes(range(64)), picture)
    return assemble(objects)


def looped_tree() -> bytes:
    """A page tree whose branch is its own trunk."""
    objects = objects_of(["x"])
    objects[2] = b"<< /Type /Pages /Kids [7 0 R] /Count 5 >>"
    objects[7] = b"<< /Type /Pages /Parent 2 0 R /Kids [2 0 R] /Count 5 >>"
    return assemble(objects)


def one_damaged_page(good: str) -> bytes:
    """Three pages, the second of which is no page."""
    objects = objects_of([good, good, good])
    objects[12] = b"<< /Type /Font >>"
    return assemble(objects)


def unicode_pdf(
    lines: Sequence[tuple[float, float, str]], size: float = 12, wide: int = 600, vertical: bool = False
) -> bytes:
    """A page of any characters: (x, y, text as drawn from left to right). A character is `wide` thousandths of an em.

    The font is not embedded and its codes are numbers of its own, so only its character map tells what they are.
    """
    codes = {char: at for at, char in enumerate(sorted({char for _, _, text in lines for char in text}), start=1)}
    rows = "\n".join(f"<{code:04x}> <{char.encode('utf-16-be').hex()}>" for char, code in codes.items())
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def /CMapType 2 def\n"
        f"1 begincodespacerange <0000> <ffff> endcodespacerange\n{len(codes)} beginbfchar\n{rows}\nendbfchar\n"
        "endcmap end end"
    )
    shown_lines = "".join(
        f"BT /F1 {size} Tf 1 0 0 1 {x} {y} Tm <{''.join(f'{codes[char]:04x}' for char in text)}> Tj ET\n"
        for x, y, text in lines
    )
    objects = objects_of([shown_lines])
    way = b"V" if vertical else b"H"
    objects[3] = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Made /Encoding /Identity-%s "
        b"/DescendantFonts [6 0 R] /ToUnicode 7 0 R >>" % way
    )
    objects[6] = (
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Made /DW %d /FontDescriptor 8 0 R "
        b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>"
    ) % wide
    objects[7] = stream(cmap.encode())
    objects[8] = (
        b"<< /Type /FontDescriptor /FontName /Made /Flags 4 /FontBBox [0 -200 1000 800] /Ascent 800 /Descent -200 "
        b"/ItalicAngle 0 /CapHeight 700 /StemV 80 >>"
    )
    return assemble(objects)
