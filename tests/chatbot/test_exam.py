"""Exam rows to cases, and the exam that is made where there is none."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.adapters.tables_memory import MemoryTables
from modelyard.errors import UserError
from modelyard.ports.workload import MISSING, Case, Exam
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot.exam import cases
from modelyard.workloads.chatbot.grid import cells
from modelyard.workloads.chatbot.judge import stands_in
from modelyard.workloads.chatbot.propose import Page, propose
from modelyard.workloads.chatbot.schemas import PAGES

GOOD: dict[str, Any] = {
    "id": "a1",
    "question": "How much for a hotel?",
    "answers": ["145 euros"],
    "evidence": [{"document": "travel.pdf", "page": 1}],
}


def page(document: str, number: int, text: str, headings: Sequence[str] = (), title: str = "") -> dict[str, Any]:
    places = [{"start": (at := text.index(h)), "end": at + len(h), "level": 1, "path": h} for h in headings]
    return {
        "document": document,
        "sha256": "0" * 64,
        "page": number,
        "text": text,
        "words": [],
        "width": 0.0,
        "height": 0.0,
        "title": title or document,
        "period": "",
        "section": "",
        "headings": places,
        "quality": 1.0,
        "reason": None,
    }


def tables_with(*pages: dict[str, Any]) -> MemoryTables:
    tables = MemoryTables()
    for spec in corpus.specs(8):
        tables.ensure(spec)
    tables.append("pages", pa.Table.from_pylist(list(pages), schema=PAGES))
    return tables


def read(*rows: dict[str, Any], tables: MemoryTables | None = None) -> list[Case]:
    return list(cases(tables or tables_with(), Exam("human", rows)))


def test_a_row_becomes_a_case_bound_to_its_page() -> None:
    tables = tables_with(page("travel.pdf", 1, "Hotels cost 145 euros."), page("travel.pdf", 2, "Else."))
    history = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    (case,) = read({**GOOD, "history": history, "tags": ["table", "follow-up"]}, tables=tables)
    assert case.request["messages"] == [*history, {"role": "user", "content": "How much for a hotel?"}]
    assert case.slices == ("table", "follow-up", "answerable")
    assert case.cluster == "travel.pdf#1"
    assert list(case.bound_to) == ["travel.pdf#1"]
    tables.replace(
        "pages", pa.Table.from_pylist([page("travel.pdf", 1, "Now 150.")], PAGES), {"document": ["travel.pdf"]}
    )
    (again,) = read(GOOD, tables=tables)
    assert again.bound_to != case.bound_to, "what it asks about has changed"


def test_a_case_about_a_page_that_is_not_there_says_so() -> None:
    (case,) = read(GOOD)
    assert case.evidence == ({"document": "travel.pdf", "page": 1},)
    assert case.bound_to == {"travel.pdf#1": MISSING}


def test_an_unanswerable_case_stands_alone() -> None:
    (case,) = read({"id": "u1", "question": "Who?", "unanswerable": True})
    assert case.slices == ("unanswerable",)
    assert case.cluster == "u1"
    assert case.bound_to == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": 7}, "id must be a text"),
        ({"question": " "}, "question must be a text"),
        ({"answers": "145"}, "answers must be a list"),
        ({"answers": [145]}, "answers must be a list of texts"),
        ({"answers": []}, "needs answers"),
        ({"evidence": []}, "needs evidence"),
        ({"evidence": [{"document": "a.pdf", "page": 0}]}, "a page that counts from 1"),
        ({"evidence": [{"document": "a.pdf", "page": True}]}, "evidence must be"),
        ({"evidence": ["a.pdf"]}, "evidence must be"),
        ({"history": [{"role": "system", "content": "x"}]}, "history must be"),
        ({"tags": "table"}, "tags must be a list"),
        ({"unanswerable": "yes"}, "true or false"),
        ({"unanswerable": True}, "has no answers"),
        ({"answer": ["145"]}, "did you mean 'answers'?"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match="line 2") as raised:
        read(GOOD, {**GOOD, "id": "a2", **change})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_id_may_be_used_once() -> None:
    with pytest.raises(UserError, match=r"line 3: the id 'a1' is already used in line 1"):
        read(GOOD, {**GOOD, "id": "a2"}, GOOD)


def test_cells_are_read_only_where_a_table_is_plain() -> None:
    text = "Limits\nCity\tHotel\tMeals\nBrno\t95\t40\nLeeds\t140\t55\n\nTwo columns of prose.\tthat go on here\nx\ty"
    assert [(c.row, c.column, c.value) for c in cells(text)] == [
        ("Brno", "Hotel", "95"),
        ("Brno", "Meals", "40"),
        ("Leeds", "Hotel", "140"),
        ("Leeds", "Meals", "55"),
    ]
    assert not list(cells("City\tHotel\nBrno\t95\nand its\nLeeds\t140"))


def corpus_of(documents: int) -> list[dict[str, Any]]:
    rng = random.Random(documents)
    found = []
    for d in range(documents):
        for p in (1, 2):
            places = [f"Town{d}{p}{i}" for i in range(4)]
            rows = "\n".join(f"{place}\t{rng.randint(50, 300)}\t{rng.randint(10, 90)}" for place in places)
            head, prose = f"{p} Rules of part {p}", f"{p}.1 Visits in wing {d}{p}"
            text = (
                f"{head}\n\nThe first rule of part {p} is simple. It holds for all staff in house {d}.\n\n{prose}\n\n"
                f"Visitors sign the book of wing {d}{p} at the gate. They leave before six in the evening.\n\n"
                f"Limits {d}{p}\n\nTown\tHotel\tMeals\n{rows}"
            )
            found.append(page(f"doc{d}.pdf", p, text, [head, prose, f"Limits {d}{p}"], f"Guide {d}"))
    return found


def proposed(pages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    def pages_of(names: Sequence[str]) -> Iterable[Page]:
        return [each for each in pages if each["document"] in names]

    return propose({each["document"] for each in pages}, pages_of, lambda: pages)


def test_a_generated_exam_is_of_the_form_of_an_exam_and_large_enough() -> None:
    pages = corpus_of(8)
    rows = proposed(pages)
    found = list(cases(tables_with(*pages), Exam("generated", tuple(rows))))
    assert sum("answerable" in case.slices for case in found) >= 30
    assert sum("unanswerable" in case.slices for case in found) >= 10
    assert all("generated" in case.slices for case in found)
    assert MISSING not in {digest for case in found for digest in case.bound_to.values()}
    assert len({e["document"] for row in rows for e in row["evidence"]}) == 8, "spread over the documents"


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_a_generated_exam_depends_on_the_pages_alone(documents: int, rng: random.Random) -> None:
    pages = corpus_of(documents)
    shuffled = list(pages)
    rng.shuffle(shuffled)
    assert proposed(pages) == proposed(shuffled)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6))
def test_generated_answers_stand_on_their_pages_and_unanswerable_subjects_on_none(documents: int) -> None:
    pages = corpus_of(documents)
    texts = {(each["document"], each["page"]): " ".join(each["text"].split()) for each in pages}
    for row in proposed(pages):
        evidence = [texts[e["document"], e["page"]] for e in row["evidence"]]
        for answer in row["answers"]:
            assert any(answer in text for text in evidence)
            assert not stands_in(answer, row["question"]), "a question does not hold its answer"
        if "swapped-period" in row["tags"]:
            years = re.findall(r"\b(?:19|20)\d\d\b", row["question"])
            assert years and not any(year in text for year in years for text in texts.values())


def test_ids_are_stable_where_other_documents_come_and_go() -> None:
    few, more = proposed(corpus_of(3)), proposed([*corpus_of(3), page("new.pdf", 1, "Nothing to ask about.")])
    assert {row["id"] for row in few if row["answers"]} == {row["id"] for row in more if row["answers"]}


def test_where_there_are_neither_headings_nor_tables_it_asks_about_words() -> None:
    text = "The turbine of the mill is cleaned every spring by the miller. A turbine lasts for twenty years or so."
    rows = proposed([page("mill.txt", 1, text, title="The mill")])
    assert any('"turbine"' in row["question"] and row["answers"] for row in rows)
    assert any(row["unanswerable"] for row in rows)


def test_an_empty_corpus_gives_no_questions() -> None:
    assert proposed([]) == []
