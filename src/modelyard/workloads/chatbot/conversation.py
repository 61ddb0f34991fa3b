"""A request's messages as a question that stands alone: follow-ups are resolved against the turns before them.

Rules, no model: "And for grade 7?" takes the place of "grade 5" in the question before; "Who approves it?" keeps its
words and inherits what the question before was about. A question that stands alone is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.text import STOP_WORDS, fold
from modelyard.errors import RequestError, RequestTooLarge
from modelyard.workloads.chatbot.lexicon import LIGHT

MOST_CHARACTERS = 20_000
"""Of one question. Longer ones are refused, not cut: what is cut may be the question."""
MOST_MESSAGES = 1_000
_HEARD, _HEARD_CHARACTERS = 2, 160
"""Questions before the last that a reader hears, and how much of them."""
_ROLES = ("system", "user", "assistant", "developer", "tool")

Vectors = Callable[[Sequence[str]], Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Turn:
    """One message: who said it, and what."""

    role: str
    text: str


@dataclass(frozen=True)
class Resolved:
    """A question that stands alone. `inherited` is what an earlier one adds to it, "" where it needs nothing.

    asked: itself, as it was asked; before: what was asked before it, "" where nothing was.
    """

    own: str
    inherited: str = ""
    before: str = ""
    asked: str = ""

    @property
    def text(self) -> str:
        return f"{self.own.rstrip(' ?')} ({self.inherited.rstrip(' ?')})?" if self.inherited else self.own

    @property
    def spoken(self) -> str:
        """The conversation, for readers that were trained on such."""
        return f"Before: {self.before[-_HEARD_CHARACTERS:]} Now: {self.asked or self.own}" if self.before else self.own


def read_messages(request: Mapping[str, Any]) -> list[Turn]:
    """The turns of `request["messages"]`, the last of which is the question.

    Raises RequestError for a request that holds no question, RequestTooLarge for one over 20,000 characters.
    """
    messages = request.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise RequestError('the request needs "messages": a list of {"role", "content"}, the last from the user')
    if len(messages) > MOST_MESSAGES:
        raise RequestTooLarge(f"the conversation has {len(messages):,} messages; at most {MOST_MESSAGES:,} are read")
    turns = [_turn(i, m) for i, m in enumerate(messages)]
    last = turns[-1]
    if last.role != "user":
        raise RequestError(f'the last message must be from the user, not from "{last.role}"')
    if not last.text.strip():
        raise RequestError("the question is empty")
    if not any(c.isalnum() for c in last.text):
        raise RequestError("the question holds no words")
    if len(last.text) > MOST_CHARACTERS:
        raise RequestTooLarge(
            f"the question has {len(last.text):,} characters; at most {MOST_CHARACTERS:,} are allowed"
        )
    return turns


def _turn(at: int, message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise RequestError(f'message {at + 1} must be an object with "role" and "content"')
    role = message.get("role")
    if role not in _ROLES:
        raise RequestError(f"message {at + 1}: role must be one of {', '.join(_ROLES[:3])}, not {role!r}")
    content = message.get("content")
    if content is None and role != "user":
        return Turn(role, "")
    if isinstance(content, str):
        return Turn(role, content)
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        parts = []
        for part in content:
            if (
                not isinstance(part, Mapping)
                or part.get("type") not in ("text", "input_text")
                or not isinstance(part.get("text"), str)
            ):
                raise RequestError(f'message {at + 1}: only parts {{"type": "text", "text": ...}} can be read')
            parts.append(part["text"])
        return Turn(role, "\n".join(parts))
    raise RequestError(f"message {at + 1}: content must be text")


def resolve(turns: Sequence[Turn], history_turns: int, vectors: Vectors) -> Resolved:
    """The last question of `turns` as one that stands alone; at most `history_turns` messages before it are read."""
    window = turns[max(0, len(turns) - 1 - history_turns) :] if history_turns > 0 else turns[-1:]
    questions = [t.text for t in window if t.role == "user" and t.text.strip()]
    questions = [" ".join(text.split())[:MOST_CHARACTERS] for text in questions]
    before: Resolved | None = None
    for text in questions:
        before = _resolve(text, before, vectors)
    assert before is not None
    return replace(before, before=" ".join(questions[-_HEARD - 1 : -1]), asked=questions[-1])


_OPENING = re.compile(
    r"(?:(?:ok(?:ay)?|thanks|thank you|and|but|so|or|also|then|now)[,.!]?\s+)*(?:and|but|or|so|also|then|"
    r"what about|how about|how is it|"
    r"what if|and if|same (?:question )?for|the same for)\b[,\s]*(?:(?:about|if|what about|how about|also)\b\s*)?",
    re.I,
)
_WH = re.compile(r"\b(?:what|which|who|whom|whose|when|where|why|how)\b", re.I)
_WHOSE = re.compile(r"\b(?:of|about)\s$", re.I)
"""What stands before a question word that asks nothing: "the logs of who came"."""
_VERB = re.compile(r"(?:is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|have|had)\b", re.I)
_AUXILIARY = re.compile(
    r"\b(?:is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|have|had|am)\b|\w'(?:s|re|ll|d)\b", re.I
)
_PART = re.compile(
    r"\b(?:of|for|from|with|on|about|to) (?:that|this)\b(?=\s*(?:[?.,!]|$)|\s+(?:can|may|do|does|is|are|must|"
    r"will|would|should|could|i|we|you)\b)",
    re.I,
)
_POINTS = re.compile(
    r"\b(?:it|its|they|them|their|he|she|his|her|him|the same|the latter|the former|these|those|ones|this one|"
    r"that one|such a|such an)\b"
    r"|\b(?:that|this)\b(?=\s*(?:[?.,!]|$|\s(?:is|was|be|apply|applies|cost|costs|include|includes|change|"
    r"count|mean|happen|work|too|also|as well|take|go|hold|one|amount|"
    r"limit|rule|case|period|price|rate|figure|number|value|fee)\b))"
    r"|(?<!\bis )(?<!\bare )(?<!\bwas )(?<!\bwere )(?<!\bthan )\bthere\b(?!\s+(?:is|are|was|were|any|a|an|been|"
    r"be)\b)|\bone\b(?=\s*[?.]|$)"
    r"|\bthen\b\s*\?",
    re.I,
)
_AGAIN = re.compile(
    r"(?:what|how (?:much|many|long|often|high|large|big))\s+(?:is|are|was|were|about|would|will|does|"
    r"do)\s+(?:it|that|this|they|those|these)(?:\s+be)?\s+"
    r"((?:for|in|at|with|on|under|by)\s.+)",
    re.I,
)
"""The same question again of something else: "How much is it for grade 7?" """
_OWN = re.compile(r"[,;]\s*(?:what|how)\b.*", re.I)
"""A question of its own after a condition."""
_SAME = re.compile(r"\s(?:in|for|during) (?:that|the) same (?:year|quarter|month|week|period|season)$", re.I)
"""What the question before said already: "And for trains in that same year?" """
_PHRASE = re.compile(
    r"^(for|in|at|on|with|to|from|by|under|during|after|before|of|per|as|about|between|within|outside|inside|"
    r"without)\s+(.+)$",
    re.I,
)
_ID = re.compile(r"\b([A-Za-z]{3,})s?\s+(\d{1,4}|[A-Z])\b")
_YEAR = re.compile(r"\b(?:FY)?(?:19|20)\d\d\b")
_DATED = re.compile(
    r"\s(?:(?:in|of|during|for|since|by|on|from|to|until|till|before|after|at|through|between|and) )?(?:the year )?"
    r"(?:\d\d? )?(?:(?:January|February|March|April|May|June|July|August|September|October|November|December),? )?"
    r"(?:19|20)\d\d\b(?:[/-]\d\d(?:\d\d)?\b)?(?! ?(?:euros?|dollars?|pounds?|units|pieces|people|km|kg|m|hours|%))"
)
_BESIDE = re.compile(
    r"(?<!than )\b(?:(?P<at>in|of|for|during|about) )?(?:the year before(?: that)?|the previous year|a year earlier|"
    r"(?P<later>the year after(?: that)?|the (?:following|next) year|a year later))(?=\s*(?:[?.,;!]|$))",
    re.I,
)
"""The year beside the one that was asked about."""
_SPLIT = re.compile(r"\bFY|\b(?:19|20)\d\d\s?[/-]\s?\d\d")
"""Years that are not those of the calendar."""
_NAME = re.compile(
    r"(?<![.?!] )(?<!^)\b[A-Z\u00c0-\u00de][\w&-]*(?:\s+(?:and |of |the )?[A-Z\u00c0-\u00de0-9][\w&-]*)*"
)

_DAYS = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?"
_DAY = re.compile(_DAYS, re.I)
_RUN = re.compile(rf"(?:\b(?:from|between|on)\s+)?\b{_DAYS}\s*(?:to|until|through|and|-|\u2013)\s*{_DAYS}\b", re.I)
"""Days in a run: another day takes the place of the whole of it."""


def _resolve(text: str, before: Resolved | None, vectors: Vectors) -> Resolved:
    if before is None:
        return Resolved(text)
    text = _with_year(text, before)
    opening = _OPENING.match(text)
    rest = text[opening.end() :].strip() if opening and opening.end() else text
    asks = any(not _WHOSE.search(rest[: m.start()]) for m in _WH.finditer(rest)) or _VERB.match(rest) is not None
    weight = len(_content(rest))
    altered = opening is not None and re.search(r"\b(?:about|if|same)\b", opening[0], re.I) is not None
    if altered and weight > 2 and (found := _OWN.search(rest)) and _content(found[0]):
        return Resolved(rest, before.text)  # "And if I take a guest along, how much may the dinner cost?"
    if not asks or altered:
        short = (opening is not None and opening.end() > 0) or (weight <= 4 and len(text.split()) <= 8)
        if short:
            return Resolved(_substitute(rest.strip(" ?.!"), before.own, vectors), before.inherited)
        return Resolved(text)
    again = _AGAIN.match(rest)
    if again and len(_content(again[1])) <= 4:
        return Resolved(_substitute(again[1].strip(" ?.!"), before.own, vectors), before.inherited)
    elliptic = weight <= 2 and len(rest.split()) <= 6 and not _AUXILIARY.search(rest)
    if _points_back(rest) or (opening and opening.end() and weight <= 2) or weight == 0 or elliptic:
        return Resolved(rest if opening else text, before.text)
    return Resolved(text)


def _with_year(text: str, before: Resolved) -> str:
    """`text` with the year that "the year before" is, where the question before names one and `text` little else."""
    years = {m[0] for m in _YEAR.finditer(before.text)}
    found = _BESIDE.search(text)
    if found is None or len(years) != 1 or _YEAR.search(text) or _SPLIT.search(before.text):
        return text
    if len(_content(text.replace(found[0], ""))) > 2:
        return text
    return text.replace(found[0], f"{found['at'] or 'in'} {int(years.pop()) + (1 if found['later'] else -1)}", 1)


def _points_back(text: str) -> bool:
    """Whether a pronoun has nothing before it in its own sentence that it may stand for."""
    match = _POINTS.search(text)
    if _PART.search(text) or (match is not None and match[0].lower() == "there" and not _NAME.search(text)):
        return True
    return match is not None and len(_content(text[: match.start()])) < 3


def _content(text: str) -> list[str]:
    words = re.findall(r"[^\W_]+", fold(text).lower())
    return [w for w in words if w not in STOP_WORDS and w not in LIGHT]


def _substitute(new: str, before: str, vectors: Vectors) -> str:
    """`before` with the part that `new` takes the place of exchanged, or with `new` added to it."""
    new = _SAME.sub("", new)
    if len(new.split()) > 2 and _YEAR.search(new):
        before = _DATED.sub("", before)  # "And if I go in September 2025?": what was asked of 2024 is over
    phrase = _PHRASE.match(new)
    core = re.sub(r"^(?:the|a|an|my|our)\s+", "", phrase[2] if phrase else new, flags=re.I).strip()
    run = _RUN.search(before) if _DAY.fullmatch(core) else None
    if run:
        return f"{before[: run.start()]}{new if phrase else f'on {core}'}{before[run.end() :]}"
    for span in _same_kind(core, phrase[1].lower() if phrase else "", before, vectors):
        start, end = span
        # An article before the old part goes with it, unless the new part needs one.
        return f"{before[:start]}{core}{before[end:]}"
    clause = _clause(new, before, vectors)
    if clause:
        return before.replace(clause, new, 1)
    before = _without_rival(new, before, vectors)
    tail = new if phrase else f"for {new}"
    return f"{before.rstrip(' ?.')} {tail}?"


def _same_kind(core: str, preposition: str, before: str, vectors: Vectors) -> list[tuple[int, int]]:
    """Spans of `before` that name a thing of the same kind as `core`, the likeliest first; at most one is used."""
    year = _YEAR.fullmatch(core)
    if year:
        return [m.span() for m in _YEAR.finditer(before)][-1:]
    identified = _ID.fullmatch(core)
    if identified:
        noun = identified[1].lower().rstrip("s")
        return [m.span() for m in _ID.finditer(before) if m[1].lower().rstrip("s") == noun][:1]
    if core.replace(",", "").replace(".", "").isdigit():
        return [m.span() for m in re.finditer(r"\b\d[\d.,]*\b", before)][-1:]
    words = core.split()
    named = core[:1].isupper() and len(words) <= 5
    if named:
        names = [m.span() for m in _NAME.finditer(before) if not _YEAR.fullmatch(m[0]) and m[0] != "I"]
        if names:
            return _likeliest(core, before, names, preposition, vectors, 0.1)
    return _likeliest(core, before, _noun_spans(before), preposition, vectors, 0.42)[:1] if len(words) <= 5 else []


def _without_rival(new: str, before: str, vectors: Vectors) -> str:
    """`before` without the name that the one in `new` takes the place of: "And the warehouse in Venlo?" asks no more
    of the plant in Braga."""
    spans = [m.span() for m in _NAME.finditer(before) if m[0] != "I" and not _YEAR.fullmatch(m[0])]
    named = [m[0] for m in _NAME.finditer(f"and {new}") if m[0] != "I" and not _YEAR.fullmatch(m[0])]
    if len(named) != 1 or named[0] in before:
        return before
    for start, end in _likeliest(named[0], before, spans, "", vectors, 0.3):
        ahead = re.sub(r"\s(?:in|at|for|to|from|of) (?:the )?\Z", "", before[:start])
        behind = re.sub(r"\A(?:'s|\u2019s)", "", before[end:])
        return ahead + (behind.lstrip() if ahead.endswith(" ") else behind)
    return before


def _noun_spans(text: str) -> list[tuple[int, int]]:
    """Runs of one to three words that carry meaning."""
    spans: list[tuple[int, int]] = []
    words = [(m.start(), m.end(), bool(_content(m[0]))) for m in re.finditer(r"[^\W_]+(?:[-'][^\W_]+)*", text)]
    for i in range(len(words)):
        for j in range(i, min(i + 3, len(words))):
            if all(w[2] for w in words[i : j + 1]) and text[words[i][0] : words[j][1]].count(".") == 0:
                spans.append((words[i][0], words[j][1]))
    return spans


def _likeliest(
    core: str, before: str, spans: Sequence[tuple[int, int]], preposition: str, vectors: Vectors, least: float
) -> list[tuple[int, int]]:
    if not spans:
        return []
    known = vectors([core, *(before[a:b] for a, b in spans)])
    scored = []
    for a, b in spans:
        bonus = (
            0.15
            if preposition and re.search(rf"\b{preposition}\s+(?:the |a |an |my |our )?$", before[:a], re.I)
            else 0.0
        )
        scored.append((float(known[core] @ known[before[a:b]]) + bonus, b - a, (a, b)))
    scored.sort(key=lambda s: (-s[0], -s[1]))
    return [scored[0][2]] if scored[0][0] >= least else []


def _clause(new: str, before: str, vectors: Vectors) -> str:
    """The clause of `before` that says something of the same kind as the clause `new`; "" where there is none."""
    if len(_content(new)) < 2:
        return ""
    clauses = [
        c.strip()
        for c in re.split(r"[.;,]\s+|\s+and\s+|\s+but\s+", before)
        if not _WH.search(c) and len(_content(c)) >= 1
    ]
    if not clauses:
        return ""
    known = vectors([new, *clauses])
    best = max(clauses, key=lambda c: float(known[new] @ known[c]))
    return best if float(known[new] @ known[best]) >= 0.35 else ""
