"""The values a chart was drawn from, as they are kept beside it, as a table (DrawingML, ECMA-376 part 1, 21.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.workloads.chatbot.reading.office import Node
from modelyard.workloads.chatbot.reading.sheet_format import shown
from modelyard.workloads.chatbot.reading.spans import Cell

MOST_POINTS = 2_000


@dataclass(frozen=True)
class Chart:
    """rows: the names of the series, then a row per category; none where the chart is not so simple."""

    title: str
    rows: Sequence[Sequence[Cell]] = ()


def chart_of(chart: Node) -> Chart:
    """The chart's title, and its values where they are series over categories, or pairs of numbers."""
    title = " ".join("".join(node.text for node in (chart.child("title") or Node("", {})).below("t")).split())
    area = chart.child("plotArea")
    series = [node for kind in (area.children if area is not None else []) for node in kind.every("ser")]
    if not series:
        return Chart(title)
    names: list[str] = []
    categories: dict[int, str] = {}
    values: list[dict[int, str]] = []
    for number, one in enumerate(series, start=1):
        names.append(" ".join(_points(one.child("tx")).values()) or f"Series {number}")
        for at, text in _points(one.child("cat") or one.child("xVal")).items():
            categories.setdefault(at, text)
        values.append(_points(one.child("val") or one.child("yVal")))
    places = sorted({at for found in values for at in found} | set(categories))[:MOST_POINTS]
    rows = [[Cell(categories.get(at) or str(at + 1)), *(Cell(found.get(at, "")) for found in values)] for at in places]
    return Chart(title, [[Cell(""), *map(Cell, names)], *rows]) if rows else Chart(title)


def _points(source: Node | None) -> dict[int, str]:
    """{place: text} of what is kept of a range of cells; of categories in several levels the innermost."""
    found: dict[int, str] = {}
    if source is None:
        return found
    code = next((node.text for node in source.below("formatCode")), "")
    level = next(source.below("lvl"), source)
    for point in level.below("pt"):
        place, text = point.attributes.get("idx", ""), (point.child("v") or point).text
        if place.isascii() and place.isdigit() and len(place) < 7:
            found[int(place)] = _number(" ".join(text.split()), code)
    return found or {at: node.text for at, node in enumerate(source.every("v"))}


def _number(text: str, code: str) -> str:
    """A number as its format shows it, a date as a date; without a format without the noise of its binary form."""
    try:
        return shown(float(text), code)
    except (ValueError, OverflowError):
        return text
