"""Statements weighed against the question: by their words, then the few that look best by an embedder and two readers,
each of which costs more than the one before and is given fewer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.ports.embedder import Embedder
from modelyard.ports.reader import Reader, Readers
from modelyard.workloads.chatbot.cells import full_caption
from modelyard.workloads.chatbot.conversation import Resolved
from modelyard.workloads.chatbot.marks import held, left_out, missing, one_of_several, opposed, share, subject
from modelyard.workloads.chatbot.match import Alike
from modelyard.workloads.chatbot.page import PageView
from modelyard.workloads.chatbot.question import Question
from modelyard.workloads.chatbot.statements import Candidate, statements

_COMPARED, _READ_CLOSELY = 16, 4
"""Statements that are compared with the question, and read by the quick reader; that the close one reads."""
_FAR_AHEAD = 0.3
"""By how much more a statement is like the question than all others counts up to this."""
_SURE = 6.0
"""What a reader says counts up to these log-odds: beyond, it has only seen more of the same kind."""
_REACH = 3.0
"""What the close reader is expected to add to a statement at most: of 1,262 questions it answered one from further
below the threshold."""
_SPARED = 1.0
"""So much further below may be what is best. Of 333 questions none of the 51 whose best was further was answered."""
BEHIND = (3.8, 3.0, 1.8)
"""How far behind the first a statement may be that comes first in the end: before it is compared with the question by
the embedder, before the quick reader, before the close one. Of 174 answered questions the furthest was 2.8, 2.4, 1.1
behind."""


class Extractor:
    """Weighs statements. Keeps vectors of statements and words it has met (bounded)."""

    behind: tuple[float, float, float] = BEHIND

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
        seen = [glimpse for view, rank in pages for glimpse in statements(question, view, rank, self._glossary)]
        found = [glimpse.made() for glimpse in sorted(seen, key=lambda glimpse: glimpse.place)[:most]]
        return self.read(resolved, self.weigh(question, found)[:_COMPARED], vectors, least)

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
        """Those of them that may come first, best first, with what the embedder and the readers say of each added; what
        cannot be told any more is not read."""
        assert self._readers is not None, "whoever answers by quotes needs readers"
        reach = _SURE * abs(self._weights["read"]) + _REACH
        likeness = abs(self._weights["similar"]) + _FAR_AHEAD * abs(self._weights["lead"])
        hopeful = _hopeful(found, least - reach - likeness, self.behind[0])
        if not hopeful:
            return list(found)
        if all(_same_place(c, found[0]) for c in hopeful):  # to be ahead of nothing is no lead
            hopeful += [c for c in found if not _same_place(c, found[0])][:1]
        found = self._compared(hopeful, vectors)
        hopeful = _hopeful(found, least - reach, self.behind[1])
        found = self._read(self._readers.quick, hopeful, "read", resolved.text) if hopeful else found
        hopeful = _hopeful(found[:_READ_CLOSELY], least - _REACH, self.behind[2])
        return self._read(self._readers.close, hopeful, "close", resolved.text, resolved.spoken) if hopeful else found

    def _compared(self, found: Sequence[Candidate], asked: NDArray[np.float32]) -> list[Candidate]:
        """The same, best first, with how like the question each is, and how much more than those elsewhere."""
        vectors = self._gists.vectors([c.gist for c in found])
        near = {c: float((asked @ vectors[c.gist]).max()) for c in found}
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
    """Those of `found` that are neither below `least` nor too far `behind` the first, to which `_SPARED` more is
    given."""
    return [
        c for i, c in enumerate(found) if c.value >= (max(least, found[0].value - behind) if i else least - _SPARED)
    ]


def _place(c: Candidate) -> tuple[Any, ...]:
    return (-c.value, c.view.document, c.view.page, c.start, c.column)


def _same_place(a: Candidate, b: Candidate) -> bool:
    return a.view is b.view and a.start < b.end and b.start < a.end
