"""Rows that hold for a place without naming it: its country, its part of the world, "Elsewhere in Europe"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelyard.calc.text import analyse
from modelyard.workloads.chatbot.lexicon import DEMONYMS, OUTSIDE_UNION, PLACES, REGIONS, Place, bag
from modelyard.workloads.chatbot.question import Term

_REST = re.compile(r"\W*(?:all |any |the )?(?:others?|rest|elsewhere|remaining|remainder|everywhere else)\b", re.I)
_TOTAL = re.compile(r"\W*(?:grand |sub)?(?:total|sum)\b", re.I)
_KEPT = re.compile(r"\b(?:countr|cit|place|world|europe|elsewhere|everywhere|capital|region|abroad|destination)", re.I)
_EUROPE = re.compile(r"\beurope(?:an)?\b|\bEU\b", re.I)
_UNION = re.compile(r"\bunion\b|\bEU\b", re.I)
_COMPASS = frozenset(analyse("north south east west northern southern eastern western central"))
_NAMES = re.compile(r"\b[A-Z\u00c0-\u00de][\w\u00c0-\u017f]+")
_BEYOND = re.compile(r"\b(?:non|outside|beyond|not|overseas|except|without)\b", re.I)
STANDS_FOR = 0.9
"""How surely such a row speaks of a place that it does not name."""


def stands_for(term: Term, labels: Sequence[str]) -> int | None:
    """The row, of those called `labels`, that holds for the place `term` names although none names it.

    A city goes with its country's row where there is one, a country with that of its only city; or else with the row of
    their part of the world, or with the closest of the rows for the rest. None for a term that names no place known
    here, for one that a row names, and in a table with a total: there each row is a part of the sum and holds for no
    single place within.
    """
    place = PLACES.get(term.stem) or _meant(term.stem)
    if place is None or term.kind != "name" or any(not _called(term.stem).isdisjoint(bag(x).stems) for x in labels):
        return None
    if any(_TOTAL.match(label) for label in labels):
        return None
    for at, label in enumerate(labels):
        if place.city and not _REST.match(label) and not place.countries.isdisjoint(analyse(label)):
            return at
    cities = [at for at, label in enumerate(labels) if not place.city and of_one_country(term, label)]
    if len(cities) == 1:
        return cities[0]
    for holds in (_in_region, _in_europe):
        for at, label in enumerate(labels):
            if not _REST.match(label) and holds(label, place):
                return at
    fitting = []
    for at, label in enumerate(labels):
        if not _REST.match(label) or not _KEPT.search(label):
            continue
        words = label.lower()
        capital, europe = "capital" in words, "europe" in words
        if (capital and not place.capital) or (europe and not place.europe) or ("cit" in words and not place.city):
            continue
        fitting.append((capital + europe, at))
    return max(fitting, key=lambda pair: (pair[0], -pair[1]))[1] if fitting else None


def _called(stem: str) -> frozenset[str]:
    return DEMONYMS.get(stem, frozenset()) | {stem}


def _meant(stem: str) -> Place | None:
    """The country that "Danish" belongs to."""
    return next((PLACES[other] for other in sorted(DEMONYMS.get(stem, ())) if other in PLACES), None)


def _in_region(label: str, place: Place) -> bool:
    """Whether `label` names a part of the world that `place` lies in: "Scandinavia", not a part of a part ("West
    Africa"), of which nothing is known here."""
    words = bag(label).stems
    return any(
        name <= words and not countries.isdisjoint(place.countries) and words.isdisjoint(_COMPASS - name)
        for name, countries in REGIONS
    )


def _in_europe(label: str, place: Place) -> bool:
    """The same of Europe and of all that is not Europe; of the European Union only for its members."""
    if not _EUROPE.search(label) or not bag(label).stems.isdisjoint(_COMPASS):
        return False
    within = place.europe and not (_UNION.search(label) and not place.countries.isdisjoint(OUTSIDE_UNION))
    return within != (_BEYOND.search(label) is not None)


def of_one_country(term: Term, text: str) -> bool:
    """Whether one of the term and a name in `text` is a country and the other a city of it: "the Danish office" is that
    in Aarhus. Only names count: a contract that states something is in no States."""
    here = PLACES.get(term.stem) or _meant(term.stem)
    if here is None:
        return False
    names = (stem for word in _NAMES.findall(text) for stem in analyse(word))
    there = (PLACES.get(stem) or _meant(stem) for stem in names)
    return any(p is not None and p.city != here.city and p.countries == here.countries for p in there)
