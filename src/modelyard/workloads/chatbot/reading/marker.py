"""Pale marks on a picture, as of a marker pen."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

MARKER = (255, 221, 87)


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
