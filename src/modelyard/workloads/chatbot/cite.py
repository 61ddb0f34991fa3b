"""Citations: where a statement stands, and the check that it really stands there before anybody sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.calc.text import analyse
from modelyard.ports.index import Passage
from modelyard.workloads.chatbot.lexicon import LIGHT, bag, root

LEAST_SUPPORT = 0.7
"""Share of a sentence's content words that its quote must hold. Its numbers must all stand there."""


@dataclass(frozen=True)
class Citation:
    """A span of a page that supports a statement: quote == text of the page[start:end]."""

    passage: Passage
    quote: str
    start: int
    end: int

    def to_json(self) -> dict[str, Any]:
        p = self.passage
        return {
            "document": p.document,
            "page": p.page,
            "quote": self.quote,
            "start": self.start,
            "end": self.end,
            "chunk_id": p.chunk_id,
            "title": p.title,
            "section": p.section,
        }


def verify(statement: str, citation: Citation, text: str, labels: str = "", least: float = LEAST_SUPPORT) -> bool:
    """Whether `citation` quotes `text` (its page) exactly and supports `statement`.

    Every number of the statement must stand in the quote or, for a table's cell, in `labels`, which must themselves be
    text of the page; so must at least the share `least` of its content words. It is a check of words: it does not see a
    "not" that was left out, and a sentence put together from words of one quote can still say something else.
    """
    if not citation.quote.strip() or text[citation.start : citation.end] != citation.quote:
        return False
    quoted = bag(citation.quote) | bag(labels)
    said = analyse(statement)
    numbers = {t for t in said if t[:1].isdigit()}
    if not numbers <= quoted.stems:
        return False
    words = [t for t in said if not t[:1].isdigit() and t not in LIGHT]
    held = sum(t in quoted.stems or root(t) in quoted.roots for t in words)
    return held >= least * len(words)


def locate(statement: str, text: str, start: int, end: int) -> tuple[int, int]:
    """The sentence or row within text[start:end] that speaks most of what `statement` says; ties go to the first."""
    said = bag(statement)
    best, span = -1.0, (start, end)
    for match in re.finditer(r"[^\n.!?]+(?:[.!?]+(?!\s)[^\n.!?]+)*[.!?]*", text[start:end]):
        piece = bag(match[0])
        score = len(said.stems & piece.stems) + 0.5 * len(said.roots & piece.roots) - 0.01 * len(piece.stems)
        if match[0].strip() and score > best:
            lead = len(match[0]) - len(match[0].lstrip())
            best, span = score, (start + match.start() + lead, start + match.start() + len(match[0].rstrip()))
    return span


def merged(citations: Sequence[Citation]) -> list[Mapping[str, Any]]:
    """As JSON, each span once, in the order first cited."""
    seen: dict[tuple[str, int, int, int], Mapping[str, Any]] = {}
    for c in citations:
        seen.setdefault((c.passage.document, c.passage.page, c.start, c.end), c.to_json())
    return list(seen.values())
