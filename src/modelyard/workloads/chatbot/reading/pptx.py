"""Presentations (PPTX, PPTM) to pages: a slide is a page (PresentationML and DrawingML, ECMA-376 part 1, 19 and 21)."""

from __future__ import annotations

from collections.abc import Iterator

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.flow import Flow
from modelyard.workloads.chatbot.reading.formats import Progress, Reading
from modelyard.workloads.chatbot.reading.office import RELATION, Node, Package, Relations
from modelyard.workloads.chatbot.reading.pptx_chart import chart_of
from modelyard.workloads.chatbot.reading.pptx_shapes import Places, Shape, in_order, paragraphs, places_of, shapes
from modelyard.workloads.chatbot.reading.spans import Cell
from modelyard.workloads.chatbot.reading.text import Section

TITLES = frozenset(("title", "ctrTitle"))
# What a master puts on every slide.
FURNITURE = frozenset(("ftr", "sldNum", "dt", "hdr"))
PICTURES = "the slide holds pictures without text: it needs OCR"


def read_pptx(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """A page per slide in the order of the show, also for slides that are hidden, which then say so.

    The title is its heading; then what stands on it from top to bottom and left to right, the values of charts as
    tables, and the speaker's notes. Raises Unreadable where it is no presentation, or its list of slides is damaged.
    """
    package = Package(content, limits, "ppt", ".pptx")
    relations = package.relations(package.main)
    listed = [
        relations.parts.get(node.attributes.get(RELATION, ""), "") for node in package.nodes(package.main, "sldId")
    ]
    if not listed:
        raise Unreadable("it holds no slides")
    if len(listed) > limits.max_pages:
        raise Unreadable(f"it has {len(listed):,} slides, more than the limit of {limits.max_pages:,}")
    deck = _Deck(package, limits)
    pages: list[Section | str] = []
    size = 0
    for number, part in enumerate(listed, start=1):
        progress(number)
        try:
            page = deck.slide(part, number)
        except Unreadable as reason:
            page = f"the slide cannot be read: {reason}"
        pages.append(page)
        size += len(page.text) if isinstance(page, Section) else 0
        if size > limits.max_characters:
            raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
    return Reading(package.title() or deck.title, pages)


class _Deck:
    """A presentation while its slides are read. title: of the first slide that has one."""

    def __init__(self, package: Package, limits: Limits) -> None:
        self._package, self._limits = package, limits
        self._places: dict[str, Places] = {}
        self.title = ""

    def slide(self, part: str, number: int) -> Section | str:
        """A slide as a page; of one that has no text but pictures, the reason why there is nothing."""
        root = next(self._package.nodes(part, "sld"), None)
        if root is None:
            return "the slide is missing from the file: it is damaged"
        relations = self._package.relations(part)
        tree = root.child("cSld", "spTree") or root
        found = in_order(list(shapes(tree, self._placed(relations))))
        titles = [" ".join(paragraphs(shape.node, [], False)) for shape in found if shape.kind in TITLES]
        title = " ".join(" ".join(titles).replace("\n", " ").split())
        self.title = self.title or title[:160]
        flow = Flow(self._limits, whole=True)
        hidden = root.attributes.get("show", "1") in ("0", "false")
        self._write(flow, [shape for shape in found if shape.kind not in TITLES], relations)
        self._notes(flow, relations)
        body = flow.sections()
        if not title and not body:
            return PICTURES if any(shape.node.name == "pic" for shape in found) else Section("")
        name = f"{title or f'Slide {number}'}{' (hidden slide)' if hidden else ''}"
        return Section(f"{name}\n\n{body[0].text}" if body else name, 1, len(name))

    def _write(self, flow: Flow, found: list[Shape], relations: Relations) -> None:
        for shape in found:
            if shape.kind in FURNITURE:
                continue
            if shape.node.name == "graphicFrame":
                self._frame(flow, shape.node, relations)
                continue
            marked = shape.kind in ("body", "obj") or (shape.kind == "" and shape.placeholder)
            counts: list[int] = []
            lines = list(paragraphs(shape.node, counts, marked))
            for line in lines:
                if len(lines) > 1:
                    flow.item(line)
                else:
                    flow.paragraph(line.removeprefix("- "))
            flow.end_list()

    def _frame(self, flow: Flow, frame: Node, relations: Relations) -> None:
        """A table, a chart, or a diagram."""
        data = frame.child("graphic", "graphicData")
        for node in data.children if data is not None else []:
            if node.name == "tbl":
                first = node.value("tblPr", of="firstRow") in ("1", "true")
                flow.table(list(_rows(node)), int(first))
            elif node.name == "chart":
                self._chart(flow, relations.parts.get(node.attributes.get(RELATION, "")))
            elif node.name == "relIds":
                self._diagram(flow, relations.parts.get(node.attributes.get("dm", "")))

    def _chart(self, flow: Flow, part: str | None) -> None:
        for node in self._package.nodes(part, "chart"):
            chart = chart_of(node)
            if chart.rows:
                flow.table(chart.rows, 1, chart.title)
            else:
                flow.paragraph(chart.title)

    def _diagram(self, flow: Flow, part: str | None) -> None:
        for node in self._package.nodes(part, "pt"):
            if node.attributes.get("type", "node") in ("node", "asst"):
                for line in paragraphs(node, [], False, "t"):
                    flow.item(f"- {line}")
        flow.end_list()

    def _notes(self, flow: Flow, relations: Relations) -> None:
        root = next(self._package.nodes(relations.first("notesSlide"), "notes"), None)
        if root is None:
            return
        bodies = [shape.node for shape in shapes(root.child("cSld", "spTree") or root, {}) if shape.kind == "body"]
        lines = [line for node in bodies for line in paragraphs(node, [], False)]
        if lines:
            flow.paragraph("Notes:")
        for line in lines:
            flow.item(line)

    def _placed(self, relations: Relations) -> Places:
        """Where the placeholders of a slide stand that do not say so themselves."""
        layout = relations.first("slideLayout")
        if layout is None:
            return {}
        if layout not in self._places:
            master = self._package.relations(layout).first("slideMaster")
            places: Places = {}
            for part, name in ((master, "sldMaster"), (layout, "sldLayout")):
                for root in self._package.nodes(part, name):
                    places |= places_of(root.child("cSld", "spTree") or root)
            self._places[layout] = places
        return self._places[layout]


def _rows(table: Node) -> Iterator[list[Cell]]:
    for row in table.every("tr"):
        cells: list[Cell] = []
        for node in row.every("tc"):
            if any(node.attributes.get(merged, "0") in ("1", "true") for merged in ("hMerge", "vMerge")):
                continue
            text = " ".join(paragraphs(node, [], False))
            cells.append(Cell(text, _span(node, "gridSpan"), _span(node, "rowSpan")))
        yield cells


def _span(node: Node, name: str) -> int:
    given = node.attributes.get(name, "1")
    return max(1, int(given)) if given.isascii() and given.isdigit() and len(given) <= 4 else 1
