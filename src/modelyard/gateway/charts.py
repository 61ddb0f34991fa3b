"""Small line charts as inline SVG: no script, no library, colours from the style sheet. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.gateway.markup import Html, join, tag

WIDTH, HEIGHT = 320, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 4, 8, 16


@dataclass(frozen=True)
class Line:
    """One line: what it is of, its class in the style sheet, and a value for each point, None where there is none."""

    name: str
    kind: str
    values: Sequence[float | None]


def chart(title: str, lines: Sequence[Line], unit: str, since: str, floor: float = 1.0) -> Html:
    """A figure of lines over the same points, from `since` to now; the axis goes from 0 to the next round number over
    the largest value and `floor`."""
    known = [v for line in lines for v in line.values if v is not None]
    most = _round_up(max([floor, *known]))
    drawn = [_drawn(line, most) for line in lines]
    grid = [
        tag("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_y(v, most), y2=_y(v, most))
        for v in (0, most / 2, most)
    ]
    words = [
        tag("text", f"{_number(most)} {unit}".strip(), x=_LEFT, y=_TOP + 9, class_="tick"),
        tag("text", since, x=_LEFT, y=HEIGHT - 3, class_="tick"),
        tag("text", "now", x=WIDTH - _RIGHT, y=HEIGHT - 3, class_="tick", text_anchor="end"),
    ]
    said = "; ".join(_said(line, unit) for line in lines) or "nothing yet"
    picture = tag(
        "svg",
        join(*grid, *drawn, *words),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {said}",
    )
    legend = [tag("span", tag("i", class_=line.kind), f"{line.name} {_last(line, unit)}") for line in lines]
    caption = tag("figcaption", tag("b", title), tag("span", *legend, class_="legend"))
    return tag("figure", caption, picture, class_="chart")


def _drawn(line: Line, most: float) -> Html:
    """Its path, with gaps where there is nothing; a point that stands alone is a dot."""
    parts, dots = [], []
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(line.values) - 1)
    values = [*line.values]
    for i, value in enumerate(values):
        if value is None:
            continue
        x, y = round(_LEFT + i * step, 1), _y(value, most)
        before = i > 0 and values[i - 1] is not None
        after = i + 1 < len(values) and values[i + 1] is not None
        if before or after:
            parts.append(f"{'L' if before else 'M'}{x} {y}")
        else:
            dots.append(tag("circle", cx=x, cy=y, r=1.6, class_=line.kind))
    return join(tag("path", d=" ".join(parts), class_=line.kind) if parts else "", *dots)


def _y(value: float, most: float) -> float:
    return round(HEIGHT - _BOTTOM - value / most * (HEIGHT - _TOP - _BOTTOM), 1)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def _last(line: Line, unit: str) -> str:
    last = next((v for v in reversed(line.values) if v is not None), None)
    return "" if last is None else f"{_number(last)} {unit}".strip()


def _said(line: Line, unit: str) -> str:
    known = [v for v in line.values if v is not None]
    most = f", at most {_number(max(known))} {unit}".rstrip() if known else ""
    return f"{line.name} {_last(line, unit) or 'without figures'}{most}"
