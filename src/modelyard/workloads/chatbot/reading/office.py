"""What Word and PowerPoint files have in common: parts in a ZIP file, XML, relations between parts (ECMA-376 part 2).

Names are taken without their namespace: the strict and the transitional form, and what newer versions add, differ in
nothing else that is read here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.archive import Archive
from modelyard.workloads.chatbot.reading.naming import speaks

DEEPEST = 256
RELATION = ":id"
OLE = b"\xd0\xcf\x11\xe0"
# What programs write as the title where nobody gave one.
GIVEN_TITLES = frozenset(
    ("word document", "powerpoint presentation", "powerpoint-präsentation", "présentation powerpoint")
)
OFF = frozenset(("0", "false", "off", "none"))
KINDS = {"word": "a Word document", "ppt": "a presentation", "xl": "a spreadsheet", "visio": "a drawing"}


@dataclass(slots=True)
class Node:
    """An element by its local name, with its attributes by theirs. Text stands only in elements without others."""

    name: str
    attributes: Mapping[str, str]
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def child(self, *path: str) -> Node | None:
        """The first element down this path."""
        found: Node | None = self
        for name in path:
            found = next((node for node in found.children if node.name == name), None) if found is not None else None
        return found

    def every(self, name: str) -> Iterator[Node]:
        """The elements of this name among the children."""
        return (node for node in self.children if node.name == name)

    def below(self, name: str) -> Iterator[Node]:
        """The elements of this name anywhere below, in order; not those within others of the name."""
        for node in self.children:
            if node.name == name:
                yield node
            else:
                yield from node.below(name)

    def value(self, *path: str, of: str = "val") -> str | None:
        """An attribute of the element down this path; None where either is missing."""
        found = self.child(*path)
        return found.attributes.get(of) if found is not None else None

    def on(self, *path: str) -> bool:
        """Whether a switch is there and on: present without a value means on."""
        found = self.child(*path)
        return found is not None and found.attributes.get("val", "1").lower() not in OFF


def nodes(blocks: Iterable[bytes], names: frozenset[str]) -> Iterator[Node]:
    """The outermost elements of these names, one after the other: no more than one of them is held.

    Raises Unreadable where the XML is damaged, nested too deeply, or declares a document type (no Office file does:
    entities are how XML is made to grow or to fetch other files).
    """
    builder = _Builder(names)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.StartDoctypeDeclHandler = _refuse
    try:
        for block in blocks:
            parser.Parse(block, False)
            yield from builder.take()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(f"its XML is damaged ({error})") from None
    yield from builder.take()


class _Builder:
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._open: list[Node] = []
        self._done: list[Node] = []
        self._text: list[str] = []
        self._depth = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable(f"its elements are nested more than {DEEPEST} deep")
        local = name.rpartition(":")[2]
        if self._open or local in self._names:
            node = Node(local, _local(attributes))
            if self._open:
                self._open[-1].children.append(node)
            self._open.append(node)
            self._text = []

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._open:
            node = self._open.pop()
            if not node.children:
                node.text = "".join(self._text)
            self._text = []
            if not self._open:
                self._done.append(node)

    def characters(self, data: str) -> None:
        if self._open:
            self._text.append(data)

    def take(self) -> list[Node]:
        done, self._done = self._done, []
        return done


def _local(attributes: dict[str, str]) -> dict[str, str]:
    """Attributes by their local names. Where an element has an id of its own and one of a relation, the latter is
    `RELATION`."""
    found: dict[str, str] = {}
    for key, value in attributes.items():
        prefix, _, name = key.rpartition(":")
        if prefix and name == "id":
            found[RELATION] = value
        if not prefix or name not in attributes:
            found[name] = value
    return found


def _refuse(*_: object) -> None:
    raise Unreadable("its XML declares a document type, which no Office document does")


@dataclass(frozen=True)
class Relations:
    """Where the parts are that a part refers to. parts: by a relation's id. kinds: by what they are, in order."""

    parts: Mapping[str, str]
    kinds: Mapping[str, tuple[str, ...]]

    def first(self, kind: str) -> str | None:
        """The part of this kind; None where there is none."""
        return next(iter(self.kinds.get(kind, ())), None)


class Package:
    """An Office file. Raises Unreadable with the reason where it is none, or is not what its name says."""

    def __init__(self, content: bytes, limits: Limits, folder: str, suffix: str) -> None:
        """folder: where the main part of such files lies ("word", "ppt"). suffix: the ending such files have."""
        if content.startswith(OLE):
            raise Unreadable(_why_ole(content, suffix))
        self.archive = Archive(content, limits)
        self.main = self.relations("").first("officeDocument") or ""
        if self.main not in self.archive:
            self.main = next((name for name in self.archive.names if name.lower() in MAINS.get(folder, ())), "")
        found = self.main.partition("/")[0].lower()
        if not self.main:
            raise Unreadable(f"it is named {suffix} but holds a ZIP archive that is no Office document")
        if found != folder and found in KINDS:
            raise Unreadable(f"it is named {suffix} but holds {KINDS[found]}")

    def nodes(self, part: str | None, *names: str) -> Iterator[Node]:
        """The elements of these names in a part; none where the file has no such part."""
        if part is not None and part in self.archive:
            yield from nodes(self.archive.blocks(part), frozenset(names))

    def relations(self, part: str) -> Relations:
        """What a part refers to; "" is the file itself."""
        folder, name = posixpath.split(part)
        parts: dict[str, str] = {}
        kinds: dict[str, list[str]] = {}
        for node in self.nodes(posixpath.join(folder, "_rels", f"{name}.rels"), "Relationship"):
            if node.attributes.get("TargetMode") == "External":
                continue
            target = node.attributes.get("Target", "")
            found = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            parts[node.attributes.get("Id", "")] = found
            kinds.setdefault(node.attributes.get("Type", "").rpartition("/")[2], []).append(found)
        return Relations(parts, {kind: tuple(found) for kind, found in kinds.items()})

    def title(self) -> str:
        """The title the file's properties give it, where it was meant for readers; else ""."""
        part = self.relations("").first("core-properties") or "docProps/core.xml"
        try:
            found = next((node.text for node in self.nodes(part, "title")), "")
        except Unreadable:
            return ""
        title = " ".join(found.split())[:160]
        return title if speaks(title) and title.lower() not in GIVEN_TITLES else ""


MAINS = {"word": ("word/document.xml",), "ppt": ("ppt/presentation.xml",)}


def _why_ole(content: bytes, suffix: str) -> str:
    """Office files that are no ZIP: encrypted ones, and those of the versions before 2007."""

    def holds(name: str) -> bool:
        return name.encode("utf-16-le") in content

    if holds("EncryptedPackage") or holds("EncryptionInfo"):
        return "it is encrypted with a password"
    if holds("WordDocument"):
        return f"it is named {suffix} but holds an old Word document (.doc): save it as .docx"
    if holds("PowerPoint Document"):
        return f"it is named {suffix} but holds an old presentation (.ppt): save it as .pptx"
    if holds("Workbook") or holds("Book"):
        return f"it is named {suffix} but holds an old spreadsheet (.xls): save it as .xlsx"
    return f"it is named {suffix} but holds an old Office document"
