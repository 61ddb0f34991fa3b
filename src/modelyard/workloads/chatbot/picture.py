"""The picture of a page with what was quoted marked on it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from modelyard.errors import NotFound, UserError
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.reading.marker import marked, png
from modelyard.workloads.chatbot.sandbox import Died, Refused, Sandbox

Box = tuple[float, float, float, float]

SHEET_WIDTH = 612
MARGIN = 48
LETTER = 11
TAB = 4
LONGEST_TEXT = 60_000


def page_png(
    content: bytes,
    page: int,
    highlights: Sequence[Box] = (),
    scale: float = 1.5,
    limits: Limits | None = None,
    sandbox: Sandbox | None = None,
) -> bytes:
    """A page of a PDF as PNG, with pale boxes over `highlights`.

    content: the PDF's bytes. page: from 1. highlights: x0, y0, x1, y1 in points, origin top left, as in PAGES. scale:
    pixels per point, lowered for very large pages. sandbox: a child to reuse; without one a child is started and ended.
    Raises NotFound for a page the document has not, UserError where it cannot be drawn.
    """
    arguments = {"page": page, "highlights": [list(map(float, box)) for box in highlights], "scale": float(scale)}
    own = sandbox or Sandbox(limits or Limits())
    try:
        return b"".join(own.run("render", arguments, content))
    except Refused as refused:
        raise (NotFound if "has no page" in str(refused) else UserError)(
            f"the page cannot be shown: {refused}"
        ) from None
    except Died as died:
        raise UserError(f"the page cannot be shown: {died}") from None
    finally:
        if sandbox is None:
            own.close()


def text_png(text: str, highlights: Sequence[tuple[int, int]] = (), scale: float = 1.5) -> bytes:
    """A page of text as PNG, with pale boxes over the characters [start, end) of `highlights`.

    For documents whose pages have no boxes (Markdown, plain text). Text beyond 60,000 characters is not drawn.
    """
    size = max(1, round(LETTER * scale))
    font = ImageFont.load_default(size)
    margin, width = round(MARGIN * scale), round(SHEET_WIDTH * scale)
    lines = _wrapped(text[:LONGEST_TEXT], font, width - 2 * margin)
    step = round(1.45 * size)
    sheet = Image.new("RGB", (width, 2 * margin + step * max(1, len(lines))), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    boxes: list[tuple[float, float, float, float]] = []
    for number, (start, line) in enumerate(lines):
        y = margin + number * step
        draw.text((margin, y), _shown(line), font=font, fill=(20, 20, 20))
        for first, last in highlights:
            a, b = max(first - start, 0), min(last - start, len(line))
            if a < b:
                left, right = font.getlength(_shown(line[:a])), font.getlength(_shown(line[:b]))
                boxes.append((margin + left, y, margin + right, y + step - 2))
    return png(marked(sheet, boxes))


def _shown(line: str) -> str:
    return line.replace("\t", " " * TAB)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[tuple[int, str]]:
    """(offset, line) of the text broken to the width, every character in one line."""
    lines: list[tuple[int, str]] = []
    at = 0
    for paragraph in text.split("\n"):
        begin = 0
        while True:
            end = _fit(paragraph, begin, font, width)
            lines.append((at + begin, paragraph[begin:end]))
            begin = end
            if begin >= len(paragraph):
                break
        at += len(paragraph) + 1
    return lines


def _fit(paragraph: str, begin: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> int:
    """Where a line that starts at `begin` ends: after the last blank that fits, else after the last letter."""
    low, high = begin, min(len(paragraph), begin + 400)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(_shown(paragraph[begin:middle])) <= width:
            low = middle
        else:
            high = middle - 1
    if low >= len(paragraph):
        return len(paragraph)
    blank = max(paragraph.rfind(" ", begin, low + 1), paragraph.rfind("\t", begin, low + 1))
    return blank + 1 if blank > begin else max(low, begin + 1)
