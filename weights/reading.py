"""What the readers are trained on: `reading/*.txt`, topics of two passages, and what answers each question in either.

    ## parking at work
    @A Harland Instruments Staff Guide | Getting here > Parking
    S1 Staff park on level -2; visitors use the bays in front of the main entrance.
    T: Permit | Monthly price | Waiting time
    T: Level -2, night shift | 12.00 EUR | none
    @B ...
    ? Where should I send guests who come by car? || A: S1 || B: -
    ? What does it cost me to park here if I work nights? || A: Level -2, night shift / Monthly price || B: S3; S4
    ? Where do staff park? ~> And who comes for a meeting? || A: S1 || B: -

What one passage answers the other mostly speaks of without answering it, so that the question alone does not tell.
"~>" stands between questions of a conversation, the last of which is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from modelyard.workloads.chatbot.cells import full_name, meet
from modelyard.workloads.chatbot.conversation import Resolved
from modelyard.workloads.chatbot.page import PageView
from modelyard.workloads.chatbot.question import Question, analyse_question
from modelyard.workloads.chatbot.statements import NOTED, notes_on
from modelyard.workloads.chatbot.table import Row, Table, is_value

EMPTY = ("\u2013", "\u2014", "-", "")
_LEANS = re.compile(
    r"(?:it|its|they|their|them|this|these|those|that|he|she|both|such|the same|here|otherwise|then|also)\b", re.I
)
_PASSAGE = re.compile(r"@([AB])\s+(.+?)\s*\|\s*(.*)$")
_SENTENCE = re.compile(r"(S\d+)\s+(.+)$")
_QUESTION = re.compile(r"\?\s*(.+?)\s*\|\|\s*A:\s*(.+?)\s*\|\|\s*B:\s*(.+)$")
_RARITY = 0.6
"""Of every word, to tell which of a question's matter: what a topic's own two passages hold is no measure."""


@dataclass
class Passage:
    """Sentences by their number, and the rows of a table, the first of which has the names of the columns."""

    title: str
    section: str
    sentences: dict[str, str] = field(default_factory=dict)
    table: list[list[str]] = field(default_factory=list)

    @property
    def names(self) -> frozenset[str]:
        """What answers may be called."""
        columns, *rows = self.table or [[]]
        cells = ((row[0], column, cell) for row in rows for column, cell in zip(columns[1:], row[1:], strict=True))
        return frozenset([*self.sentences, *(f"{row} / {column}" for row, column, cell in cells if cell not in EMPTY)])

    def statements(self, question: Question) -> Iterator[tuple[frozenset[str], str]]:
        """(what it is called in answers, the statement with its context as the extractive answerer writes it for this
        question): every sentence, every two in a row, every cell."""
        above = [self.title, " ".join(part.strip() for part in self.section.split(">"))]
        before = ""
        for name, text in self.sentences.items():
            lead = [self.sentences[before][-200:]] if before and _LEANS.match(text) else []
            yield frozenset([name]), ". ".join([*above, *lead, text])
            if before:
                yield frozenset([before, name]), ". ".join([*above, f"{self.sentences[before]} {text}"])
            before = name
        if not self.table:
            return
        columns, *rows = self.table
        table = Table("", "", tuple(columns), tuple(Row(tuple(row), 0, 0) for row in rows), "", 0, 0)
        noted = question.superlative or any(t.kind in NOTED for t in question.terms)
        page = PageView("", 1, self.title, "", "", (), (table,), ())
        met = meet(question.terms, page, table, {}) if noted else None
        for at, row in enumerate(table.rows):
            for column in range(1, len(columns)):
                if (cell := row.cells[column]) in EMPTY:
                    continue
                called, label = full_name(table, row, column), columns[column]
                if met is not None:
                    said = f"{called} {label}: {cell} {table.unit(column) if is_value(cell) else ''}"
                    extreme = met.extreme(table, at, column, question)
                    if notes := notes_on(question, met.labels(at, column), extreme, said):
                        called = f"{called} ({', '.join(notes)})"
                yield frozenset([f"{row.cells[0]} / {label}"]), ". ".join([*above, f"{called}, {label}: {cell}"])


@dataclass(frozen=True)
class Choice:
    """A question on a passage, and what of it answers it. conversation: what was asked, the question last."""

    topic: str
    conversation: tuple[str, ...]
    passage: Passage
    answers: frozenset[str]

    @property
    def question(self) -> str:
        """As a reader hears it."""
        *before, own = self.conversation
        return Resolved(own, before=" ".join(before)).spoken

    @cached_property
    def statements(self) -> list[str]:
        return [text for _, text in self._made]

    @cached_property
    def right(self) -> list[bool]:
        """Which of the statements answer it by themselves."""
        return [not names.isdisjoint(self.answers) for names, _ in self._made]

    @cached_property
    def _made(self) -> list[tuple[frozenset[str], str]]:
        question = _analyse(self.conversation[-1])
        if len(self.conversation) > 1 and not any(t.kind in NOTED for t in question.terms):
            question = _analyse(self.conversation[-1], self.conversation[-2])  # what is meant was named before
        return list(self.passage.statements(question))


def _analyse(text: str, inherited: str = "") -> Question:
    return analyse_question(text, lambda _: _RARITY, lambda _: False, inherited)


def load(files: Sequence[Path]) -> list[Choice]:
    """Every question of `files` on either passage of its topic. Raises ValueError, saying where, for a line that cannot
    be read and for an answer that is not in the passage."""
    return [choice for file in files for choice in _read(file)]


def _read(file: Path) -> Iterator[Choice]:
    topic, passages, side = "", dict[str, Passage](), ""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{file.name}:{number}"
        if line.startswith("## "):
            topic, passages = f"{file.stem}: {line[3:].strip()}", {}
        elif found := _PASSAGE.match(line):
            side = found[1]
            passages[side] = Passage(found[2], found[3])
        elif found := _SENTENCE.match(line):
            passages[side].sentences[found[1]] = found[2].strip()
        elif line.startswith("T:"):
            cells = [cell.strip() for cell in line[2:].split("|")]
            if passages[side].table and len(cells) != len(passages[side].table[0]):
                raise ValueError(f"{where}: {len(cells)} cells in a table of {len(passages[side].table[0])} columns")
            passages[side].table.append(cells)
        elif found := _QUESTION.match(line):
            asked = tuple(part.strip() for part in found[1].split("~>"))
            for name, answers in (("A", found[2]), ("B", found[3])):
                wanted = frozenset(a.strip() for a in answers.split(";")) if answers.strip() != "-" else frozenset()
                if missing := wanted - passages[name].names:
                    raise ValueError(f"{where}: the passage has no {', '.join(sorted(missing))}")
                yield Choice(topic, asked, passages[name], wanted)
        elif line.strip():
            raise ValueError(f"{where}: cannot read {line[:60]!r}")
