"""From read pages to statements that may answer a question: every sentence, pairs of them, every cell of a table.

A statement is always text of a page: a sentence, or a cell with the labels of its row and column. Nothing is written
that does not stand there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelyard.workloads.chatbot.cells import (
    UNTYPED,
    fit_of_cell,
    full_caption,
    full_name,
    meet,
    plain_caption,
    row_labels,
    row_name,
    section_words,
    without_number,
    without_numbers,
)
from modelyard.workloads.chatbot.kinds import MEASURED
from modelyard.workloads.chatbot.lexicon import bag, squeeze
from modelyard.workloads.chatbot.marks import named_rows, names_one, share, told
from modelyard.workloads.chatbot.match import NEARLY, strength
from modelyard.workloads.chatbot.page import PageView, Sentence
from modelyard.workloads.chatbot.places import of_one_country
from modelyard.workloads.chatbot.question import Question, Term, fits
from modelyard.workloads.chatbot.table import Row, Table, is_empty, is_value

MOST_WORDS = 58
"""An answer is at most this long; a longer sentence is cut at its clauses."""
NOTED = frozenset(["number", "id", "name"])
"""Kinds of terms that a row may hold for without saying them."""
_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d\d(?![\d,]|\.\d)")
_OWN_YEAR = re.compile(rf"(?<!\bby )(?<!\buntil )(?<!\bsince )(?<!\bbefore )(?<!\bthan in ){_YEAR.pattern}")
"""A year that the sentence speaks of, not one that only bounds or compares."""
_LEANS = re.compile(
    r"(?:it|its|they|their|them|this|these|those|that|he|she|both|such|the same|here|otherwise|then|also)\b", re.I
)

Glossary = Mapping[str, frozenset[str]]
_Strengths = Callable[[str], Sequence[float]]
"""How surely a text speaks of each term of the question [t]."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A statement that may answer, and what speaks for it.

    own: what is shown. zones: (text, weight): where terms of the question may be met. start, end: span of the quote.
    """

    view: PageView
    start: int
    end: int
    own: str
    zones: tuple[tuple[str, float], ...]
    kind: str
    gist: str
    """The statement with its context in a line, as it is embedded."""
    reads: str
    """The same for the readers: sections and tables without their numbers, rows not by their code alone."""
    marks: Mapping[str, float] = field(default_factory=dict)
    table: Table | None = None
    row: Row | None = None
    column: int = -1
    covered: Mapping[str, float] = field(default_factory=dict)
    value: float = -math.inf
    """Log-odds that this answers the question."""

    @property
    def score(self) -> float:
        """The same as a probability."""
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, self.value))))

    @property
    def section(self) -> str:
        return self.view.passage_at(self.start).section


class Glimpse(NamedTuple):
    """A statement at first look. Of most that is all: the candidates of those that look best are `made`."""

    place: tuple[float, str, int, int, int]
    """To be sorted by: the best first, and of equals what comes first in the documents."""
    made: Callable[[], Candidate]


def statements(question: Question, view: PageView, rank: float, glossary: Glossary) -> Iterator[Glimpse]:
    """All that a page states, in no order. rank: how well retrieval placed the page, from 0 to 1."""
    # Sentences have their headings in common.
    met = cache(lambda text: [strength(t, text, glossary) for t in question.terms])
    before: Sentence | None = None
    for sentence in view.sentences:
        yield from _sentence(question, view, sentence, sentence.start, rank, met)
        # Two sentences in a row may answer where neither does alone.
        if (
            before is not None
            and sentence.lead_start >= 0
            and before.start >= sentence.lead_start
            and not sentence.item
            and len(view.text[before.start : sentence.end].split()) <= MOST_WORDS
        ):
            yield from _sentence(question, view, sentence, before.start, rank, met)
        before = sentence
    for table in view.tables:
        yield from _Cells(question, view, table, rank, glossary).glimpses()


def _first_look(question: Question, covered: Mapping[str, float], m: Mapping[str, float]) -> float:
    return (
        share(question, covered)
        + 0.15 * m["fit"]
        + 0.1 * m["rank"]
        - 0.3 * m.get("clash", 0.0)
        + 0.2 * m.get("extreme", 0.0)
        - 0.1 * m["told"]
    )


def _sentence(
    question: Question, view: PageView, sentence: Sentence, start: int, rank: float, met: _Strengths
) -> Iterator[Glimpse]:
    """Of the text from `start` to the end of the sentence, unless it only says the question again: that answers
    nothing."""
    text = squeeze(view.text[start : sentence.end])
    echo = told(question, text)
    pair = start < sentence.start
    if echo >= 0.99 and not question.polar and not pair:
        return
    lead = (
        squeeze(view.text[sentence.lead_start : start]) if 0 <= sentence.lead_start < start else squeeze(sentence.lead)
    )
    zones = ((text, 1.0), (lead, 0.7), (section_words(sentence.section), 0.9), (view.names, 0.8))
    covered = _cover(question.terms, zones, met)
    for term in question.terms:
        # A sentence that names other years speaks of those.
        if term.kind == "year" and covered[term.stem] < 1 and _OWN_YEAR.search(text):
            covered[term.stem] = 0.0
        elif term.kind == "year" and term.stem in text and not re.search(rf"(?<!than in )\b{term.stem}\b", text):
            covered[term.stem] = 0.0  # "two fewer than in 2023"
    fit = fits(question, text) if echo < 0.99 else 0.0
    marks = {"fit": fit, "told": echo, "pair": float(pair), "rank": rank}
    place = (-_first_look(question, covered, marks), view.document, view.page, start, -1)
    yield Glimpse(place, partial(_of_sentence, view, sentence, start, zones, marks, covered))


def _of_sentence(
    view: PageView,
    sentence: Sentence,
    start: int,
    zones: tuple[tuple[str, float], ...],
    marks: Mapping[str, float],
    covered: Mapping[str, float],
) -> Candidate:
    (text, _), (lead, _), (section, _), *_ = zones
    leans = _LEANS.match(text) is not None or sentence.item
    lead = lead[-200:] if leans else ""
    gist, reads = (_line(view.title, name, lead, text) for name in (section, without_numbers(section)))
    return Candidate(view, start, sentence.end, text, zones, "sentence", gist, reads, marks, covered=covered)


class _Cells:
    """The cells of a table against a question."""

    def __init__(self, question: Question, view: PageView, table: Table, rank: float, glossary: Glossary) -> None:
        self._question, self._view, self._table, self._rank = question, view, table, rank
        self._met = met = meet(question.terms, view, table, glossary)
        weights = np.array([t.weight for t in question.terms])
        named = np.array([t.text[:1].isupper() for t in question.terms], bool)
        period = np.array([t.kind in ("year", "quarter") for t in question.terms], bool)
        rivals = np.array([min(1.0, t.weight) * names_one(question, t) for t in question.terms])
        self._heavy = weights >= 0.15
        self._best, clash = met.of(question)
        self._clash = (clash * weights).sum(axis=2) / max(weights.sum(), 1e-9)
        self._rival = (clash * rivals).max(axis=2, initial=0.0)
        naming = (self._heavy | named) & ~period
        self._named, self._named_or_dated = met.row(naming), met.row(naming | period)
        self._asked = named_rows(question, table)

    def glimpses(self) -> Iterator[Glimpse]:
        """Of each cell that may answer."""
        question, table, view = self._question, self._table, self._view
        stems = [t.stem for t in question.terms]
        for at, row in enumerate(table.rows):
            if not row.exact:
                continue
            name = row_name(table, row)
            said = [
                f"{text}: {cell} {table.unit(j) if is_value(cell) else ''}".strip()
                for j, (text, cell) in enumerate(zip(self._met.columns_text, row.cells, strict=True))
            ]
            fit = [fit_of_cell(question, table, name, own, cell) for own, cell in zip(said, row.cells, strict=True)]
            for j, cell in enumerate(row.cells):
                # What is not there, and what the question itself says, answers nothing.
                if is_empty(cell) or ((echo := told(question, cell)) >= 0.99 and not question.polar):
                    continue
                covered = dict(zip(stems, self._best[at, j].tolist(), strict=True))
                marks = {
                    "fit": fit[j],
                    "told": echo,
                    "rank": self._rank,
                    "clash": float(self._clash[at, j]),
                    "extreme": self._met.extreme(table, at, j, question),
                }
                place = (-_first_look(question, covered, marks), view.document, view.page, row.start, j)
                yield Glimpse(place, partial(self._candidate, at, j, said[j], fit, covered, marks))

    def _candidate(
        self,
        at: int,
        j: int,
        said: str,
        fit: Sequence[float],
        covered: Mapping[str, float],
        first: Mapping[str, float],
    ) -> Candidate:
        question, view, table, met = self._question, self._view, self._table, self._met
        row, extreme = table.rows[at], first["extreme"]
        asked = self._named_or_dated if _YEAR.fullmatch(row.cells[0]) else self._named
        only = question.kind not in UNTYPED and fit[j] == 1 == sum(f == 1 for f in fit[1:])
        marks = {
            **first,
            "outdone": float(bool(self._asked) and at not in self._asked),
            "rival": float(self._rival[at, j]),
            "unasked": float(asked[at, j] < 0.5 and extreme < 1 and not (question.kind in MEASURED and fit[j] == 1)),
            "unnamed": float(
                met.column(j, self._heavy) < 0.5 and not only and not (question.undated and table.is_period(j))
            ),
        }
        zones = (
            (" ".join(row_labels(table, row).values()), 1.0),
            (met.columns_text[j], 1.0),
            (plain_caption(table), 0.95),
            (section_words(table.section), 0.9),
            (view.names, 0.85),
            (row.group, 0.9),
        )
        section = section_words(table.section)
        gist = _line(view.title, section, full_caption(table), f"{row_name(table, row)}, {said}")
        reads = _line(view.title, without_numbers(section), _heading(table), self._told(at, j, said, extreme))
        return Candidate(view, row.start, row.end, said, zones, "cell", gist, reads, marks, table, row, j, covered)

    def _told(self, at: int, j: int, said: str, extreme: float) -> str:
        """The cell as the readers see it, with what the rules know of it. As printed: the unit of most of a table's
        columns need not be that of each."""
        row = self._table.rows[at]
        called = full_name(self._table, row, j)
        if notes := notes_on(self._question, self._met.labels(at, j), extreme, f"{called} {said}"):
            called = f"{called} ({', '.join(notes)})"
        return f"{called}, {self._met.columns_text[j]}: {row.cells[j]}"


def _heading(table: Table) -> str:
    caption = without_number(table.caption)
    return f"{caption} ({table.scale})" if caption and table.scale else caption or table.scale


def notes_on(question: Question, labels: NDArray[np.float64], extreme: float, said: str) -> list[str]:
    """What the rules know of a cell and its labels do not say, in the question's words: that its range holds the number
    asked for, that it stands for the place, that it has the most. A reader of one row cannot know.

    labels: how surely each term is spoken of by those of row and column [t]. said: the labels, and the cell."""
    stems = bag(said).stems
    notes = [
        t.text
        for t, met in zip(question.terms, labels, strict=True)
        if t.kind in NOTED and met >= 0.7 and t.stem not in stems and t.text not in said
    ]
    return [*notes, "the most" if question.superlative > 0 else "the least"] if extreme == 1 else notes


def _line(*parts: str) -> str:
    return ". ".join(part for part in parts if part)


def _cover(terms: Sequence[Term], zones: Sequence[tuple[str, float]], met: _Strengths) -> dict[str, float]:
    strengths = [(met(text), weight) for text, weight in zones]
    found = {t.stem: max(each[i] * weight for each, weight in strengths) for i, t in enumerate(terms)}
    for term in terms:
        # A name that no zone says: of the Danish office speaks what speaks of Aarhus.
        if term.kind == "name" and found[term.stem] < NEARLY:
            alike = max(weight * of_one_country(term, text) for text, weight in zones)
            found[term.stem] = max(found[term.stem], NEARLY * alike)
    return found
