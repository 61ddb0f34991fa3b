"""HTML put together so that nothing in it is markup by accident: text is escaped unless it is Html already."""

from __future__ import annotations

from html import escape

Attribute = str | int | float | bool | None


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def text(value: object) -> Html:
    """`value` as text; Html as it is, None as nothing."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escape(str(value)))


def join(*parts: object) -> Html:
    """One after the other."""
    return Html("".join(map(text, parts)))


def tag(name: str, /, *children: object, **attributes: Attribute) -> Html:
    """An element. `class_` is the attribute class, `data_x` is data-x; True is an attribute without a value, None and
    False none at all.

    >>> tag("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        named = key.rstrip("_").replace("_", "-")
        parts.append(f" {named}" if value is True else f' {named}="{escape(str(value))}"')
    parts.append(">")
    if name not in _VOID:
        parts += [*map(text, children), f"</{name}>"]
    return Html("".join(parts))


_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
