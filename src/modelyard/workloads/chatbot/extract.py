"""From read pages to statements that may answer: every sentence and every cell is weighed against the question.

A statement is always text of a page: a sentence, or a cell with the labels of its row and column. Nothing is written
that does not stand there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.ports.embedder import Embedder
from modelyard.ports.reader import Reader, Readers
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
from modelyard.workloads.chatbot.conversation import Resolved
from modelyard.workloads.chatbot.kinds import MEASURED
from modelyard.workloads.chatbot.lexicon import bag, squeeze
from modelyard.workloads.chatbot.marks import (
    held,
    left_out,
    missing,
    named_rows,
    names_one,
    one_of_several,
    opposed,
    share,
    subject,
    told,
)
from modelyard.workloads.chatbot.match import NEARLY, Alike, strength
from modelyard.workloads.chatbot.page import PageView, Sentence
from modelyard.workloads.chatbot.places import of_one_country
from modelyard.workloads.chatbot.question import Question, Term, fits
from modelyard.workloads.chatbot.table import Row, Table, is_empty, is_value

MOST_WORDS = 58
"""An answer is at most this long; a longer sentence is cut at its clauses."""
_READ, _READ_CLOSELY = 16, 4
"""Statements that the quick reader reads, those that look best by the other marks; and then the close one."""
_FAR_AHEAD = 0.3
"""By how much more a statement is like the question than all others counts up to this."""
_SURE = 6.0
"""What a reader says counts up to these log-odds: beyond, it has only seen more of the same kind."""
_REACH = 3.0
"""What the close reader is expected to add to a statement at most: of 1,262 questions it answered one from further
below the threshold."""
_BEHIND = (4.5, 3.5, 2.5)
"""How far behind the first a statement may be that comes first in the end: before it is compared with the question by
the embedder, before the quick reader, before the close one. Of 174 answered questions the furthest was 2.8, 2.4, 1.1
behind."""
NOTED = frozenset(["number", "id", "name"])
"""Kinds of terms that a row may hold for without saying them."""
_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d\d(?![\d,]|\.\d)")
_OWN_YEAR = re.compile(rf"(?<!\bby )(?<!\buntil )(?<!\bsince )(?<!\bbefore )(?<!\bthan in ){_YEAR.pattern}")
"""A year that the sentence speaks of, not one that only bounds or compares."""
_LEANS = re.compile(
    r"(?:it|its|they|their|them|this|these|those|that|he|she|both|such|the same|here|otherwise|then|also)\b", re.I
)


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


class Extractor:
    """Weighs statements. Keeps vectors of statements and words it has met (bounded)."""

    def __init__(
        self,
        embedder: Embedder,
        readers: Readers | None,
        glossary: Mapping[str, frozenset[str]],
        weights: Mapping[str, float],
    ) -> None:
        self._readers = readers
        self._alike = Alike(embedder)
        self._gists = Alike(embedder, 4_000)
        self._glossary = glossary
        self._weights = weights

    def vectors(self, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Vectors of short texts, remembered."""
        return self._alike.vectors(texts)

    def candidates(
        self,
        question: Question,
        resolved: Resolved,
        pages: Sequence[tuple[PageView, float]],
        vectors: NDArray[np.float32],
        *,
        least: float = -math.inf,
        most: int = 48,
    ) -> list[Candidate]:
        """The statements of `pages` (view, its retrieval score from 0 to 1) that were read, best first, with their
        scores. resolved: the question in its conversation. vectors: of the question, [n, dimension]: of all of it, and
        of what it asks without what leads up to it. least: log-odds below which nothing is told."""
        found: list[Candidate] = []
        for view, rank in pages:
            for each in self._of_page(question, view):
                found.append(replace(each, marks={**each.marks, "rank": rank}))
        found.sort(key=lambda c: (-_first_look(question, c), c.view.document, c.view.page, c.start, c.column))
        return self.read(resolved, self.weigh(question, found[:most])[:_READ], vectors, least)

    def _of_page(self, question: Question, view: PageView) -> Iterable[Candidate]:
        before: Sentence | None = None
        for sentence in view.sentences:
            alone = self._sentence(question, view, sentence, sentence.start)
            if question.polar or alone.marks["told"] < 0.99:  # what only says the question again answers nothing
                yield alone
            # Two sentences in a row may answer where neither does alone.
            if (
                before is not None
                and sentence.lead_start >= 0
                and before.start >= sentence.lead_start
                and not sentence.item
                and len(view.text[before.start : sentence.end].split()) <= MOST_WORDS
            ):
                yield self._sentence(question, view, sentence, before.start)
            before = sentence
        for table in view.tables:
            yield from self._cells(question, view, table)

    def _sentence(self, question: Question, view: PageView, sentence: Sentence, start: int) -> Candidate:
        text = squeeze(view.text[start : sentence.end])
        lead = (
            squeeze(view.text[sentence.lead_start : start])
            if 0 <= sentence.lead_start < start
            else squeeze(sentence.lead)
        )
        section = section_words(sentence.section)
        zones = ((text, 1.0), (lead, 0.7), (section, 0.9), (view.names, 0.8))
        covered = _cover(question.terms, zones, self._glossary)
        for term in question.terms:
            # A sentence that names other years speaks of those.
            if term.kind == "year" and covered[term.stem] < 1 and _OWN_YEAR.search(text):
                covered[term.stem] = 0.0
            elif term.kind == "year" and term.stem in text and not re.search(rf"(?<!than in )\b{term.stem}\b", text):
                covered[term.stem] = 0.0  # "two fewer than in 2023"
        leans = _LEANS.match(text) is not None or sentence.item
        lead = lead[-200:] if leans else ""
        gist, reads = (_line(view.title, name, lead, text) for name in (section, without_numbers(section)))
        echo = told(question, text)
        marks = {
            "fit": fits(question, text) if echo < 0.99 else 0.0,
            "told": echo,
            "pair": float(start < sentence.start),
        }
        return Candidate(view, start, sentence.end, text, zones, "sentence", gist, reads, marks, covered=covered)

    def _cells(self, question: Question, view: PageView, table: Table) -> Iterable[Candidate]:
        met = meet(question.terms, view, table, self._glossary)
        weights = np.array([t.weight for t in question.terms])
        heavy = weights >= 0.15
        named = np.array([t.text[:1].isupper() for t in question.terms], bool)
        period = np.array([t.kind in ("year", "quarter") for t in question.terms], bool)
        naming = (heavy | named) & ~period
        best, clash = met.of(question)
        rivals = np.array([min(1.0, t.weight) * names_one(question, t) for t in question.terms])
        rival = (clash * rivals).max(axis=2, initial=0.0)
        clash_share = (clash * weights).sum(axis=2) / max(weights.sum(), 1e-9)
        by_name, by_time = met.row(naming), met.row(naming | period)
        stems = [t.stem for t in question.terms]
        asked_rows = named_rows(question, table)
        # As printed: the unit of most of a table's columns need not be that of each.
        caption = without_number(table.caption)
        heading = f"{caption} ({table.scale})" if caption and table.scale else caption or table.scale
        about = (without_numbers(section_words(table.section)), heading)
        context = (
            (plain_caption(table), 0.95),
            (section_words(table.section), 0.9),
            (view.names, 0.85),
        )
        for at, row in enumerate(table.rows):
            if not row.exact:
                continue
            label = " ".join(row_labels(table, row).values())
            name = row_name(table, row)
            said = [
                f"{text}: {cell} {table.unit(j) if is_value(cell) else ''}".strip()
                for j, (text, cell) in enumerate(zip(met.columns_text, row.cells, strict=True))
            ]
            asked = by_time if _YEAR.fullmatch(row.cells[0]) else by_name
            fit = [fit_of_cell(question, table, name, own, cell) for own, cell in zip(said, row.cells, strict=True)]
            for j, cell in enumerate(row.cells):
                # What is not there, and what the question itself says, answers nothing.
                if is_empty(cell) or (not question.polar and told(question, cell) >= 0.99):
                    continue
                covered = dict(zip(stems, best[at, j].tolist(), strict=True))
                extreme = met.extreme(table, at, j, question)
                only = question.kind not in UNTYPED and fit[j] == 1 == sum(f == 1 for f in fit[1:])
                marks = {
                    "outdone": float(bool(asked_rows) and at not in asked_rows),
                    "fit": fit[j],
                    "told": told(question, cell),
                    "rival": float(rival[at, j]),
                    "clash": float(clash_share[at, j]),
                    "unasked": float(
                        asked[at, j] < 0.5 and extreme < 1 and not (question.kind in MEASURED and fit[j] == 1)
                    ),
                    "unnamed": float(
                        met.column(j, heavy) < 0.5 and not only and not (question.undated and table.is_period(j))
                    ),
                    "extreme": extreme,
                }
                zones = ((label, 1.0), (met.columns_text[j], 1.0), *context, (row.group, 0.9))
                gist = _line(view.title, section_words(table.section), full_caption(table), f"{name}, {said[j]}")
                called = full_name(table, row, j)
                if notes := notes_on(question, met.labels(at, j), extreme, f"{called} {said[j]}"):
                    called = f"{called} ({', '.join(notes)})"
                reads = _line(view.title, *about, f"{called}, {met.columns_text[j]}: {cell}")
                yield Candidate(
                    view, row.start, row.end, said[j], zones, "cell", gist, reads, marks, table, row, j, covered
                )

    def weigh(self, question: Question, found: list[Candidate]) -> list[Candidate]:
        """The same, best first, with what their words, and words like these, have for and against them."""
        open_terms = [
            t for t in question.terms if t.kind == "word" and not t.hard and any(c.covered[t.stem] < 0.7 for c in found)
        ]
        texts = {text for c in found for text, w in c.zones[:3] if w >= 0.75 and text}
        alike = self._alike.best(open_terms, sorted(texts)) if open_terms else {}
        out = []
        for c in found:
            covered = dict(c.covered)
            for term in open_terms:
                soft = max((alike.get((term.stem, text), 0.0) * w for text, w in c.zones), default=0.0)
                covered[term.stem] = max(covered[term.stem], soft)
            marks = dict(c.marks)
            marks["coverage"] = share(question, covered)
            marks["cell"] = float(c.kind == "cell")
            marks |= subject(question, c.covered, covered)
            marks |= held(question, c.own, c.zones, c.kind == "cell")
            marks |= missing(question, covered, marks["fit"], c.zones)
            marks["unsaid_cell"] = marks["unsaid"] * marks["cell"]
            said = [text for text, _ in c.zones]
            marks["hard"] += opposed(question, ". ".join(said[: 3 if c.kind == "cell" else 1]), ". ".join(said))
            if c.table is not None and c.row is not None:
                other = left_out(question, (full_caption(c.table), c.own))
                marks["hard"] += other or one_of_several(question, c.row.cells[0])
            out.append(replace(c, marks=marks, covered=covered, value=self.value(marks)))
        return sorted(out, key=_place)

    def read(
        self, resolved: Resolved, found: Sequence[Candidate], vectors: NDArray[np.float32], least: float
    ) -> list[Candidate]:
        """Those of them that may come first, best first, with what the embedder and the readers say of each added."""
        assert self._readers is not None, "whoever answers by quotes needs readers"
        reach = _SURE * abs(self._weights["read"]) + _REACH
        likeness = abs(self._weights["similar"]) + _FAR_AHEAD * abs(self._weights["lead"])
        found = self._compared(_hopeful(found, least - reach - likeness, _BEHIND[0]), vectors)
        found = _hopeful(found, least - reach, _BEHIND[1])
        found = self._read(self._readers.quick, found, "read", resolved.text)
        found = _hopeful(found[:_READ_CLOSELY], least - _REACH, _BEHIND[2])
        return self._read(self._readers.close, found, "close", resolved.text, resolved.spoken)

    def _compared(self, found: Sequence[Candidate], asked: NDArray[np.float32]) -> list[Candidate]:
        """The same, best first, with how like the question each is, and how much more than those elsewhere."""
        vectors = self._gists.vectors([t for c in found for t in (c.gist, c.own)])
        near = {c: float(max((asked @ vectors[c.gist]).max(), (asked @ vectors[c.own]).max())) for c in found}
        out = []
        for c in found:
            rest = max((v for o, v in near.items() if not _same_place(c, o)), default=0.0)
            lead = max(-_FAR_AHEAD, min(_FAR_AHEAD, near[c] - rest))
            marks = {**c.marks, "similar": near[c], "lead": lead}
            out.append(replace(c, marks=marks, value=self.value(marks)))
        return sorted(out, key=_place)

    def _read(self, reader: Reader, found: Sequence[Candidate], mark: str, *texts: str) -> list[Candidate]:
        """With the mean of what the reader says of each for the question in each of these forms."""
        forms, out = list(dict.fromkeys(texts)), []
        log_odds = np.mean([reader.read(text, [c.reads for c in found]) for text in forms], axis=0)
        for c, said in zip(found, log_odds.tolist(), strict=True):
            marks = {**c.marks, mark: max(-_SURE, min(_SURE, said))}
            out.append(replace(c, marks=marks, value=self.value(marks)))
        return sorted(out, key=_place)

    def value(self, marks: Mapping[str, float]) -> float:
        """Log-odds that a statement with these marks answers."""
        weights = self._weights
        return sum(weights[name] * marks.get(name, 0.0) for name in weights if name != "bias") + weights["bias"]


def _hopeful(found: Sequence[Candidate], least: float, behind: float) -> list[Candidate]:
    """The first of `found`, and those that are neither below `least` nor too far `behind` it."""
    return [c for i, c in enumerate(found) if not i or c.value >= max(least, found[0].value - behind)]


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


def _place(c: Candidate) -> tuple[Any, ...]:
    return (-c.value, c.view.document, c.view.page, c.start, c.column)


def _same_place(a: Candidate, b: Candidate) -> bool:
    return a.view is b.view and a.start < b.end and b.start < a.end


def _first_look(question: Question, c: Candidate) -> float:
    m = c.marks
    return (
        share(question, c.covered)
        + 0.15 * m["fit"]
        + 0.1 * m["rank"]
        - 0.3 * m.get("clash", 0.0)
        + 0.2 * m.get("extreme", 0.0)
        - 0.1 * m["told"]
    )


def _cover(
    terms: Sequence[Term], zones: Sequence[tuple[str, float]], glossary: Mapping[str, frozenset[str]]
) -> dict[str, float]:
    found = {t.stem: max(strength(t, text, glossary) * weight for text, weight in zones) for t in terms}
    for term in terms:
        # A name that no zone says: of the Danish office speaks what speaks of Aarhus.
        if term.kind == "name" and found[term.stem] < NEARLY:
            alike = max(weight * of_one_country(term, text) for text, weight in zones)
            found[term.stem] = max(found[term.stem], NEARLY * alike)
    return found
