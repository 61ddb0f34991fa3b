"""Columns are read one after the other and tables row by row, whatever their lengths, fonts and gutters."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from reportlab.pdfgen.canvas import Canvas

from . import layouts, reading
from .layouts import Made

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
    [layouts.two_columns, layouts.three_columns, layouts.table_of_values, layouts.prose_beside_table],
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
