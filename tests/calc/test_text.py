"""The analyser: what is written alike gives the same terms, and what means something else does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.calc.text import STOP_WORDS, analyse, fold, stem


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Net sales rose 12.5% to $1,240 million", ["net", "sale", "rose", "12.5", "percent", "1240", "million"]),
        ("(1,240)", ["1240"]),
        ("1,240,000.50", ["1240000.5"]),
        ("1.240.000,50", ["1240000.5"]),
        ("1\u00a0240\u202f000", ["1240000"]),
        ("12.50 %", ["12.5", "percent"]),
        ("% growth", ["percent", "growth"]),
        ("0.0 100 007", ["0", "100", "007"]),
        ("section 3.1.4", ["section", "3.1.4"]),
        ("12/31/2023", ["12", "31", "2023"]),
        ("10-K", ["10", "k"]),
        ("FY2023 Q3 5th", ["fy2023", "2023", "q3", "5th"]),
        ("The U.S. and the U.S", ["us", "us"]),
        ("R&D, AT&T; Johnson & Johnson", ["r&d", "at&t", "johnson", "johnson"]),
        ("the company\u2019s companies' it's they're", ["company", "company"]),
        ("ﬁnance, Straße, naïve CAFÉ", ["financ", "strass", "naiv", "cafe"]),
        ("soft\u00adware", ["softwar"]),
        ("snake_case e-mail", ["snak", "case", "e", "mail"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("2023年", ["2023", "年"]),
        ("What is it?", []),
        ("", []),
        ("\ud800 … —", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert analyse(text) == terms


@pytest.mark.parametrize(
    "words",
    [
        "increase increases increased increasing",
        "company companies",
        "lease leases leased leasing",
        "operate operates operated operating",
        "control controls controlled controlling",
        "install installs installed installing",
        "price prices priced pricing",
        "plan plans planned planning",
        "carry carries carried carrying",
        "tax taxes taxed",
        "expense expenses",
        "business businesses",
        "rate rates rated rating",
    ],
)
def test_forms_of_a_word_are_one_term(words: str) -> None:
    assert len({stem(word) for word in words.split()}) == 1


@pytest.mark.parametrize("words", ["hope hop", "rate rat", "price prize", "need nee", "bus buses analysis", "sing s"])
def test_other_words_stay_apart(words: str) -> None:
    assert len({stem(word) for word in words.split()}) == len(words.split())


@given(st.text())
def test_any_text_is_analysed(text: str) -> None:
    for term in analyse(text):
        assert term
        assert not any(c.isspace() for c in term)


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_case_does_not_matter(text: str) -> None:
    assert analyse(text.upper()) == analyse(text.lower()) == analyse(text)


@given(st.lists(st.text(alphabet="abcdefgh 1.,%'&-é", max_size=12)))
def test_lines_are_analysed_one_by_one(lines: list[str]) -> None:
    assert analyse("\n".join(lines)) == [term for line in lines for term in analyse(line)]


@given(st.integers(0, 10**12), st.integers(0, 99))
def test_separators_do_not_change_a_number(whole: int, cents: int) -> None:
    assert analyse(f"{whole:,}.{cents:02d}") == analyse(f"{whole}.{cents:02d}")
    assert analyse(f"{whole:,}") == [str(whole)]


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_stop_words_are_left_out() -> None:
    assert analyse(" ".join(sorted(STOP_WORDS))) == []
    assert analyse("not no more under over") == ["not", "no", "more", "under", "over"]
