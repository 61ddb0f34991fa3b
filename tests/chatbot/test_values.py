"""What values a text holds, what each is a number of, and whether that is what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.calc.text import stem
from modelyard.workloads.chatbot.kinds import Kind, kind_of, other_end
from modelyard.workloads.chatbot.lexicon import plain_verbs
from modelyard.workloads.chatbot.question import Question, analyse_question
from modelyard.workloads.chatbot.values import bases, fits_kind, numbers


@pytest.mark.parametrize(
    ("text", "sorts"),
    [
        ("12 beds in 3 rooms", ["plain", "plain"]),
        ("145 euros, EUR 20 and $3.50", ["money", "money", "money"]),
        ("2.5 million euros", ["money"]),
        ("within five working days", ["time"]),
        ("5 to 9 days", ["time", "time"]),
        ("from 09:30 to 17.00", ["clock", "clock"]),
        ("on 3 May 2025", ["date", "date"]),
        ("in 2024", ["year"]),
        ("6.8 percent", ["percent"]),
        ("25 metres long", ["measure"]),
        ("Table 5, TW-204 and ISO 27001", ["code", "code", "code"]),
        ("7.25", ["fraction"]),
        ("no number at all", []),
    ],
)
def test_a_number_is_known_by_what_stands_beside_it(text: str, sorts: list[str]) -> None:
    found = [n.sort for n in numbers(text)]
    assert found[: len(sorts)] == sorts and (sorts or not found)


@pytest.mark.parametrize(
    ("kind", "text", "answers"),
    [
        ("money", "It costs 6 euros.", True),
        ("money", "Lessons are free of charge.", True),
        ("money", "It takes three quarters of an hour.", False),
        ("duration", "It lasts 45 minutes.", True),
        ("duration", "Help is given by retired teachers.", False),
        ("duration", "Corridors are cleaned twice a week.", False),
        ("date", "It opens on 3 May.", True),
        ("date", "It opens to everyone.", False),
        ("person", "The shop is run by Ada Krol.", True),
        ("person", "It was built between March and May 2018.", False),
        ("phone", "The hotline is 555 0140.", True),
        ("phone", "27,500", False),
        ("clock", "Doors close at 22:00.", True),
        ("clock", "The table is 2.10 metres high.", False),
        ("percent", "Half of the visitors came back.", True),
        ("count", "It has 57 employees.", True),
        ("count", "A night costs 57 euros.", False),
        ("reason", "The ferry stopped because the pier was rotten.", True),
        ("reason", "The ferry stopped in 2019.", False),
        ("reason", "Results of the ferry are published in May.", False),
        ("secret", "The password is brook-7714.", True),
        ("secret", "The door has a code that Ada Krol changes each month.", False),
        ("phone", "The workshop at Brack is run by Ada Krol.", False),
        ("duration", "It is opened an hour before it is poured.", True),
        ("duration", "Private days may be added before or after, up to three.", True),
        ("duration", "Three colleagues have worked here for years.", False),
        ("person", "Head office is in Salt Road.", False),
    ],
)
def test_a_text_holds_what_is_asked_for_or_not(kind: Kind, text: str, answers: bool) -> None:
    assert (fits_kind(kind, text, frozenset()) >= 0.5) is answers


def test_what_is_counted_is_what_the_number_stands_before() -> None:
    beds = stem("beds")
    assert fits_kind("count", "There are 40 beds.", frozenset(), beds) == 1
    assert fits_kind("count", "Each bed has a locker; there are 15 keys.", frozenset(), beds) < 0.5
    assert fits_kind("count", "7.00", frozenset(), beds) == 0
    assert fits_kind("count", "At most two lockers a bed are lent.", frozenset(), beds) < 1


def test_a_number_behind_a_name_of_the_question_is_a_part_of_it() -> None:
    def counts(text: str) -> float:
        return fits_kind("count", text, frozenset({"100"}), stem("trams"), numbered=frozenset({"brook"}))

    assert counts("Brook 80 and 100 come by sea.") == 0
    assert counts("Brook 12,400") > 0.5
    assert counts("Delft 80") > 0.5  # so many, there
    assert counts("Brook 80: 24 trams") == 1
    assert counts("In Brook 4, 28 trams are kept.") == 1


def test_a_share_counts_only_what_it_is_a_share_of() -> None:
    trams = stem("trams")
    assert fits_kind("count", "80 percent of the trams are new.", frozenset(), trams) > 0
    assert fits_kind("count", "Shelf C: 64 %", frozenset(), trams) == 0
    asked = frozenset({"women", stem("board")})
    assert fits_kind("count", "Women make up 41 percent of the board.", frozenset(), stem("members"), asked) > 0


def test_names_of_the_question_are_nobody() -> None:
    assert fits_kind("person", "Salt Road was lent 624 times.", frozenset(), names=frozenset({"salt", "road"})) == 0
    assert fits_kind("person", "Lifts: Tallis Lift Service", frozenset(), names=frozenset({"lift"})) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3 euros a day", {"day"}),
        ("the hourly rate", {"hour"}),
        ("Euros per full day", {"day"}),
        ("per user and month", {"person"}),
        ("0.28 euros per kilowatt-hour", {"kilowatt"}),
        ("What does it cost per kWh?", {"kilowatt"}),
        ("three euros", set()),
        ("a permit for a second car", set()),
    ],
)
def test_what_an_amount_is_for_one_of(text: str, found: set[str]) -> None:
    assert bases(text) == found


@given(st.text(max_size=200), st.sampled_from(["count", "money", "duration", "date", "person", "number", "place"]))
def test_any_text_can_be_read(text: str, kind: Kind) -> None:
    assert 0 <= fits_kind(kind, text, frozenset(), "bed") <= 1
    assert all(len(n.after) <= 4 for n in numbers(text))
    plain_verbs(text)


@pytest.mark.parametrize(
    ("question", "plain"),
    [
        ("When do I hand it in?", "When do I submit it?"),
        ("I handed the form in late", "I submit the form late"),
        ("They called off the trip", "They cancel the trip"),
        ("Is there a hand in the picture?", "Is there a hand in the picture?"),
    ],
)
def test_verbs_of_two_words_become_one(question: str, plain: str) -> None:
    assert plain_verbs(question) == plain


def test_who_asks_for_somebody_only_where_it_asks() -> None:
    assert kind_of("who runs the shop?") == "person"
    assert kind_of("what does a guest who stays a week get?") != "person"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what is the mobile number of ada krol?", "phone"),
        ("number of the safety office", "phone"),
        ("what is the number of the visitors?", "thing"),
        ("what's the wifi password in the attic?", "secret"),
        ("what is the dress code?", "thing"),
        ("what caused the fire?", "reason"),
        ("how come the pool is shut?", "reason"),
        ("what will the new ship be called?", "named"),
        ("how long is the pool open?", "clock"),
        ("could you give me her e-mail?", "email"),
        ("how many decibels were measured in hall 2?", "number"),
        ("how many meters do we make a year?", "count"),
        ("what is the allowance for the day, when i am there all day?", "money"),
        ("when i am on a trip, which class may i book?", "thing"),
        ("on weekends, when would the gate open?", "date"),
        ("from what time can i walk in on a tuesday?", "clock"),
        ("until which hour does the desk take parcels?", "clock"),
    ],
)
def test_the_kind_asked_for(question: str, kind: Kind) -> None:
    assert kind_of(question) == kind


@pytest.mark.parametrize(
    ("asked", "text", "other"),
    [
        ("When did her leave start?", "She is on leave until August.", True),
        ("When does the sale end?", "The sale begins on 3 May.", True),
        ("When does the sale end?", "The sale begins on 3 May and ends in June.", False),
        ("When does the sale start?", "On Monday, until noon.", False),
        ("When does the shift start?", "Shifts are from 06:00 until 14:00.", False),
        ("When is the sale?", "Until June.", False),
    ],
)
def test_when_something_begins_is_not_until_when_it_lasts(asked: str, text: str, other: bool) -> None:
    assert other_end(asked, text) is other


def test_what_only_sounds_like_yes_or_no_asks_for_something_else() -> None:
    assert not _asked("Could you give me her e-mail?").polar
    assert not _asked("Do you know when the shop opens?").polar
    assert _asked("Can you bring a dog?").polar


def test_number_words_before_any_noun_are_numbers() -> None:
    assert [t.value for t in _asked("How much is a pass for four zones?").terms if t.kind == "number"] == [4.0]


def _asked(text: str, known: frozenset[str] = frozenset()) -> Question:
    return analyse_question(text, lambda term: 0.5 if term in known else 1.0, lambda name: False)


def test_versions_are_insisted_on_and_unknown_acronyms_are_not() -> None:
    hard = {t.text for t in _asked("When will release 8.0 come out?").terms if t.hard}
    assert hard == {"8.0"}
    assert not any(t.hard for t in _asked("How much RAM do I need?").terms)
    assert any(t.hard for t in _asked("How much RAM do I need?", frozenset({"ram"})).terms)


def test_a_day_of_the_month_counts_nothing() -> None:
    assert all(t.kind != "number" for t in _asked("Who was head on 1 January?").terms)
