"""A page read again from its passages: sentences with their offsets, headings above them, tables as rows and columns.

The passages of a page follow each other without gap, so together they are the page's text, and every offset here is one
in that text. A table arrives as lines whose cells a tab (or the bar of Markdown) separates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from modelyard.ports.index import Passage
from modelyard.workloads.chatbot.table import Line, Table, read_table

_BULLET = re.compile(r"\s*(?:[-*\u2022\u2023\u25aa\u25cf\u2013]|\(?(?:\d{1,2}|[a-z])[.)])\s+")
_MARK = re.compile(r"\s*#{1,6}\s+")
_ENTRY = re.compile(r"[^\W\d_][^:.!?;\t]{0,60}:(?:\s+[^\s\t][^\t]{0,200})?\Z")
_STOP = re.compile(r"[.!?][\"')\]\u201d\u2019]*(?=\s+[\"'(\u201c\u2018*\[]*[^\sa-z])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Prof|Dr|Mr|Mrs|Ms|St|No|Nos|Art|Sec|Fig|Tab|Vol|Inc|Ltd|Co|Corp|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov"
    r"|Dec|vs|approx|incl|excl|e\.g|i\.e|cf|etc|p|pp|tel|ext|max|min)|\b[A-Z]|[A-Z]\.[A-Z])\.\Z"
)


@dataclass(frozen=True)
class Sentence:
    """text[start:end] of the page. `lead` is what came before in its paragraph (or the line a list hangs on),
    `section` the heading path, `above` whether `lead` introduces it (ends with a colon)."""

    start: int
    end: int
    section: str
    lead: str
    item: bool = False
    lead_start: int = -1


@dataclass(frozen=True)
class PageView:
    """One page, read."""

    document: str
    page: int
    title: str
    period: str
    text: str
    sentences: tuple[Sentence, ...]
    tables: tuple[Table, ...]
    passages: tuple[Passage, ...]
    legend: Mapping[str, str] = field(default_factory=dict)
    """What short labels mean, where this page or one beside it says so: "CZ: Czech Republic"."""

    @cached_property
    def names(self) -> str:
        """What the document is called: title, period, and the words of its file's name."""
        stem = self.document.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        return " ".join((self.title, self.period, *re.findall(r"[^\W_]+", stem)))

    def passage_at(self, start: int) -> Passage:
        """The passage in which the character at `start` stands."""
        for passage in self.passages:
            if passage.start <= start < passage.end:
                return passage
        return self.passages[-1]


_LEGEND = re.compile(
    r"(?:^|[.;,(]\s+|\s)([A-Z][A-Z0-9]{0,4})\s?[:=]\s+([A-Z][a-z][\w\u00c0-\u017f -]{1,40}?)(?=[.;,)]|$|\n)", re.M
)


def read_page(passages: Sequence[Passage], before: str = "", after: str = "") -> PageView:
    """`passages` are all of one page, in order; at least one. `before` and `after` are the texts of its neighbours:
    they may hold the legend of its tables, and the beginning of its first sentence."""
    text = page_text(passages)
    lines = _lines(text, passages)
    sentences: list[Sentence] = []
    tables: list[Table] = []
    at = 0
    prose: list[Line] = []
    while at < len(lines):
        if _starts_table(lines, at):
            end = _table_end(lines, at)
            table, used = read_table(prose[-3:], lines[at:end], lines[end : end + 6])
            del prose[len(prose) - used :]
            sentences += _sentences(text, prose)
            prose = []
            tables.append(table)
            at = end
        else:
            prose.append(lines[at])
            at += 1
    sentences += _sentences(text, prose)
    if sentences and text[sentences[0].start : sentences[0].start + 1].islower() and before.strip():
        broken = _split(before, 0, len(before.rstrip()))[-1]
        sentences[0] = replace(sentences[0], lead=before[broken[0] : broken[1]][-400:])
    first = passages[0]
    return PageView(
        first.document,
        first.page,
        first.title,
        first.period,
        text,
        tuple(sentences),
        tuple(tables),
        tuple(passages),
        dict(_LEGEND.findall(f"{before}\n{after}\n{text}")) if tables else {},
    )


def page_text(passages: Sequence[Passage]) -> str:
    """The page's text, offsets as they were; where a passage is missing (forgotten), spaces keep its place."""
    out: list[str] = []
    length = 0
    for passage in passages:
        if passage.start > length:
            out.append(" " * (passage.start - length))
            length = passage.start
        fresh = passage.text[length - passage.start :] if passage.start < length else passage.text
        out.append(fresh)
        length += len(fresh)
    return "".join(out)


def _lines(text: str, passages: Sequence[Passage]) -> list[Line]:
    lines: list[Line] = []
    start, which = 0, 0
    for raw in text.split("\n"):
        end = start + len(raw)
        while which + 1 < len(passages) and passages[which + 1].start <= start:
            which += 1
        passage = passages[which]
        lines.append(Line(raw, start, end, passage.section, passage.header))
        start = end + 1
    return lines


def _starts_table(lines: list[Line], at: int) -> bool:
    """Two rows in a row, or one row of three cells: a lone tab in prose is no table."""
    cells = lines[at].cells
    if len(cells) < 2:
        return False
    following = [line for line in lines[at + 1 : at + 3] if len(line.cells) > 1]
    return bool(following) or len(cells) > 2


def _table_end(lines: list[Line], at: int) -> int:
    end = at + 1
    while end < len(lines):
        if len(lines[end].cells) > 1 or lines[end].is_rule:
            end += 1
            continue
        # A group's heading, or the rest of a label, stands alone between rows.
        ahead = lines[end + 1 : end + 2]
        alone = lines[end].text.strip()
        if (
            alone
            and len(alone) < 60
            and not alone.endswith(".")
            and ahead
            and len(ahead[0].cells) > 1
            and not _caption(alone)
        ):
            end += 1
            continue
        break
    return end


def _caption(text: str) -> bool:
    return re.match(r"(?:table|figure|exhibit)\s+\w{1,4}[.:]", text, re.I) is not None


def _sentences(text: str, lines: list[Line]) -> list[Sentence]:
    out: list[Sentence] = []
    lead = (-1, -1)
    opening = {at: first for first, run in _entries(lines) for at in run}
    for start, end, section, item in _paragraphs(lines, frozenset(opening)):
        if start in opening:
            # An entry of a form says what it says of what stands in the others.
            first = opening[start]
            out.append(Sentence(start, end, section, text[first:start].strip(), True, first))
            lead = (-1, -1)
            continue
        spans = _split(text, start, end)
        if not item:
            lead = (-1, -1)
        before = lead[0]
        for a, b in spans:
            above = text[max(before, b - 2000) : a] if 0 <= before < a else ""
            out.append(Sentence(a, b, section, above.strip(), item, before))
            if before < 0:
                before = a
        if not item and spans and text[end - 1 : end] == ":":
            lead = spans[-1]
    return out


def _entries(lines: list[Line]) -> list[tuple[int, list[int]]]:
    """The forms among the lines: (where its words begin, with the line above it; where each of its entries begins).
    A form is lines in a row, each of which is a label with a colon and its value."""
    forms: list[tuple[int, list[int]]] = []
    run: list[int] = []
    for at, line in enumerate([*lines, Line("", -1, -1)]):
        if _ENTRY.match(line.text.strip()):
            run.append(at)
            continue
        if len(run) > 1 and any(lines[each].text.strip()[-1] != ":" for each in run):
            above = next((each for each in lines[max(0, run[0] - 2) : run[0]] if each.text.strip()), lines[run[0]])
            title = 0 < len(above.text) <= 100 and above.text.strip()[-1] not in ".;" and "\t" not in above.text
            first = above if title and above.section == lines[run[0]].section else lines[run[0]]
            forms.append((_begin(first), [_begin(lines[each]) for each in run]))
        run = []
    return forms


def _begin(line: Line) -> int:
    return line.start + len(line.text) - len(line.text.lstrip())


def _paragraphs(lines: list[Line], entries: frozenset[int]) -> list[tuple[int, int, str, bool]]:
    """(start, end, section, is a list item) of each paragraph; headings are left out, they come as sections. entries:
    where lines begin that stand by themselves."""
    out: list[tuple[int, int, str, bool]] = []
    open_ = False
    width = max((len(line.text) for line in lines), default=0)
    previous = ""
    for at, line in enumerate(lines):
        content = line.text.strip()
        if not content:
            open_ = open_ and _unfinished(lines, at, previous)
            continue
        if _heading(line, content):
            open_ = False
            previous = ""
            continue
        bullet = _BULLET.match(line.text)
        start = line.start + (
            bullet.end() if bullet and len(bullet[0].strip()) < 4 else len(line.text) - len(line.text.lstrip())
        )
        # A short line that ends a sentence ends its paragraph.
        broke = previous.endswith((".", ":")) and len(previous) < 0.7 * width
        alone = start in entries or (out and out[-1][0] in entries)
        if alone or bullet or not open_ or broke or (out[-1][2] != line.section and not content[0].islower()):
            out.append((start, line.start + len(line.text.rstrip()), line.section, bullet is not None))
        else:
            first, _, section, item = out[-1]
            out[-1] = (first, line.start + len(line.text.rstrip()), section, item)
        open_ = True
        previous = content
    return out


def _unfinished(lines: list[Line], at: int, previous: str) -> bool:
    """Whether the next line goes on in the middle of the sentence that `previous` began."""
    following = next((line.text.strip() for line in lines[at : at + 3] if line.text.strip()), "")
    return len(previous) > 40 and previous[-1] not in ".:;!?" and following[:1].islower()


def _heading(line: Line, content: str) -> bool:
    """Whether the line is one of the headings its passage stands under."""
    bare = content.lstrip("#0123456789. ")
    return _MARK.match(line.text) is not None or any(
        bare == part.strip().lstrip("#0123456789. ") for part in line.section.split(" > ")
    )


def _split(text: str, start: int, end: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    at = start
    for match in _STOP.finditer(text, start, end):
        if _ABBREVIATION.search(text[at : match.start() + 1]) and not text[at : match.start()].endswith(
            tuple("0123456789")
        ):
            continue
        spans.append((at, match.end()))
        at = match.end() + len(text[match.end() : end]) - len(text[match.end() : end].lstrip())
    if at < end:
        spans.append((at, end))
    return spans
