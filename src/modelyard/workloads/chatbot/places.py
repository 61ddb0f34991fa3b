"""Rows that stand for every place a table does not name: "Elsewhere in Europe", "All other countries"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelyard.calc.text import analyse
from modelyard.workloads.chatbot.lexicon import PLACES, bag
from modelyard.workloads.chatbot.question import Term

_REST = re.compile(r"\W*(?:all |any |the )?(?:others?|rest|elsewhere|remaining|remainder|everywhere else)\b", re.I)
_TOTAL = re.compile(r"\W*(?:grand |sub)?(?:total|sum)\b", re.I)
_KEPT = re.compile(r"\b(?:countr|cit|place|world|europe|elsewhere|everywhere|capital|region|abroad|destination)", re.I)
STANDS_FOR = 0.9
"""How surely such a row speaks of a place that it does not name."""


def stands_for(term: Term, labels: Sequence[str]) -> int | None:
    """The row, of those called `labels`, that holds for the place `term` names although none names it.

    A city goes with its country's row where there is one, or else with the closest of the rows for the rest. None for a
    term that names no place known here, for one that a row names, and in a table with a total: there the rest is a part
    of the sum and holds for no single place.
    """
    place = PLACES.get(term.stem)
    if place is None or term.kind != "name" or any(term.stem in bag(label).stems for label in labels):
        return None
    for at, label in enumerate(labels):
        if place.city and not _REST.match(label) and not place.countries.isdisjoint(analyse(label)):
            return at
    if any(_TOTAL.match(label) for label in labels):
        return None
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
