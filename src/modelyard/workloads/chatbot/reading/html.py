"""HTML to sections, read as browsers do: whatever the bytes, there is a tree."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.flow import Flow
from modelyard.workloads.chatbot.reading.formats import Progress, Reading
from modelyard.workloads.chatbot.reading.html_blocks import BLOCKS, Writer
from modelyard.workloads.chatbot.reading.naming import speaks
from modelyard.workloads.chatbot.reading.text import GUESSED, decode

# The parser's time grows with the square of how deep elements are nested that only an end tag ends: a second at this
# depth.
DEEPEST = 20_000
NESTING = re.compile(
    rb"<(/?)(?:div|span|section|article|main|aside|header|footer|nav|form|center|font|b|i|u|em|strong|small|big|a|tt|s"
    rb"|code|ul|ol|dl|blockquote|table|fieldset|figure|details|button|object|svg|g|math|template|q|sub|sup)"
    rb"(?=[\s>/])",
    re.I,
)
DECLARED = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w:.-]{1,40})|<\?xml[^>]{0,80}?encoding\s*=\s*[\"']([\w.-]{1,40})",
    re.I,
)
# In XHTML an element may end itself; in HTML these would swallow what follows.
SELF_CLOSED = re.compile(
    r"<(script|style|title|textarea|iframe|noscript|a|div|span|p|td|th|i|b|em|strong)(\s[^<>]*)?/>", re.I
)
# What people write for their Windows code page, and what browsers take it for.
LATIN = frozenset(("ascii", "iso8859-1", "cp1252", "latin-1"))
# Bytes that may stand for anything else, as browsers refuse them too.
REFUSED = frozenset(("utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "hex", "rot13"))
UNREAD = (
    "script style template noscript nav svg iframe object embed applet audio video canvas map head title button select"
    " datalist textarea input meta link base dialog"
)
LEFT_OUT = frozenset(UNREAD.split())
ROLES = frozenset(("navigation", "menu", "menubar", "search", "toolbar", "tablist", "contentinfo"))
UNSEEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)", re.I)
SIGN_EVERY = 20_000


def read_html(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """A page per heading; scripts, navigation, the page's footer and what is not shown are left out.

    Raises Unreadable for what is no text, holds none, is nested too deeply or too long.
    """
    _refuse_depth(content)
    text, certainty = text_of(content)
    if len(text) > 4 * limits.max_characters:
        raise Unreadable(f"it is longer than {4 * limits.max_characters:,} characters with its markup")
    if text.lstrip("\ufeff \r\n\t").startswith("<?xml") or document.lower().endswith(".xhtml"):
        text = SELF_CLOSED.sub(r"<\1\2></\1>", text)
    try:
        tree = LexborHTMLParser(text)
    except SelectolaxError:
        # Whatever the bytes, there is a tree: what is missing is memory.
        raise Unreadable("it has more elements than there is memory to read it with") from None
    del text
    flow = Flow(limits)
    writer = Writer(flow)
    for number, (node, entering) in enumerate(_walk(tree)):
        if number % SIGN_EVERY == 0:
            progress(0)
        tag = node.tag or ""
        if tag == "-text":
            writer.text(node.text_content or "")
        elif entering:
            writer.enter(tag, node.attributes if tag in BLOCKS else {})
        else:
            writer.leave(tag)
    writer.close()
    sections = flow.sections()
    if not sections:
        raise Unreadable(
            "it holds no text" if tree.css_first("script") is None else "it shows no text without its scripts"
        )
    return Reading(_title(tree) or sections[0].text[: sections[0].heading_end][:160], sections, certainty)


def text_of(content: bytes) -> tuple[str, float]:
    """(text, certainty): by byte order mark, by what the page declares, else as any text is told.

    Raises Unreadable for bytes that are no text.
    """
    declared = DECLARED.search(content, 0, 4096)
    if declared is not None and not content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)):
        name = (declared.group(1) or declared.group(2)).decode("ascii")
        try:
            encoding = codecs.lookup(name).name
            # A declaration that can be read byte by byte does not stand in UTF-16.
            if encoding not in REFUSED and not encoding.startswith(("utf-8", "utf-16", "utf-32")):
                encoding = "cp1252" if encoding in LATIN else encoding
                return content.decode(encoding, "replace").replace("\x00", ""), 1.0
        except (LookupError, UnicodeError, ValueError):
            return decode(content)[0], GUESSED
    return decode(content)


def _refuse_depth(content: bytes) -> None:
    depth = 0
    for found in NESTING.finditer(content):
        depth = max(0, depth - 1) if found.group(1) else depth + 1
        if depth > DEEPEST:
            raise Unreadable(f"its elements are nested more than {DEEPEST:,} deep")


def _walk(tree: LexborHTMLParser) -> Iterator[tuple[LexborNode, bool]]:
    """(node, entering it or leaving it) in order, without what is left out; as deep as the tree is."""
    body = tree.body or tree.root
    if body is None:
        return
    open_: list[LexborNode] = []
    node: LexborNode | None = body.child
    while node is not None or open_:
        if node is None:
            left = open_.pop()
            yield left, False
            node = left.next
            continue
        tag = node.tag or ""
        if tag == "-text":
            yield node, True
        elif not tag.startswith("-") and _shown(node, tag, len(open_)):
            yield node, True
            if node.child is not None:
                open_.append(node)
                node = node.child
                continue
            yield node, False
        node = node.next


def _shown(node: LexborNode, tag: str, depth: int) -> bool:
    if tag in LEFT_OUT or (tag == "footer" and depth < 3):
        return False
    attributes = node.attributes
    if not attributes:
        return True
    if "hidden" in attributes or (attributes.get("role") or "").lower() in ROLES:
        return False
    return UNSEEN.search(attributes.get("style") or "") is None


def _title(tree: LexborHTMLParser) -> str:
    found = tree.css_first("head title")
    title = " ".join((found.text() if found is not None else "").split())[:160]
    return title if speaks(title) else ""
