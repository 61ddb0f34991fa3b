"""A generated exam: questions made from the text of pages, for a corpus that nobody has written questions for yet.

It asks by heading ("What does the handbook say about visitors?") and by the labels of a row and a column, never by a
sentence with a word left out: a retriever that matches its own words proves nothing. Unanswerable questions are made
of answerable ones by another row's name, or a year the corpus never mentions; that it is silent is checked over all
pages.

What it cannot do: ask as people ask. No threshold may be fitted on it, and prod asks for questions by people.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from modelyard.ids import digest
from modelyard.workloads.chatbot.grid import Cell, cells
from modelyard.workloads.chatbot.judge import stands_in

ANSWERABLE, UNANSWERABLE = 40, 14
DOCUMENTS = 80
"""Documents that questions are made of, chosen by their digest; absence is checked over all."""

_NUMBERING = re.compile(
    r"^(?:(?:table|figure|exhibit|item|note|part|section|chapter|appendix|annex)\s+[\w.]{1,6}[.:)]?\s+|"
    r"\(?\d{1,2}(?:\.\d{1,2})*[.)]?\s+)+",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(\u201c]?[A-Z0-9])|\n+")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_PERIOD = re.compile(
    r"(?:FY\s?)?(?:19|20)\d\d|Q[1-4](?:\s+(?:19|20)\d\d)?|(?:19|20)\d\d\s+Q[1-4]|january|february|march|april|may|june|july|"
    r"august|september|october|november|december",
    re.I,
)

Page = Mapping[str, Any]
Scan = Callable[[], Iterable[Page]]


@dataclass(frozen=True)
class Draft:
    """A question on its way. `subject`: words that no page may hold together, for it to be unanswerable."""

    kind: str
    question: str
    document: str
    pages: tuple[int, ...]
    answers: tuple[str, ...]
    subject: frozenset[str] = frozenset()

    @property
    def order(self) -> str:
        return digest([self.kind, self.question, self.document])

    def row(self) -> dict[str, Any]:
        evidence = [{"document": self.document, "page": page} for page in self.pages] if self.answers else []
        body = {"question": self.question, "answers": list(self.answers), "evidence": evidence}
        return {
            "id": f"g-{digest(body)[:12]}",
            "question": self.question,
            "history": [],
            "answers": list(self.answers),
            "evidence": evidence,
            "unanswerable": not self.answers,
            "tags": ["generated", self.kind],
        }


def propose(
    documents: Iterable[str], pages_of: Callable[[Sequence[str]], Iterable[Page]], scan: Scan
) -> list[dict[str, Any]]:
    """Rows of an exam, alike for the same pages in any order.

    `pages_of(documents)` gives the pages of some documents, `scan()` those of all:
    {document, page, text, title, period, section, headings}.
    """
    chosen = sorted(documents, key=lambda name: digest([name]))[:DOCUMENTS]
    pages = sorted(pages_of(chosen), key=lambda page: (page["document"], page["page"]))
    names = _names(pages)
    tables = _unambiguous(_by_table(pages, names))
    headings = _unambiguous(_by_heading(pages, names))
    answerable = _spread([tables, headings], ANSWERABLE)
    if len(answerable) < ANSWERABLE:
        asked = {draft.question for draft in answerable}
        terms = [draft for draft in _unambiguous(_by_term(pages, names)) if draft.question not in asked]
        answerable += _spread([terms], ANSWERABLE - len(answerable))
    swapped = _absent(_by_row(pages, names), scan)
    dated = _by_year([*tables, *headings, *answerable], names, _absent_years(scan))
    return [
        draft.row() for draft in [*answerable, *_spread([_unambiguous(swapped), _unambiguous(dated)], UNANSWERABLE)]
    ]


def _names(pages: Sequence[Page]) -> dict[str, str]:
    """What a question calls each document: its title, with what tells it from others of that title."""
    titles = {page["document"]: " ".join((page["title"] or page["document"]).split()) for page in pages}
    periods = {page["document"]: page["period"] for page in pages}
    dated = {
        name: f"{title} ({periods[name]})" if periods[name] and periods[name] not in title else title
        for name, title in titles.items()
    }
    for called in (titles, dated):
        if len(set(called.values())) == len(called):
            return called
    count = Counter(dated.values())
    return {name: f"{title} [{name}]" if count[title] > 1 else title for name, title in dated.items()}


def topic(heading: str) -> str:
    """A heading without its numbering: "3.2 Shifts and allowances" is about "Shifts and allowances"."""
    return " ".join(_NUMBERING.sub("", heading.strip()).split()).strip(" .:")


def _by_table(pages: Sequence[Page], names: Mapping[str, str]) -> Iterator[Draft]:
    for page in pages:
        for cell in cells(page["text"]):
            if len(cell.value) <= 60 and re.search(r"\w", cell.value):
                question = _cell_question(cell.row, cell.column, _caption(page, cell), names[page["document"]])
                if not stands_in(cell.value, question):
                    yield Draft("table", question, page["document"], (page["page"],), (cell.value,))


def _cell_question(row: str, column: str, caption: str, name: str) -> str:
    where = f'"{caption}" in {name}' if caption else name
    if _PERIOD.fullmatch(column):
        return f"According to {where}, what is {row} in {column}?"
    return f"According to {where}, what is the {column} for {row}?"


def _caption(page: Page, cell: Cell) -> str:
    above = [heading for heading in page["headings"] if heading["start"] <= cell.start]
    path = above[-1]["path"] if above else page["section"]
    caption = topic(path.split(" > ")[-1])
    return caption if 0 < len(caption) <= 80 and caption != page["title"] else ""


def _by_heading(pages: Sequence[Page], names: Mapping[str, str]) -> Iterator[Draft]:
    for page in pages:
        headings = sorted(page["headings"], key=lambda heading: heading["start"])
        for at, heading in enumerate(headings):
            name = topic(page["text"][heading["start"] : heading["end"]])
            # The last section of a page may go on overleaf, where its answer would count as wrong.
            if at + 1 == len(headings) and not _is_last(page, pages):
                continue
            end = headings[at + 1]["start"] if at + 1 < len(headings) else len(page["text"])
            section = page["text"][heading["end"] : end]
            # A row of a table would answer too, and is in no list of sentences.
            answers = [] if "\t" in section else sentences(section)
            if len(answers) >= 2 and 1 <= len(name.split()) <= 9 and name.lower() != page["title"].lower():
                question = f'What does {names[page["document"]]} say about "{name}"?'
                yield Draft("heading", question, page["document"], (page["page"],), tuple(answers))


def _is_last(page: Page, pages: Sequence[Page]) -> bool:
    return not any(other["document"] == page["document"] and other["page"] > page["page"] for other in pages)


def sentences(text: str) -> list[str]:
    """Whole sentences of prose, 4 to 60 words each; rows of tables are none."""
    found = (" ".join(sentence.split()) for sentence in _SENTENCE.split(text) if "\t" not in sentence)
    return [each for each in found if 4 <= len(each.split()) <= 60 and each[-1] in ".!?"]


def _by_term(pages: Sequence[Page], names: Mapping[str, str]) -> Iterator[Draft]:
    """Where there are too few headings and tables: the words a page says most, and other documents hardly."""
    spread = Counter(word for page in pages for word in _words(page["text"]))
    for page in pages:
        found = sentences(page["text"])
        counts = Counter(word for sentence in found for word in _words(sentence))
        words = [word for word in counts if word.isalpha() and len(word) > 4 and spread[word] * 5 <= len(pages) + 4]
        for word in sorted(words, key=lambda word: (-counts[word], -len(word), word))[:8]:
            held = [p for p in pages if p["document"] == page["document"] and word in _words(p["text"])]
            answers = tuple(each for p in held for each in sentences(p["text"]) if word in _words(each))
            question = f'What does {names[page["document"]]} say about "{word}"?'
            yield Draft("term", question, page["document"], tuple(p["page"] for p in held), answers)


def _by_row(pages: Sequence[Page], names: Mapping[str, str]) -> Iterator[Draft]:
    """A cell of one table asked for with the row name of another."""
    found = [(page, cell) for page in pages for cell in cells(page["text"])]
    rows = sorted({cell.row for _, cell in found if len(cell.row) > 3 and re.search(r"[a-z]{3}", cell.row)})
    for page, cell in found:
        if not rows or _PERIOD.fullmatch(cell.column):
            continue
        # Another row for every cell, and always the same one.
        at = int(digest([cell.row, cell.column, page["document"]])[:8], 16) % len(rows)
        for row in rows[at : at + 5]:
            if _words(row) & _words(cell.row):
                continue
            question = _cell_question(row, cell.column, _caption(page, cell), names[page["document"]])
            subject = _words(row) | _words(cell.column)
            yield Draft("swapped-entity", question, page["document"], (), (), subject)


def _by_year(drafts: Iterable[Draft], names: Mapping[str, str], years: Sequence[int]) -> Iterator[Draft]:
    """A question about a year of which the corpus says nothing."""
    for draft in drafts:
        year = str(years[int(draft.order[:8], 16) % len(years)])
        found = set(_YEAR.findall(draft.question))
        if len(found) > 1:
            continue
        if found:
            question = _YEAR.sub(year, draft.question)
        elif draft.question.startswith("What does "):
            question = f"What did {draft.question.removeprefix('What does ').removesuffix('?')} in {year}?"
        else:
            question = f"{draft.question.removesuffix('?')} in {year}?"
        yield Draft("swapped-period", question, draft.document, (), ())


def _absent_years(scan: Scan) -> list[int]:
    """Years next to those the corpus speaks of that it never mentions itself, not even in a title."""
    said = {
        int(year) for page in scan() for year in _YEAR.findall(f"{page['text']} {page['title']} {page['document']}")
    }
    middle = sorted(said)[len(said) // 2] if said else 2015
    return sorted(set(range(1950, 2090)) - said, key=lambda year: (abs(year - middle), year))[:5]


def _absent(drafts: Iterable[Draft], scan: Scan) -> list[Draft]:
    """Drafts whose subject no page holds all the words of."""
    left = sorted(drafts, key=lambda draft: draft.order)[: UNANSWERABLE * 10]
    for page in scan():
        words = _words(page["text"])
        left = [draft for draft in left if not draft.subject <= words]
    return left


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def _unambiguous(drafts: Iterable[Draft]) -> list[Draft]:
    """Questions that were made once only: what two places answer has no one answer."""
    groups: dict[str, list[Draft]] = defaultdict(list)
    for draft in drafts:
        groups[draft.question].append(draft)
    return [group[0] for group in groups.values() if len(group) == 1 or not group[0].answers]


def _spread(kinds: Sequence[Sequence[Draft]], most: int) -> list[Draft]:
    """At most `most`, the kinds in turn, and within a kind the documents in turn."""
    turns = [_by_document(drafts) for drafts in kinds]
    mixed = [draft for draft in chain.from_iterable(zip_longest(*turns)) if draft is not None]
    return list({draft.question: draft for draft in mixed}.values())[:most]


def _by_document(drafts: Iterable[Draft]) -> list[Draft]:
    groups: dict[str, list[Draft]] = defaultdict(list)
    for draft in sorted(drafts, key=lambda draft: draft.order):
        groups[draft.document].append(draft)
    turns = zip_longest(*(groups[name] for name in sorted(groups, key=lambda name: digest([name]))))
    return [draft for draft in chain.from_iterable(turns) if draft is not None]
