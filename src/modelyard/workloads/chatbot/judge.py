"""The judgement of one answer: right, wrong or refused. A pure function, used by the exam and by the benchmarks alike.

*Right*: one of the gold answers stands in an answer of at most 60 words that cites a gold page. Everything else that
was not refused is wrong, so an answer to an unanswerable question is wrong,
and a true quote that does not answer is too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

MOST_WORDS = 60

Judgement = Literal["right", "wrong", "refused"]

_DASHES = str.maketrans({"\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2011": "-", "\u2019": "'", "\u2018": "'"})


_ZEROS = re.compile(r"(?<=\d)\.0+(?![\d.,]*\d)|(?<=\d)(?<=\.\d)0+(?![\d.,]*\d)")


def judge(
    answers: Sequence[str], evidence: Sequence[Mapping[str, Any]], unanswerable: bool, output: Mapping[str, Any]
) -> Judgement:
    """Judge `output` ({"answer", "refused", "citations": [{"document", "page"}]}) of one question.

    `answers` are the gold answers, one of which suffices; `evidence` the gold pages ([{"document", "page"}]). Raises
    nothing: an answerable question without gold answers or pages can only be wrong or refused.
    """
    if output.get("refused"):
        return "refused"
    if unanswerable:
        return "wrong"
    answer = str(output.get("answer", ""))
    if len(answer.split()) > MOST_WORDS:
        return "wrong"
    cited = {(c.get("document"), c.get("page")) for c in output.get("citations", ())}
    if not any((e.get("document"), e.get("page")) in cited for e in evidence):
        return "wrong"
    return "right" if any(stands_in(gold, answer) for gold in answers) else "wrong"


def stands_in(gold: str, answer: str) -> bool:
    """Whether `gold` stands in `answer`, white space and case folded, as whole words and whole numbers, which may be
    written with fewer or more zeros after the point (429 is 429.00).

    >>> stands_in("145 euros", "Grade 5: 1,145 euros"), stands_in("145 Euros", "Grade 5:  145  euros per night")
    (False, True)
    """
    wanted = _ZEROS.sub("", plain(gold))
    if not wanted:
        return False
    # A number is no part of a longer one: neither 45 of 1,45 nor 12 of 12.5, but "12." ends a sentence.
    before = r"(?<![\w])(?<!\d[.,])" if wanted[0].isalnum() else ""
    after = r"(?![\w])(?![.,]\d)" if wanted[-1].isalnum() else ""
    return re.search(before + re.escape(wanted) + after, _ZEROS.sub("", plain(answer))) is not None


def plain(text: str) -> str:
    """`text` for comparing: compatibility forms resolved, case folded, dashes alike, one space between words."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_DASHES).split())
