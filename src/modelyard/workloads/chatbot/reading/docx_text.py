"""The text of a Word paragraph: runs, fields, changes, notes, text boxes (WordprocessingML, ECMA-376 part 1, 17.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modelyard.workloads.chatbot.reading.docx_styles import Styles
from modelyard.workloads.chatbot.reading.office import Node
from modelyard.workloads.chatbot.reading.spans import RAISED

# What was deleted or moved away, what fields are made of, and what is not text.
UNREAD = frozenset(
    ("del", "moveFrom", "instrText", "delText", "delInstrText", "rPr", "pPr", "rt", "sdtPr", "sdtEndPr", "fldData")
)
BREAKS = {"br": "\n", "cr": "\n", "tab": "\t", "ptab": "\t", "noBreakHyphen": "-"}
SEPARATORS = frozenset(("separator", "continuationSeparator", "continuationNotice"))


@dataclass(slots=True)
class Text:
    """What a paragraph says. notes: numbers of the notes it refers to. boxes: text boxes that hang on it."""

    parts: list[str] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    boxes: list[Node] = field(default_factory=list)
    bold: bool = True

    @property
    def said(self) -> str:
        """The text, with tabs and line breaks."""
        return "".join(self.parts)


class Notes:
    """Footnotes and endnotes, numbered together in the order in which they are referred to."""

    def __init__(self, found: Mapping[str, Iterable[Node]]) -> None:
        self._nodes = {
            (kind, node.attributes.get("id", "")): node
            for kind, nodes in found.items()
            for node in nodes
            if node.attributes.get("type") not in SEPARATORS
        }
        self._numbers: dict[tuple[str, str], int] = {}
        self._texts: dict[int, str] = {}

    def number(self, kind: str, key: str, styles: Styles) -> int | None:
        """The number of the note of this id; None where there is none, or it was numbered before."""
        node = self._nodes.get((kind, key))
        if node is None or (kind, key) in self._numbers:
            return self._numbers.get((kind, key))
        number = self._numbers[kind, key] = len(self._numbers) + 1
        paragraphs = (text_of(paragraph, styles, None).said for paragraph in node.below("p"))
        self._texts[number] = " ".join(" ".join(paragraphs).split())
        return number

    def text(self, number: int) -> str:
        """The text of a numbered note; once, however often it is referred to."""
        return self._texts.pop(number, "")


def text_of(paragraph: Node, styles: Styles, notes: Notes | None) -> Text:
    """What a paragraph says as it is shown with all changes accepted. notes: None within a note."""
    text = Text()
    hidden = styles.of(paragraph.value("pPr", "pStyle")).hidden
    bold = styles.of(paragraph.value("pPr", "pStyle")).bold
    _collect(paragraph, text, _Manner(styles, notes, hidden, bold))
    return text


@dataclass(frozen=True, slots=True)
class _Manner:
    """What the style of a paragraph says of its runs."""

    styles: Styles
    notes: Notes | None
    hidden: bool
    bold: bool


def _collect(node: Node, text: Text, manner: _Manner) -> None:
    for child in node.children:
        name = child.name
        if name == "r":
            _run(child, text, manner)
        elif name == "AlternateContent":
            _collect(_chosen(child), text, manner)
        elif name == "txbxContent":
            text.boxes.append(child)
        elif name == "f":
            # A fraction of mathematics.
            for at, part in enumerate(child.children):
                if part.name in ("num", "den"):
                    text.parts.append("/" if at and part.name == "den" else "")
                    _collect(part, text, manner)
        elif name not in UNREAD:
            _collect(child, text, manner)


def _run(run: Node, text: Text, manner: _Manner) -> None:
    style = run.value("rPr", "rStyle")
    if _switched(run, "vanish", manner.hidden or (style is not None and manner.styles.of(style).hidden)):
        return
    raised = run.value("rPr", "vertAlign") == "superscript"
    before = len(text.parts)
    _pieces(run, text, manner, raised)
    if any(part.strip() for part in text.parts[before:]):
        bold = manner.bold or (style is not None and manner.styles.of(style).bold)
        text.bold = text.bold and _switched(run, "b", bold)


def _pieces(run: Node, text: Text, manner: _Manner, raised: bool) -> None:
    for child in run.children:
        name = child.name
        if name == "t":
            # A raised digit is a mark or a power, and not part of the number before it.
            text.parts.append(child.text.translate(RAISED) if raised and child.text.strip().isdigit() else child.text)
        elif name in BREAKS:
            text.parts.append(BREAKS[name] if child.attributes.get("type") not in ("page", "column") else " ")
        elif name == "sym":
            text.parts.append(_symbol(child.attributes.get("char", "")))
        elif name in ("footnoteReference", "endnoteReference"):
            _refer(child, name.removesuffix("Reference"), text, manner)
        elif name == "AlternateContent":
            _pieces(_chosen(child), text, manner, raised)
        elif name == "txbxContent":
            text.boxes.append(child)
        elif name not in UNREAD:
            _pieces(child, text, manner, raised)


def _refer(child: Node, kind: str, text: Text, manner: _Manner) -> None:
    number = manner.notes.number(kind, child.attributes.get("id", ""), manner.styles) if manner.notes else None
    if number is None:
        return
    text.notes.append(number)
    if child.attributes.get("customMarkFollows", "0") in ("0", "false"):
        text.parts.append(str(number).translate(RAISED))


def _chosen(alternatives: Node) -> Node:
    """Of ways to say the same the first that is there: the newest."""
    return alternatives.child("Choice") or alternatives.child("Fallback") or Node("", {})


def _switched(run: Node, name: str, otherwise: bool) -> bool:
    return run.on("rPr", name) if run.child("rPr", name) is not None else otherwise


def _symbol(code: str) -> str:
    """A character given by its code; those of symbol fonts stand in no table of characters."""
    try:
        found = int(code[:6], 16)
    except ValueError:
        return ""
    return chr(found) if 0x20 <= found < 0xD800 or 0xF900 <= found < 0x110000 else ""
