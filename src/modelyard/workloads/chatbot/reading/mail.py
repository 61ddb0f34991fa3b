"""Mails (EML, RFC 5322 and MIME) to sections, and the files attached to them."""

from __future__ import annotations

import email
import email.policy
import mimetypes
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.message import EmailMessage

from modelyard.workloads.chatbot.limits import Limits, Unreadable
from modelyard.workloads.chatbot.reading.formats import FORMATS, Progress, Reading, reader_of
from modelyard.workloads.chatbot.reading.text import Section, decode

HEADERS = ("From", "To", "Cc", "Date", "Subject")
LONGEST_HEADER = 1_000
MOST_PARTS = 2_000
HISTORY = "Earlier messages"
# What stands above the mail that is answered, as programs write it.
OPENINGS = re.compile(
    r"^\s*(?:-{2,}\s*(?:original message|forwarded message|urspr\u00fcngliche nachricht|message d'origine"
    r"|mensaje original)\s*-{2,}"
    r"|(?:on|am|le|el|il|op)\b.{5,200}\b(?:wrote|schrieb.*|a \u00e9crit|escribi\u00f3|ha scritto|schreef)\s*:"
    r"|_{20,})\s*$",
    re.I,
)
OUTLOOK = re.compile(r"^\s*\*?(?:from|von|de|da)\s*:\*?\s+\S", re.I)
OUTLOOK_NEXT = re.compile(r"^\s*\*?(?:sent|date|gesendet|datum|envoy\u00e9|enviado|inviato)\s*:\*?\s+\S", re.I)
QUOTED = re.compile(r"^\s?>")
SIGNATURES = frozenset(("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"))
ENCRYPTED = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"))


def read_mail(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """The mail itself, under its headers, and what it quotes of earlier ones as a section of its own.

    The plain part is read, and where there is none that of HTML. Raises Unreadable.
    """
    message = _message(content)
    subject = _header(message, "Subject")
    lines = [f"{name}: {value}" for name in HEADERS if (value := _header(message, name))]
    pages, certainty = _body(message, document, limits, progress)
    if not lines and not any(isinstance(page, Section) and page.text.strip() for page in pages):
        raise Unreadable("it holds no mail: it has neither a sender, a subject nor a text")
    top = "\n".join(lines)
    first = pages[0] if pages else None
    if isinstance(first, Section) and not first.level:
        pages[0] = Section(f"{top}\n\n{first.text}".strip())
    elif top:
        pages.insert(0, Section(top))
    return Reading(subject, [page for page in pages if not isinstance(page, Section) or page.text.strip()], certainty)


def attachments(content: bytes, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the files attached to a mail, in order, each name once. A mail that was forwarded whole is one
    of them. Pictures that its text shows and signatures are left out. Raises Unreadable."""
    taken: set[str] = set()
    for number, part in enumerate(_parts(_message(content)), start=1):
        kind = part.get_content_type()
        if not _is_attachment(part) or kind in SIGNATURES:
            continue
        yield _unique(_name(part, number), taken), _bytes(part)


def _message(content: bytes) -> EmailMessage:
    try:
        found = email.message_from_bytes(content, policy=email.policy.default)
    except RecursionError:
        raise Unreadable("its parts are nested too deeply") from None
    assert isinstance(found, EmailMessage)
    return found


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold something, in order; a mail within the mail is one, whatever it holds."""
    waiting = [message]
    seen = 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > MOST_PARTS:
            raise Unreadable(f"it has more than the limit of {MOST_PARTS:,} parts")
        payload = part.get_payload()
        if part is not message and part.get_content_maintype() == "message":
            yield part
        elif part.is_multipart() and isinstance(payload, list):
            waiting += [each for each in reversed(payload) if isinstance(each, EmailMessage)]
        else:
            yield part


def _is_attachment(part: EmailMessage) -> bool:
    kind, how = part.get_content_type(), _disposition(part)
    if part.get_content_maintype() == "message":
        return kind == "message/rfc822"
    if how == "attachment":
        return True
    if part.get_content_maintype() == "multipart":
        # One without a boundary: its text, as far as can be told.
        return False
    if kind in ("text/plain", "text/html") and not _filename(part):
        return False
    # What the text refers to by its id is part of the text.
    return not (part.get_content_maintype() == "image" and (part["Content-ID"] or how == "inline"))


def _body(
    message: EmailMessage, document: str, limits: Limits, progress: Progress
) -> tuple[list[Section | str], float]:
    plain: list[str] = []
    html: list[bytes] = []
    certainty = 1.0
    closed = False
    for part in _parts(message):
        kind = part.get_content_type()
        closed = closed or kind in ENCRYPTED
        if _is_attachment(part):
            continue
        if kind == "text/plain" or part.get_content_maintype() == "multipart":
            text, sure = _text(part)
            plain.append(text)
            certainty = min(certainty, sure)
        elif kind == "text/html":
            text, sure = _text(part)
            html.append(text.encode("utf-8", "replace"))
            certainty = min(certainty, sure)
    text = "\n\n".join(plain).strip()
    if text:
        return _conversation(text), certainty
    if html:
        found = reader_of(FORMATS[".html"])(b"<meta charset=utf-8>" + b"\n".join(html), document, limits, progress)
        return list(found.pages), min(certainty, found.certainty)
    if closed:
        return ["the mail is encrypted: save it without encryption"], 1.0
    return [], certainty


def _conversation(text: str) -> list[Section | str]:
    """The mail, and from where it quotes what it answers to the end, that without the marks of quoting."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at = _history(lines)
    own = "\n".join(lines[:at]).strip()
    past = "\n".join(re.sub(r"^(?:\s?>)+ ?", "", line) for line in lines[at:]).strip()
    sections: list[Section | str] = [Section(own)] if own else []
    if past:
        sections.append(Section(f"{HISTORY}\n\n{past}", 1, len(HISTORY)))
    return sections


def _history(lines: list[str]) -> int:
    """The first line of what is quoted at the end; the number of lines where nothing is. Quotes that are answered
    line by line stay where they are."""
    for at, line in enumerate(lines):
        following = next((each for each in lines[at + 1 : at + 3] if each.strip()), "")
        # The line that introduces a quote may be broken in two.
        joined = f"{line.rstrip()} {following.strip()}"
        outlook = OUTLOOK.match(line) and any(OUTLOOK_NEXT.match(each) for each in lines[at + 1 : at + 4])
        opening = OPENINGS.match(line) or (len(joined) < 300 and QUOTED.match(line) is None and OPENINGS.match(joined))
        if outlook or (opening and _only_quotes(lines, at)):
            return at
    end = len(lines)
    while end and (not lines[end - 1].strip() or QUOTED.match(lines[end - 1])):
        end -= 1
    return end


def _only_quotes(lines: list[str], at: int) -> bool:
    """Whether below an opening there is nothing but what it opens: quoted lines to the end, or none at all."""
    below = [line for line in lines[at + 1 :] if line.strip()]
    return not any(map(QUOTED.match, below)) or QUOTED.match(below[-1]) is not None


def _text(part: EmailMessage) -> tuple[str, float]:
    """A part of text by the encoding it names; by its bytes where that is wrong or unknown."""
    content = _bytes(part)
    charset = part.get_content_charset()
    if charset and charset not in ("us-ascii", "ascii"):
        try:
            return content.decode(charset), 1.0
        except (LookupError, UnicodeError, ValueError):
            pass
    return decode(content) if content.strip() else ("", 1.0)


def _bytes(part: EmailMessage) -> bytes:
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        if isinstance(inner, list) and inner and isinstance(inner[0], EmailMessage):
            return _written(inner[0])
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _written(message: EmailMessage) -> bytes:
    try:
        return message.as_bytes()
    except (HeaderParseError, ValueError, IndexError, KeyError, AttributeError, TypeError, LookupError):
        # Headers that cannot be written as they should be: as they came.
        return message.as_bytes(policy=email.policy.compat32)


def _header(message: EmailMessage, name: str) -> str:
    """A header as it reads. What cannot be taken apart is shown as it stands."""
    try:
        value = str(message.get(name, "") or "")
    except (HeaderParseError, ValueError, IndexError, KeyError, AttributeError, TypeError, RecursionError, LookupError):
        value = next((str(raw) for key, raw in message.raw_items() if key.lower() == name.lower()), "")
    text = " ".join(value.encode("utf-8", "replace").decode("utf-8").split())
    return text if len(text) <= LONGEST_HEADER else f"{text[:LONGEST_HEADER]}…"


def _disposition(part: EmailMessage) -> str:
    try:
        return part.get_content_disposition() or ""
    except (HeaderParseError, ValueError, IndexError, AttributeError, TypeError):
        return ""


def _filename(part: EmailMessage) -> str:
    try:
        found = part.get_filename() or ""
    except (HeaderParseError, ValueError, IndexError, AttributeError, TypeError, LookupError):
        found = ""
    name = re.split(r"[/\\]", found.encode("utf-8", "replace").decode("utf-8"))[-1]
    return " ".join("".join(c if c.isprintable() else " " for c in name).split()).lstrip(".")[:200]


def _name(part: EmailMessage, number: int) -> str:
    if name := _filename(part):
        return name if part.get_content_type() != "message/rfc822" or name.lower().endswith(".eml") else f"{name}.eml"
    if part.get_content_maintype() == "message":
        return f"forwarded-{number}.eml"
    return f"attachment-{number}{mimetypes.guess_extension(part.get_content_type()) or ''}"


def _unique(name: str, taken: set[str]) -> str:
    stem, dot, suffix = name.rpartition(".")
    at, found = 1, name
    while found in taken:
        at += 1
        found = f"{stem} ({at}){dot}{suffix}" if dot else f"{name} ({at})"
    taken.add(found)
    return found
