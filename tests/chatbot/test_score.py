"""Scores of one answer, and the figures made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.ports.workload import Case, Response, Row
from modelyard.workloads.chatbot.score import (
    COLUMNS,
    METRICS,
    checked,
    numbers,
    numeric_match,
    retrieval,
    score,
    supports,
    token_f1,
)

TEXT = "Hotels\n\nGrade 5 may spend 145 euros per night. Breakfast is included."
QUOTE = "Grade 5 may spend 145 euros per night."
GOLD = {"document": "travel.pdf", "page": 3}


def case(unanswerable: bool = False, answers: tuple[str, ...] = ("145 euros",)) -> Case:
    expected = {"answers": [] if unanswerable else list(answers), "unanswerable": unanswerable}
    evidence = () if unanswerable else (GOLD,)
    return Case("c1", {"messages": []}, expected, evidence, ("table",), "travel.pdf#3", origin="generated")


def answered(answer: str = QUOTE, page: int = 3, quote: str = QUOTE, **more: Any) -> Response:
    start = TEXT.index(QUOTE)
    citation = {"document": "travel.pdf", "page": page, "quote": quote, "start": start, "end": start + len(QUOTE)}
    output = {
        "answer": answer,
        "refused": False,
        "citations": [citation],
        "retrieved": [{"document": "travel.pdf", "page": 3, "score": 1.0}],
        **more,
    }
    return Response(answer, {**output, "checks": checked(output, lambda document, page: TEXT if page == 3 else "")})


def refused() -> Response:
    output = {"answer": "Not here.", "refused": True, "citations": [], "retrieved": []}
    return Response("Not here.", {**output, "checks": checked(output, lambda document, page: "")})


def figures(*rows: Row) -> dict[str, float]:
    columns = {name: np.array([math.nan if (v := row.values[name]) is None else v for row in rows]) for name in COLUMNS}
    return {name: metric.value(columns, np.ones(len(rows))) for name, metric in METRICS.items()}


def test_a_right_answer() -> None:
    row = score(case(), answered())
    assert row.unscored is None
    assert set(row.values) == set(COLUMNS)
    assert (row.values["right"], row.values["wrong"], row.values["refused"]) == (1.0, 0.0, 0.0)
    assert row.values["recall@1"] == row.values["reciprocal_rank"] == row.values["ndcg@10"] == 1.0
    assert row.values["citation_precision"] == row.values["citation_validity"] == row.values["groundedness"] == 1.0
    assert (row.case, row.slices, row.cluster, row.origin) == ("c1", ("table",), "travel.pdf#3", "generated")


def test_a_true_quote_of_another_page_is_wrong() -> None:
    values = score(case(), answered(page=4)).values
    assert (values["right"], values["wrong"]) == (0.0, 1.0)
    assert values["citation_precision"] == 0.0
    assert values["citation_validity"] == 0.0, "the page it cites does not hold the quote"


def test_an_altered_quote_is_no_valid_citation() -> None:
    assert score(case(), answered(quote=QUOTE.replace("145", "245"))).values["citation_validity"] == 0.0


def test_a_sentence_that_the_page_does_not_say_is_not_grounded() -> None:
    values = score(case(), answered(answer=f"{QUOTE} Dogs travel free in 1999.")).values
    assert values["groundedness"] == 0.5


def test_an_answer_without_citations_holds_nothing() -> None:
    values = score(case(), answered(citations=[])).values
    assert values["citation_validity"] == values["groundedness"] == 0.0
    assert values["citation_precision"] is None


def test_refusing_an_answerable_question() -> None:
    values = score(case(), refused()).values
    assert (values["right"], values["wrong"], values["refused"]) == (0.0, 0.0, 1.0)
    assert values["token_f1"] == values["numeric_match"] == 0.0
    assert values["citation_validity"] is None


def test_abstention_is_counted_over_all_cases() -> None:
    rows = [score(case(True), refused()), score(case(True), answered()), score(case(), refused())]
    found = figures(*rows)
    assert found["abstention_precision"] == pytest.approx(0.5)
    assert found["abstention_recall"] == pytest.approx(0.5)
    assert found["wrong"] == pytest.approx(1 / 3), "an answered unanswerable question is wrong"
    assert found["right"] == 0.0
    assert rows[0].values["right"] is None, "an unanswerable question cannot be answered right"


def test_a_figure_is_not_a_number_where_nothing_has_it() -> None:
    found = figures(score(case(), answered()))
    assert math.isnan(found["abstention_recall"]) and math.isnan(found["abstention_precision"])


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"answer": "a", "refused": False},
        {"answer": "a", "refused": "no", "citations": [], "retrieved": []},
        {"answer": "a", "refused": False, "citations": [{}], "retrieved": []},
        {"answer": "a", "refused": False, "citations": [], "retrieved": []},
    ],
)
def test_a_response_of_another_form_is_unscored_with_the_reason(output: dict[str, Any]) -> None:
    row = score(case(), Response("a", output))
    assert row.unscored
    assert set(row.values) == set(COLUMNS) and not any(v is not None for v in row.values.values())


@pytest.mark.parametrize(
    ("gold", "answer", "match"),
    [
        (["145 euros"], "It is 145 euros", 1.0),
        (["145 euros"], "It is 1,145 euros", 0.0),
        (["1,240"], "1240", 1.0),
        (["$1.2 billion"], "1,200 million dollars", 1.0),
        (["$1.2 billion"], "1.2 million dollars", 0.0),
        (["12,645"], "12,645 million", 1.0),
        (["(285)"], "-285", 1.0),
        (["(285)"], "285", 0.0),
        (["9.4 percent"], "9.40%", 1.0),
        (["from 8 to 12"], "8", 0.0),
        (["8", "twelve"], "8", 1.0),
        (["yes"], "yes", None),
    ],
)
def test_numeric_match(gold: list[str], answer: str, match: float | None) -> None:
    assert numeric_match(gold, answer) == match


def test_a_page_supports_what_it_says() -> None:
    assert supports("Grade 5 may spend 145 euros", TEXT)
    assert not supports("Grade 5 may spend 146 euros", TEXT)


pages = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 8)), max_size=20)


@given(gold=pages.map(set), found=pages)
def test_retrieval_is_within_bounds_and_grows_with_k(gold: set[tuple[str, int]], found: list[tuple[str, int]]) -> None:
    values = retrieval(gold, found)
    if not gold:
        assert not values
        return
    assert all(v is not None and 0.0 <= v <= 1.0 for v in values.values())
    assert values["recall@1"] <= values["recall@5"] <= values["recall@10"]  # type: ignore[operator]
    best_first = retrieval(gold, sorted(found, key=lambda page: page not in gold))
    assert all(best_first[name] >= values[name] for name in values)  # type: ignore[operator]


@given(st.text(), st.text())
def test_token_f1_is_symmetric_within_bounds_and_1_for_itself(a: str, b: str) -> None:
    assert 0.0 <= token_f1(a, b) <= 1.0
    assert token_f1(a, b) == token_f1(b, a)
    assert token_f1(a, a) in (0.0, 1.0)


@given(st.decimals(min_value=0, max_value=10**9, places=2))
def test_numbers_read_what_was_written(value: Any) -> None:
    for written in (f"{value:,}", str(value), f"${value:,}", f"({value:,})"):
        assert [abs(number.value) for number in numbers(f"It was {written} then")] == [value]


answers = st.sampled_from([answered(), answered(page=4), answered(citations=[]), refused(), answered(answer="A\nB")])


@given(st.lists(st.tuples(st.booleans(), answers), min_size=1, max_size=12), st.data())
def test_every_figure_is_within_bounds_and_weights_are_repetition(
    drawn: list[tuple[bool, Response]], data: st.DataObject
) -> None:
    rows = [score(case(unanswerable), response) for unanswerable, response in drawn]
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    columns = {name: np.array([math.nan if (v := row.values[name]) is None else v for row in rows]) for name in COLUMNS}
    repeated = {name: np.repeat(column, times) for name, column in columns.items()}
    for metric in METRICS.values():
        value = metric.value(columns, np.array(times, np.float64))
        assert math.isnan(value) or 0.0 <= value <= 1.0
        assert value == pytest.approx(metric.value(repeated, np.ones(sum(times))), nan_ok=True)
