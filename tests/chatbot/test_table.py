from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.chatbot.shelf import Sheet, passages

from modelyard.workloads.chatbot.page import PageView, read_page
from modelyard.workloads.chatbot.table import Table, strip_mark, value_of


def page(text: str, section: str = "") -> PageView:
    return read_page(passages([Sheet("d", text, section=section)]))


def table(text: str) -> Table:
    (found,) = page(text).tables
    return found


def test_a_table_has_caption_scale_columns_rows_and_notes() -> None:
    found = table("Table 2. Boats\nEuros per day\nBoat\tSeats\tDay\nHeron\t2\t30\nPelican\t8\t120¹\n1. With a skipper.")
    assert found.caption == "Table 2. Boats" and found.scale == "Euros per day"
    assert found.columns == ("Boat", "Seats", "Day")
    assert [row.cells for row in found.rows] == [("Heron", "2", "30"), ("Pelican", "8", "120")]
    assert found.rows[1].marks == ("1",) and found.notes["1"][0] == "1. With a skipper."
    assert found.unit(2) == "euros per day"


@pytest.mark.parametrize(
    ("scale", "unit"),
    [
        ("Number of accidents with at least one day lost", "accidents"),
        ("Number of offers and the form of the order", "offers"),
        ("Number of near misses per year", "near misses"),
        ("Euros per night, breakfast included", "euros per night"),
        ("Percent of staff", "percent"),
    ],
)
def test_what_a_scale_line_counts_ends_before_what_is_said_of_it(scale: str, unit: str) -> None:
    assert table(f"Table 2. Sites\n{scale}\nSite\t2024\nBrno\t6\nBraga\t3").unit(1) == unit


def test_a_row_is_quoted_as_it_stands() -> None:
    text = "Intro.\n\nBoat\tDay\nHeron\t30\nOtter\t48\n"
    row = page(text).tables[0].rows[1]
    assert text[row.start : row.end] == "Otter\t48"


def test_markdown_is_a_table_too() -> None:
    found = table("| Boat | Day (euros) |\n|---|---|\n| Heron | 30 |\n| Otter | 48 |")
    assert found.columns == ("Boat", "Day (euros)") and found.rows[1].cells == ("Otter", "48")
    assert found.unit(1) == "euros"


def test_a_head_of_two_lines_is_one_label_a_column() -> None:
    found = table("\tGermany\tFrance\n\t2023\t2024\t2023\t2024\nHotels\t10\t11\t12\t13\nBoats\t1\t2\t3\t4")
    assert found.columns == ("", "Germany 2023", "Germany 2024", "France 2023", "France 2024")


def test_labels_that_go_on_below_the_head_join_it() -> None:
    found = table(
        "Site\tPoint\tGoal\tSpring\tAutumn\n(min)\t(min)\nLeeds\tLane\t4.0\t3.5\t3.6\nVenlo\tBay\t5.0\t5.6\t5.2"
    )
    assert found.columns[2:] == ("Goal", "Spring (min)", "Autumn (min)")


def test_a_short_row_is_filled_from_the_right_and_a_group_stands_above() -> None:
    found = table(
        "Line\tProduct\tShifts\t2023\t2024\nPlant\nM1\tPumps\t3\t620\t640\nM2\tFans\t2\t64\t78\nTotal\t684\t718"
    )
    assert found.rows[2].cells == ("Total", "", "", "684", "718")
    assert found.rows[0].group == "Plant"


def test_a_label_that_did_not_fit_is_made_whole() -> None:
    found = table("No.\tRecord\tYears\nE3\tReadings held for\t13\ncustomers\nE4\tVisits\t10")
    assert found.rows[0].cells == ("E3", "Readings held for customers", "13")


def test_marks_of_footnotes_go_and_numbers_stay() -> None:
    notes = {"1": "", "a": ""}
    assert strip_mark("no 1", notes) == ("no", "1")
    assert strip_mark("Price 20241", notes) == ("Price 2024", "1")
    assert strip_mark("–a", notes) == ("–", "a")
    assert strip_mark("(285) 1", notes) == ("(285)", "1")
    assert strip_mark("121", notes) == ("121", "")
    assert strip_mark("Class a", notes) == ("Class a", "")


def test_values_below_zero() -> None:
    assert [value_of(c) for c in ("(285)", "–4.5", "1,120.50", "$ 12", "5 %", "new", "1 to 99")] == [
        -285, -4.5, 1120.5, 12, 5, None, None,
    ]  # fmt: skip


def test_sentences_are_found_where_they_stand() -> None:
    text = "2 Leave\n\nProf. Joost van Delden leads it. It lasts 3.5 days. They meet at No. 4.\n\n"
    text += "- first thing\n- second thing"
    found = page(text, "Rules > 2 Leave")
    assert [text[s.start : s.end] for s in found.sentences] == [
        "Prof. Joost van Delden leads it.",
        "It lasts 3.5 days.",
        "They meet at No. 4.",
        "first thing",
        "second thing",
    ]
    assert found.sentences[1].lead == "Prof. Joost van Delden leads it."


@given(st.text(alphabet="ab1 .\t\n|-:²", max_size=200))
def test_whatever_a_page_holds_its_parts_are_its_text(text: str) -> None:
    if not text:
        return
    found = page(text)
    assert found.text == text
    for sentence in found.sentences:
        assert 0 <= sentence.start < sentence.end <= len(text)
    for each in found.tables:
        assert all(len(row.cells) == len(each.columns) for row in each.rows)
        assert all(0 <= row.start < row.end <= len(text) for row in each.rows)
