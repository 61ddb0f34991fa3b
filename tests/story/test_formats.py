"""Documents of an office, from the folder to a cited answer, by the command line alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import docx
import pptx
import pytest
from PIL import Image

from tests.chatbot.test_ocr import assemble_two, needs_tesseract
from tests.story.conftest import Story


@pytest.mark.proof
def test_word_html_and_slides_are_answered_from_with_their_page(fresh: Callable[[], Story]) -> None:
    house = fresh()
    assert "nothing was read yet" in house("data", "quarantine").out
    for path in house.documents.iterdir():
        path.unlink()
    (house.root / "evaluation.jsonl").write_text("")
    policy = docx.Document()
    policy.add_heading("Boat rules", 0)
    policy.add_heading("Return", 1)
    policy.add_paragraph("Boats are returned to the north pier before sunset.")
    policy.add_heading("Prices", 1)
    table = policy.add_table(4, 3)
    rows = [("Boat", "Weekday (euros)", "Weekend (euros)"), ("Heron", "30", "42"), ("Otter", "48", "66")]
    for at, cells in enumerate([*rows, ("Pelican", "95", "120")]):
        for cell, text in zip(table.rows[at].cells, cells, strict=True):
            cell.text = text
    policy.save(str(house.documents / "boats.docx"))
    (house.documents / "lodge.html").write_text(
        "<title>Lodge of the club</title><nav>Home</nav><h1>Lodge</h1><h2>Dogs</h2><p>Dogs pay 6 euros a night."
        "<h2>Keys</h2><p>Keys are handed back to the warden by 10:30."
    )
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "Opening times"
    slide.placeholders[1].text = "The harbour office opens at 7:15 in the morning."
    image = io.BytesIO()
    Image.new("L", (80, 60), 128).save(image, "PNG")
    show.slides.add_slide(show.slide_layouts[6]).shapes.add_picture(image, 0, 0)
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.title.text = "Moorings"
    grid = slide.shapes.add_table(3, 3, 0, 2_000_000, 6_000_000, 2_000_000).table
    for at, cells in enumerate(
        [("Pier", "Depth in metres", "Berths"), ("North pier", "4.5", "18"), ("Quay", "7", "9")]
    ):
        for column, text in enumerate(cells):
            grid.cell(at, column).text = text
    show.save(str(house.documents / "office.pptx"))
    (house.documents / "broken.docx").write_bytes((house.documents / "boats.docx").read_bytes()[:5_000])
    (house.documents / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    house("run", code=None)

    status = {row["document"]: row for row in house("data", "status", "--json").json}
    assert {name: row["pages"] for name, row in status.items() if row["pages"]} == {
        "boats.docx": 3,
        "lodge.html": 3,
        "office.pptx": 3,
    }
    refused = {row["document"]: row["reason"] for row in house("data", "quarantine", "--json").json}
    assert "damaged or cut off" in refused["broken.docx"]
    assert refused["old.doc"] == "files ending in .doc are not supported: save it as .docx"
    assert status["office.pptx"]["state"] == "ready" and "page 2 of 3 could not be read" in refused["office.pptx"]
    for question, words, document, page in (
        ("By when are keys handed back to the warden?", "10:30", "lodge.html", 3),
        ("Where are boats returned before sunset?", "north pier", "boats.docx", 2),
        ("What does the Otter cost on a weekend?", "66", "boats.docx", 3),
        ("When does the harbour office open?", "7:15", "office.pptx", 1),
        ("How many berths does the quay have?", "9", "office.pptx", 3),
        ("What is the depth of the North pier?", "4.5", "office.pptx", 3),
    ):
        answer = house("ask", question, "--json").json
        assert words in answer["answer"], answer
        assert (document, page) in {(cited["document"], cited["page"]) for cited in answer["citations"]}


@pytest.mark.proof
@needs_tesseract
def test_where_tesseract_appears_the_next_run_reads_and_builds(house: Story, tmp_path: Path) -> None:
    question = "How many pumps did the committee agree to buy?"
    (house.documents / "minutes.pdf").write_bytes(assemble_two())
    (tmp_path / "nothing").mkdir()
    bare = {"PATH": str(tmp_path / "nothing")}
    house("run", env=bare)
    assert house("ask", question, "--json").json["refused"]
    assert set(house("run", "--json", env=bare).json["steps"].values()) == {"skipped"}
    steps = house("run", "--json").json["steps"]
    assert (steps["prepare"], steps["build"]) == ("done", "done")
    answer = house("ask", question, "--json").json
    assert "seven pumps" in answer["answer"]
    assert [(cited["document"], cited["page"]) for cited in answer["citations"]] == [("minutes.pdf", 2)]
    assert set(house("run", "--json").json["steps"].values()) == {"skipped"}
