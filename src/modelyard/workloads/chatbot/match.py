"""Whether a term of a question is spoken of in a text: the same word, one of its root, one that means nearly the same,
a number within a range, an acronym spelled out. Strengths are from 0 to 1."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from modelyard.calc.text import STOP_WORDS, analyse, fold, stem
from modelyard.ports.embedder import Embedder
from modelyard.workloads.chatbot.lexicon import DEMONYMS, LIGHT, NEAR, NUMBER_WORDS, bag
from modelyard.workloads.chatbot.question import Term

ROOT, NEARLY, ACRONYM = 0.95, 0.75, 0.9
_ALIKE = (0.5, 0.9)
"""Cosine of two words at which they begin to count as alike, and at which they count fully (times NEARLY)."""

_QUARTERS = {
    f"q{i}": re.compile(rf"\bq{i}\b|\b{i}q\b|\b(?:{word}|{nth}) quarter\b", re.I)
    for i, (word, nth) in enumerate((("first", "1st"), ("second", "2nd"), ("third", "3rd"), ("fourth", "4th")), 1)
}

_QUARTERS |= {
    f"h{i}": re.compile(rf"\bh{i}\b|\b{i}h\b|\b(?:{word}|{nth}) half\b", re.I)
    for i, (word, nth) in enumerate((("first", "1st"), ("second", "2nd")), 1)
}

Range = tuple[float, float]
_N = r"(\d[\d,.\u00a0]*\d|\d|" + "|".join(NUMBER_WORDS) + ")"
_RANGE = re.compile(
    rf"\b{_N}\s*(?:to|[-\u2013\u2014]|until|through|up to)\s*{_N}\b"
    rf"|\b(?:less than|fewer than|under|below)\s+(?:[A-Z]{{3}} |[$\u20ac\u00a3])?{_N}\b"
    rf"|\b(?:more than|over|above|exceeding|greater than)\s+(?:[A-Z]{{3}} |[$\u20ac\u00a3])?{_N}\b"
    rf"|\b(?:up to|at most|no more than|maximum of)\s+(?:[A-Z]{{3}} |[$\u20ac\u00a3])?{_N}\b"
    rf"|\b(?:at least|from|minimum of)\s+(?:[A-Z]{{3}} |[$\u20ac\u00a3])?{_N}\b"
    rf"|\b{_N}(?:\s+[a-z]+)?\s+(?:and|or)\s+(?:more|over|above|older|longer|higher|up)\b|\b{_N}\+",
    re.I,
)


@lru_cache(maxsize=1 << 13)
def ranges(text: str) -> tuple[Range, ...]:
    """The ranges of numbers that `text` names, both ends inclusive: "5 to 9" -> (5, 9), "20 and more" -> (20, inf)."""
    out: list[Range] = []
    for match in _RANGE.finditer(text):
        low, high, below, above, most, least, more, plus = (number(g) if g else None for g in match.groups())
        if low is not None and high is not None:
            out.append((low, high))
        elif below is not None:
            out.append((-math.inf, np.nextafter(below, -math.inf)))
        elif above is not None:
            out.append((float(np.nextafter(above, math.inf)), math.inf))
        elif most is not None:
            out.append((-math.inf, most))
        elif least is not None:
            out.append((least, math.inf))
        elif more is not None:
            out.append((more, math.inf))
        elif plus is not None:
            out.append((plus, math.inf))
    return tuple((float(a), float(b)) for a, b in out)


def number(text: str) -> float | None:
    """The value of a number written in digits or as a word; None where it is neither."""
    word = text.lower()
    if word in NUMBER_WORDS:
        return float(NUMBER_WORDS[word])
    terms = analyse(text)
    try:
        return float(terms[0]) if len(terms) == 1 else None
    except ValueError:
        return None


def within(value: float, text: str) -> bool:
    """Whether a range named in `text` holds `value`."""
    return any(low <= value <= high for low, high in ranges(text))


def strength(term: Term, text: str, glossary: Mapping[str, frozenset[str]] | None = None) -> float:
    """How surely `text` speaks of `term`, without asking a model."""
    if not text:
        return 0.0
    if term.kind == "id":
        return _identified(term, text)
    if term.kind == "compound":
        return float(_code(term.text).search(text) is not None)
    words = bag(text)
    if term.kind == "quarter":
        return 1.0 if _QUARTERS[term.stem].search(text) else 0.0
    if term.stem in words.stems:
        return 1.0
    if term.kind == "year":
        return 0.0
    if term.kind == "number":
        if term.value is None or not within(term.value, text):
            return 0.0
        return 1.0
    if term.text.isupper() and 2 <= len(term.text) <= 5 and spelled_out(term.text, text):
        return ACRONYM
    if term.root in words.roots:
        return ROOT
    if glossary and not words.stems.isdisjoint(glossary.get(term.stem, ())):
        return 0.85
    if not words.stems.isdisjoint(DEMONYMS.get(term.stem, ())):
        return 0.9
    if term.kind == "name":
        return 0.0
    if not words.roots.isdisjoint(NEAR.get(term.root, ())):
        return NEARLY
    return 0.0


_RUN = re.compile(
    r"\W{0,2}(?:no\.?\s*|number\s+)?((?:\d+|[A-Z]|[IVX]{1,4})(?:\s*(?:,|and|or|to|[-\u2013]|up to)\s*(?:\d+|"
    r"[A-Z])\b)*(?:\s+(?:and|or)\s+(?:more|above|over|higher|up)|\s+upwards)?)(?!\w)"
)


def _identified(term: Term, text: str) -> float:
    """A numbered thing ("grade 5"): its number follows its noun, alone, in a list or in a range ("Grades 5 and 6"); a
    code ("DN 100") stands there itself, however its parts are joined."""
    if not term.noun:
        return float(_code(term.text).search(text) is not None)
    if term.noun not in bag(text).stems:
        return 0.0
    wanted = term.text.split()[-1]
    for match in re.finditer(r"[^\W\d_]+", text):
        if stem(fold(match[0]).lower()) != term.noun:
            continue
        run = _RUN.match(text, match.end())
        if run is None:
            continue
        listed = run[1].replace("upwards", "and above")
        if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", listed) or (
            term.value is not None and within(term.value, listed)
        ):
            return 1.0
    return 0.0


@lru_cache(maxsize=1 << 10)
def _code(text: str) -> re.Pattern[str]:
    parts = r"[\s\u2010-\u2014-]?".join(re.escape(part) for part in re.split(r"[ -]", text))
    return re.compile(rf"(?<![^\W_]){parts}(?![^\W_])", re.I)


def spelled_out(acronym: str, text: str) -> bool:
    """Whether words of `text` in a row begin with the letters of `acronym` ("CFO": Chief Financial Officer). Words in
    lower case count when they are three or long ones ("SSO": single sign-on, "AI": artificial intelligence)."""
    words = [w for w in re.findall(r"[^\W\d_]+", text) if w.lower() not in ("of", "and", "the", "for")]
    letters = acronym.lower()
    for at in range(len(words) - len(letters) + 1):
        run = words[at : at + len(letters)]
        fits = all(w[0].lower() == c for w, c in zip(run, letters, strict=True))
        if fits and (len(run) > 2 or all(w[0].isupper() for w in run) or all(len(w) >= 7 for w in run)):
            return True
    return False


class Alike:
    """Likeness of single words by the embedder, remembered. Safe to call from several threads."""

    def __init__(self, embedder: Embedder, most: int = 20_000) -> None:
        self._embedder = embedder
        self._most = most
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    def vectors(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of `texts`; those not met before are embedded in one call."""
        wanted = list(dict.fromkeys(texts))
        with self._lock:
            out = {t: self._known[t] for t in wanted if t in self._known}
        fresh = [t for t in wanted if t not in out]
        if fresh:
            made = self._embedder.embed(fresh)
            with self._lock:
                for text, vector in zip(fresh, made, strict=True):
                    out[text] = self._known[text] = vector
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
        return out

    def best(self, terms: Iterable[Term], texts: Iterable[str]) -> dict[tuple[str, str], float]:
        """(stem of the term, text) -> strength by the most alike word of the text."""
        terms = [t for t in terms if t.kind == "word" and not t.text.isupper()]  # an acronym is like any other one
        texts = list(texts)
        words = {text: content_words(text) for text in texts}
        vectors = self.vectors([*(t.text.lower() for t in terms), *(w for ws in words.values() for w in ws)])
        low, high = _ALIKE
        out: dict[tuple[str, str], float] = {}
        for text in texts:
            if not words[text]:
                continue
            matrix = np.stack([vectors[w] for w in words[text]])
            for term in terms:
                cosine = float((matrix @ vectors[term.text.lower()]).max())
                out[term.stem, text] = NEARLY * min(1.0, max(0.0, (cosine - low) / (high - low)))
        return out


@lru_cache(maxsize=1 << 13)
def content_words(text: str) -> tuple[str, ...]:
    """Words of `text` that carry meaning, lower case, without numbers."""
    words = re.findall(r"[^\W\d_]{3,}", fold(text).lower())
    return tuple(dict.fromkeys(w for w in words if w not in STOP_WORDS and w not in LIGHT and stem(w) not in LIGHT))
