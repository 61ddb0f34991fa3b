from __future__ import annotations

from typing import Any

import pytest
from tests.chatbot.shelf import model

from modelyard.errors import RequestError, RequestTooLarge
from modelyard.workloads.chatbot.conversation import Turn, read_messages, resolve


def vectors(texts: Any) -> Any:
    return dict(zip(texts, model().embed(list(texts)), strict=True))


def resolved(*said: str, turns: int = 6) -> str:
    return resolve([Turn("assistant" if i % 2 else "user", t) for i, t in enumerate(said)], turns, vectors).text


@pytest.mark.parametrize(
    ("before", "question", "alone"),
    [
        ("What is the fee for grade 5?", "And for grade 7?", "What is the fee for grade 7?"),
        ("How many people worked in Braga in 2023?", "What about 2024?", "How many people worked in Braga in 2024?"),
        ("How many people worked in Braga in 2023?", "And in Venlo?", "How many people worked in Venlo in 2023?"),
        ("When is the desk open from Monday to Thursday?", "And on Fridays?", "When is the desk open on Fridays?"),
        ("What does a Gold contract cost?", "And Silver?", "What does a Silver contract cost?"),
        ("What does a Gold contract cost?", "How much is it for Silver?", "What does a Silver contract cost?"),
        (
            "How many people worked in Braga in 2023?",
            "And in Venlo in that same year?",
            "How many people worked in Venlo in 2023?",
        ),
        (
            "What was the dividend for 2024?",
            "And how much was it for the year before?",
            "What was the dividend for 2023?",
        ),
        ("How many worked in Braga in 2023?", "What about the following year?", "How many worked in Braga in 2024?"),
        (
            "What was the margin in 2023/24?",
            "And the year before?",
            "What was the margin in 2023/24 for the year before?",
        ),
        (
            "Which bank held it in 2024?",
            "And in the year before the sale?",
            "Which bank held it in year before the sale?",
        ),
        (
            "When is Braga's plant shut?",
            "And the warehouse in Venlo?",
            "When is plant shut for the warehouse in Venlo?",
        ),
        (
            "When is the Braga plant shut over Christmas?",
            "And the warehouse in Venlo?",
            "When is the plant shut over Christmas for the warehouse in Venlo?",
        ),
        (
            "What did a room in Leeds cost in June 2024?",
            "And if I go there in September 2025, under the newer rules?",
            "What did a room in Leeds cost for I go there in September 2025, under the newer rules?",
        ),
    ],
)
def test_what_changed_takes_the_place_of_its_like(before: str, question: str, alone: str) -> None:
    assert resolved(before, "An answer.", question) == alone


def test_a_pronoun_inherits_what_the_question_before_was_about() -> None:
    assert (
        resolved("What is the trial period?", "Three months.", "Who may end it?")
        == "Who may end it (What is the trial period)?"
    )


def test_a_condition_with_a_question_of_its_own_is_asked_by_itself() -> None:
    said = resolved("What is the fee in Porto?", "150.", "And if I bring a guest along, how much is the dinner there?")
    assert said == "I bring a guest along, how much is the dinner there (What is the fee in Porto)?"


def test_a_reader_hears_what_was_asked_before_as_it_was_asked() -> None:
    turns = [Turn("user", "What is the fee for grade 5?"), Turn("assistant", "150."), Turn("user", "And for grade 7?")]
    heard = resolve(turns, 6, vectors)
    assert heard.spoken == "Before: What is the fee for grade 5? Now: And for grade 7?"
    assert resolve(turns[:1], 6, vectors).spoken == "What is the fee for grade 5?"


@pytest.mark.parametrize(
    "question",
    ["When do members hand back their keys?", "Is there a fee for lockers?", "When a boat is late, who pays for it?"],
)
def test_a_question_that_stands_alone_is_left_alone(question: str) -> None:
    assert resolved("What is the fee for grade 5?", "150 euros.", question) == question


def test_follow_ups_of_follow_ups() -> None:
    assert (
        resolved("What is the fee for grade 5?", "150.", "And grade 4?", "120.", "And grade 2?")
        == "What is the fee for grade 2?"
    )


def test_history_is_bounded() -> None:
    said = ("What is the fee for grade 5?", "150.", "Are boats for hire?", "Yes.", "And grade 4?")
    assert resolved(*said, turns=0) == "And grade 4?"
    assert "fee" not in resolved(*said, turns=2)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": [{"role": "user", "content": "?!"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "pirate", "content": "hello"}]},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes"}]},
        {"messages": ["hello"]},
    ],
)
def test_a_request_without_a_question_is_refused_in_one_line(request_: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        read_messages(request_)
    assert "\n" not in str(caught.value) and str(caught.value)


def test_a_question_of_parts_and_one_too_long() -> None:
    parts = [{"type": "text", "text": "How"}, {"type": "text", "text": "long?"}]
    assert read_messages({"messages": [{"role": "user", "content": parts}], "temperature": 0})[-1].text == "How\nlong?"
    with pytest.raises(RequestTooLarge, match="20,000"):
        read_messages({"messages": [{"role": "user", "content": "x" * 20_001}]})
