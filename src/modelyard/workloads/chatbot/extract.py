"""From read pages to statements that may answer: every sentence and every cell is weighed against the question.

A statement is always text of a page: a sentence, or a cell with the labels of its row and column. Nothing is written
that does not stand there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.text import analyse
from modelyard.ports.embedder import Embedder
from modelyard.workloads.chatbot.kinds import MEASURED, STRICT, speaks_of_money
from modelyard.workloads.chatbot.lexicon import PLACES, bag, root, squeeze
from modelyard.workloads.chatbot.match import Alike, number, strength
from modelyard.workloads.chatbot.page import PageView, Sentence
from modelyard.workloads.chatbot.places import STANDS_FOR, stands_for
from modelyard.workloads.chatbot.question import Question, Term, fits
from modelyard.workloads.chatbot.table import Row, Table, is_empty, is_value, value_of

MOST_WORDS = 58
"""An answer is at most this long; a longer sentence is cut at its clauses."""
_TOTAL = re.compile(r"(?:grand |sub)?total|sum\b|all\b", re.I)
_QUARTER = re.compile(r"\b[QH][1-4]\b")
_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d\d(?![\d,]|\.\d)")
_UNTYPED = frozenset(["thing", "polar", "reason", "number"])
"""Kinds that do not tell one cell of a row from another."""
_PHONE = re.compile(r"\+\d[\d ()/-]{6,}\d|0\d{2,}[ /-][\d /-]{4,}\d")
_SPAN = re.compile(r"\b(?:ms|s|sec|min|h|(?:second|minute|hour|day|week|month|year)s?)\b", re.I)
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
        self, embedder: Embedder, glossary: Mapping[str, frozenset[str]], weights: Mapping[str, float]
    ) -> None:
        self._alike = Alike(embedder)
        self._gists = Alike(embedder, 4_000)
        self._glossary = glossary
        self._weights = weights

    def vectors(self, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Vectors of short texts, remembered."""
        return self._alike.vectors(texts)

    def candidates(
        self, question: Question, pages: Sequence[tuple[PageView, float]], vectors: NDArray[np.float32], most: int = 48
    ) -> list[Candidate]:
        """Statements of `pages` (view, its retrieval score from 0 to 1), best first, with their scores. vectors: of the
        question, [n, dimension]: of all of it, and of what it asks without what leads up to it."""
        found: list[Candidate] = []
        for view, rank in pages:
            for each in self._of_page(question, view):
                found.append(replace(each, marks={**each.marks, "rank": rank}))
        found.sort(key=lambda c: (-_first_look(question, c), c.view.document, c.view.page, c.start, c.column))
        return self.weigh(question, found[:most], vectors)

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
        section = _section(sentence.section)
        zones = ((text, 1.0), (lead, 0.7), (section, 0.9), (view.names, 0.8))
        covered = _cover(question.terms, zones, self._glossary)
        for term in question.terms:
            # A sentence that names other years speaks of those.
            if term.kind == "year" and covered[term.stem] < 1 and _YEAR.search(text):
                covered[term.stem] = 0.0
        leans = _LEANS.match(text) is not None or sentence.item
        gist = ". ".join(p for p in (view.title, section, lead[-200:] if leans else "", text) if p)
        told = _told(question, text)
        marks = {
            "fit": fits(question, text) if told < 0.99 else 0.0,
            "told": told,
            "apart": _apart(question, text),
            "pair": float(start < sentence.start),
        }
        return Candidate(view, start, sentence.end, text, zones, "sentence", gist, marks, covered=covered)

    def _cells(self, question: Question, view: PageView, table: Table) -> Iterable[Candidate]:
        met = self._met(question.terms, view, table)
        weights = np.array([t.weight for t in question.terms])
        heavy = weights >= 0.15
        naming = heavy & np.array([t.kind not in ("year", "quarter") for t in question.terms], bool)
        context = (
            (_plain_caption(table), 0.95),
            (_section(table.section), 0.9),
            (view.names, 0.85),
        )
        for at, row in enumerate(table.rows):
            if not row.exact:
                continue
            label = " ".join(_labels(table, row).values())
            name = _row_name(table, row)
            said = [
                f"{text}: {cell} {table.unit(j) if is_value(cell) else ''}".strip()
                for j, (text, cell) in enumerate(zip(met.columns_text, row.cells, strict=True))
            ]
            fit = [_fit_cell(question, table, name, own, cell) for own, cell in zip(said, row.cells, strict=True)]
            for j, cell in enumerate(row.cells):
                # What is not there, and what the question itself says, answers nothing.
                if is_empty(cell) or (not question.polar and _told(question, cell) >= 0.99):
                    continue
                best, clash = met.of(at, j, question)
                covered = {t.stem: float(b) for t, b in zip(question.terms, best, strict=True)}
                extreme = met.extreme(table, at, j, question)
                only = question.kind not in _UNTYPED and fit[j] == 1 == sum(f == 1 for f in fit[1:])
                marks = {
                    "fit": fit[j],
                    "told": _told(question, cell),
                    "clash": float((weights * clash).sum() / max(weights.sum(), 1e-9)),
                    "unasked": float(met.row(at, j, naming) < 0.5 and extreme < 1),
                    "unnamed": float(
                        met.column(j, heavy) < 0.5 and not only and not (question.undated and table.is_period(j))
                    ),
                    "extreme": extreme,
                }
                zones = ((label, 1.0), (met.columns_text[j], 1.0), *context, (row.group, 0.9))
                gist = ". ".join(
                    p for p in (view.title, _section(table.section), _caption(table), f"{name}, {said[j]}") if p
                )
                yield Candidate(view, row.start, row.end, said[j], zones, "cell", gist, marks, table, row, j, covered)

    def _met(self, terms: Sequence[Term], view: PageView, table: Table) -> _Met:
        """Where in `table` each term is spoken of."""
        glossary = self._glossary
        columns = [" ".join(p for p in (c, view.legend.get(c, "")) if p) for c in table.columns]
        caption = _plain_caption(table)
        context = ((caption, 0.95), (_section(table.section), 0.9), (view.names, 0.85))
        around = np.array([max(strength(t, text, glossary) * w for text, w in context) for t in terms])
        by_column = np.array([[strength(t, c, glossary) for t in terms] for c in columns]).reshape(
            len(columns), len(terms)
        )
        for i, term in enumerate(terms):
            # "Ferrel 50" of a table about Ferrel meters, one column a size.
            if term.kind == "id" and term.noun and any(term.noun in bag(text).stems for text, _ in context):
                number = term.text.split()[-1]
                by_column[:, i] = np.maximum(by_column[:, i], [0.95 * (c.strip() == number) for c in columns])
        by_cell = np.zeros((len(table.rows), len(columns), len(terms)))
        for r, row in enumerate(table.rows):
            labels = _labels(table, row)
            for j, cell in enumerate(row.cells):
                for i, term in enumerate(terms):
                    if j in labels:
                        text = f"{labels[j]} {view.legend.get(cell, '')}"
                        by_cell[r, j, i] = (
                            strength(term, text, glossary) if not _only_head(term, table, j, cell) else 0.0
                        )
                    elif term.kind == "number" and term.stem in bag(cell).stems:
                        by_cell[r, j, i] = 0.9  # the value itself may be named, with its row asked for
            if row.group:
                group = np.array([strength(t, row.group, glossary) * 0.9 for t in terms])
                by_cell[r, 0] = np.maximum(by_cell[r, 0], group)
        names = [row.cells[0] for row in table.rows]
        for i, term in enumerate(terms):
            rest = stands_for(term, names) if by_column[:, i].max(initial=0.0) < 0.5 else None
            if rest is not None:
                by_cell[rest, 0, i] = STANDS_FOR
        return _Met(around, by_column, by_cell, columns)

    def weigh(self, question: Question, found: list[Candidate], asked: NDArray[np.float32]) -> list[Candidate]:
        """The same, best first, with what the model says of statements and words added."""
        if not found:
            return []
        vectors = self._gists.vectors([t for c in found for t in (c.gist, c.own)])
        open_terms = [
            t for t in question.terms if t.kind == "word" and not t.hard and any(c.covered[t.stem] < 0.7 for c in found)
        ]
        texts = {text for c in found for text, w in c.zones[:3] if w >= 0.75 and text}
        alike = self._alike.best(open_terms, sorted(texts)) if open_terms else {}
        near = {c: float(max((asked @ vectors[c.gist]).max(), (asked @ vectors[c.own]).max())) for c in found}
        out = []
        for c in found:
            covered = dict(c.covered)
            for term in open_terms:
                soft = max((alike.get((term.stem, text), 0.0) * w for text, w in c.zones), default=0.0)
                covered[term.stem] = max(covered[term.stem], soft)
            marks = dict(c.marks)
            marks["coverage"] = _share(question, covered)
            marks.update(_subject(question, c.covered, covered))
            marks["similar"] = near[c]
            rest = max((v for o, v in near.items() if not _same_place(c, o)), default=0.0)
            marks["lead"] = max(-0.3, min(0.3, near[c] - rest))
            focus = [t for t in question.terms if t.focus]
            marks["focus"] = (
                sum(t.weight * covered[t.stem] for t in focus) / sum(t.weight for t in focus)
                if focus
                else marks["coverage"]
            )
            unmet = sum(t.hard and covered[t.stem] < 0.5 for t in question.terms)
            marks["hard"] = float(unmet + (question.kind in STRICT and marks["fit"] == 0))
            marks["year"] = float(any(t.kind in ("year", "quarter") and covered[t.stem] < 0.5 for t in question.terms))
            marks["sum"] = float(bool(question.sum) and question.sum not in c.own.lower())
            marks["cell"] = float(c.kind == "cell")
            marks["unsaid_cell"] = marks["unsaid"] * marks["cell"]
            out.append(replace(c, marks=marks, covered=covered, value=self.value(marks)))
        out.sort(key=lambda c: (-c.value, c.view.document, c.view.page, c.start, c.column))
        return out

    def value(self, marks: Mapping[str, float]) -> float:
        """Log-odds that a statement with these marks answers."""
        weights = self._weights
        return sum(weights[name] * marks.get(name, 0.0) for name in weights if name != "bias") + weights["bias"]


@dataclass(frozen=True)
class _Met:
    """How surely each term is spoken of: around the table [t], by the label of a column [c, t], by a cell [r, c, t]."""

    around: NDArray[np.float64]
    columns: NDArray[np.float64]
    cells: NDArray[np.float64]
    columns_text: list[str]

    def of(self, row: int, column: int, question: Question) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(how well each term is met by the cell's labels [t], which terms speak of another row or column [t])."""
        terms = question.terms
        others = self.cells[row] if question.polar else np.delete(self.cells[row], column, axis=0)
        told = others.max(axis=0) if len(others) else np.zeros(len(terms))
        best = np.maximum(np.maximum(self.around, self.columns[column]), told)
        clash = np.zeros(len(terms))
        rows = self.cells.max(axis=1)
        for i, term in enumerate(terms):
            here = max(told[i], self.columns[column, i])
            if term.kind in ("year", "quarter") and here < 0.5:
                text = self.columns_text[column]
                # A table of other years, or a column of another, does not speak of the one asked for.
                others = term.kind == "year" and any(map(_YEAR.search, self.columns_text))
                if others and self.columns[:, i].max(initial=0.0) < 0.5 and self.cells[:, :, i].max(initial=0.0) < 0.5:
                    best[i], clash[i] = 0.0, 1.0
                    continue
                if (term.kind == "year" and _YEAR.search(text)) or (term.kind == "quarter" and _QUARTER.search(text)):
                    best[i], clash[i] = 0.0, 1.0
                    continue
            if here >= 0.7 or self.around[i] >= (0.8 if term.kind in ("year", "quarter") else 0.94):
                continue
            there = max(float(rows[:, i].max()), float(self.columns[:, i].max()))
            if there >= 0.9:
                clash[i] = there
                if term.hard:
                    best[i] = min(best[i], 0.3)
        return best, clash

    def row(self, row: int, column: int, naming: NDArray[np.bool_]) -> float:
        """How surely a term of those that name things speaks of the row: one that nothing names was not asked for."""
        return float(np.delete(self.cells[row], column, axis=0)[:, naming].max(initial=0.0))

    def column(self, column: int, heavy: NDArray[np.bool_]) -> float:
        """The same of the column; of a table of two columns nobody names the second."""
        return float(self.columns[column, heavy].max(initial=0.0)) if len(self.columns) > 2 else 1.0

    def extreme(self, table: Table, row: int, column: int, question: Question) -> float:
        """1 where the question asks for the greatest (or least) and the cell is that of its column, else 0."""
        if not question.superlative or any(
            self.cells[:, :, i].max(initial=0.0) >= 0.9 for i, t in enumerate(question.terms) if t.hard
        ):
            return 0.0
        values = {
            r: v
            for r, x in enumerate(table.rows)
            if (v := value_of(x.cells[column])) is not None and not _TOTAL.match(x.cells[0])
        }
        if row not in values or len(values) < 3:
            return 0.0
        best = max(values.values()) if question.superlative > 0 else min(values.values())
        return 1.0 if values[row] == best else -0.5


def _only_head(term: Term, table: Table, column: int, cell: str) -> bool:
    """Whether a label meets the term by its column's head alone, which tells no row from another."""
    if term.kind in ("id", "number"):
        return False
    return strength(term, cell) < 0.5 and strength(term, table.columns[column]) >= 0.5


def _apart(question: Question, text: str) -> float:
    """1 where the things that are to be counted are spoken of and no number stands before them, else 0."""
    if not question.counted:
        return 0.0
    words = re.findall(r"\d[\d.,]*|[^\W_]+", text)
    wanted = root(question.counted)
    at = [i for i, w in enumerate(words) if wanted in bag(w).roots]
    numbers = [i for i, w in enumerate(words) if number(w) is not None]
    return float(bool(at) and not any(0 < i - n <= 4 for i in at for n in numbers))


def _told(question: Question, text: str) -> float:
    """Share of the words of `text` that the question itself says: what only echoes it answers nothing."""
    words = bag(text).stems
    return sum(t.stem in words for t in question.terms) / len(words) if words else 1.0


def _same_place(a: Candidate, b: Candidate) -> bool:
    return a.view is b.view and a.start < b.end and b.start < a.end


def _first_look(question: Question, c: Candidate) -> float:
    m = c.marks
    return (
        _share(question, c.covered)
        + 0.15 * m["fit"]
        + 0.1 * m["rank"]
        - 0.3 * m.get("clash", 0.0)
        + 0.2 * m.get("extreme", 0.0)
        - 0.1 * m["told"]
    )


def _section(path: str) -> str:
    """The heading path without the document's title, which is weighed on its own."""
    return " ".join(part for part in path.split(" > ")[1:] if len(part) < 60)


def _cover(
    terms: Sequence[Term], zones: Sequence[tuple[str, float]], glossary: Mapping[str, frozenset[str]]
) -> dict[str, float]:
    return {t.stem: max(strength(t, text, glossary) * weight for text, weight in zones) for t in terms}


def _share(question: Question, covered: Mapping[str, float]) -> float:
    return sum(t.weight * covered[t.stem] for t in question.terms) / question.weight


_TAME = 0.25
"""What a common word of no field weighs of its weight, where the subject of a question is looked for."""


def _subject(question: Question, literal: Mapping[str, float], covered: Mapping[str, float]) -> dict[str, float]:
    """How well a statement speaks of the question's subject, that is of the words that name it.

    subject, said: shares of the subject met at all, and met by its own words or such as stand for them. foreign: share
    left unsaid by words that the documents have elsewhere, so that this is most likely another thing. least: how well the word
    met worst is. unsaid: weight of what is asked for
    itself ("yield" of "What was the yield ...") and not met.
    """
    named = [t for t in question.terms if t.kind in ("word", "name", "compound") and t.weight >= 0.3 and not t.generic]
    tame = {t.stem: t.weight * (_TAME if t.generic and t.weight >= 0.3 else 1.0) for t in question.terms}
    total = sum(tame.values()) or 1.0
    essential = [t for t in question.terms if t.weight >= 0.3 and not t.generic]
    return {
        "subject": sum(tame[s] * covered[s] for s in tame) / total,
        "said": sum(tame[s] * literal[s] for s in tame) / total,
        "foreign": sum(t.weight * (1 - literal[t.stem]) for t in named if t.known) / total,
        "least": min((covered[t.stem] for t in essential if t.weight >= 0.5), default=1.0),
        "unsaid": sum(t.weight * (1 - covered[t.stem]) for t in named if t.focus),
    }


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


def _plain_caption(table: Table) -> str:
    """Caption and scale; the number of the table is no number of its subject."""
    return re.sub(r"^\s*\w+\s+[\w.]*\d[\w.]*[.:]?\s", "", table.caption) + f" {table.scale}"


def _caption(table: Table) -> str:
    return f"{table.caption} ({table.scale})" if table.scale else table.caption


def _fit_cell(question: Question, table: Table, name: str, own: str, cell: str) -> float:
    if question.kind == "money" and _YEAR.fullmatch(cell):
        return 0.0
    if question.kind in ("number", "money", "count", "duration", "percent") and _PHONE.fullmatch(cell):
        return 0.0
    if question.kind == "money" and is_value(cell):
        told = speaks_of_money(f"{own} {table.scale} {table.caption} {name} {cell}")
        return 1.0 if told else 0.5
    if question.kind in ("number", "money"):
        return 1.0 if is_value(cell) else fits(question, cell)
    if question.kind in ("count", "email", "phone"):
        return fits(question, cell)  # the unit of most of a table's columns need not be that of this one
    if question.kind in MEASURED:
        return fits(question, f"{name} {own}") if re.search(r"\d", cell) else 0.0
    if question.kind == "person":
        if any(t in PLACES for t in analyse(cell)):
            return 0.0
        return fits(question, cell) or 0.6 * (re.search(r"\d", cell) is None)
    if question.kind == "duration" and is_value(cell) and _SPAN.search(f"{name} {own} {table.scale} {table.caption}"):
        return 1.0
    if question.kind in ("percent", "duration", "frequency"):
        return fits(question, f"{name} {own} {table.scale} {table.caption}" if is_value(cell) else own)
    return fits(question, cell)
