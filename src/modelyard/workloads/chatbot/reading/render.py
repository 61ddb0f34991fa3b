"""Pictures of PDF pages: what runs in the sandbox's child."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pypdfium2

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.marker import marked, png
from modelyard.workloads.chatbot.reading.pdf import open_pdf

LONGEST_SIDE = 4_000


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
