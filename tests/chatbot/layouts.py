"""Pages drawn from a seed, with what they say in the order a person reads it: prose in columns, tables of words, lists
of terms, forms."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

WIDTH, HEIGHT = 595, 842
WORDS = re.findall(
    r"\w+",
    """the a of and to in is that for with on as by at from it this which water gauge office keeper reading winter
    valley measured reported between several old new engineers station every during after before summer records
    instrument small large bridge river council approved however because although lake north southern published weekly
    archive moved carried observed seldom often entire whole building tower stone season level height change slowly
    people remembered visitors construction maintenance responsible neighbouring considerable""",
)
NAMES = re.findall(r"\w+", "Anna Ulm Lindau Brandt Bregenz Vollmer Hagen Oslo Turku Delft Marek Ines Weiler Falcon")
FONTS = ("Helvetica", "Times-Roman", "Courier")


@dataclass
class Made:
    """A drawn page. flows: texts that stand whole in the page's text, in this order. lines: lines that stand in it.
    tabs: whether it holds tables."""

    name: str
    flows: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tabs: bool = False


class Sheet:
    """A page that is drawn from the top left, in one font."""

    def __init__(self, canvas: Canvas, rng: random.Random, sizes: Sequence[float] = (8, 9, 10, 11)) -> None:
        self.canvas, self.rng = canvas, rng
        self.font = rng.choice(FONTS[:2])
        self.size = rng.choice(sizes)
        self.leading = self.size * rng.choice((1.1, 1.2, 1.3, 1.45))

    def show(self, x: float, y: float, text: str, size: float = 0, bold: bool = False, justify: float = 0) -> None:
        """One line with its baseline y points below the top; justified to a width where one is given."""
        font = {"Helvetica": "Helvetica-Bold", "Times-Roman": "Times-Bold"}[self.font] if bold else self.font
        thing = self.canvas.beginText(x, HEIGHT - y)
        thing.setFont(font, size or self.size)
        blanks = text.count(" ")
        if justify and blanks:
            thing.setWordSpace((justify - stringWidth(text, font, size or self.size)) / blanks)
        thing.textOut(text)
        thing.setWordSpace(0)
        self.canvas.drawText(thing)

    def wrapped(self, text: str, width: float) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if stringWidth(longer, self.font, self.size) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def flow(
        self, x: float, y: float, width: float, paragraphs: Sequence[str], gap: float = 0, justify: bool = False
    ) -> float:
        """Paragraphs below each other; where the next line would stand."""
        for paragraph in paragraphs:
            lines = self.wrapped(paragraph, width)
            for number, line in enumerate(lines):
                last = number == len(lines) - 1
                self.show(x, y, line, justify=width if justify and not last else 0)
                y += self.leading
            y += gap
        return y


def sentence(rng: random.Random, least: int = 6, most: int = 22) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(least, most))]
    if rng.random() < 0.3:
        words[rng.randrange(1, len(words))] = rng.choice(NAMES)
    if rng.random() < 0.3:
        words[rng.randrange(1, len(words))] = str(rng.choice((1887, 1934, 12, 395, 40)))
    if rng.random() < 0.4 and len(words) > 6:
        words[rng.randrange(2, len(words) - 2)] += ","
    return " ".join([words[0].capitalize(), *words[1:]]) + "."


def paragraph(rng: random.Random, characters: int) -> str:
    text = sentence(rng)
    while len(text) < characters:
        text += " " + sentence(rng)
    return text


def columns(canvas: Canvas, rng: random.Random, number: int) -> Made:
    """Prose in columns: their lengths, paragraphs, gutter, offset and what stands over them vary."""
    sheet = Sheet(canvas, rng, (8, 9, 10, 11) if number == 2 else (7, 8, 9))
    made = Made(f"{number} columns")
    gutter = rng.choice((12, 16, 20, 28, 40))
    width = (WIDTH - 120 - gutter * (number - 1)) / number
    y = 70.0
    if rng.random() < 0.6:
        title = " ".join(rng.choice(NAMES) for _ in range(3)) + " " + rng.choice(WORDS)
        sheet.show(60, y, title, size=16, bold=True)
        made.flows.append(title)
        y += 36
    if rng.random() < 0.3:
        opening = paragraph(rng, 260)
        y = sheet.flow(60, y, WIDTH - 120, [opening]) + sheet.leading
        made.flows.append(opening)
    gap, justify = rng.choice((0, 0.5, 1)) * sheet.leading, rng.random() < 0.4
    lines, headed = rng.choice((6, 8, 11, 11, 15, 24, 40)), rng.random() < 0.3
    across = width / (0.5 * sheet.size)
    bottom = y
    for at in range(number):
        x = 60 + at * (width + gutter)
        here = y + (rng.choice((0, 0, 2, 5)) if at else 0)
        if headed:
            head = f"{rng.choice(NAMES)} {rng.choice(WORDS)}"
            sheet.show(x, here, head, bold=True)
            made.flows.append(head)
            here += 1.5 * sheet.leading
        left, paragraphs = round(lines * rng.uniform(0.7, 1.0) * across), list[str]()
        while left > 2.5 * across:
            length = min(left, rng.choice((200, 350, 600, 900)))
            paragraphs.append(paragraph(rng, length))
            left -= len(paragraphs[-1])
        bottom = max(bottom, sheet.flow(x, here, width, paragraphs or [paragraph(rng, 150)], gap, justify))
        made.flows += paragraphs or []
    if rng.random() < 0.3 and bottom < HEIGHT - 100:
        closing = paragraph(rng, 200)
        sheet.flow(60, bottom + sheet.leading, WIDTH - 120, [closing])
        made.flows.append(closing)
    return made


def two_columns(canvas: Canvas, rng: random.Random) -> Made:
    return columns(canvas, rng, 2)


def three_columns(canvas: Canvas, rng: random.Random) -> Made:
    return columns(canvas, rng, 3)


def phrase(rng: random.Random, least: int, most: int) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(least, most))]
    return " ".join([words[0].capitalize(), *words[1:]])


def table_of_words(canvas: Canvas, rng: random.Random) -> Made:
    """A table of two columns, the second of which holds sentences that run over lines."""
    sheet = Sheet(canvas, rng)
    sheet.leading = sheet.size * rng.choice((1.1, 1.2, 1.3))
    made = Made("table of words", tabs=True)
    split = rng.choice((160, 190, 220, 250))
    head = rng.choice((("Role", "Duties"), ("Class", "What belongs to it"), ("Term", "Meaning"), ("Risk", "Measure")))
    y = 80.0
    if rng.random() < 0.5:
        opening = paragraph(rng, 200)
        y = sheet.flow(60, y, WIDTH - 120, [opening]) + 1.2 * sheet.leading
    sheet.show(60, y, head[0], bold=True)
    sheet.show(split, y, head[1], bold=True)
    made.lines.append("\t".join(head))
    padding = rng.choice((0.55, 0.8, 1.0)) * sheet.leading
    y += sheet.leading + padding
    for _ in range(rng.randint(3, 7)):
        label, cell = phrase(rng, 1, 3), paragraph(rng, rng.choice((60, 120, 200, 300)))
        long = sheet.wrapped(label, split - 75)
        sheet.flow(60, y, split - 75, [label])
        below = sheet.flow(split, y, WIDTH - 60 - split, [cell])
        made.lines.append(f"{label}\t{cell}")
        y = max(below, y + len(long) * sheet.leading) + padding
        if y > HEIGHT - 120:
            break
    return made


def figures(rng: random.Random, columns: int) -> list[str]:
    return [f"{rng.randint(1, 99)},{rng.randint(100, 999)}" for _ in range(columns)]


def table_of_values(canvas: Canvas, rng: random.Random) -> Made:
    """Rows of a label and values, some of which wrap, as in a balance sheet."""
    sheet = Sheet(canvas, rng)
    made = Made("table of values", tabs=True)
    first, step, y = rng.choice((280, 310)), 90, 90.0
    count = rng.choice((2, 3))
    for at in range(count):
        sheet.show(first + step * at, y, str(2024 - at), bold=True)
    for _ in range(rng.randint(4, 20)):
        y += sheet.leading * rng.choice((1.0, 1.0, 1.4))
        label, values = phrase(rng, 2, 4), figures(rng, count)
        sheet.show(60, y, label)
        for at, value in enumerate(values):
            sheet.show(first + step * at, y, value)
        made.lines.append("\t".join([label, *values]))
    return made


def prose_beside_table(canvas: Canvas, rng: random.Random) -> Made:
    """Prose in one half of the page, a table of values in the other."""
    sheet = Sheet(canvas, rng, (8, 9, 10))
    made = Made("prose beside a table", tabs=True)
    half, left = 225.0, rng.random() < 0.5
    x, beside = (60.0, 320.0) if left else (310.0, 60.0)
    paragraphs = [paragraph(rng, 400) for _ in range(rng.randint(1, 3))]
    sheet.flow(x, 100, half, paragraphs, rng.choice((0, 0.7)) * sheet.leading)
    y = 100.0 + rng.choice((0, 0, 3))
    sheet.show(beside + 105, y, "2024", bold=True)
    sheet.show(beside + 165, y, "2023", bold=True)
    for _ in range(rng.randint(5, 9)):
        y += sheet.leading * 1.0
        label, values = rng.choice(NAMES), figures(rng, 2)
        sheet.show(beside, y, label)
        for at, value in enumerate(values):
            sheet.show(beside + 105 + 60 * at, y, value)
        made.lines.append("\t".join([label, *values]))
    made.flows = paragraphs
    return made


FORM = ("Applicant", "Licence plate", "Floor", "Date of birth", "Street", "Phone", "Valid until", "Reason")


def entry(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.choice(NAMES)} {rng.choice(NAMES)}",
            f"RV-KX {rng.randint(100, 999)}",
            f"P{rng.randint(1, 9)}",
            f"{rng.randint(10, 28)}.0{rng.randint(1, 9)}.19{rng.randint(50, 99)}",
            f"0751 {rng.randint(10000, 99999)}",
            f"{rng.randint(2, 90)} {rng.choice(WORDS)} road",
        )
    )


def form(canvas: Canvas, rng: random.Random) -> Made:
    """Labels that end with a colon, and what was filled in beside them, one or two to a line."""
    sheet = Sheet(canvas, rng, (9, 10, 11))
    made = Made("form")
    sheet.show(60, 70, "Application for a permit", size=15, bold=True)
    pairs = [(f"{label}:", entry(rng)) for label in rng.sample(FORM, rng.randint(3, 8))]
    two, step, y = rng.random() < 0.5, sheet.leading * rng.choice((1.2, 1.8, 2.5)), 110.0
    at = 0
    while at < len(pairs):
        for x, (label, value) in zip((60, 320), pairs[at : at + (2 if two else 1)], strict=False):
            sheet.show(x, y, label)
            sheet.show(x + rng.choice((85, 85, 110)) if two else 190, y, value)
            made.lines.append(f"{label} {value}")
        at += 2 if two else 1
        y += step
    return made


def boxes(canvas: Canvas, rng: random.Random) -> Made:
    """A form of boxes: small labels, and under each what was filled in."""
    sheet = Sheet(canvas, rng, (9, 10, 11))
    made = Made("boxes")
    sheet.show(60, 70, "Application for a permit", size=15, bold=True)
    y = 110.0
    labels = rng.sample(FORM, 8)
    for row in range(rng.randint(2, 3)):
        for x, label in zip((60, 250, 420), labels[3 * row : 3 * row + rng.choice((2, 3))], strict=False):
            value = entry(rng)
            sheet.show(x, y, label, size=6.5)
            sheet.show(x, y + 12, value)
            made.lines.append(f"{label}: {value}")
        y += 30
    return made


def drawn(kind: Callable[[Canvas, random.Random], Made], seed: int) -> tuple[bytes, Made]:
    """A document of one page."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(WIDTH, HEIGHT), invariant=True)
    made = kind(canvas, random.Random(seed))
    canvas.save()
    return out.getvalue(), made
