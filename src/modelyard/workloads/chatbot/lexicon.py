"""Plain English for questions and passages: which words carry meaning, which mean nearly the same, which name things.

Nothing here is knowledge of a field; that is the user's glossary (settings). Terms are those of `modelyard.calc.text`,
so that the index's document frequencies speak of the same things.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from modelyard.calc.text import analyse, fold, stem


def _lists() -> dict[str, str]:
    """The word lists of lexicon.txt by name."""
    text = resources.files(__package__).joinpath("lexicon.txt").read_text(encoding="utf-8")
    out: dict[str, str] = {}
    for part in re.split(r"^\[", re.sub(r"^#.*\n", "", text, flags=re.M), flags=re.M)[1:]:
        name, _, body = part.partition("]")
        out[name] = body.strip()
    return out


_LISTS = _lists()

LIGHT = frozenset(_LISTS["light"].split())
"""Words of a question that tell little about its subject: their absence from a passage weighs next to nothing."""

DEPARTMENTS = frozenset(_LISTS["departments"].split())
"""Words that name a department where they are written large."""

GENERIC = frozenset(w for word in _LISTS["generic"].split() for w in (word, stem(word)))
"""Common words of no field: a passage may say the same without them. Others name what the question is about."""

_COUNTED = """zero|one first|two second twice|three third|four fourth|five fifth|six sixth|seven seventh|eight eighth|
nine ninth|ten tenth|eleven eleventh|twelve twelfth|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty"""
_TENS = "thirty forty fifty sixty seventy eighty ninety hundred"

NUMBER_WORDS = {word: str(value) for value, words in enumerate(_COUNTED.split("|")) for word in words.split()} | {
    word: str(10 * value) for value, word in enumerate(_TENS.split(), 3)
}

_ENDINGS = _LISTS["endings"].split()


@lru_cache(maxsize=1 << 16)
def root(term: str) -> str:
    """What is left of a stem without the endings that make nouns of verbs and the like: approv(al), reimburs(ement)."""
    if len(term) < 6 or not term.isalpha() or term.endswith("ee"):
        return term
    for ending in _ENDINGS:
        if term.endswith(ending) and len(term) - len(ending) >= 4:
            return term[: -len(ending)]
    return term


def _groups() -> dict[str, frozenset[str]]:
    near: dict[str, set[str]] = {}
    for line in re.split(r"[|\n]", _LISTS["near"]):
        words = {root(stem(w)) for w in line.split()}
        for word in words:
            near.setdefault(word, set()).update(words - {word})
    return {word: frozenset(others) for word, others in near.items()}


NEAR = _groups()
"""Root -> roots that may stand in its place."""


def _phrases() -> tuple[tuple[re.Pattern[str], str], ...]:
    out = []
    for entry in re.split(r"[|\n]", _LISTS["phrases"]):
        phrase, _, meaning = entry.partition(":")
        verb, *rest = phrase.split()
        # "hand in", "handed it in", "hand the form in"
        between = (
            r"(?: (?!(?:and|or|to|of|on|in|up|out|off|over|back|down|for|is|are)\b)[\w'-]+){0,2}? "
            if len(rest) == 1
            else " "
        )
        forms = "|".join((re.escape(verb) + r"(?:s|ed|ing)?", *_IRREGULAR.get(verb, "").split()))
        out.append(
            (
                re.compile(rf"(?<!\bthe )(?<!\ba )\b(?:{forms})({between}){' '.join(rest)}\b(?! of the)", re.I),
                meaning.strip(),
            )
        )
    return tuple(out)


_IRREGULAR = {
    "give": "gave given giving",
    "send": "sent",
    "pay": "paid",
    "get": "got getting",
    "break": "broke broken",
    "go": "went gone goes",
    "bring": "brought",
    "take": "took taken taking",
    "come": "came coming",
    "let": "letting",
    "find": "found",
    "hear": "heard",
    "run": "ran running",
    "throw": "threw thrown",
    "tell": "told",
    "ring": "rang",
    "make": "made making",
    "set": "setting",
    "cut": "cutting",
    "put": "putting",
    "write": "wrote written writing",
    "hang": "hung",
    "keep": "kept",
    "sleep": "slept",
    "fall": "fell fallen",
    "use": "using used",
    "lay": "laid",
    "leave": "left leaving",
    "wear": "wore worn",
    "drop": "dropped dropping",
    "sign": "signing",
    "blow": "blew blown",
}
PHRASES = _phrases()
"""Verbs of two words as patterns, and a word that says the same: "hand it in" is to submit it."""


def plain_verbs(text: str) -> str:
    """`text` with its verbs of two words as single ones."""
    for pattern, meaning in PHRASES:
        text = pattern.sub(lambda m, to=meaning: f"{to}{m[1]}".rstrip(), text)  # type: ignore[misc]
    return text


DEMONYMS = {
    stem(word): frozenset(stem(w) for w in group.split()) - {stem(word)}
    for line in _LISTS["demonyms"].splitlines()
    for group in line.split("|")
    for word in group.split()
}
"""A country's name and what belongs to it: the Dutch pension is that of the Netherlands."""


@dataclass(frozen=True)
class Place:
    """A country or a city of one. countries: stems of the country's names."""

    countries: frozenset[str]
    europe: bool
    city: bool
    capital: bool


def _places() -> dict[str, Place]:
    out: dict[str, Place] = {}
    for continent in ("europe", "overseas"):
        for entry in re.split(r"[;\n]", _LISTS[continent]):
            names, _, cities = entry.partition(":")
            capital, _, others = cities.partition(",")
            countries = frozenset(stem(n) for n in names.split())
            for words, city, is_capital in ((others, True, False), (capital, True, True), (names, False, False)):
                for word in words.split():
                    out[stem(word)] = Place(countries, continent == "europe", city, is_capital)
    return out


PLACES = _places()
"""Stem of a word of a country's or big city's name -> what it names."""

REGIONS = tuple(
    (frozenset(analyse(name)), frozenset(stem(word) for word in countries.split()))
    for entry in re.split(r"[;\n]", _LISTS["regions"])
    for name, _, countries in [entry.partition(":")]
)
"""(stems of the name of a part of the world, stems of its countries)."""

OUTSIDE_UNION = frozenset(stem(word) for word in _LISTS["outside_union"].split())
"""Stems of the European countries that are not in the European Union."""


@dataclass(frozen=True)
class Bag:
    """The terms of a text: stems as the index has them, their roots, and the numbers written as words too."""

    stems: frozenset[str]
    roots: frozenset[str]

    def __or__(self, other: Bag) -> Bag:
        return Bag(self.stems | other.stems, self.roots | other.roots)


@lru_cache(maxsize=1 << 14)
def bag(text: str) -> Bag:
    """The bag of `text`; hyphenated words count whole and in parts."""
    stems = set(analyse(text))
    for word in re.findall(r"[a-z]+", fold(text).lower()):
        if word in NUMBER_WORDS:
            stems.add(NUMBER_WORDS[word])
    return Bag(frozenset(stems), frozenset(root(s) for s in stems))


def squeeze(text: str) -> str:
    """`text` on one line, a tab of a table as two spaces gone to one."""
    return " ".join(text.split())
