"""Tables over several pages: later pages know the caption and the columns, and quote only what stands on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modelyard.workloads.chatbot.chunk import chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.schemas import PAGES

from . import reading
from .pdfs import column, pdf, shown
from .test_chunk import page
from .test_workload import Yard, ask

HEAD = ["Table 2. Hotel limits by town", "Euros per night"]
COLUMNS = ("Town", "Single", "Double", "Suite")
REPEATED = "Table 2. Hotel limits by town\nEuros per night\nTown\tSingle\tDouble\tSuite"
TOWNS = [
    "Aachen Basel Bergen Bilbao Braga Bremen Brno Bruges Cadiz Calais Cork Delft Dijon Dover Essen Faro Gdansk Genoa",
    "Ghent Graz Haarlem Huesca Jena Kassel Kiel Lahti Leeds Leiden Linz Lugano Lyon Malmo Metz Namur Nantes Narvik",
    "Olbia Oslo Ostend Oulu Padua Parma Pecs Pisa Poznan Reims Rouen Salzburg Siena Split Tartu Tours Trento Turku",
]


def rows(towns: str, first: int = 0) -> list[tuple[str, ...]]:
    return [(town, f"{100 + first + at}", f"{150 + first + at}", "-") for at, town in enumerate(towns.split())]


def drawn(lines: Sequence[tuple[str, ...]], top: float) -> str:
    """Rows of a table whose cells stand at fixed places."""
    return "".join(
        shown(72 + 120 * place, top - 16 * at, cell) for at, row in enumerate(lines) for place, cell in enumerate(row)
    )


def first_page(towns: str) -> str:
    prose = column(72, 760, ["The limits below hold for all journeys on behalf of the company, whoever pays for them."])
    return prose + column(72, 720, HEAD) + drawn([COLUMNS, *rows(towns)], 690)


def chunks(content: bytes) -> list[dict[str, Any]]:
    return of(reading.read({"limits.pdf": content}))


def of(found: list[dict[str, Any]], at_once: int = 100) -> list[dict[str, Any]]:
    batches = pa.Table.from_pylist(found, schema=PAGES).to_batches(max_chunksize=at_once)
    return [chunk for batch in chunk_pages(with_heads(batches)) for chunk in batch.to_pylist()]


def test_rows_on_the_second_page_know_their_columns() -> None:
    end = ["Whoever pays more has to ask before the journey, and who did not ask pays what is"]
    end += ["over the limit alone, unless there was no room to be had in the town, and the desk"]
    end += ["for travel confirms in writing that this was so at the time of the journey."]
    second = drawn(rows(TOWNS[1], 18), 780) + column(72, 400, end)
    found = chunks(pdf([first_page(TOWNS[0]), second]))
    later = [chunk for chunk in found if chunk["page"] == 2 and chunk["kind"] == "table"]
    assert later and all(chunk["header"].endswith(f"\n{REPEATED}") for chunk in later)
    assert all("Double" not in chunk["text"] for chunk in later)
    prose = [chunk for chunk in found if chunk["kind"] == "prose"]
    assert prose and not any("Double" in chunk["header"] for chunk in prose)


def test_the_third_page_still_knows_and_another_table_does_not() -> None:
    second = drawn(rows(TOWNS[1], 18), 780)
    third = drawn(rows(TOWNS[2], 36), 780) + column(72, 460, ["Table 3. Meals by town"])
    third += drawn([("Town", "Lunch", "Dinner", "Snacks"), ("Oslo", "21", "44", "7"), ("Pisa", "14", "31", "5")], 430)
    found = chunks(pdf([first_page(TOWNS[0]), second, third]))
    for number in (2, 3):
        begins = next(chunk for chunk in found if chunk["page"] == number)
        assert begins["header"].endswith(f"\n{REPEATED}")
    meals = [chunk for chunk in found if "Lunch" in chunk["text"]]
    assert meals and all("Table 3" in chunk["text"] and "Double" not in chunk["header"] for chunk in meals)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_it_does_not_matter_how_pages_come_in_batches(at_once: int) -> None:
    found = reading.read({"a.pdf": pdf([first_page(TOWNS[0]), drawn(rows(TOWNS[1]), 780), drawn(rows(TOWNS[2]), 780)])})
    assert of(found, at_once) == of(found)
    pages = pa.Table.from_batches(with_heads(pa.Table.from_pylist(found, schema=PAGES).to_batches()))
    apart = [pages.slice(at, 1).to_batches()[0] for at in range(3)]
    assert [chunk for one in apart for batch in chunk_pages([one]) for chunk in batch.to_pylist()] == of(found)


TABLE = "Table 1. Fees\nTown\tFee\tTax\nBrno\t12\t3\nOslo\t20\t4"


def above(*texts: str, **fields: Any) -> list[str]:
    """What each of some pages in a row begins with."""
    found = [page(text) | {"page": at} | (fields if at == 2 else {}) for at, text in enumerate(texts, 1)]
    [batch] = with_heads([pa.RecordBatch.from_pylist(found, schema=PAGES)])
    return list(batch.column("above").to_pylist())


FEES = "Table 1. Fees\nTown\tFee\tTax"


@pytest.mark.parametrize(
    "second",
    [
        "Pisa\t14\t2\nTurku\t11\t1",
        "Pisa\t14\t2",
        "\n\nPisa\t14\t–\n\nPay early.",
        "Table 1 (continued)\n\nPisa\t14\t2\nTurku\t11\t1",
    ],
)
def test_what_goes_on(second: str) -> None:
    assert above(TABLE, second) == ["", FEES]
    assert above("Fees are due in May.\n\n" + TABLE, second, "Tours\t9\t1\n\nThe end.") == (
        ["", FEES, ""] if "early" in second else ["", FEES, FEES]
    )


@pytest.mark.parametrize(
    "second",
    [
        "Town\tFee\tTax\nPisa\t14\t2",
        "Town\t2023\t2024\nPisa\t14\t2",
        "Pisa\t14\nTurku\t11",
        "Pisa\t14\t2\t9\nTurku\t11\t1\t9",
        "Table 2. Refunds\nPisa\t14\t2\nTurku\t11\t1",
        "Fees are due in May.\n\nPisa\t14\t2\nTurku\t11\t1",
        "Pisa\tby bus\tin May\nTurku\tby boat\tin June",
    ],
)
def test_what_does_not_go_on(second: str) -> None:
    assert above(TABLE, second) == ["", ""]


def test_what_stands_between_parts_them() -> None:
    rest = "Pisa\t14\t2\nTurku\t11\t1"
    assert above(TABLE, rest, section="Annex") == ["", ""]
    assert above(TABLE, rest, document="other.pdf") == ["", ""]
    assert above(TABLE, rest, page=7) == ["", ""]
    assert above(TABLE, rest, reason="damaged") == ["", ""]
    assert above(f"{TABLE}\n\nTax is not paid back.", rest) == ["", ""]
    assert above(TABLE, " ", rest) == ["", "", ""]


def test_columns_of_words_go_on_too_and_lists_do_not() -> None:
    assert above("Town\tWay\tWhen\nBrno\tbus\tMay\nOslo\tboat\tJune", "Pisa\ttrain\tJuly\nTurku\tboat\tMay")[1]
    assert above("Brno\tThe bus goes in May\nOslo\tA boat\n", "Pisa\tThe train\nTurku\tA boat") == ["", ""]
    assert above("Brno\t\tbus\nOslo\t\tboat\n", "Pisa\t\ttrain\nTurku\t\tboat") == ["", ""]


def test_duties_go_on_below_their_roles() -> None:
    table = "Role\tDuties\nKeeper\tReads the gauge twice a day\nClerk\tWrites down what the keeper reads"
    assert above(table, "Guard\tCloses the tower at ten in the evening") == ["", "Role\tDuties"]
    assert above(table, "Role\tDuties\nGuard\tCloses the tower at ten in the evening") == ["", ""]
    assert above(table, "Oslo\tBrno\nPisa\tTours") == ["", ""]


def test_a_sum_alone_on_a_page_belongs_to_the_rows_before() -> None:
    assert above(TABLE, "Total\t39") == ["", FEES]
    assert above(TABLE, "Total\tnot known") == ["", ""]


def test_rows_below_no_column_lines_have_only_a_caption() -> None:
    assert above("Table 1. Fees\nBrno\t12\t3\nOslo\t20\t4", "Pisa\t14\t2\nTurku\t11\t1") == ["", "Table 1. Fees"]


def test_the_columns_stay_whole_however_long_the_caption() -> None:
    caption = "Table 1. Fees " + "of the towns and of the villages " * 6
    caption += "\n" + "as they were agreed " * 8
    found = above(TABLE.replace("Table 1. Fees", caption), "Pisa\t14\t2")[1]
    assert found.endswith("\nTown\tFee\tTax") and len(found) <= 320


def test_a_question_is_answered_from_a_later_page(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    last = drawn(rows(TOWNS[2], 36), 780) + column(72, 400, ["Whoever pays more has to ask before the journey."])
    yard.ingest({"limits.pdf": pdf([first_page(TOWNS[0]), drawn(rows(TOWNS[1], 18), 780), last])})
    predictor = yard.load(yard.build())
    for town, number, value in (("Leiden", 2, "177"), ("Trento", 3, "202")):
        found = ask(predictor, f"What is the hotel limit for a double room in {town}?")
        assert not found["refused"], found
        assert value in found["answer"] and "Double" in found["answer"] and "Single" not in found["answer"]
        assert [cited["page"] for cited in found["citations"]] == [number]
