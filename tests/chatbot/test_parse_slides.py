"""Presentations: a slide is a page, read as it is looked at."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pptx
from PIL import Image
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from .reading import archive, read, texts

Slide = Any


def deck() -> Any:
    return pptx.Presentation()


def saved(deck: Any) -> bytes:
    out = io.BytesIO()
    deck.save(out)
    return out.getvalue()


def box(shapes: Any, text: str, x: float, y: float, height: float = 0.5) -> None:
    shapes.add_textbox(Inches(x), Inches(y), Inches(2), Inches(height)).text_frame.text = text


def test_a_slide_is_a_page_with_its_title_bullets_and_notes() -> None:
    show = deck()
    first = show.slides.add_slide(show.slide_layouts[0])
    first.shapes.title.text, first.placeholders[1].text = "Results of the year", "Board, 3 March 2025"
    second = show.slides.add_slide(show.slide_layouts[1])
    second.shapes.title.text = "Sales"
    frame = second.placeholders[1].text_frame
    frame.text = "Up by 4 %"
    below = frame.add_paragraph()
    below.text, below.level = "in Europe", 1
    second.notes_slide.notes_text_frame.text = "Say thanks.\nGo on."
    rows = read({"a.pptx": saved(show)})
    assert [row["text"] for row in rows] == [
        "Results of the year\n\nBoard, 3 March 2025",
        "Sales\n\n- Up by 4 %\n  - in Europe\n\nNotes:\n\nSay thanks.\nGo on.",
    ]
    assert [(row["page"], row["section"], row["title"]) for row in rows] == [
        (1, "Results of the year", "Results of the year"),
        (2, "Sales", "Results of the year"),
    ]


def test_what_stands_on_a_slide_is_read_from_top_to_bottom_and_left_to_right() -> None:
    show = deck()
    slide = show.slides.add_slide(show.slide_layouts[6])
    box(slide.shapes, "foot", 0, 6)
    group = slide.shapes.add_group_shape()
    box(group.shapes, "below in the group", 5, 3)
    box(group.shapes, "above in the group", 5, 2)
    box(slide.shapes, "right", 4, 1)
    box(slide.shapes, "left", 1, 1.1)
    box(slide.shapes, "beside the group", 1, 2.2, 1)
    assert texts("a.pptx", saved(show)) == [
        "Slide 1\n\nleft\n\nright\n\nbeside the group\n\nabove in the group\n\nbelow in the group\n\nfoot"
    ]


def test_tables_and_charts_are_rows() -> None:
    show = deck()
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.title.text = "Figures"
    table = slide.shapes.add_table(3, 3, Inches(1), Inches(1), Inches(5), Inches(1)).table
    for at, row in enumerate([("Region", "Sales", ""), ("North", "1", "2"), ("South", "", "4")]):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    table.cell(0, 1).merge(table.cell(0, 2))
    data = CategoryChartData()
    data.categories = ["2023", "2024"]
    data.add_series("Sales", (1.1, 0.1 + 0.2))
    data.add_series("Share", (0.5, None), "0%")
    frame = slide.shapes.add_chart(XL_CHART_TYPE.LINE, Inches(1), Inches(4), Inches(4), Inches(2), data)
    frame.chart.has_title = True
    frame.chart.chart_title.text_frame.text = "Sales and share"
    assert texts("a.pptx", saved(show)) == [
        "Figures\n\nRegion\tSales\tSales\nNorth\t1\t2\nSouth\t\t4\n\n\n\n"
        "Sales and share\n\tSales\tShare\n2023\t1.1\t50%\n2024\t0.3\t–"
    ]


def test_hidden_slides_say_so_and_slides_without_text_are_told_apart() -> None:
    show = deck()
    hidden = show.slides.add_slide(show.slide_layouts[5])
    hidden.shapes.title.text = "Not shown"
    hidden._element.set("show", "0")
    show.slides.add_slide(show.slide_layouts[6])
    picture = io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "PNG")
    picture.seek(0)
    show.slides.add_slide(show.slide_layouts[6]).shapes.add_picture(picture, 0, 0)
    rows = read({"a.pptx": saved(show)})
    assert [(row["text"], row["reason"]) for row in rows] == [
        ("Not shown (hidden slide)", None),
        ("", None),
        ("", "the slide holds pictures without text: it needs OCR"),
    ]


def test_one_damaged_slide_costs_that_slide() -> None:
    show = deck()
    for number in range(3):
        box(show.slides.add_slide(show.slide_layouts[6]).shapes, f"slide {number}", 0, 0)
    with zipfile.ZipFile(io.BytesIO(saved(show))) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    members["ppt/slides/slide2.xml"] = members["ppt/slides/slide2.xml"][:300]
    del members["ppt/slides/slide3.xml"]
    rows = read({"a.pptx": archive(dict(members))})
    assert [row["text"] for row in rows] == ["Slide 1\n\nslide 0", "", ""]
    assert "its XML is damaged" in rows[1]["reason"] and "missing from the file" in rows[2]["reason"]
