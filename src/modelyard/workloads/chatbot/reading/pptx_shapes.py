"""What stands on a slide: shapes with their places, and the text in them (DrawingML, ECMA-376 part 1, 20 and 21)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from modelyard.workloads.chatbot.reading.office import Node
from modelyard.workloads.chatbot.reading.spans import RAISED

DEEPEST_LIST = 6
COORDINATE = re.compile(r"-?\d{1,12}\Z")
# Shapes stand side by side where they share this much of the lower one's height.
SIDE_BY_SIDE = 0.5


class Box(NamedTuple):
    """Where a shape stands, in units of 1/12,700 point from the top left."""

    x: float
    y: float
    width: float
    height: float


Places = dict[tuple[str, str], Box]
"""Where placeholders stand: by ("idx", number) and by ("type", kind)."""


@dataclass(slots=True)
class Shape:
    """kind: of a placeholder, "" where it says none, or is none."""

    node: Node
    box: Box
    kind: str = ""
    placeholder: bool = False
    inside: Sequence[Shape] = ()


def shapes(tree: Node, places: Mapping[tuple[str, str], Box]) -> Iterator[Shape]:
    """The shapes of a tree in the order in which they are drawn. places: of placeholders that say none."""
    for node in tree.children:
        if node.name == "AlternateContent":
            yield from shapes(node.child("Choice") or node.child("Fallback") or Node("", {}), places)
        elif _hidden(node):
            continue
        elif node.name == "grpSp":
            inside = list(shapes(node, places))
            yield Shape(node, _box(node.child("grpSpPr", "xfrm")) or _around(inside), inside=inside)
        elif node.name in ("sp", "graphicFrame", "pic", "cxnSp"):
            held = _placeholder(node)
            kind = held.attributes.get("type", "") if held is not None else ""
            box = _box(node.child("spPr", "xfrm") or node.child("xfrm"))
            if box is None and held is not None:
                box = places.get(("idx", held.attributes.get("idx", ""))) or places.get(("type", _family(kind)))
            yield Shape(node, box or Box(0, 0, 0, 0), kind, held is not None)


def places_of(tree: Node) -> Places:
    """Where the placeholders of a layout or master stand."""
    places: Places = {}
    for shape in shapes(tree, {}):
        held = _placeholder(shape.node)
        if held is not None and shape.box.width:
            places.setdefault(("type", _family(shape.kind)), shape.box)
            if "idx" in held.attributes:
                places["idx", held.attributes["idx"]] = shape.box
    return places


def in_order(found: Sequence[Shape]) -> list[Shape]:
    """Shapes from top to bottom, those side by side from left to right; a group is read whole, where it stands."""
    ordered: list[Shape] = []
    band: list[Shape] = []
    foot = 0.0
    for shape in sorted(found, key=lambda shape: (shape.box.y, shape.box.x)):
        if band and foot - shape.box.y <= SIDE_BY_SIDE * min(shape.box.height, band[0].box.height):
            ordered += sorted(band, key=lambda shape: shape.box.x)
            band = []
        if not band:
            foot = shape.box.y + shape.box.height
        band.append(shape)
    ordered += sorted(band, key=lambda shape: shape.box.x)
    return [part for shape in ordered for part in (in_order(shape.inside) if shape.inside else [shape])]


def paragraphs(holder: Node, counts: list[int], marked: bool, body: str = "txBody") -> Iterator[str]:
    """The paragraphs of a shape or cell. counts: of numbered items so far, by level, changed in place. marked: whether
    a paragraph is an item of a list unless it says otherwise. body: the element that holds the text."""
    text = holder.child(body)
    for paragraph in text.every("p") if text is not None else ():
        said = _said(paragraph)
        if not said:
            continue
        properties = paragraph.child("pPr") or Node("pPr", {})
        given = properties.attributes.get("lvl", "0")
        level = min(int(given), DEEPEST_LIST) if given.isascii() and given.isdigit() and len(given) < 3 else 0
        del counts[level + 1 :]
        if properties.child("buAutoNum") is not None:
            counts += [0] * (level + 1 - len(counts))
            counts[level] += 1
            yield f"{'  ' * level}{counts[level]}. {said}"
            continue
        del counts[level:]
        item = properties.child("buChar") is not None or (marked and properties.child("buNone") is None)
        yield f"{'  ' * level}- {said}" if item else said


def _said(paragraph: Node) -> str:
    parts: list[str] = []
    for node in paragraph.children:
        if node.name == "br":
            parts.append("\n")
        elif node.name in ("r", "fld"):
            words = (node.child("t") or node).text
            raised = node.value("rPr", of="baseline") or "0"
            # A raised digit is a mark or a power, and not part of the number before it.
            parts.append(words.translate(RAISED) if raised[0] in "123456789" and words.strip().isdigit() else words)
        elif node.name in ("m", "AlternateContent"):
            parts += (found.text for found in (node.child("Choice") or node).below("t"))
    lines = (" ".join(line.split()) for line in "".join(parts).replace("\v", "\n").split("\n"))
    return "\n".join(filter(None, lines))


def _placeholder(node: Node) -> Node | None:
    own = next((child for child in node.children if child.name.startswith("nv") and child.name.endswith("Pr")), None)
    return own.child("nvPr", "ph") if own is not None else None


def _hidden(node: Node) -> bool:
    own = next((child for child in node.children if child.name.startswith("nv") and child.name.endswith("Pr")), None)
    return own is not None and own.value("cNvPr", of="hidden") in ("1", "true")


def _family(kind: str) -> str:
    """Placeholders that stand in for each other between a slide and its master."""
    return {"ctrTitle": "title", "subTitle": "body", "obj": "body", "": "body"}.get(kind, kind)


def _box(frame: Node | None) -> Box | None:
    if frame is None or frame.child("off") is None:
        return None
    sides = [frame.value("off", of="x"), frame.value("off", of="y"), frame.value("ext", of="cx")]
    sides.append(frame.value("ext", of="cy"))
    x, y, width, height = (float(side) if side is not None and COORDINATE.match(side) else 0.0 for side in sides)
    return Box(x, y, width, height)


def _around(inside: Sequence[Shape]) -> Box:
    if not inside:
        return Box(0, 0, 0, 0)
    x, y = min(shape.box.x for shape in inside), min(shape.box.y for shape in inside)
    right = max(shape.box.x + shape.box.width for shape in inside)
    return Box(x, y, right - x, max(shape.box.y + shape.box.height for shape in inside) - y)
