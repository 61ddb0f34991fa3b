"""Pictures of PDF pages: what runs in the sandbox's child."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

import pypdfium2
from PIL import Image, ImageChops, ImageDraw

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.pdf import Unreadable, open_pdf

LONGEST_SIDE = 4_000
MARKER = (255, 221, 87)


def render(
    content: bytes,
    *,
    page: int,
    highlights: Sequence[Sequence[float]],
    scale: float,
    limits: Limits,
    progress: Callable[[int], None],
) -> Iterator[bytes]:
    """One page as PNG. scale: pixels per point, lowered where the page is very large. Raises Unreadable."""
    document = open_pdf(content, limits)
    if not 1 <= page <= len(document):
        raise Unreadable(f"it has no page {page}: its pages are 1 to {len(document)}")
    progress(page)
    try:
        sheet = document[page - 1]
        width, height = sheet.get_size()
        scale = min(scale, LONGEST_SIDE / max(width, height, 1.0))
        picture = sheet.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")
    except pypdfium2.PdfiumError:
        raise Unreadable(f"page {page} is damaged") from None
    yield png(marked(picture, [[side * scale for side in box] for box in highlights]))


def marked(picture: Image.Image, boxes: Sequence[Sequence[float]]) -> Image.Image:
    """The picture as if a pale marker pen had gone over the boxes (pixels): dark letters stay dark."""
    if not boxes:
        return picture
    pen = Image.new("RGB", picture.size, (255, 255, 255))
    draw = ImageDraw.Draw(pen)
    for x0, y0, x1, y1 in boxes:
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), fill=MARKER)
    return ImageChops.multiply(picture, pen)


def png(picture: Image.Image) -> bytes:
    """The picture's bytes as PNG."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
