"""What pages look like: through `read_documents`, so in a real child, on PDFs written here."""

from __future__ import annotations

import hashlib
import pickle
from functools import partial
from typing import Any

import pyarrow as pa

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents, refusal
from modelyard.workloads.chatbot.reading.formats import FORMATS
from modelyard.workloads.chatbot.schemas import PAGES, SOURCES

from .pdfs import assemble, column, objects_of, pdf, shown

Rows = list[dict[str, Any]]


def read(files: dict[str, bytes | None], limits: Limits | None = None) -> Rows:
    rows = [
        {"document": name, "sha256": hashlib.sha256(content or b"").hexdigest(), "content": content}
        for name, content in files.items()
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=SOURCES)
    out = list(read_documents(iter([batch]), limits or Limits()))
    assert all(piece.schema == PAGES for piece in out)
    return [row for piece in out for row in piece.to_pylist()]


def texts(content: bytes) -> list[str]:
    return [row["text"] for row in read({"a.pdf": content})]


NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
PROSE = [
    "The company was founded in a small town near the sea, where its first",
    "workshop still stands. It makes instruments that measure the flow of water",
    "and sells them to utilities in many countries of the world.",
]


def test_a_paragraph_is_one_line_and_paragraphs_are_apart() -> None:
    [text] = texts(pdf([column(72, 700, PROSE) + column(72, 640, ["Another paragraph begins here and is short."])]))
    assert text == " ".join(PROSE) + "\n\nAnother paragraph begins here and is short."


def test_words_say_where_they_stand() -> None:
    [row] = read({"a.pdf": pdf([column(72, 700, PROSE)])})
    assert (row["width"], row["height"]) == (595, 842)
    for word in row["words"]:
        assert row["text"][word["start"] : word["end"]].strip()
        assert 0 <= word["x0"] < word["x1"] <= 595 and 0 <= word["y0"] < word["y1"] <= 842
    joined = " ".join(row["text"][word["start"] : word["end"]] for word in row["words"])
    assert joined == " ".join(PROSE)
    # The origin is the top left: a line at 700 of 842 points from the foot begins about 130 points from the top.
    assert 125 < row["words"][0]["y0"] < 142


def test_a_row_of_a_table_keeps_label_and_values_in_their_columns() -> None:
    cells = [
        ("", "2024", "2023", "2022"),
        ("Revenue", "1,200", "1,100", "1,000"),
        ("One-off income", "", "30", ""),
        ("Cost of sales", "(700)", "(650)", "(610)"),
        ("Dividend", "$", "", ""),
    ]
    page = ""
    for at, row in enumerate(cells[:4]):
        page += "".join(shown(x, 700 - 14 * at, cell) for x, cell in zip((72, 300, 380, 460), row, strict=True) if cell)
    [text] = texts(pdf([page]))
    assert text.split("\n") == [
        "\t2024\t2023\t2022",
        "Revenue\t1,200\t1,100\t1,000",
        "One-off income\t\t30",
        "Cost of sales\t(700)\t(650)\t(610)",
    ]


def test_signs_of_currency_and_brackets_belong_to_their_value() -> None:
    page = ""
    for at, (label, one, two) in enumerate([("Net income", "4,029", "1,933"), ("Loss", "(17", "(22")]):
        y = 700 - 14 * at
        page += shown(72, y, label) + shown(290, y, "$") + shown(320, y, one) + shown(390, y, "$") + shown(420, y, two)
        if one.startswith("("):
            page += shown(342, y, ")") + shown(442, y, ")")
    [text] = texts(pdf([page]))
    assert text == "Net income\t$4,029\t$1,933\nLoss\t$(17)\t$(22)"


def test_a_cell_of_several_lines_comes_together() -> None:
    page = column(72, 714, ["Class", "Secret", "", "Internal"], leading=14)
    page += column(150, 714, ["Examples", "Meter keys, plans of", "acquisitions", "Minutes"], leading=14)
    page += column(300, 714, ["Sent by e-mail", "never", "", "yes"], leading=14)
    [text] = texts(pdf([page]))
    assert "Secret\tMeter keys, plans of acquisitions\tnever" in text.split("\n")


def test_a_raised_digit_is_a_note_and_not_part_of_the_value() -> None:
    page = ""
    for at, value in enumerate(["285", "640"]):
        page += shown(72, 700 - 14 * at, "Loggers") + shown(300, 700 - 14 * at, value)
    page += shown(300 + 3 * 6.12, 704, "1", size=6)
    [text] = texts(pdf([page]))
    assert text.split("\n")[0] == "Loggers\t285¹"


def test_two_columns_are_read_one_after_the_other() -> None:
    left = [f"the left column says in its line {name} that" for name in NUMBERS]
    right = [f"and the right one answers it with line {name}" for name in NUMBERS]
    page = shown(72, 760, "A heading over both of the columns that is as wide as the whole page of this paper")
    page += column(72, 720, left, size=9, leading=12) + column(310, 720, right, size=9, leading=12)
    [text] = texts(pdf([page]))
    flat = " ".join(text.split())
    assert " ".join(left) in flat
    assert " ".join(right) in flat
    assert flat.index(left[-1]) < flat.index(right[0])


def test_a_table_with_a_column_of_words_is_not_read_as_two_columns() -> None:
    rows = [
        ("Safety shoes of own choice", "140 a pair", "every 18 months, for work areas B to D"),
        ("Glasses for screen work, new", "120", "every three years, with a statement"),
        ("Mobile telephone, private", "20 a month", "no telephone of the company is used"),
        ("Professional membership", "200 a year", "one membership, approved by manager"),
        ("Farewell gift or jubilee gift", "50", "jubilees at 10, 20, 25 and 30 years"),
        ("Flowers for illness or birth", "35", "one bunch per occasion and person"),
    ]
    page = shown(72, 760, "Employees may claim what follows, with a receipt and up to the limit that is named here.")
    for at, cells in enumerate(rows):
        page += "".join(shown(x, 720 - 17 * at, cell) for x, cell in zip((72, 230, 310), cells, strict=True))
    [text] = texts(pdf([page]))
    assert text.split("\n")[-6:] == ["\t".join(cells) for cells in rows]


def test_a_turned_page_reads_as_it_is_shown() -> None:
    # Content drawn so that it stands upright once the page is turned.
    drawn = {0: "1 0 0 1 0 0", 90: "0 1 -1 0 595 0", 180: "-1 0 0 -1 595 842", 270: "0 -1 1 0 0 842"}
    text = column(72, 500, PROSE, size=9)
    pages = {f"{turn}.pdf": pdf([f"q {to} cm {text} Q"], b"/Rotate %d" % turn) for turn, to in drawn.items()}
    for row in read(dict(pages)):
        turn = int(row["document"].removesuffix(".pdf"))
        assert row["text"] == " ".join(PROSE)
        assert (row["width"], row["height"]) == ((595, 842) if turn in (0, 180) else (842, 595))
        first, later = row["words"][0], row["words"][5]
        assert first["x1"] - first["x0"] > first["y1"] - first["y0"]
        assert 70 < first["x0"] < 74 and first["x0"] < later["x0"]
        assert row["height"] - 500 - 12 < first["y0"] < row["height"] - 500


def test_writing_that_runs_up_the_margin_comes_last_and_whole() -> None:
    margin = "BT /F1 9 Tf 0 1 -1 0 30 300 Tm (Confidential until the day of the meeting) Tj ET"
    [text] = texts(pdf([margin + column(72, 700, PROSE)]))
    assert text == " ".join(PROSE) + "\n\nConfidential until the day of the meeting"


def test_a_cropped_page_counts_from_its_crop() -> None:
    [row] = read({"a.pdf": pdf([column(172, 700, PROSE)], page_extra=b"/CropBox [100 100 595 742]")})
    assert (row["width"], row["height"]) == (495, 642)
    assert 70 < row["words"][0]["x0"] < 74


def test_broken_words_are_made_whole_by_the_documents_own_words() -> None:
    lines = [
        "Our emissions were lower and we sold an-",
        "other plant in the long-",
        "term plan; the infor-",
        "mation is in the long-term plan as well.",
    ]
    [text] = texts(pdf([column(72, 700, lines)]))
    flat = " ".join(text.split())
    assert "we sold another plant in the long-term plan; the information is" in flat


def test_ligatures_are_letters() -> None:
    # Two characters of the font are drawn as the pairs fi and fl.
    pairs = b"/Encoding << /Type /Encoding /BaseEncoding /WinAnsiEncoding /Differences [128 /fi /fl] >>"
    objects = objects_of(["BT /F1 11 Tf 72 700 Td (The \\200rst of\\200ce, \\201oor two) Tj ET"])
    objects[3] = objects[3].replace(b"/Encoding /WinAnsiEncoding", pairs)
    assert texts(assemble(objects)) == ["The first office, floor two"]


def test_running_headers_and_page_numbers_leave_the_text() -> None:
    pages = [
        shown(72, 810, f"Annual report 2024 - chapter {at // 3}")
        + column(72, 700, [f"Page {word} speaks of something that no other page says."])
        + shown(290, 30, f"{at + 1}")
        for at, word in enumerate(["one", "two", "three", "four", "five"])
    ]
    assert texts(pdf(pages)) == [
        f"Page {word} speaks of something that no other page says." for word in ("one", "two", "three", "four", "five")
    ]


def test_a_line_that_is_all_a_page_has_is_no_furniture() -> None:
    assert texts(pdf([shown(72, 700, "To be continued")] * 4)) == ["To be continued"] * 4


def test_headings_give_sections_and_the_title() -> None:
    one = shown(72, 780, "Travel Policy 2025", 24, "F2") + shown(72, 730, "1 Purpose", 15, "F2")
    one += column(72, 700, PROSE) + shown(72, 640, "1.1 Scope", 12, "F2") + column(72, 610, PROSE)
    two = column(72, 780, PROSE) + shown(72, 700, "2 Booking", 15, "F2") + column(72, 670, PROSE)
    rows = read({"policies/travel.pdf": pdf([one, two])})
    headings = [[(row["text"][h["start"] : h["end"]], h["path"]) for h in row["headings"]] for row in rows]
    assert headings == [
        [
            ("Travel Policy 2025", "Travel Policy 2025"),
            ("1 Purpose", "Travel Policy 2025 > 1 Purpose"),
            ("1.1 Scope", "Travel Policy 2025 > 1 Purpose > 1.1 Scope"),
        ],
        [("2 Booking", "Travel Policy 2025 > 2 Booking")],
    ]
    levels = [heading["level"] for row in rows for heading in row["headings"]]
    assert levels[0] < levels[1] < levels[2] and levels[3] == levels[1]
    assert [row["section"] for row in rows] == ["Travel Policy 2025", "Travel Policy 2025 > 1 Purpose > 1.1 Scope"]
    assert {(row["title"], row["period"]) for row in rows} == {("Travel Policy 2025", "2025")}


def test_the_period_is_told_by_words_title_or_name() -> None:
    cases = {
        "a.pdf": ("For the fiscal year ended May 31, 2019", "fiscal year 2019"),
        "b.pdf": ("For the fiscal year ended January 1, 2023", "fiscal year 2022"),
        "c.pdf": ("for the quarterly period ended June 30, 2023", "quarter ended June 30, 2023"),
        "results_2022Q4.pdf": ("Sales grew", "Q4 2022"),
        "handbook-2024.pdf": ("Welcome to the company", "2024"),
        "d.pdf": ("Effective 1 February 2025", "2025"),
        "e.pdf": ("Welcome to the company", ""),
    }
    rows = read({name: pdf([column(72, 700, [f"{opening} and so forth."])]) for name, (opening, _) in cases.items()})
    assert {row["document"]: row["period"] for row in rows} == {name: period for name, (_, period) in cases.items()}


def test_the_title_falls_back_to_metadata_and_then_to_the_name() -> None:
    page = column(72, 700, PROSE)
    rows = read(
        {
            "a.pdf": pdf([page], info=b"/Title (House rules of the plant)"),
            "House_rules-2024.pdf": pdf([page], info=b"/Title (rules_final.docx)"),
        }
    )
    assert [row["title"] for row in rows] == ["House rules of the plant", "House rules 2024"]


def test_markdown_headings_are_pages() -> None:
    source = """---
title: Office guide
---
Before the first heading.

# Offices
Soft
breaks and **strong** words and [a link](https://example.org/x).

```
# no heading
```

## Hours

| Site | Open |
|------|-----:|
| Brno | 7 to 18 |

Parking
-------
- one
- two
"""
    rows = read({"guide.md": source.encode()})
    assert [row["text"] for row in rows] == [
        "Before the first heading.",
        "Offices\n\nSoft breaks and strong words and a link.\n\n# no heading",
        "Hours\n\nSite\tOpen\nBrno\t7 to 18",
        "Parking\n\n- one\n- two",
    ]
    assert [row["page"] for row in rows] == [1, 2, 3, 4]
    assert [row["section"] for row in rows] == ["", "Offices", "Offices > Hours", "Offices > Parking"]
    assert {row["title"] for row in rows} == {"Office guide"}
    assert all(row["words"] == [] and row["quality"] == 1 and row["reason"] is None for row in rows)


def test_plain_text_is_one_page_and_a_long_one_several() -> None:
    short = "A NOTE TO ALL\nThe first line is wrapped here and goes\non in the next.\n\n# not a heading\nOf anything"
    paragraph = "Some words of no great matter. " * 20
    long = "\n\n".join([paragraph] * 30)
    rows = read({"note.txt": short.encode(), "long.txt": long.encode()})
    assert [row["text"] for row in rows if row["document"] == "note.txt"] == [
        "A NOTE TO ALL\nThe first line is wrapped here and goes on in the next.\n\n# not a heading\nOf anything"
    ]
    assert rows[0]["title"] == "A NOTE TO ALL"
    pages = [row["text"] for row in rows if row["document"] == "long.txt"]
    assert len(pages) > 3 and max(map(len, pages)) <= 3000
    assert "\n\n".join(pages).split() == long.split()


def test_text_is_read_in_its_encoding() -> None:
    certain = {"utf-8": True, "utf-8-sig": True, "utf-16": True, "utf-16-le": False, "cp1252": False}
    rows = read({f"{encoding}.txt": "Grüße aus Köln, 5 € und mehr".encode(encoding) for encoding in certain})
    assert {row["text"] for row in rows} == {"Grüße aus Köln, 5 € und mehr"}
    assert {row["document"].removesuffix(".txt"): row["quality"] == 1 for row in rows} == certain


def test_a_font_without_a_character_map_lowers_the_quality() -> None:
    names = b" ".join(b"/g%d" % at for at in range(256))
    strange = b"/Encoding << /Type /Encoding /Differences [0 %s] >>" % names
    sound, odd = pdf([column(72, 700, PROSE)]), pdf([column(72, 700, PROSE)])
    odd = odd.replace(b"/BaseFont /Helvetica /Encoding /WinAnsiEncoding", b"/BaseFont /Unknown " + strange)
    rows = read({"sound.pdf": sound, "odd.pdf": odd})
    assert rows[0]["quality"] > 0.95
    assert rows[1]["quality"] < 0.5


def test_the_stage_can_be_sent_to_another_process() -> None:
    stage = pickle.loads(pickle.dumps(partial(read_documents, limits=Limits(max_pages=7))))
    assert list(stage(iter([]))) == []


def test_what_is_refused_is_refused_before_reading() -> None:
    limits = Limits(max_bytes=2_000_000)
    assert refusal("a/b.PDF", 2_000_000, limits) is None
    assert refusal("b.pdf", 2_500_000, limits) == "the file is 2.5 MB, larger than the limit of 2.0 MB"
    said = (refusal("b.mp3", 10, limits) or "").partition("supported are ")[2].split(", ")
    assert said[:4] == [".pdf", ".md", ".markdown", ".txt"] and said == [*FORMATS, ".zip"]
    assert refusal("b.doc", 10, limits) == "files ending in .doc are not supported: save it as .docx"
    assert "empty" in (refusal("b.txt", 0, limits) or "")
