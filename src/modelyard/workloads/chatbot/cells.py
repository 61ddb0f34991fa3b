"""The cells of a table against a question: where each term is spoken of, which cell was asked for, what a cell is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.text import analyse
from modelyard.workloads.chatbot.kinds import MEASURED
from modelyard.workloads.chatbot.lexicon import PLACES, bag
from modelyard.workloads.chatbot.match import strength
from modelyard.workloads.chatbot.page import PageView
from modelyard.workloads.chatbot.places import STANDS_FOR, of_one_country, stands_for
from modelyard.workloads.chatbot.question import Question, Term, fits
from modelyard.workloads.chatbot.table import Row, Table, is_empty, is_value, value_of
from modelyard.workloads.chatbot.values import speaks_of_money

_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d\d(?![\d,]|\.\d)")
_TOTAL = re.compile(r"(?:grand |sub)?total|sum\b|all\b", re.I)
_QUARTER = re.compile(r"\b[QH][1-4]\b")
UNTYPED = frozenset(["thing", "polar", "reason", "number"])
"""Kinds that do not tell one cell of a row from another."""
_PHONE = re.compile(r"\+\d[\d ()/-]{6,}\d|0\d{2,}[ /-][\d /-]{4,}\d")
_CAPTIONED = 0.94
"""A term met this surely around a table is in its caption, and a year there holds for columns that name no other."""
_ROLE = re.compile(
    r"\b(?:owner|owned|buyer|manager|responsible|contact|name|approv|who|whom|by|lead|head|person|team|"
    r"department|sign|decid|role)",
    re.I,
)
_PER = re.compile(r"\bper [a-z]+", re.I)
_COST = re.compile(r"\b(?:fee|price|cost|charge|rate|salary|wage|eur|euros?|pounds?|dollars?)s?\b", re.I)
_SPAN = re.compile(r"\b(?:ms|s|sec|min|h|(?:second|minute|hour|day|week|month|year)s?)\b", re.I)


def meet(terms: Sequence[Term], view: PageView, table: Table, glossary: Mapping[str, frozenset[str]]) -> Met:
    """Where in `table` each term is spoken of."""
    columns = [" ".join(p for p in (c, view.legend.get(c, "")) if p) for c in table.columns]
    caption = plain_caption(table)
    context = ((caption, 0.95), (section_words(table.section), 0.9), (view.names, 0.85))
    around = np.array([max(strength(t, text, glossary) * w for text, w in context) for t in terms])
    by_column = np.array([[strength(t, c, glossary) for t in terms] for c in columns]).reshape(len(columns), len(terms))
    for i, term in enumerate(terms):
        # "Ferrel 50" of a table about Ferrel meters, one column a size.
        if term.kind == "id" and (_sized(term, columns) or any(term.noun in bag(text).stems for text, _ in context)):
            number = re.split(r"[ -]", term.text)[-1]
            by_column[:, i] = np.maximum(by_column[:, i], [0.95 * (c.strip() == number) for c in columns])
    by_cell = np.zeros((len(table.rows), len(columns), len(terms)))
    # A label that meets a term by its column's head alone tells no row from another.
    by_head = [
        [t.kind not in ("id", "number") and strength(t, column) >= 0.5 for t in terms] for column in table.columns
    ]
    for r, row in enumerate(table.rows):
        labels = row_labels(table, row)
        for j, cell in enumerate(row.cells):
            for i, term in enumerate(terms):
                if j in labels:
                    text = f"{labels[j]} {view.legend.get(cell, '')}"
                    if not by_head[j][i] or strength(term, cell) >= 0.5:
                        by_cell[r, j, i] = strength(term, text, glossary)
                elif term.kind == "number" and term.stem in bag(cell).stems:
                    by_cell[r, j, i] = 0.9  # the value itself may be named, with its row asked for
        if row.group:
            group = np.array([strength(t, row.group, glossary) * 0.9 for t in terms])
            by_cell[r, 0] = np.maximum(by_cell[r, 0], group)
    names, holding = [row.cells[0] for row in table.rows], dict[int, int]()
    for i, term in enumerate(terms):
        if by_column[:, i].max(initial=0.0) >= 0.5:
            continue
        by_column[[j for j, c in enumerate(columns) if term.kind == "name" and of_one_country(term, c)], i] = STANDS_FOR
        rest = stands_for(term, names)
        if rest is not None:
            by_cell[rest, 0, i], holding[i] = STANDS_FOR, rest
    naming = [list(row_labels(table, row)) for row in table.rows]
    named = [i for i, term in enumerate(terms) if term.kind == "name"]
    return Met(around, by_column, by_cell, columns, naming, named, holding)


@dataclass(frozen=True)
class Met:
    """How surely each term is spoken of: around the table [t], by the label of a column [c, t], by a cell [r, c, t]."""

    around: NDArray[np.float64]
    columns: NDArray[np.float64]
    cells: NDArray[np.float64]
    columns_text: list[str]
    naming: list[list[int]]
    """Of each row the columns of the cells that name it."""
    names: list[int]
    """The terms that are names."""
    holding: Mapping[int, int]
    """Of a term that names a place the row that holds for it without naming it."""

    @cached_property
    def beside(self) -> NDArray[np.float64]:
        """How surely each term is spoken of by the other cells of a cell's row [r, c, t]."""
        first = self.cells.argmax(axis=1, keepdims=True)
        rest = self.cells.copy()
        np.put_along_axis(rest, first, 0.0, axis=1)
        own = np.arange(self.cells.shape[1])[None, :, None] == first
        told: NDArray[np.float64] = np.where(
            own, rest.max(axis=1, keepdims=True), self.cells.max(axis=1, keepdims=True)
        )
        return told

    def of(self, question: Question) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(how well each term is met by a cell's labels [r, c, t], which terms speak of another row or column)."""
        told = self.beside
        if question.polar:
            told = np.broadcast_to(self.cells.max(axis=1, keepdims=True), told.shape)
        here = np.maximum(told, self.columns)
        best, clash = np.maximum(self.around, here), np.zeros_like(here)
        for i, term in enumerate(question.terms):
            other = self._other_time(term, i) & (here[:, :, i] < 0.5)
            there = max(self.cells[:, :, i].max(initial=0.0), self.columns[:, i].max(initial=0.0))
            if there >= 0.9 and self.around[i] < (0.8 if term.kind in ("year", "quarter") else _CAPTIONED):
                elsewhere = here[:, :, i] < 0.7
                clash[elsewhere, i] = there
                if term.hard:
                    best[elsewhere, i] = np.minimum(best[elsewhere, i], 0.3)
            best[other, i], clash[other, i] = 0.0, 1.0
        return best, clash

    def _other_time(self, term: Term, i: int) -> NDArray[np.bool_]:
        """Of which columns another year or quarter is told than the term [c]."""
        if term.kind == "quarter":
            return np.array([_QUARTER.search(text) is not None for text in self.columns_text], bool)
        if term.kind != "year":
            return np.zeros(len(self.columns_text), bool)
        told = np.array([_YEAR.search(text) is not None for text in self.columns_text], bool)
        # A table of other years does not speak of the one asked for.
        unsaid = self.columns[:, i].max(initial=0.0) < 0.5 and self.cells[:, :, i].max(initial=0.0) < 0.5
        return told | (told.any() and unsaid and self.around[i] < _CAPTIONED)

    def labels(self, row: int, column: int) -> NDArray[np.float64]:
        """How surely each term is spoken of by the labels of row and column alone [t]; a place, only by the row that
        holds for it without naming it."""
        naming = self.cells[row][[j for j in self.naming[row] if j != column]]
        told: NDArray[np.float64] = np.vstack([naming, self.columns[column]]).max(axis=0)
        told[self.names] = 0.0
        told[[term for term, at in self.holding.items() if at == row]] = STANDS_FOR
        return told

    def row(self, naming: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How surely a term of those that name things speaks of a cell's row [r, c]: one that nothing names was not
        asked for."""
        told: NDArray[np.float64] = self.beside[:, :, naming].max(axis=2, initial=0.0)
        return told

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


def _sized(term: Term, columns: Sequence[str]) -> bool:
    """Whether the term is a size with the letters that stand for it ("DN 40"), and the columns are sizes without."""
    sizes = [int(c) for c in columns if c.strip().isdigit()]
    return not term.noun and len(sizes) > 2 and 12 < max(sizes) < 1900 and sizes == sorted(set(sizes))


def section_words(path: str) -> str:
    """The heading path without the document's title, which is weighed on its own."""
    return " ".join(part for part in path.split(" > ")[1:] if len(part) < 60)


def row_labels(table: Table, row: Row) -> dict[int, str]:
    """The cells that name the row: those of words, and the first; each with its column's label, as ranges need it."""
    out = {}
    for j, cell in enumerate(row.cells):
        if cell and (j == 0 or not (is_value(cell) or is_empty(cell))):
            out[j] = f"{table.columns[j]} {cell}"
    return out


def row_name(table: Table, row: Row) -> str:
    """What the row is called: its first cell, with the column's label where that alone says little, and its group."""
    first, label = row.cells[0], table.columns[0]
    name = f"{label} {first}" if label and (len(first) <= 3 or is_value(first)) else first
    return f"{row.group}: {name}" if row.group else name


def full_name(table: Table, row: Row, column: int) -> str:
    """The row's name, and where that is a code or a number what it stands for: the first of the other columns that name
    rows. column: of the cell that is asked about, which does not name itself."""
    name, first = row_name(table, row), row.cells[0]
    if len(first) > 3 and not re.search(r"\d", first):
        return name
    for j in range(1, len(table.columns)):
        cells = [each.cells[j] for each in table.rows]
        words = sum(bool(cell) and not is_value(cell) for cell in cells)
        if j != column and row.cells[j] and words > 0.8 * len(cells) and len(set(cells)) > 0.7 * len(cells):
            return f"{name}, {row.cells[j]}"
    return name


def without_numbers(section: str) -> str:
    """Section names without their numbers: "4 Leaving 4.1 Notice" says no more than "Leaving Notice".

    >>> without_numbers("4 Leaving 4.1 Notice")
    'Leaving Notice'
    """
    return re.sub(r"(?:^|(?<= ))\d+(?:\.\d+)*\.? ", "", section)


def without_number(caption: str) -> str:
    """A caption without the number of its table.

    >>> without_number("Table 4. Assembly points")
    'Assembly points'
    """
    return re.sub(r"^\s*\w+\s+[\w.]*\d[\w.]*[.:]?\s+", "", caption)


def plain_caption(table: Table) -> str:
    """Caption and scale; the number of the table is no number of its subject."""
    return f"{without_number(table.caption)} {table.scale}"


def full_caption(table: Table) -> str:
    """Caption and scale as printed."""
    return f"{table.caption} ({table.scale})" if table.scale else table.caption


def fit_of_cell(question: Question, table: Table, name: str, own: str, cell: str) -> float:
    """1 where the cell holds something of the kind asked for, 0 where it plainly does not. own: the cell with its label
    and unit; name: that of its row."""
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
        # A department may own or approve; what happens somewhere is nobody.
        return fits(question, cell) or 0.8 * (
            re.search(r"\d", cell) is None and _ROLE.search(own.split(":")[0]) is not None
        )
    if question.kind == "duration" and is_value(cell):
        around = _PER.sub(" ", f"{own} {table.scale}")
        head = own.split(":")[0]
        if _SPAN.search(_PER.sub(" ", head)) and not _COST.search(head):
            return 1.0  # "Days to pay" are no money
        return 0.0 if speaks_of_money(around) else 1.0 if _SPAN.search(f"{name} {around}") else fits(question, own)
    if question.kind == "place" and not re.search(r"\d", cell):
        return 1.0
    if question.kind in ("percent", "duration", "frequency"):
        return fits(question, f"{name} {own} {table.scale} {table.caption}" if is_value(cell) else own)
    return fits(question, cell)
