"""Columns are read one after the other and tables row by row, whatever their lengths, fonts and gutters."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from . import layouts, reading
from .layouts import Made
from .pdfs import column, pdf, shown
from .test_workload import Yard, ask

SEEDS = range(1000, 1040)


def wrong(made: Made, text: str) -> str:
    """What of a page is not as it should be, "" where all is."""
    flat = " ".join(text.split())
    at = 0
    for flow in made.flows:
        found = flat.find(" ".join(flow.split()), 0 if made.lines else at)
        if found < 0:
            return f"does not stand whole, or not in its place: {flow}"
        at = found
    lines = text.split("\n")
    missing = [line for line in made.lines if line not in lines]
    if missing:
        return f"no line: {missing[0]}"
    return "there are cells" if "\t" in text and not made.tabs else ""


@pytest.mark.parametrize(
    "kind",
    [
        layouts.two_columns,
        layouts.three_columns,
        layouts.table_of_words,
        layouts.table_of_values,
        layouts.prose_beside_table,
        layouts.form,
        layouts.boxes,
    ],
)
def test_what_a_page_says_is_read_in_its_order(kind: Callable[[Canvas, random.Random], Made]) -> None:
    drawn = [layouts.drawn(kind, seed) for seed in SEEDS]
    rows = reading.read({f"{at:03}.pdf": content for at, (content, _) in enumerate(drawn)})
    assert len(rows) == len(drawn)
    found = {row["document"]: row["text"] for row in rows}
    faults = {
        seed: wrong(made, found[f"{at:03}.pdf"]) for at, (seed, (_, made)) in enumerate(zip(SEEDS, drawn, strict=True))
    }
    assert not {seed: fault for seed, fault in faults.items() if fault}


LEFT = """The gauge at Lindau was installed in 1887 and has been read twice a day ever since. In dry summers the lake
falls by as much as forty centimetres within a month, and ferries must reduce their load. Keepers noted ice on the
northern shore in sixteen winters, and wrote down how thick it was wherever a boat could reach it."""
RIGHT = """The second gauge, at Bregenz, was moved in 1934 after a landslide buried the old tower. Its zero lies 395
metres above the sea. Readings from both places are compared every Friday by the water office, which publishes them in
a bulletin that is sent to every port on the lake and to the library of the town."""


def test_an_answer_from_a_column_holds_nothing_of_the_other(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    page = column(60, 760, textwrap.wrap(LEFT, 44), size=10) + column(315, 760, textwrap.wrap(RIGHT, 44), size=10)
    yard.ingest({"gauges.pdf": pdf([page])})
    predictor = yard.load(yard.build())
    found = ask(predictor, "When was the gauge at Lindau installed?")
    assert "1887" in found["answer"] and "Bregenz" not in found["answer"] and "1934" not in found["answer"]
    found = ask(predictor, "When was the second gauge moved?")
    assert "1934" in found["answer"] and "Lindau" not in found["answer"]


def test_an_entry_of_a_form_is_found_by_its_label_and_by_what_else_the_form_says(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    pairs = [("Applicant:", "Greta Vollmer"), ("Licence plate:", "RV-KX 882"), ("Floor:", "P3")]
    page = shown(100, 780, "Application for parking permit")
    for at, (label, value) in enumerate(pairs):
        page += shown(100, 740 - 40 * at, label) + shown(222, 740 - 40 * at, value)
    yard.ingest({"form.pdf": pdf([page])})
    predictor = yard.load(yard.build())
    for question, answer in (
        ("What is the licence plate of Greta Vollmer?", "Licence plate: RV-KX 882"),
        ("Who is the applicant for the parking permit?", "Applicant: Greta Vollmer"),
        ("On which floor is the parking permit?", "Floor: P3"),
    ):
        assert ask(predictor, question)["answer"] == answer


def test_what_looks_like_a_form_and_is_a_table_keeps_its_cells() -> None:
    heads = [(72, "Press contacts:"), (300, "Investor contacts:")]
    people = [("Tesia Brandt", "Jessica Berg"), ("Room 12", "Room 40"), ("4711", "4712")]
    page = "".join(shown(x, 700, text) for x, text in heads)
    for at, row in enumerate(people):
        page += shown(72, 684 - 16 * at, row[0]) + shown(300, 684 - 16 * at, row[1])
    totals = [("", "2024", "2023"), ("Sales:", "1,200", "1,100"), ("Costs:", "700", "650"), ("Profit:", "500", "450")]
    for at, cells in enumerate(totals):
        page += "".join(shown(x, 500 - 16 * at, cell) for x, cell in zip((72, 300, 400), cells, strict=True) if cell)
    [text] = [row["text"] for row in reading.read({"a.pdf": pdf([page])})]
    assert "Press contacts:\tInvestor contacts:\nTesia Brandt\tJessica Berg" in text
    assert "Sales:\t1,200\t1,100" in text


def test_columns_between_tables_that_leave_the_same_gutter() -> None:
    review = Path(__file__).parents[2] / "examples/handbook/documents/annual-review-2024.pdf"
    text = reading.read({review.name: review.read_bytes()})[2]["text"]
    assert "sold out in Germany from April to July" in text
    assert "fire door closed on a cable. The first utility in Norway joined in May." in text
    assert "Groningen\t318\t331\t342\t41" in text and "Total\t156,310\t167,560\t179,785\t7.3" in text
