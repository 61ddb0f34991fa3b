"""Render the handbook's sources to the PDFs that lie in `documents/`.

    python examples/handbook/render.py [OUTPUT_FOLDER]

Needs reportlab and pyphen, which nothing else in the project needs. The same sources and the same versions of the two
give the same bytes, so a re-rendering that changed nothing shows no difference.

A source is Markdown with a few habits of its own: `key: value` lines between two `---` lines at the top; a paragraph
that begins with `Table N.` is the caption of the table below it, `Scale:` a line above the table, `Note:` small print
below; a cell `<` belongs to the cell on its left; all rows above the `|---|` line are headings; `^1^` is raised;
`<!-- columns -->` ... `<!-- end -->` sets two columns, `<!-- page -->` starts a page.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BalancedColumns,
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    KeepTogether,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

HERE = Path(__file__).parent
COMPANY = "Tarnwell Instruments N.V."
MARGIN = 22 * mm
WIDTH = A4[0] - 2 * MARGIN
# A table of at most this many rows stays on one page; a longer one breaks and repeats its head.
ROWS_KEPT_TOGETHER = 16


@dataclass(frozen=True)
class Look:
    """How one document looks: the handbook was not made by one department."""

    body: str
    bold: str
    italic: str
    size: float
    ink: str
    rules: str  # "grid", "lines" or "bands"
    justified: bool = False
    ligatures: bool = False


LOOKS = {
    "people": Look("Helvetica", "Helvetica-Bold", "Helvetica-Oblique", 10, "#1f4e5f", "lines"),
    "policy": Look("Times-Roman", "Times-Bold", "Times-Italic", 11, "#5a2a27", "grid", justified=True),
    "works": Look("Vera", "VeraBd", "VeraIt", 9, "#22577a", "bands", ligatures=True),
    "review": Look("Times-Roman", "Times-Bold", "Times-Italic", 10.5, "#2d3a4b", "lines", justified=True),
}


@dataclass(frozen=True)
class Sheet:
    """The paragraph styles of one look."""

    look: Look
    styles: dict[str, ParagraphStyle]

    def paragraph(self, text: str, style: str, bullet: str | None = None) -> Paragraph:
        return Paragraph(markup(text, self.look), self.styles[style], bulletText=bullet)


def markup(text: str, look: Look) -> str:
    """Markdown's inline marks as reportlab's tags."""
    out = escape(text)
    if look.ligatures:
        out = out.replace("fi", "\ufb01").replace("fl", "\ufb02")
    out = re.sub(r"\*\*(.+?)\*\*", rf'<font name="{look.bold}">\1</font>', out)
    out = re.sub(r"\*(.+?)\*", rf'<font name="{look.italic}">\1</font>', out)
    return re.sub(r"\^(.+?)\^", r"<super>\1</super>", out)


def sheet(look: Look) -> Sheet:
    size = look.size
    ink = HexColor(look.ink)
    body = ParagraphStyle(
        "body",
        fontName=look.body,
        fontSize=size,
        leading=size * 1.38,
        spaceAfter=size * 0.65,
        alignment=TA_JUSTIFY if look.justified else TA_LEFT,
        hyphenationLang="en_GB" if look.justified else "",
        hyphenationMinWordLength=7,
        uriWasteReduce=0,
    )

    def derived(name: str, **changes: object) -> ParagraphStyle:
        return ParagraphStyle(name, parent=body, **changes)

    left = {"alignment": TA_LEFT, "hyphenationLang": ""}
    heading = {"fontName": look.bold, "textColor": ink, "keepWithNext": 1, **left}
    cell = {"fontSize": size * 0.88, "leading": size * 1.1, "spaceAfter": 0, **left}
    found = [
        body,
        derived("title", **{**heading, "fontSize": size * 2.2, "leading": size * 2.6, "spaceAfter": 4}),
        derived("subtitle", fontSize=size * 1.15, fontName=look.italic, spaceAfter=10, **left),
        derived("h1", **{**heading, "fontSize": size * 1.5, "leading": size * 1.9, "spaceBefore": size * 1.1}),
        derived("h2", **{**heading, "fontSize": size * 1.15, "leading": size * 1.5, "spaceBefore": size * 0.5}),
        derived("item", leftIndent=16, bulletIndent=3, spaceAfter=size * 0.35),
        derived("caption", fontName=look.bold, fontSize=size * 0.95, spaceBefore=4, spaceAfter=2, **left),
        derived("scale", fontName=look.italic, fontSize=size * 0.85, spaceAfter=2, **{**left, "alignment": TA_RIGHT}),
        derived("note", fontSize=size * 0.8, leading=size * 1.0, spaceBefore=2, spaceAfter=1, **left),
        derived("cell", **cell),
        derived("number", **{**cell, "alignment": TA_RIGHT}),
        derived("centre", **{**cell, "alignment": TA_CENTER}),
        derived("head", **{**cell, "fontName": look.bold}),
        derived("headnumber", **{**cell, "fontName": look.bold, "alignment": TA_RIGHT}),
        derived("headcentre", **{**cell, "fontName": look.bold, "alignment": TA_CENTER}),
        derived(
            "box",
            borderColor=ink,
            borderWidth=0.8,
            borderPadding=7,
            leftIndent=8,
            rightIndent=8,
            spaceBefore=9,
            spaceAfter=15,
            **left,
        ),
    ]
    return Sheet(look, {style.name: style for style in found})


def split_row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def column_style(mark: str) -> str:
    if mark.startswith(":") and mark.endswith(":"):
        return "centre"
    return "number" if mark.endswith(":") else "cell"


def spans(rows: list[list[str]]) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            end = x
            while end + 1 < len(row) and row[end + 1] == "<":
                end += 1
            if cell != "<" and end > x:
                yield "SPAN", (x, y), (end, y)


def table_rules(look: Look, heads: int, rows: int, totals: list[int]) -> list[tuple[object, ...]]:
    ink, pale, grey = HexColor(look.ink), HexColor("#eef2f4"), HexColor("#9aa5ab")
    rules: list[tuple[object, ...]] = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("TOPPADDING", (0, 0), (-1, -1), 2.5)]
    if look.rules == "grid":
        rules += [("GRID", (0, 0), (-1, -1), 0.5, grey), ("BACKGROUND", (0, 0), (-1, heads - 1), pale)]
    elif look.rules == "bands":
        rules += [("BACKGROUND", (0, y), (-1, y), pale) for y in range(heads, rows) if (y - heads) % 2]
        rules += [("LINEBELOW", (0, heads - 1), (-1, heads - 1), 1, ink)]
    else:
        rules += [("LINEABOVE", (0, 0), (-1, 0), 1, ink), ("LINEBELOW", (0, heads - 1), (-1, heads - 1), 0.6, ink)]
        rules += [("LINEBELOW", (0, -1), (-1, -1), 1, ink)]
    return rules + [("LINEABOVE", (0, y), (-1, y), 0.6, ink) for y in totals]


def column_widths(rows: list[list[str]], widths: str) -> list[float]:
    if widths:
        shares = [float(share) for share in widths.split(",")]
    else:
        longest = [max(len(cell) for cell in column if cell) for column in zip(*rows, strict=True)]
        shares = [min(max(count, 6), 26) for count in longest]
    return [WIDTH * share / sum(shares) for share in shares]


def table(lines: list[str], page: Sheet, widths: str) -> Table:
    border = next(i for i, line in enumerate(lines) if re.fullmatch(r"\|[\s:|-]+\|", line))
    marks = [column_style(mark) for mark in split_row(lines[border])]
    rows = [split_row(line) for i, line in enumerate(lines) if i != border]
    for row in rows:
        if len(row) != len(marks):
            raise ValueError(f"a row of {len(row)} cells under {len(marks)} headings: {row}")
    filled: list[list[object]] = []
    merges = list(spans(rows))
    wide = {start for _, start, _ in merges}
    for y, row in enumerate(rows):
        cells: list[object] = []
        for x, (cell, mark) in enumerate(zip(row, marks, strict=True)):
            if y < border:
                style = "headcentre" if (x, y) in wide else {"cell": "head"}.get(mark, "head" + mark)
            else:
                style = "cell" if (x, y) in wide else mark
            cells.append("" if cell in ("", "<") else page.paragraph(cell, style))
        filled.append(cells)
    totals = [y for y, row in enumerate(rows) if y >= border and row[0].startswith("**Total")]
    rules = table_rules(page.look, border, len(rows), totals)
    shown = Table(filled, colWidths=column_widths(rows, widths), repeatRows=border, style=[*rules, *merges])
    shown.hAlign = "LEFT"
    return shown


def blocks(text: str) -> Iterator[list[str]]:
    for blank, lines in groupby(text.splitlines(), key=lambda line: not line.strip()):
        if not blank:
            yield list(lines)


def table_block(lines: list[str], page: Sheet, headings: list[Flowable]) -> list[Flowable]:
    """A block that holds a table: caption, scale and notes stand right above and below its rows."""
    above: list[Flowable] = []
    below: list[Flowable] = []
    rows: list[str] = []
    widths = ""
    for line in lines:
        if line.startswith("|"):
            rows.append(line)
        elif line.startswith("Widths:"):
            widths = line.removeprefix("Widths:")
        elif line.startswith("Scale:"):
            above.append(page.paragraph(line.removeprefix("Scale:").strip(), "scale"))
        elif line.startswith("Note:"):
            below.append(page.paragraph(line.removeprefix("Note:").strip(), "note"))
        else:
            above.append(page.paragraph(line, "caption"))
    shown = table(rows, page, widths)
    after = [*below, Spacer(1, page.look.size)]
    if len(rows) <= ROWS_KEPT_TOGETHER:
        return [KeepTogether([*headings, *above, shown, *after])]
    return [CondPageBreak(90 * mm), *headings, *above, shown, *after]


def items(lines: list[str], page: Sheet) -> list[Flowable]:
    """A list: an item is a line that begins with `- ` or `1. `, and the lines that follow belong to it."""
    joined = re.split(r"\n(?=- |\d+\. )", "\n".join(lines))
    found: list[Flowable] = []
    for item in joined:
        sign, text = item.replace("\n", " ").split(" ", 1)
        found.append(page.paragraph(text, "item", "\u2022" if sign == "-" else sign))
    return [*found, Spacer(1, page.look.size * 0.4)]


def trailing_headings(target: list[Flowable]) -> list[Flowable]:
    """Take off the headings at the end, so that they can move to the next page with the table they announce."""
    found: list[Flowable] = []
    while target and isinstance(target[-1], Paragraph) and target[-1].style.name in ("h1", "h2"):
        found.insert(0, target.pop())
    return found


def flow(text: str, page: Sheet) -> list[Flowable]:
    out: list[Flowable] = []
    columns: list[Flowable] | None = None
    for lines in blocks(text):
        first, target = lines[0], out if columns is None else columns
        if first == "<!-- page -->":
            target.append(PageBreak())
        elif first == "<!-- columns -->":
            columns = []
        elif first == "<!-- end -->":
            out.append(BalancedColumns(columns, nCols=2, innerPadding=16))
            columns = None
        elif first.startswith("#"):
            marks, title = first.split(" ", 1)
            target.append(page.paragraph(title, f"h{len(marks)}"))
        elif any(line.startswith("|") for line in lines):
            target += table_block(lines, page, trailing_headings(target))
        elif re.match(r"- |\d+\. ", first):
            target += items(lines, page)
        elif first.startswith("> "):
            target.append(page.paragraph(" ".join(line.removeprefix("> ") for line in lines), "box"))
        else:
            target.append(page.paragraph(" ".join(lines), "body"))
    return out


def front(meta: dict[str, str], page: Sheet) -> list[Flowable]:
    labels = ("Document", "Version", "Effective", "Owner", "Approved", "Supersedes")
    facts = [
        [page.paragraph(label, "head"), page.paragraph(meta[key], "cell")]
        for label in labels
        if (key := label.lower()) in meta
    ]
    lines = [("LINEBELOW", (0, 0), (-1, -1), 0.3, HexColor("#9aa5ab")), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    box = Table(facts, colWidths=[32 * mm, WIDTH - 32 * mm], style=lines)
    return [page.paragraph(meta["title"], "title"), page.paragraph(meta["subtitle"], "subtitle"), box, Spacer(1, 12)]


def typeset(meta: dict[str, str], text: str, target: Path, pages: int) -> int:
    """Write one PDF whose footers say `of pages`; returns how many pages it really has."""
    look = LOOKS[meta["look"]]
    page = sheet(look)

    def furniture(canvas: Canvas, document: BaseDocTemplate) -> None:
        canvas.saveState()
        canvas.setFont(look.body, 8)
        canvas.setFillColor(HexColor("#55606a"))
        canvas.setStrokeColor(HexColor(look.ink))
        canvas.setLineWidth(0.5)
        canvas.drawString(MARGIN, A4[1] - 14 * mm, COMPANY)
        canvas.drawRightString(A4[0] - MARGIN, A4[1] - 14 * mm, meta["title"])
        canvas.line(MARGIN, A4[1] - 16 * mm, A4[0] - MARGIN, A4[1] - 16 * mm)
        canvas.drawString(MARGIN, 12 * mm, f"{meta['document']} \u00b7 Version {meta['version']}")
        canvas.drawRightString(A4[0] - MARGIN, 12 * mm, f"Page {document.page} of {pages}")
        canvas.restoreState()

    document = BaseDocTemplate(
        str(target), pagesize=A4, invariant=1, title=meta["title"], author=COMPANY, subject=meta["document"]
    )
    frame = Frame(MARGIN, 19 * mm, WIDTH, A4[1] - 40 * mm, leftPadding=0, rightPadding=0, id="page")
    document.addPageTemplates(PageTemplate("page", [frame], onPage=furniture))
    document.build([*front(meta, page), *flow(text, page)])
    return int(document.page)


def read_source(path: Path) -> tuple[dict[str, str], str]:
    _, head, text = path.read_text(encoding="utf-8").split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines()), text


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "documents"
    target.mkdir(parents=True, exist_ok=True)
    for name, file in (("Vera", "Vera.ttf"), ("VeraBd", "VeraBd.ttf"), ("VeraIt", "VeraIt.ttf")):
        pdfmetrics.registerFont(TTFont(name, file))
    for source in sorted((HERE / "source").glob("*.md")):
        meta, text = read_source(source)
        pdf = target / f"{source.stem}.pdf"
        pages = typeset(meta, text, pdf, 0)
        typeset(meta, text, pdf, pages)
        print(f"{pdf.name}: {pages} pages")


if __name__ == "__main__":
    main()
