"""From text to the terms a lexical index holds: lower case, folded, numbers in one spelling, lightly stemmed.

    >>> analyse("Net sales rose 12.5% to $1,240 million")
    ['net', 'sale', 'rose', '12.5', 'percent', '1240', 'million']

Questions and passages go through the same function, so that what is written alike is found alike. `ANALYSER` names
these rules: an index built by others must be built again. English; other languages pass unstemmed, and runs of
Chinese, Japanese and Korean characters become overlapping pairs.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

ANALYSER = "english-1"
"""Changes whenever the same text may give other terms."""

_FUNCTION_WORDS = """
    a about an and are as at be been but by can could did do does for from had has have how i if in into is it its me my
    of on or our so such than that the their them then there these they this those to was we were what when where which
    who whom whose why will with would you your
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Function words that carry no meaning of their own, question words among them."""

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(
    r"(?<![^\W_])\d+(?:[.,]\d+)*(?![^\W_])|%"  # 1,240   12.5   3.1.4
    rf"|[{_CJK}]+"
    r"|(?<![^\W_])(?:[^\W\d_]\.)+[^\W\d_](?![^\W_])|(?<![^\W_])(?:[^\W\d_]\.){2,}"  # u.s   e.g.
    r"|(?<![^\W_])[^\W\d_]{1,3}&[^\W\d_]{1,3}(?![^\W_])"  # r&d   at&t
    rf"|(?:(?![{_CJK}])[^\W_])+(?:'[a-z]{{1,2}}(?![^\W_]))?"  # q3   company's
)
_LONG = 32
_THIN = "\u00a0\u2009\u202f"
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})+(?!\d)")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z")
_GROUPED_BY_POINT = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+\Z|\d{1,3}(?:\.\d{3}){2,}\Z")
_YEAR = re.compile(r"[a-z]+((?:19|20)\d\d)\Z")
_PUNCTUATION = {"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00ad": "", "\u200b": ""}


def analyse(text: str) -> list[str]:
    """The terms of `text`, in order, with repetitions; stop words are left out. Never raises for a str.

    A number loses its thousands separators and trailing zeros ("1,240.50" and "1240.5" are one term), a percent sign
    becomes the term "percent", "FY2023" also gives "2023", "U.S." is "us" and "R&D" stays whole.
    """
    if not text.isascii():
        text = fold(text)
    return [term for word in text.lower().split() for term in (_known(word) if len(word) <= _LONG else _terms(word))]


def fold(text: str) -> str:
    """`text` in lower case, without accents and compatibility forms (ligatures, full width, non-breaking spaces)."""
    # Looked for one by one: over a text that is not ASCII, str.translate and the pattern take five times as long.
    if any(space in text for space in _THIN):
        text = _SPACED_THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    for sign, plain in _PUNCTUATION.items():
        text = text.replace(sign, plain)
    for mark in [c for c in set(text) if unicodedata.combining(c)]:
        text = text.replace(mark, "")
    return unicodedata.normalize("NFC", text)


def stem(word: str) -> str:
    """A lower-case English word without the endings that do not change what it is about (-s, -es, -ed, -ing).

    Words that share a stem are one term; the stem itself need not be a word ("price", "pricing" -> "pric").
    """
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    word = _participle(_singular(word))
    if len(word) > 4 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 4 and word.endswith("ll"):
        word = word[:-1]
    return word


def _singular(word: str) -> str:
    if not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word[:-1]


def _participle(word: str) -> str:
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word:
            break
    else:
        return word
    if word.endswith("eed") or len(root) < 3 or not re.search("[aeiouy]", root):
        return word
    if root.endswith(("at", "bl", "iz")):
        return root + "e"
    if root[-1] == root[-2] and root[-1] not in "aeiouslz":
        return root[:-1]
    # One syllable that ends consonant, vowel, consonant had an e: pric(e)d, hop(e)d.
    if re.fullmatch(r"[^aeiou]*[aeiouy][^aeiouwxy]", root):
        return root + "e"
    return root


@lru_cache(maxsize=1 << 17)
def _known(word: str) -> tuple[str, ...]:
    return _terms(word)  # most words of a corpus have been seen before


def _terms(word: str) -> tuple[str, ...]:
    """The terms of a piece of text without spaces, in lower case."""
    return tuple(term for token in _TOKEN.findall(word) for term in _term(token))


def _term(token: str) -> tuple[str, ...]:
    if token == "%":
        return ("percent",)
    if token[0].isdecimal() and token[-1].isdecimal():
        return (_number(token),)
    if re.match(f"[{_CJK}]", token):
        return tuple(token[i : i + 2] for i in range(len(token) - 1)) or (token,)
    stopped, _, ending = token.partition("'")
    if stopped in STOP_WORDS:
        return ()
    plain = stopped.replace(".", "") + (ending if ending != "s" else "")
    year = _YEAR.match(plain)
    return (plain, year[1]) if year else (stem(plain),)


def _number(text: str) -> str:
    if _GROUPED.match(text):
        text = text.replace(",", "")
    elif _GROUPED_BY_POINT.match(text):
        text = text.replace(".", "").replace(",", ".")
    elif "," in text:
        text = text.replace(",", ".") if text.count(",") == 1 and "." not in text else text.replace(",", "")
    if text.count(".") == 1:
        text = text.rstrip("0").rstrip(".")
    return text
