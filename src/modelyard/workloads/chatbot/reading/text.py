"""Markdown and plain text to sections. A section is what a page is elsewhere: the unit of citation."""

from __future__ import annotations

import codecs
import contextlib
import re
from dataclasses import dataclass

from modelyard.workloads.chatbot.limits import Limits, Unreadable

PAGE_CHARACTERS = 3_000
GUESSED = 0.8

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
RULE_ROW = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
LINK = re.compile(r"!?\[([^\]\[]*)\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")
STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
EMPHASIS = re.compile(r"(?<![\w*\\])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])")
ITEM = re.compile(r"\s*(?:[-*+•·–—]|\(?[0-9a-zA-Z]{1,3}[.)])\s")
LONGEST_LINE = 160
STRANGE = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]")
CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Section:
    """Text of one page; with a heading, its level from 1 and where the heading line ends."""

    text: str
    level: int = 0
    heading_end: int = 0


def read_sections(content: bytes, markdown: bool, limits: Limits) -> tuple[str, list[Section], float]:
    """(title or "", sections, how certain the character encoding is from 0 to 1).

    Raises Unreadable for what is not text, or is too long.
    """
    text, certainty = decode(content)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > limits.max_characters:
        raise Unreadable(f"its text is longer than the limit of {limits.max_characters:,} characters")
    if not text.strip():
        raise Unreadable("it holds no text")
    title, text = _front_matter(text) if markdown else ("", text)
    sections = _split(text.split("\n"), markdown)
    sections = [part for section in sections for part in _cut(section, markdown)]
    if not sections:
        raise Unreadable("it holds no text")
    if len(sections) > limits.max_pages:
        raise Unreadable(f"it has {len(sections):,} sections, more than the limit of {limits.max_pages:,}")
    first = next((section for section in sections if section.level), None)
    if not title and first is not None and first.level == 1:
        title = first.text[: first.heading_end]
    elif not title and not markdown and first is None:
        title = _opening_line(sections[0].text)
    return title, sections, certainty


def _opening_line(text: str) -> str:
    """The first line of a plain text, where it stands there like a title."""
    line = text.split("\n", 1)[0].strip()
    return line if 4 <= len(line) <= 80 and line[-1] not in ".,;:" and line[0].isupper() else ""


def decode(content: bytes) -> tuple[str, float]:
    """(text, certainty): by byte order mark, UTF-8, UTF-16 by its zero bytes, else Windows-1252 as a guess.

    Raises Unreadable for bytes that are no text.
    """
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return _plausible(content.decode(encoding, "replace"), 1.0)
    sample = content[:4096]
    for zeros, encoding in ((sample[1::2], "utf-16-le"), (sample[0::2], "utf-16-be")):
        if zeros.count(0) > 0.4 * len(zeros) and zeros.count(0) > 4 * (sample.count(0) - zeros.count(0)):
            return _plausible(content.decode(encoding, "replace"), GUESSED)
    with contextlib.suppress(UnicodeDecodeError):
        return _plausible(content.decode("utf-8"), 1.0)
    return _plausible(content.decode("cp1252", "replace"), GUESSED)


def _plausible(text: str, certainty: float) -> tuple[str, float]:
    sample = text[:100_000]
    if len(STRANGE.findall(sample)) > 0.02 * len(sample):
        raise Unreadable("it is not text: it holds binary data")
    return text.replace("\x00", ""), certainty


def _front_matter(text: str) -> tuple[str, str]:
    """(title, text without it) of the block of settings some Markdown files begin with."""
    found = re.match(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", text, re.S)
    if not found or not re.match(r"\s*[\w-]+\s*:", found.group(1)):
        return "", text
    title = re.search(r"^title\s*:\s*[\"']?(.*?)[\"']?\s*$", found.group(1), re.M)
    return (title.group(1) if title else ""), text[found.end() :]


def _split(lines: list[str], markdown: bool) -> list[Section]:
    """One section per heading, and one for what stands before the first."""
    sections: list[Section] = []
    heading: tuple[int, str] | None = None
    body: list[str] = []
    fence = ""
    width = max(map(len, lines))

    def close() -> None:
        nonlocal heading, body
        text = "\n".join(_joined(_tidy(body), 0) if markdown else _joined(body, width)).strip("\n").rstrip()
        if heading is not None:
            level, name = heading
            sections.append(Section(f"{name}\n\n{text}" if text else name, level, len(name)))
        elif text.strip():
            sections.append(Section(text))
        heading, body = None, []

    for at, line in enumerate(lines):
        mark = FENCE.match(line)
        if mark and markdown:
            fence = "" if fence and mark.group(1).startswith(fence) else fence or mark.group(1)[:3]
        found = None if fence else _heading(lines, at, markdown)
        if found is None:
            body.append(line)
            continue
        if found[2]:
            body.pop()
        close()
        heading = found[:2]
    close()
    return sections


def _heading(lines: list[str], at: int, markdown: bool) -> tuple[int, str, bool] | None:
    """(level, text, whether the text is on the line above) where a line makes a heading."""
    line = lines[at]
    above = lines[at - 1] if at else ""
    if (atx := ATX.match(line)) and atx.group(2):
        # Elsewhere than in Markdown a sharp may begin a comment: there a heading stands alone.
        alone = not above.strip() and (at + 1 == len(lines) or not lines[at + 1].strip())
        if markdown or alone:
            return len(atx.group(1)), _inline(atx.group(2)).strip(), False
    setext = SETEXT.match(line)
    if setext and above.strip() and "|" not in above and not ATX.match(above) and above[0] not in " \t->*":
        over = lines[at - 2] if at > 1 else ""
        if not over.strip() and (markdown or len(line.strip()) >= max(3, len(above.strip()) // 2)):
            return (1 if setext.group(1)[0] == "=" else 2), _inline(above).strip(), True
    return None


def _joined(lines: list[str], width: int) -> list[str]:
    """Lines of one paragraph as one line. width: where lines of plain text are broken; 0 for Markdown, where a line
    break means nothing unless two blanks ask for it."""
    joined: list[str] = []
    above = ""
    for line in lines:
        starts = not line.strip() or "\t" in line or ITEM.match(line) or line.startswith(("    ", ">"))
        open_end = above.strip() and "\t" not in above and not above.endswith(("  ", "\\"))
        full = len(above) + 1 + len(line.split(" ", 1)[0]) > width
        running = line[:1].islower() and above[-1:] not in ".:;!?"
        wrapped = not width or (width <= LONGEST_LINE and (full or running))
        if joined and open_end and wrapped and not starts:
            joined[-1] = f"{joined[-1].rstrip()} {line.strip()}"
        else:
            joined.append(line)
        above = line
    return joined


def _tidy(lines: list[str]) -> list[str]:
    """Markdown as it reads: tables as rows with tabs, links and emphasis as their words. Code stays as it is."""
    tidy: list[str] = []
    fence = ""
    for line in lines:
        mark = FENCE.match(line)
        if mark:
            fence = "" if fence and mark.group(1).startswith(fence) else fence or mark.group(1)[:3]
            continue
        if fence:
            tidy.append(line)
        elif line.lstrip().startswith("|") or (line.count("|") >= 2 and tidy and "\t" in tidy[-1]):
            if not RULE_ROW.match(line):
                cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
                tidy.append("\t".join(_inline(cell).strip().replace("\\|", "|") for cell in cells))
        else:
            tidy.append(_inline(line))
    return tidy


def _inline(text: str) -> str:
    text = LINK.sub(r"\1", text)
    text = STRONG.sub(r"\2", text)
    text = EMPHASIS.sub(r"\1", text)
    return CODE.sub(r"\1", text)


def _cut(section: Section, markdown: bool) -> list[Section]:
    """Plain text without headings has no sections to cite: form feeds, and paragraphs where it is long, make pages."""
    if markdown or section.level:
        return [section]
    pages: list[str] = []
    for sheet in section.text.split("\f"):
        page = ""
        for paragraph in re.split(r"(?<=\n)(?=\s*\n)", sheet):
            for piece in _pieces(paragraph):
                if page and len(page) + len(piece) > PAGE_CHARACTERS:
                    pages.append(page)
                    page = ""
                page += piece
        pages.append(page)
    return [Section(page.strip("\n").rstrip()) for page in pages if page.strip()]


def _pieces(paragraph: str) -> list[str]:
    """A paragraph longer than a page, cut at line ends, else at blanks, else anywhere."""
    pieces: list[str] = []
    while len(paragraph) > PAGE_CHARACTERS:
        at = max(paragraph.rfind("\n", 1, PAGE_CHARACTERS), 0) or max(paragraph.rfind(" ", 1, PAGE_CHARACTERS), 0)
        at = at or PAGE_CHARACTERS
        pieces.append(paragraph[:at])
        paragraph = paragraph[at:]
    return [*pieces, paragraph]
