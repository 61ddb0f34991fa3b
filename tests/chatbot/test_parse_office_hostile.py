"""Office files made to bring a reader down: each costs itself, and says why in a sentence."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib

import pptx
import pytest

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.archive import Archive

from .reading import W, archive, p, read, reason, relations, word

SOUND = word(p("A night costs 45 euros."))
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
LIMITS = Limits(max_decoded=5_000_000, max_members=200)


def named(name: str) -> bytes:
    """An OLE container with an entry of this name."""
    return OLE + name.encode("utf-16-le")


def slides(body: str = "") -> bytes:
    members = {
        "_rels/.rels": relations(officeDocument="ppt/presentation.xml"),
        "ppt/presentation.xml": f"<p:presentation xmlns:p='x'>{body}</p:presentation>",
    }
    return archive(dict(members))


def bomb(size: int) -> bytes:
    return word(p("A" * size))


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
FILES: dict[str, tuple[bytes, str]] = {
    "bomb.docx": (bomb(9_000_000), "unfolds to more than the limit of 5 MB"),
    "laughs.docx": (word(p("&c;"), LAUGHS), "declares a document type"),
    "outside.docx": (word(p("&a;"), OUTSIDE), "declares a document type"),
    "entity.docx": (word(p("&a;")), "its XML is damaged (undefined entity"),
    "half.docx": (SOUND[: len(SOUND) // 2], "the archive is damaged or cut off"),
    "zip.docx": (archive({"readme.txt": "hello"}), "holds a ZIP archive that is no Office document"),
    "sheet.docx": (
        archive({"_rels/.rels": relations(officeDocument="xl/workbook.xml"), "xl/workbook.xml": "<x/>"}),
        "it is named .docx but holds a spreadsheet",
    ),
    "word.pptx": (SOUND, "it is named .pptx but holds a Word document"),
    "slides.docx": (slides(), "it is named .docx but holds a presentation"),
    "none.pptx": (slides(), "it holds no slides"),
    "secret.docx": (named("EncryptedPackage"), "it is encrypted with a password"),
    "secret.pptx": (named("EncryptedPackage"), "it is encrypted with a password"),
    "old.docx": (named("WordDocument"), "holds an old Word document (.doc): save it as .docx"),
    "old.pptx": (named("PowerPoint Document"), "holds an old presentation (.ppt): save it as .pptx"),
    "rich.docx": (b"{\\rtf1 hello}", "it is named .docx but holds an RTF document"),
    "page.docx": (b"<!doctype html><p>hello", "it is named .docx but holds an HTML page"),
    "text.docx": (b"hello", "it is named .docx but holds no Word document"),
    "old.doc": (named("WordDocument"), "files ending in .doc are not supported: save it as .docx"),
    "old.ppt": (OLE, "files ending in .ppt are not supported: save it as .pptx"),
    "old.rtf": (b"{\\rtf1}", "files ending in .rtf are not supported: save it as .docx"),
    "deep.docx": (word("<w:sdt>" * 10_000 + p("x") + "</w:sdt>" * 10_000), "nested more than 256 deep"),
    "deeper.docx": (word(f"<w:p>{'<w:ins>' * 200_000}{'</w:ins>' * 200_000}</w:p>"), "nested more than 256 deep"),
    "blank.docx": (word(p(" ")), "it holds no text"),
    "empty.docx": (word(""), "it holds no text"),
    "damaged.docx": (word("<w:p><w:r>"), "its XML is damaged"),
    "many.docx": (archive({f"{at}.xml": "" for at in range(300)}), "more than the limit of 200 members"),
    "marks.docx": (b"PK\x03\x04" + b"PK\x01\x02" * 5_000, "more than the limit of 200 members"),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, list[tuple[int, str | None]]]:
    files = {name: content for name, (content, _) in FILES.items()}
    found: dict[str, list[tuple[int, str | None]]] = {}
    for row in read({**files, "sound.docx": SOUND}, LIMITS):
        found.setdefault(row["document"], []).append((row["page"], row["reason"]))
    return found


@pytest.mark.parametrize("name", FILES)
def test_it_says_why(name: str, rows: dict[str, list[tuple[int, str | None]]]) -> None:
    [(page, said)] = rows[name]
    assert page == 0 and said is not None and FILES[name][1] in said


def test_what_comes_after_them_is_read(rows: dict[str, list[tuple[int, str | None]]]) -> None:
    assert rows["sound.docx"] == [(1, None)]


def test_what_an_archive_says_of_sizes_is_not_believed() -> None:
    # The size that is written in the list of members, from where the archive ends.
    content = bytearray(word(p("B" * 9_000_000)))
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        struct.pack_into("<I", content, at + 24, 10)
        at = content.find(b"PK\x01\x02", at + 4)
    assert "damaged" in reason("a.docx", bytes(content), LIMITS)


def test_members_that_share_their_bytes_count_each_time() -> None:
    """All entries of the list point at the same member, so that a small file unfolds to much."""
    deflated = zlib.compress(b"\0" * 1_000_000)[2:-4]
    crc = zlib.crc32(b"\0" * 1_000_000)
    head = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, crc, len(deflated), 1_000_000, 1, 0) + b"a"
    entries = b""
    for _ in range(20):
        sizes = struct.pack("<HHHHHIIIHHHHHII", 20, 0, 8, 0, 0, crc, len(deflated), 1_000_000, 1, 0, 0, 0, 0, 0, 0)
        entries += struct.pack("<IH", 0x02014B50, 20) + sizes + b"a"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 20, 20, len(entries), len(head) + len(deflated), 0)
    content = head + deflated + entries + end
    try:
        found = Archive(content, LIMITS)
        for _ in range(20):
            for _block in found.blocks("a"):
                pass
    except Unreadable as why:
        assert "unfolds to more than the limit of 5 MB" in str(why) or "damaged" in str(why)
    else:
        raise AssertionError("it was read without end")


def test_an_encrypted_member_says_so() -> None:
    content = bytearray(archive({"a.txt": "hello"}, zipfile.ZIP_STORED))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + at] |= 1
    with pytest.raises(Unreadable, match="encrypted with a password"):
        Archive(bytes(content), LIMITS).read("A.TXT")


def test_names_are_the_same_in_capitals_and_with_either_slash() -> None:
    found = Archive(archive({"Word\\Document.XML": "x", "folder/": ""}), LIMITS)
    assert found.names == ("Word/Document.XML",)
    assert "word/document.xml" in found and found.read("/WORD/document.xml") == b"x"
    with pytest.raises(KeyError):
        found.blocks("none")


def test_loops_between_styles_and_lists_end() -> None:
    style = '<w:style w:type="paragraph" w:styleId="{}"><w:name w:val="n"/><w:basedOn w:val="{}"/></w:style>'
    styles = f"<w:styles {W}>{style.format('A', 'B')}{style.format('B', 'A')}</w:styles>"
    [row] = read({"a.docx": word(p("still here", '<w:pStyle w:val="A"/>'), styles=styles)})
    assert row["text"] == "still here"


def test_spans_without_end_cost_what_the_table_holds() -> None:
    cell = f'<w:tc><w:tcPr><w:gridSpan w:val="999999"/></w:tcPr>{p("x")}</w:tc>'
    [row] = read({"a.docx": word(f"<w:tbl>{f'<w:tr>{cell * 60}</w:tr>' * 300}</w:tbl>")})[:1]
    assert row["reason"] is None and "x" in row["text"]


def test_damage_anywhere_is_read_or_named() -> None:
    """Bytes changed, cut out and doubled: every file gives rows, and none brings the reader down."""
    show = pptx.Presentation()
    show.slides.add_slide(show.slide_layouts[1]).shapes.title.text = "Sales"
    out = io.BytesIO()
    show.save(out)
    chance = random.Random(7)
    files: dict[str, bytes] = {}
    for at in range(120):
        name, sound = [("a.docx", SOUND), ("b.pptx", out.getvalue())][at % 2]
        content = bytearray(sound)
        for _ in range(chance.randint(1, 12)):
            place = chance.randrange(len(content))
            if chance.random() < 0.6:
                content[place] = chance.randrange(256)
            else:
                content[place : place + chance.randrange(40)] = content[:: max(1, len(content) // 20)][:20]
        files[f"{at} {name}"] = bytes(content)
    rows = read(files)
    assert {row["document"] for row in rows} == set(files)
    for row in rows:
        assert row["reason"] is not None or row["text"] or row["document"].endswith(".pptx")
        assert "parser failed" not in (row["reason"] or "") and "crashed" not in (row["reason"] or "")
