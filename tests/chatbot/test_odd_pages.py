"""Pages that are honest and still odd: other scripts, notes at the foot, forms, what was lost of a damaged file."""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Any

import pyarrow as pa
import pytest

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.schemas import SOURCES

from .pdfs import assemble, column, encrypted, objects_of, pdf, shown, unicode_pdf

Rows = list[dict[str, Any]]
SENTENCE = "A sound page with several words on it."
GOOD = shown(72, 700, SENTENCE)


def read(content: bytes) -> Rows:
    row = {"document": "a.pdf", "sha256": hashlib.sha256(content).hexdigest(), "content": content}
    batches = read_documents(iter([pa.RecordBatch.from_pylist([row], schema=SOURCES)]), Limits())
    return [row for batch in batches for row in batch.to_pylist()]


def text(content: bytes) -> str:
    [row] = read(content)
    assert row["reason"] is None
    for word in row["words"]:
        assert row["text"][word["start"] : word["end"]].strip()
        assert 0 <= word["x0"] < word["x1"] <= row["width"]
    return str(row["text"])


def from_the_right(lines: list[str], y: float = 700) -> list[tuple[float, float, str]]:
    """Lines as a program draws them that knows only left to right, each ending at the right margin."""
    return [(520 - 7.2 * len(line), y - 15 * at, line[::-1]) for at, line in enumerate(lines)]


def test_lines_from_right_to_left_are_read_in_their_order() -> None:
    lines = [
        "השורה הראשונה של הפסקה הזאת ארוכה מאוד וגם מגיעה עד הקצה",
        "והשורה השנייה ממשיכה אותה וגם היא ארוכה ומגיעה עד הקצה",
        "וסוף.",
    ]
    assert text(unicode_pdf(from_the_right(lines))) == " ".join(lines)


def test_numbers_and_latin_words_keep_their_order_among_those_read_from_the_right() -> None:
    assert text(unicode_pdf([(100, 700, "ןאכ ISO 9001 יפל רלוד 120 ריחמה")])) == "המחיר 120 דולר לפי ISO 9001 כאן"
    rows = [("ריחמה", "120", "240"), ("חוורה", "12", "24")]
    cells = [
        (x, 700 - 16 * at, cell) for at, row in enumerate(rows) for x, cell in zip((450, 300, 100), row, strict=True)
    ]
    assert text(unicode_pdf(cells)) == "המחיר\t120\t240\nהרווח\t12\t24"


def test_arabic_letters_are_the_letters_and_not_their_shapes() -> None:
    assert text(unicode_pdf([(100, 700, "\ufee2\ufefc\ufeb4\ufedf\ufe8d")])) == "السلام"


def test_lines_of_chinese_and_japanese_are_joined_without_a_blank() -> None:
    lines = [
        "日本語の文章はここから始まり、単語の間に空白はありませんが、",
        "次の行に続く文章もまた同じ段落であり、検索できなければ",
        "なりません。",
    ]
    page = unicode_pdf([(72, 700 - 16 * at, line) for at, line in enumerate(lines)], wide=1000)
    assert "空白はありませんが、次の行に続く" in text(page)


def test_notes_under_a_column_come_after_both_columns() -> None:
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"] * 2
    left = [f"the left column says in its line {name} that" for name in numbers]
    right = [f"and the right one answers it with line {name}" for name in numbers]
    page = column(72, 720, left, size=9, leading=12) + column(310, 720, right, size=9, leading=12)
    page += column(
        72, 440, ["1 The note under the left column is", "set smaller and has two lines."], size=7, leading=9
    )
    page += shown(310, 440, "2 The note under the right one.", 7)
    flat = " ".join(text(pdf([page])).split())
    assert f"{left[-1]} {right[0]}" in flat
    assert flat.index(right[-1]) < flat.index("1 The note") < flat.index("two lines.")


def form(annotations: list[bytes], fields: bytes = b"") -> bytes:
    names = b" ".join(b"%d 0 R" % (50 + at) for at in range(len(annotations)))
    objects = objects_of([shown(72, 700, "Name of the applicant")], page_extra=b"/Annots [%s]" % names)
    resources = b"/DA (/Helv 10 Tf 0 g) /DR << /Font << /Helv 3 0 R >> >>"
    objects[1] = b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [%s] %s >> >>" % (fields, resources)
    return assemble(objects | {50 + at: body for at, body in enumerate(annotations)})


def test_what_was_filled_into_a_form_stands_beside_its_label() -> None:
    kind, place = b"/Type /Annot /Subtype /Widget /FT /Tx", b"/Rect [220 695 400 715] /F 4"
    field = b"<< %s /T (name) /V (Jane Doe) %s /DA (/Helv 10 Tf 0 g) >>" % (kind, place)
    assert re.fullmatch(r"Name of the applicant\s+Jane Doe", text(form([field], b"50 0 R")))


def test_text_written_over_a_page_is_read_and_links_are_not() -> None:
    remark = (
        b"<< /Type /Annot /Subtype /FreeText /Rect [72 600 300 620] /Contents (Agreed in March) /DA (/Helv 10 Tf) >>"
    )
    link = b"<< /Type /Annot /Subtype /Link /Rect [72 690 300 710] /Contents (elsewhere) >>"
    assert "Agreed in March" in text(form([remark, link]))
    assert text(form([link])) == "Name of the applicant"


def test_text_whose_letters_nothing_tells_is_no_blank_page() -> None:
    # Glyphs of a font that is neither embedded nor known, one by one: pdfium gives no character for them. What is seen
    # is only a rule.
    page = unicode_pdf([(100 + 12 * at, 700, letter) for at, letter in enumerate("日本語の文章は")])
    [row] = read(page.replace(b"BT /F1", b"72 72 200 2 re f BT /F1", 1))
    assert row["page"] == 0 and "fonts do not say which letters" in row["reason"]


SOUND = pdf([GOOD, GOOD, GOOD])
DAMAGES = {
    "headers of the web before it": b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n" + SOUND,
    "much before it": bytes(range(1, 256)) * 20 + SOUND,
    "much after it": SOUND + b"\0" * 100_000,
    "its first line gone": SOUND[9:],
    "no catalogue": SOUND.replace(b"/Catalog", b"/Cxtalog"),
    "no root": SOUND.replace(b"/Root", b"/Rxot"),
    "no page tree": SOUND.replace(b"/Kids", b"/Kxds"),
    "no ends of objects": SOUND.replace(b"endobj", b""),
    "no ends of streams": SOUND.replace(b"endstream", b""),
    "wrong lengths": re.sub(rb"/Length \d+", b"/Length 3", SOUND),
    "huge lengths": re.sub(rb"/Length \d+", b"/Length 99999999", SOUND),
    "wrong places": re.sub(rb"\n\d{9}(\d) ", rb"\n00000123\1 ", SOUND),
    "wrong beginning of places": re.sub(rb"startxref\n\d+", b"startxref\n77", SOUND),
    "encrypted for nobody": encrypted([GOOD, GOOD, GOOD], b"", b"boss"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_around_pages_costs_no_page(damage: str) -> None:
    rows = read(DAMAGES[damage])
    assert [(row["page"], row["text"], row["reason"]) for row in rows] == [(at, SENTENCE, None) for at in (1, 2, 3)]
    assert all(len(row["words"]) == 8 for row in rows)


def test_pages_within_object_streams_are_found() -> None:
    inner = {number: body for number, body in objects_of([GOOD]).items() if b"stream" not in body}
    bodies, places = b"", []
    for number, body in inner.items():
        places.append(b"%d %d" % (number, len(bodies)))
        bodies += body + b"\n"
    head = b" ".join(places) + b"\n"
    packed = zlib.compress(head + bodies)
    outer = {number: body for number, body in objects_of([GOOD]).items() if number not in inner}
    outer[90] = b"<< /Type /ObjStm /N %d /First %d /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (
        len(places),
        len(head),
        len(packed),
        packed,
    )
    damaged = assemble(outer).replace(b"/Root 1 0 R", b"")
    assert [(row["text"], row["reason"]) for row in read(damaged)] == [(SENTENCE, None)]


def test_a_file_without_its_end_is_read_and_says_so() -> None:
    rows = read(SOUND[: SOUND.rindex(b"xref\n0")])
    assert [row["text"] for row in rows] == [SENTENCE] * 3 + [""]
    assert rows[3]["reason"] == "the file's end is missing: what may have come after page 3 is lost"


def test_a_page_that_breaks_off_in_the_middle_is_told() -> None:
    packed = zlib.compress(
        "".join(shown(72, 800 - 12 * at, f"{SENTENCE} {at * at * 7919}") for at in range(60)).encode(), 1
    )
    torn = packed[: len(packed) // 2] + b"\xff" * 40 + packed[len(packed) // 2 + 40 :]
    objects = objects_of([GOOD, ""])
    objects[13] = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(torn), torn)
    rows = read(assemble(objects))
    assert rows[0]["text"] == SENTENCE and SENTENCE in rows[1]["text"]
    assert rows[2]["reason"] == "a part of page 2 is lost: the content there is damaged"
