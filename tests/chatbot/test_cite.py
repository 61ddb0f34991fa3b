from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.chatbot.shelf import Sheet, passages

from modelyard.workloads.chatbot.cite import Citation, locate, verify

TEXT = "Boats are returned before sunset. The fee is 1,240 euros per year. Dogs pay 6 euros."
(PASSAGE,) = passages([Sheet("d", TEXT)])


def quoting(start: int, end: int, quote: str | None = None) -> Citation:
    return Citation(PASSAGE, TEXT[start:end] if quote is None else quote, start, end)


def test_a_statement_stands_on_its_quote() -> None:
    start, end = locate("The yearly fee is 1240 euros.", TEXT, 0, len(TEXT))
    assert TEXT[start:end] == "The fee is 1,240 euros per year."
    assert verify("The fee is 1240 euros per year.", quoting(start, end), TEXT)


def test_another_number_or_other_words_do_not() -> None:
    span = locate("The fee is 1,240 euros", TEXT, 0, len(TEXT))
    assert not verify("The fee is 1,250 euros per year.", quoting(*span), TEXT)
    assert not verify("Elephants enjoy swimming across rivers.", quoting(*span), TEXT)


def test_a_quote_that_is_not_the_text_is_none() -> None:
    assert not verify("Dogs pay 6 euros.", quoting(0, 5, "Dogs pay 6 euros."), TEXT)
    assert not verify("", quoting(3, 3), TEXT)


def test_the_labels_of_a_cell_count_as_its_quote() -> None:
    text = "Boat\tDay\nHeron\t30"
    row = Citation(passages([Sheet("d", text)])[0], "Heron\t30", 9, 17)
    assert verify("Heron, day: 30 euros", row, text, "Boat Day Euros per day")
    assert not verify("Heron, night: 31 euros", row, text, "Boat Day Euros per day")


@given(st.integers(0, len(TEXT)), st.integers(0, len(TEXT)))
def test_every_slice_supports_itself(a: int, b: int) -> None:
    start, end = min(a, b), max(a, b)
    assert verify(TEXT[start:end], quoting(start, end), TEXT) == bool(TEXT[start:end].strip())
