"""From read pages to statements that may answer: every sentence and every cell is weighed against the question.

A statement is always text of a page: a sentence, or a cell with the labels of its row and column. Nothing is written that
does not stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from modelyard.ports.embedder import Embedder
from modelyard.workloads.chatbot.lexicon import bag, squeeze
from modelyard.workloads.chatbot.match import Alike, strength
from modelyard.workloads.chatbot.page import PageView, Sentence
from modelyard.workloads.chatbot.question import Question, Term, fits
from modelyard.workloads.chatbot.table import Row, Table, is_empty, is_value

MOST_WORDS = 58
"""An answer is at most this long; a longer sentence is cut at its clauses."""
_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d\d(?![\d,]|\.\d)")
_LEANS = re.compile(r"(?:it|its|they|their|them|this|these|those|that|he|she|both|such|the same|here|otherwise|then|also)\b", re.I)


@dataclass(frozen=True)
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
    marks: Mapping[str, float] = field(default_factory=dict)
    table: Table | None = None
    row: Row | None = None
    column: int = -1
    covered: Mapping[str, float] = field(default_factory=dict)
    score: float = 0.0

    @property
    def section(self) -> str:
        return self.view.passage_at(self.start).section


class Extractor:
    """Weighs statements. Keeps vectors of statements and words it has met (bounded)."""

    def __init__(self, embedder: Embedder, glossary: Mapping[str, frozenset[str]], weights: Mapping[str, float]) -> None:
        self._alike = Alike(embedder)
        self._gists = Alike(embedder, 4_000)
        self._glossary = glossary
        self._weights = weights

    def vectors(self, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Vectors of short texts, remembered."""
        return self._alike.vectors(texts)

    def candidates(
        self, question: Question, pages: Sequence[tuple[PageView, float]], vector: NDArray[np.float32], most: int = 48
    ) -> list[Candidate]:
        """Statements of `pages` (view, its retrieval score from 0 to 1), best first, with their scores."""
        found: list[Candidate] = []
        for view, rank in pages:
            for each in self._of_page(question, view):
                found.append(replace(each, marks={**each.marks, "rank": rank}))
        found.sort(key=lambda c: (-c.marks["coverage"] - 0.15 * c.marks["fit"] - 0.1 * c.marks["rank"], c.view.document, c.view.page, c.start, c.column))
        return self.weigh(question, found[:most], vector)

    def _of_page(self, question: Question, view: PageView) -> Iterable[Candidate]:
        for sentence in view.sentences:
            yield self._sentence(question, view, sentence)
        for table in view.tables:
            yield from self._cells(question, view, table)

    def _sentence(self, question: Question, view: PageView, sentence: Sentence) -> Candidate:
        text = squeeze(view.text[sentence.start : sentence.end])
        lead = squeeze(sentence.lead)
        section = _section(sentence.section)
        zones = ((text, 1.0), (lead, 0.75), (section, 0.9), (f"{view.title} {view.period}", 0.8))
        covered = _cover(question.terms, zones, self._glossary)
        for term in question.terms:
            # A sentence that names other years speaks of those.
            if term.kind == "year" and covered[term.stem] < 1 and _YEAR.search(text):
                covered[term.stem] = 0.0
        gist = ". ".join(p for p in (view.title, section, lead[-200:] if _LEANS.match(text) or sentence.item else "", text) if p)
        marks = {"coverage": _share(question, covered), "fit": fits(question, text)}
        return Candidate(view, sentence.start, sentence.end, text, zones, "sentence", gist, marks, covered=covered)

    def _cells(self, question: Question, view: PageView, table: Table) -> Iterable[Candidate]:
        context = ((f"{table.caption} {table.scale}", 0.95), (_section(table.section), 0.9), (f"{view.title} {view.period}", 0.85))
        terms = question.terms
        years = any(_YEAR.search(c) for c in table.columns) or any(_YEAR.search(r.cells[0]) for r in table.rows)
        around = np.array([max(strength(t, text, self._glossary) * w for text, w in context) for t in terms])
        if years:
            caption = f"{table.caption} {table.scale}"
            for i, term in enumerate(terms):
                if term.kind == "year":
                    around[i] = strength(term, caption)
        weights = np.array([t.weight for t in terms])
        columns = np.array([[strength(t, f"{c} {table.caption}" if t.kind == "id" else c, self._glossary) for t in terms] for c in table.columns])
        for row in table.rows:
            labels = _labels(table, row)
            named = np.zeros((len(row.cells), len(terms)))
            for j, cell in enumerate(row.cells):
                # A number in the question may be the value itself, with its row asked for.
                for i, term in enumerate(terms):
                    if j in labels:
                        named[j, i] = strength(term, labels[j], self._glossary)
                    elif term.kind == "number" and term.stem in bag(cell).stems:
                        named[j, i] = 0.9
            group = np.array([strength(t, row.group, self._glossary) * 0.9 for t in terms])
            yield from self._of_row(question, view, table, row, " ".join(labels.values()), (np.maximum(around, group), columns, named, weights), context)

    def _of_row(
        self,
        question: Question,
        view: PageView,
        table: Table,
        row: Row,
        label: str,
        met: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
        context: tuple[tuple[str, float], ...],
    ) -> Iterable[Candidate]:
        around, columns, named, weights = met
        terms = question.terms
        for j, cell in enumerate(row.cells):
            if is_empty(cell) or not row.exact:
                continue
            own = f"{table.columns[j]}: {cell}"
            # What a cell says itself is no reason to give it as the answer, unless yes or no is asked.
            others = named if question.polar else np.delete(named, j, axis=0)
            told = others.max(axis=0) if len(others) else np.zeros(len(terms))
            best = np.maximum(np.maximum(around, columns[j]), told)
            covered = {t.stem: float(b) for t, b in zip(terms, best, strict=True)}
            unit = table.unit(j) if is_value(cell) else ""
            shown = f"{cell} {unit}".strip()
            specific = float((weights * np.maximum(told, columns[j])).sum() / weights.sum()) if len(weights) else 0.0
            marks = {
                "coverage": _share(question, covered),
                "fit": _fit_cell(question, table, j, shown, cell),
                "specific": specific,
            }
            zones = ((label, 1.0), (table.columns[j], 1.0), *context, (row.group, 0.9))
            gist = ". ".join(p for p in (view.title, _section(table.section), _caption(table), f"{_row_name(table, row)}, {own} {unit}") if p)
            yield Candidate(view, row.start, row.end, own, zones, "cell", gist, marks, table, row, j, covered)

    def weigh(self, question: Question, found: list[Candidate], vector: NDArray[np.float32]) -> list[Candidate]:
        """The same, best first, with what the model says of statements and words added."""
        if not found:
            return []
        vectors = self._gists.vectors([c.gist for c in found])
        open_terms = [t for t in question.terms if t.kind == "word" and not t.hard and any(c.covered[t.stem] < 0.7 for c in found)]
        texts = {text for c in found for text, w in c.zones[:3] if w >= 0.75 and text}
        alike = self._alike.best(open_terms, sorted(texts)) if open_terms else {}
        out = []
        for c in found:
            covered = dict(c.covered)
            for term in open_terms:
                soft = max((alike.get((term.stem, text), 0.0) * w for text, w in c.zones), default=0.0)
                covered[term.stem] = max(covered[term.stem], soft)
            marks = dict(c.marks)
            marks["coverage"] = _share(question, covered)
            marks["similar"] = float(vectors[c.gist] @ vector)
            marks["missing"] = max((t.weight * (1 - covered[t.stem]) for t in question.terms), default=0.0)
            marks["hard"] = float(sum(t.hard and covered[t.stem] < 0.5 for t in question.terms))
            out.append(replace(c, marks=marks, covered=covered, score=self.score(marks)))
        out.sort(key=lambda c: (-c.score, -c.marks.get("specific", 0.0), c.view.document, c.view.page, c.start, c.column))
        return out

    def score(self, marks: Mapping[str, float]) -> float:
        """One number from 0 to 1 of what speaks for a statement."""
        w = self._weights
        value = sum(w[name] * marks.get(name, 0.0) for name in ("coverage", "similar", "fit", "rank")) - w["missing"] * marks["missing"]
        return max(0.0, min(1.0, value)) * (w["hard"] ** marks["hard"])


def _section(path: str) -> str:
    """The heading path without the document's title, which is weighed on its own."""
    return " ".join(part for part in path.split(" > ")[1:] if len(part) < 90)


def _cover(terms: Sequence[Term], zones: Sequence[tuple[str, float]], glossary: Mapping[str, frozenset[str]]) -> dict[str, float]:
    return {t.stem: max(strength(t, text, glossary) * weight for text, weight in zones) for t in terms}


def _share(question: Question, covered: Mapping[str, float]) -> float:
    return sum(t.weight * covered[t.stem] for t in question.terms) / question.weight


def _labels(table: Table, row: Row) -> dict[int, str]:
    """The cells that name the row: those of words, and the first; each with its column's label, as ranges need it."""
    out = {}
    for j, cell in enumerate(row.cells):
        if cell and (j == 0 or not (is_value(cell) or is_empty(cell))):
            out[j] = f"{table.columns[j]} {cell}"
    return out


def _row_name(table: Table, row: Row) -> str:
    first, label = row.cells[0], table.columns[0]
    name = f"{label} {first}" if label and (len(first) <= 3 or is_value(first)) else first
    return f"{row.group}: {name}" if row.group else name


def _caption(table: Table) -> str:
    return f"{table.caption} ({table.scale})" if table.scale else table.caption


def _fit_cell(question: Question, table: Table, column: int, shown: str, cell: str) -> float:
    if question.kind in ("number", "money") and is_value(cell):
        return 1.0
    return fits(question, f"{table.columns[column]} {shown}")
