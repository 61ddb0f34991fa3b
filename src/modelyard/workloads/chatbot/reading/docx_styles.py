"""What Word keeps apart from the text: styles and numbering (WordprocessingML, ECMA-376 part 1, 17.7 and 17.9)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelyard.workloads.chatbot.reading.office import Node

HEADING = re.compile(r"heading (\d)$", re.I)
DEEPEST_STYLE = 20
BODY_LEVEL = 9
ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"))
ROMAN_ONES = ((9, "ix"), (5, "v"), (4, "iv"), (1, "i"))


@dataclass(frozen=True)
class Style:
    """level: of a heading from 1, 0 for none. numbering: (id of the list, level from 0)."""

    name: str = ""
    level: int = 0
    hidden: bool = False
    bold: bool = False
    numbering: tuple[str, int] | None = None


class Styles:
    """The styles of a document by their id, with what they take over from those they are based on."""

    def __init__(self, found: Iterable[Node]) -> None:
        self._raw: dict[str, Node] = {}
        self._default = ""
        self._known: dict[str, Style] = {}
        for node in found:
            key = node.attributes.get("styleId", "")
            self._raw[key] = node
            default = node.attributes.get("default", "0") not in ("0", "false")
            if default and node.attributes.get("type") == "paragraph":
                self._default = key

    def of(self, key: str | None) -> Style:
        """The style of this id; the document's own for paragraphs where there is none."""
        key = self._default if key is None else key
        if key not in self._known:
            self._known[key] = self._made(key)
        return self._known[key]

    def _made(self, key: str) -> Style:
        chain: list[Node] = []
        at: str | None = key
        while at in self._raw and len(chain) < DEEPEST_STYLE:
            chain.append(self._raw[at])
            at = chain[-1].value("basedOn")
        if not chain:
            return Style()
        name = chain[0].value("name") or key
        level = 0
        for node in chain:
            named = HEADING.match(node.value("name") or "")
            outline = node.value("pPr", "outlineLvl")
            if named or outline is not None:
                level = int(named.group(1)) if named else number(outline, BODY_LEVEL) + 1
                break
        numbering = next((found for node in chain if (found := numbering_of(node.child("pPr")))), None)
        return Style(
            name,
            level if 1 <= level <= BODY_LEVEL else 0,
            _switch(chain, "vanish"),
            _switch(chain, "b"),
            numbering,
        )


def _switch(chain: list[Node], name: str) -> bool:
    return next((node.on("rPr", name) for node in chain if node.child("rPr", name) is not None), False)


def numbering_of(properties: Node | None) -> tuple[str, int] | None:
    """(id of the list, level) of a paragraph's properties."""
    found = properties.child("numPr") if properties is not None else None
    if found is None:
        return None
    return found.value("numId") or "", number(found.value("ilvl"), 0)


def number(text: str | None, default: int) -> int:
    """A number of at most six digits; the default where it is none."""
    return int(text) if text is not None and re.fullmatch(r"\d{1,6}", text) else default


@dataclass(frozen=True)
class _Level:
    start: int = 1
    format: str = "decimal"
    text: str = ""


class Numbering:
    """The marks of lists and numbered headings, counted while the document is read from top to bottom."""

    def __init__(self, found: Iterable[Node]) -> None:
        self._abstract: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, tuple[str, Mapping[int, int]]] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._begun: set[str] = set()
        for node in found:
            if node.name == "abstractNum":
                levels = {number(level.attributes.get("ilvl"), 0): _level(level) for level in node.every("lvl")}
                self._abstract[node.attributes.get("abstractNumId", "")] = levels
            else:
                starts = {
                    number(override.attributes.get("ilvl"), 0): number(override.value("startOverride"), 1)
                    for override in node.every("lvlOverride")
                    if override.child("startOverride") is not None
                }
                self._lists[node.attributes.get("numId", "")] = (node.value("abstractNumId") or "", starts)

    def mark(self, key: str, level: int) -> str | None:
        """The mark of the next paragraph of this list; "" for one without, None where there is no such list."""
        if key not in self._lists:
            return None
        abstract, starts = self._lists[key]
        levels = self._abstract.get(abstract, {})
        counts = self._counts.setdefault(abstract, {})
        if key not in self._begun:
            self._begun.add(key)
            for at, start in starts.items():
                counts[at] = start - 1
        here = levels.get(level, _Level())
        counts[level] = counts.get(level, here.start - 1) + 1
        for deeper in [at for at in counts if at > level]:
            del counts[deeper]
        if here.format == "bullet":
            return "-"
        if here.format == "none":
            return ""

        def shown(found: re.Match[str]) -> str:
            at = int(found.group(1)) - 1
            return _numeral(counts.get(at, levels.get(at, _Level()).start), levels.get(at, _Level()).format)

        return re.sub(r"%([1-9])", shown, here.text).strip()


def _level(node: Node) -> _Level:
    text = (node.value("lvlText") or "")[:60]
    return _Level(number(node.value("start"), 1), node.value("numFmt") or "decimal", text)


def _numeral(count: int, kind: str) -> str:
    """
    >>> [_numeral(4, kind) for kind in ("decimal", "upperRoman", "lowerLetter", "decimalZero")]
    ['4', 'IV', 'd', '04']
    """
    if kind in ("lowerLetter", "upperLetter") and count > 0:
        letter = chr(ord("a") + (count - 1) % 26) * min(1 + (count - 1) // 26, 10)
        return letter.upper() if kind == "upperLetter" else letter
    if kind in ("lowerRoman", "upperRoman") and 0 < count < 4_000:
        roman, left = "", count
        for worth, sign in (*ROMAN, *ROMAN_ONES):
            roman += sign * (left // worth)
            left %= worth
        return roman.upper() if kind == "upperRoman" else roman
    return f"{count:02}" if kind == "decimalZero" else str(count)
