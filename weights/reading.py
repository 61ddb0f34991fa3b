"""What the readers are trained on: `reading/*.txt`, topics of two passages, and what answers each question in either.

    ## parking at work
    @A Harland Instruments Staff Guide | Getting here > Parking
    S1 Staff park on level -2; visitors use the bays in front of the main entrance.
    T: Permit | Monthly price | Waiting time
    T: Level -2, night shift | 12.00 EUR | none
    @B ...
    ? Where should I send guests who come by car? || A: S1 || B: -
    ? What does it cost me to park here if I work nights? || A: Level -2, night shift / Monthly price || B: S3; S4

What one passage answers the other mostly speaks of without answering it, so that the question alone does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EMPTY = ("\u2013", "\u2014", "-", "")
_LEANS = re.compile(
    r"(?:it|its|they|their|them|this|these|those|that|he|she|both|such|the same|here|otherwise|then|also)\b", re.I
)
_PASSAGE = re.compile(r"@([AB])\s+(.+?)\s*\|\s*(.*)$")
_SENTENCE = re.compile(r"(S\d+)\s+(.+)$")
_QUESTION = re.compile(r"\?\s*(.+?)\s*\|\|\s*A:\s*(.+?)\s*\|\|\s*B:\s*(.+)$")


@dataclass
class Passage:
    """Sentences by their number, and the rows of a table, the first of which has the names of the columns."""

    title: str
    section: str
    sentences: dict[str, str] = field(default_factory=dict)
    table: list[list[str]] = field(default_factory=list)

    def statements(self) -> Iterator[tuple[frozenset[str], str]]:
        """(what it is called in answers, the statement with its context as the extractive answerer writes it): every
        sentence, every two in a row, every cell."""
        above = [self.title, " ".join(part.strip() for part in self.section.split(">"))]
        before = ""
        for name, text in self.sentences.items():
            lead = [self.sentences[before][-200:]] if before and _LEANS.match(text) else []
            yield frozenset([name]), ". ".join([*above, *lead, text])
            if before:
                yield frozenset([before, name]), ". ".join([*above, f"{self.sentences[before]} {text}"])
            before = name
        for label, *cells in self.table[1:]:
            for column, cell in zip(self.table[0][1:], cells, strict=True):
                if cell not in EMPTY:
                    row = f"{self.table[0][0]} {label}" if len(label.split()) < 2 else label
                    yield frozenset([f"{label} / {column}"]), ". ".join([*above, f"{row}, {column}: {cell}"])


@dataclass(frozen=True)
class Choice:
    """A question on a passage. right: which of the statements answer it by themselves."""

    topic: str
    question: str
    statements: Sequence[str]
    right: Sequence[bool]


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
            for name, answers in (("A", found[2]), ("B", found[3])):
                yield _choice(where, topic, found[1], passages[name], answers)
        elif line.strip():
            raise ValueError(f"{where}: cannot read {line[:60]!r}")


def _choice(where: str, topic: str, question: str, passage: Passage, answers: str) -> Choice:
    wanted = set() if answers.strip() == "-" else {answer.strip() for answer in answers.split(";")}
    made = list(passage.statements())
    if missing := wanted - set().union(*(names for names, _ in made)):
        raise ValueError(f"{where}: the passage has no {', '.join(sorted(missing))}")
    return Choice(topic, question, [text for _, text in made], [bool(names & wanted) for names, _ in made])
