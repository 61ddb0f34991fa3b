"""Pictures of pages: marked where asked, refused in one line where there is nothing to show."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from modelyard.errors import NotFound, UserError
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.picture import page_png, text_png
from modelyard.workloads.chatbot.sandbox import Sandbox

from .pdfs import pdf, shown

PAGE = pdf([shown(72, 700, "First"), shown(72, 700, "Second")])


def test_a_page_is_drawn_with_pale_boxes_under_dark_letters() -> None:
    with Sandbox(Limits()) as box:
        plain = Image.open(io.BytesIO(page_png(PAGE, 2, scale=2, sandbox=box)))
        marked = Image.open(io.BytesIO(page_png(PAGE, 2, [(72, 130, 110, 146)], 2, sandbox=box)))
    assert plain.format == "PNG" and plain.size == marked.size == (1190, 1684)
    inside, outside = (2 * 100, 2 * 132), (2 * 300, 2 * 300)
    red, green, blue = marked.convert("RGB").getpixel(inside)  # type: ignore[misc]
    assert red > 230 and green > 200 and blue < 200
    assert marked.convert("RGB").getpixel(outside) == (255, 255, 255)
    assert min(plain.convert("L").tobytes()) < 60 and min(marked.convert("L").tobytes()) < 60


def test_a_very_large_page_is_drawn_smaller() -> None:
    picture = Image.open(io.BytesIO(page_png(pdf([""], box="0 0 14000 7000"), 1, scale=10)))
    assert max(picture.size) <= 4000


def test_what_cannot_be_drawn_is_one_line() -> None:
    with Sandbox(Limits()) as box:
        with pytest.raises(NotFound, match="it has no page 3: its pages are 1 to 2"):
            page_png(PAGE, 3, sandbox=box)
        with pytest.raises(UserError, match="cannot be shown"):
            page_png(b"%PDF-1.7 nothing", 1, sandbox=box)
        assert page_png(PAGE, 1, sandbox=box)[:4] == b"\x89PNG"


def test_text_is_drawn_with_its_span_marked() -> None:
    text = "Opening hours\n\nBrno\t7 to 18\n" + "and a long line that must be broken " * 12
    start = text.index("7 to 18")
    plain = Image.open(io.BytesIO(text_png(text))).convert("RGB")
    marked = Image.open(io.BytesIO(text_png(text, [(start, start + 7)]))).convert("RGB")
    assert plain.size == marked.size
    changed = [one != other for one, other in zip(plain.get_flattened_data(), marked.get_flattened_data(), strict=True)]
    assert 100 < sum(changed) < 0.02 * len(changed)
    assert Image.open(io.BytesIO(text_png(""))).size[0] == plain.size[0]
