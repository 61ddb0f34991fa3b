from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.workloads.chatbot.judge import judge, stands_in

EVIDENCE = [{"document": "a.pdf", "page": 3}]


def said(answer: str, page: int = 3, refused: bool = False) -> dict[str, object]:
    return {"answer": answer, "refused": refused, "citations": [] if refused else [{"document": "a.pdf", "page": page}]}


@pytest.mark.parametrize(
    ("gold", "answer", "stands"),
    [
        ("145 euros", "Grade 5 \u2013 Germany: 145 Euros", True),
        ("145 euros", "Germany: 145\u00a0euros per night", True),
        ("145", "It is 1,145 euros", False),
        ("145", "It is 145.5 euros", False),
        ("145", "It costs 145.", True),
        ("429", "Price (EUR) – 429.00", True),
        ("429.00", "It costs 429 euros", True),
        ("429", "It costs 429.50", False),
        ("100", "It is 10.0", False),
        ("1,145", "It is 1,145 euros", True),
        ("1145", "It is 1,145 euros", False),
        ("5 days", "within 15 days", False),
        ("man", "the manager", False),
        ("-30 to 60", "\u201330 to 60", True),
        ("(285)", "Q3: (285) thousand", True),
        ("", "anything", False),
    ],
)
def test_a_gold_answer_stands_as_whole_words_and_numbers(gold: str, answer: str, stands: bool) -> None:
    assert stands_in(gold, answer) is stands


def test_right_is_a_gold_answer_in_few_words_on_a_gold_page() -> None:
    assert judge(["12", "twelve"], EVIDENCE, False, said("It takes twelve days.")) == "right"
    assert judge(["12"], EVIDENCE, False, said("It takes 12 days.", page=4)) == "wrong"
    assert judge(["12"], EVIDENCE, False, said("It takes 13 days.")) == "wrong"
    assert judge(["12"], EVIDENCE, False, said("word " * 60 + "12")) == "wrong"
    assert judge(["12"], EVIDENCE, False, said("", refused=True)) == "refused"


def test_an_answered_unanswerable_question_is_wrong() -> None:
    assert judge([], [], True, said("It takes 12 days.")) == "wrong"
    assert judge([], [], True, said("", refused=True)) == "refused"


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_number_stands_only_as_itself(gold: int, said_: int) -> None:
    assert stands_in(f"{gold:,}", f"It is {said_:,} in all.") == (gold == said_)
