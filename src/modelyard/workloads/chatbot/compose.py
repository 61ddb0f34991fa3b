"""The words of an extractive answer: the statements that answer, each with what it quotes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelyard.workloads.chatbot.cite import Citation
from modelyard.workloads.chatbot.lexicon import bag, squeeze
from modelyard.workloads.chatbot.question import Question
from modelyard.workloads.chatbot.statements import MOST_WORDS, Candidate
from modelyard.workloads.chatbot.table import Row, Table, is_empty, is_value

_LEANS = re.compile(
    r"(?:it|its|they|their|them|this|these|those|that|he|she|both|such|the same|here|otherwise|then|also|"
    r"however|but)\b",
    re.I,
)
_ENDS = ".!?)]\"'\u201d\u2019"
MOST_STATEMENTS = 2
NEAR = 0.9
"""Cells of one row whose log-odds differ by less are told together."""


@dataclass(frozen=True)
class Statement:
    """One thing an answer says. labels: text of the page's table head that it uses beside the quote."""

    text: str
    citation: Citation
    labels: str
    score: float
    also: tuple[Citation, ...] = ()
    """Where the same is said in other words of no weight: copies in other documents."""


def compose(
    question: Question, found: Sequence[Candidate], least: float, margin: float, most: int = MOST_WORDS
) -> list[Statement]:
    """The statements of the answer, best first; none where nothing reaches `least` (a probability).

    Others are given beside the first where their log-odds are within `margin` of its own and all together have at most
    `most` words; a first statement of one sentence is told whole. What another document says too is said once.
    """
    if not found or found[0].score < least:
        return []
    out: list[Statement] = []
    words = 0
    for candidate in found[:12]:
        if candidate.value < found[0].value - margin:
            break
        if any(_overlap(candidate, s) for s in out):
            continue
        told = _cell if candidate.kind == "cell" else _sentence
        statement = told(question, candidate, found, most)
        twin = next((i for i, s in enumerate(out) if _same(s.text, statement.text)), None)
        if twin is not None:
            out[twin] = replace(out[twin], also=(*out[twin].also, statement.citation))
            continue
        # The same, cut elsewhere in a copy; or what only says the question again.
        if any(statement.text in s.text or s.text in statement.text or _adds_nothing(question, candidate) for s in out):
            continue
        count = len(statement.text.split())
        if len(out) == MOST_STATEMENTS or (out and words + count > most):
            continue
        out.append(statement)
        words += count
    return out


def _adds_nothing(question: Question, candidate: Candidate) -> bool:
    """Whether a statement, a title perhaps, has a word at most that the question does not, and no number."""
    fresh = bag(candidate.own).stems - {t.stem for t in question.terms}
    return candidate.kind == "sentence" and len(fresh) < 2 and not any(c.isdigit() for c in candidate.own)


def _same(a: str, b: str) -> bool:
    """Whether two statements say the same in all but a word or two: their numbers are the same."""
    one, other = bag(a).stems, bag(b).stems
    changed = one ^ other
    return len(changed) <= 0.1 * len(one | other) and not any(c.isdigit() for term in changed for c in term)


def _overlap(candidate: Candidate, statement: Statement) -> bool:
    c = statement.citation
    same = c.passage.document == candidate.view.document and c.passage.page == candidate.view.page
    return same and candidate.start < c.end and c.start < candidate.end


def _sentence(question: Question, candidate: Candidate, _: Sequence[Candidate], most: int) -> Statement:
    view, start, end = candidate.view, candidate.start, candidate.end
    sentence = next((s for s in view.sentences if s.start == start and s.end == end), None)
    if sentence is not None and sentence.lead_start >= 0 and not sentence.item:
        # A sentence that leans on those before it, or whose subject they name, is quoted with them.
        before = [s for s in view.sentences if sentence.lead_start <= s.start < start and s.section == sentence.section]
        wider = start
        if before and _LEANS.match(candidate.own):
            wider = before[-1].start
        own = bag(candidate.own)
        for term in question.terms:
            if term.weight >= 0.5 and term.stem not in own.stems and term.root not in own.roots:
                for each in reversed(before):
                    words = bag(view.text[each.start : each.end])
                    if term.stem in words.stems or term.root in words.roots:
                        wider = min(wider, each.start)
                        break
        if len(view.text[wider:end].split()) <= most:
            start = wider
    if sentence is None or view.text[end - 1] not in _ENDS:
        start, end = _clipped(question, view.text, start, end, most)
    quote = view.text[start:end]
    citation = Citation(view.passage_at(start), quote, start, end)
    return Statement(squeeze(quote), citation, "", candidate.score)


def _clipped(question: Question, text: str, start: int, end: int, most: int) -> tuple[int, int]:
    """The run of clauses, at most `most` words long, that speaks most of the question's terms: for text that is no one
    sentence, such as lines that no stop parts."""
    if len(text[start:end].split()) <= most:
        return start, end
    cuts = [start, *(start + m.end() for m in re.finditer(r"[;:,]\s+|\n", text[start:end])), end]
    asked = {t.stem: t.weight for t in question.terms}
    best, span = -1.0, (start, end)
    for i, a in enumerate(cuts[:-1]):
        for b in cuts[i + 1 :]:
            if len(text[a:b].split()) > most:
                break
            from_ = _weight_of(text[a:b], asked)
            if from_ > best or (from_ == best and b - a > span[1] - span[0]):
                best, span = from_, (a, b)
    if best < 0:
        words = list(re.finditer(r"\S+", text[start:end]))
        return start, start + words[most - 1].end()
    return span[0], span[0] + len(text[span[0] : span[1]].rstrip(" ,;:\n"))


def _weight_of(text: str, asked: dict[str, float]) -> float:
    return sum(w for t, w in asked.items() if t in bag(text).stems)


def _cell(question: Question, candidate: Candidate, found: Sequence[Candidate], most: int) -> Statement:
    table, row = candidate.table, candidate.row
    assert table is not None and row is not None
    alike = [c.column for c in found if c.row is row and c.table is table and c.value >= candidate.value - NEAR]
    columns = sorted(set(alike)) if len(alike) > 1 else [candidate.column]
    text = tell(table, row, columns)
    if len(text.split()) > most:
        text = tell(table, row, [candidate.column])
    if len(text.split()) > most:
        text = _shortened(question, table, row, candidate.column, most)
    view = candidate.view
    citation = Citation(view.passage_at(row.start), view.text[row.start : row.end], row.start, row.end)
    labels = " ".join((*table.columns, table.caption, table.scale, row.group))
    return Statement(text, citation, labels, candidate.score)


def _shortened(question: Question, table: Table, row: Row, column: int, most: int) -> str:
    """At most `most` words of a cell that holds more, as prose in two columns does where it reads like a table: the
    clauses that speak most of the question, with the row's name where there is room for it."""
    cell = squeeze(row.cells[column])
    start, end = _clipped(question, cell, 0, len(cell), most)
    text = cell[start:end]
    named = f"{row.cells[0]} \u2013 {text}"
    return named if column and len(named.split()) <= most else text


def tell(table: Table, row: Row, columns: Sequence[int]) -> str:
    """The cells of `row` in `columns` as a phrase: "Grade 5 - Hotel, Germany: 145 euros per night"."""
    first = row.cells[0]
    label = table.columns[0]
    name = f"{label} {first}" if label and (len(first) <= 3 or is_value(first)) else first
    if row.group:
        name = f"{row.group}, {name}"
    cells = [j for j in columns if j != 0]
    if not cells:
        rest = [j for j in range(1, len(row.cells)) if not is_empty(row.cells[j])]
        cells = rest[:6]
        if label and label not in name:
            name = f"{label}: {name}"
    parts = []
    for j in cells:
        cell, column = row.cells[j], table.columns[j]
        unit = table.unit(j) if is_value(cell) else ""
        bare = re.sub(r"\s*[(\[][^()\[\]]*[)\]]\s*$", "", column) if unit else column
        parts.append(f"{bare}: {cell} {unit}".strip() if bare else f"{cell} {unit}".strip())
    return f"{name} \u2013 {'; '.join(parts)}" if parts else name
