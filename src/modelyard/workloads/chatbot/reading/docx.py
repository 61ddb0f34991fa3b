"""Word documents (DOCX, DOCM) to sections. Macros are neither run nor read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.docx_blocks import Block, Blocks
from modelyard.workloads.chatbot.reading.docx_styles import Numbering, Styles
from modelyard.workloads.chatbot.reading.docx_text import Notes
from modelyard.workloads.chatbot.reading.flow import Flow
from modelyard.workloads.chatbot.reading.formats import Progress, Reading
from modelyard.workloads.chatbot.reading.office import Package

# A bold line of at most this length is a heading in a document that has no others.
SHORT = 100
MOST_BOLD = 0.5
SIGN_EVERY = 500


def read_docx(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """A page per heading, by styles and outline levels, or by bold lines where there are none.

    As it reads with all changes accepted: what is deleted, moved away or hidden is left out, and so are the table of
    contents, headers, footers and comments. Notes stand at the end of the section that refers to them, text boxes after
    their paragraph. Raises Unreadable where it is no Word document, is damaged, or holds no text.
    """
    package = Package(content, limits, "word", ".docx")
    relations = package.relations(package.main)
    notes = Notes(
        {
            kind: package.nodes(relations.first(part), kind)
            for kind, part in (("footnote", "footnotes"), ("endnote", "endnotes"))
        }
    )
    reader = Blocks(
        Styles(package.nodes(relations.first("styles"), "style")),
        Numbering(package.nodes(relations.first("numbering"), "abstractNum", "num")),
        notes,
    )
    found: list[Block] = []
    size = 0
    for number, node in enumerate(package.nodes(package.main, "p", "tbl")):
        if number % SIGN_EVERY == 0:
            progress(0)
        for block in reader.of(node):
            found.append(block)
            size += len(block.text)
        if size > limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
    found += reader.rest()
    flow = Flow(limits)
    title = _write(_outlined(found), flow, notes)
    sections = flow.sections()
    if not sections:
        raise Unreadable("it holds no text")
    return Reading(package.title() or title, sections)


def _outlined(blocks: list[Block]) -> Iterable[Block]:
    """Bold lines as headings where a document has no others, and where most of it is not bold."""
    if any(block.kind == "heading" for block in blocks):
        return blocks
    bold = [_stands_out(block) for block in blocks]
    if sum(bold) > MOST_BOLD * len(blocks):
        return blocks
    return [
        Block("heading", block.text, 2, notes=block.notes) if heads else block
        for block, heads in zip(blocks, bold, strict=True)
    ]


def _stands_out(block: Block) -> bool:
    return (
        block.kind == "paragraph" and block.bold and 0 < len(block.text) <= SHORT and block.text[-1] not in ".,;:"
    ) and "\t" not in block.text


def _write(blocks: Iterable[Block], flow: Flow, notes: Notes) -> str:
    """The title, from the first heading; else ""."""
    title = ""
    waiting: list[int] = []
    tabbed = False
    for block in blocks:
        if block.kind == "heading":
            _write_notes(flow, notes, waiting)
            waiting = []
            title = title or " ".join(block.text.split())[:160]
            flow.heading(block.level, block.text)
        elif block.kind == "caption":
            flow.caption(block.text)
        elif block.kind == "item":
            flow.item(block.text)
        elif block.kind == "table":
            flow.table(block.rows, block.level)
        elif tabbed and "\t" in block.text:
            # Rows that tabs align are a table without lines.
            flow.line(block.text)
        else:
            flow.paragraph(block.text)
        tabbed = block.kind == "paragraph" and "\t" in block.text
        waiting += block.notes
    _write_notes(flow, notes, waiting)
    return title


def _write_notes(flow: Flow, notes: Notes, numbers: Iterable[int]) -> None:
    for line in _lines(notes, numbers):
        flow.item(line)


def _lines(notes: Notes, numbers: Iterable[int]) -> Iterator[str]:
    for number in numbers:
        text = notes.text(number)
        if text:
            yield f"{number}. {text}"
