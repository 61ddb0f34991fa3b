"""What one answer is worth: columns of a case, and the figures made of them. Pure functions.

Retrieval is measured by page, against the pages that hold the evidence, with binary relevance: recall at k, reciprocal
rank and nDCG at 10 (Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002). Token F1 is SQuAD's
(Rajpurkar et al. 2016), without its list of articles.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from modelyard.ports.index import Passage
from modelyard.ports.workload import Case, Metric, Response, Row
from modelyard.workloads.base import mean, ratio
from modelyard.workloads.chatbot.cite import Citation, verify
from modelyard.workloads.chatbot.judge import judge, plain

KS = (1, 5, 10)
COLUMNS = (
    *(f"recall@{k}" for k in KS),
    "reciprocal_rank",
    "ndcg@10",
    "right",
    "wrong",
    "refused",
    "token_f1",
    "numeric_match",
    "citation_precision",
    "citation_validity",
    "groundedness",
    "abstained",
    "abstained_rightly",
    "unanswerable",
)
"""Of an answerable case only: the retrieval columns, right, refused, token_f1, numeric_match, citation_precision. Of
any case: wrong, abstained, abstained_rightly, unanswerable. Of an answered case: citation_validity, groundedness."""

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        *(mean(f"recall@{k}") for k in KS),
        mean("mrr", "reciprocal_rank"),
        mean("ndcg@10"),
        mean("right"),
        mean("wrong", higher_is_better=False),
        mean("refused", higher_is_better=False),
        mean("token_f1"),
        mean("numeric_match"),
        mean("citation_precision"),
        mean("citation_validity"),
        mean("groundedness"),
        ratio("abstention_precision", "abstained_rightly", "abstained"),
        ratio("abstention_recall", "abstained_rightly", "unanswerable"),
    )
}

_NOWHERE = Passage("", "", 0, 0, 0, "", "", "", "", "", "")
_SCALES = {"thousand": 3, "million": 6, "mn": 6, "m": 6, "billion": 9, "bn": 9}
_NUMBER = re.compile(
    r"(?<![\w.])(?P<open>\()?(?P<sign>[-\u2212\u2013])?\s?(?:[$€£]|EUR|USD|GBP)?\s?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<close>\))?"
    r"(?:\s?(?P<percent>%|percent\b|per cent\b)|\s?(?P<scale>thousand|million|billion|mn|bn|m)\b)?",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(\u201c]?[A-Z0-9])|\n+")


def score(case: Case, response: Response) -> Row:
    """The columns of a case. A response of another form than a chatbot's is unscored, with the reason."""
    output = response.output
    problem = _problem(output)
    values: dict[str, float | None] = dict.fromkeys(COLUMNS)
    if problem is None:
        values.update(_columns(case, output))
    return Row(case.id, values, problem, case.slices, case.cluster, case.origin, output)


def _problem(output: Mapping[str, Any]) -> str | None:
    if not isinstance(output.get("refused"), bool) or not isinstance(output.get("answer"), str):
        return "the response does not say what it answered, or whether it refused"
    for key in ("citations", "retrieved"):
        rows = output.get(key)
        if not isinstance(rows, Sequence) or not all(isinstance(r, Mapping) and "document" in r for r in rows):
            return f"the response has no list of {key}"
    checks = output.get("checks")
    if not isinstance(checks, Mapping) or not {"quotes_stand", "sentences", "supported"} <= checks.keys():
        return "the response's citations were not checked"
    return None


def _columns(case: Case, output: Mapping[str, Any]) -> dict[str, float | None]:
    answers, unanswerable = case.expected["answers"], bool(case.expected["unanswerable"])
    verdict = judge(answers, case.evidence, unanswerable, output)
    refused = bool(output["refused"])
    gold = {(each["document"], each["page"]) for each in case.evidence}
    cited = [(each["document"], each.get("page")) for each in output["citations"]]
    values: dict[str, float | None] = {
        "wrong": float(verdict == "wrong"),
        "abstained": float(refused),
        "abstained_rightly": float(refused and unanswerable),
        "unanswerable": float(unanswerable),
    }
    if not refused:
        values |= _check_columns(output["checks"])
    if unanswerable:
        return values
    answer = "" if refused else output["answer"]
    values |= retrieval(gold, [(each["document"], each.get("page")) for each in output["retrieved"]])
    values["right"], values["refused"] = float(verdict == "right"), float(refused)
    values["token_f1"] = max((token_f1(each, answer) for each in answers), default=0.0)
    values["numeric_match"] = numeric_match(answers, answer)
    values["citation_precision"] = sum(page in gold for page in cited) / len(cited) if cited else None
    return values


def retrieval(gold: set[tuple[Any, Any]], found: Sequence[tuple[Any, Any]]) -> dict[str, float | None]:
    """recall@k, reciprocal rank and nDCG@10 of pages found, best first; a page counts at its best rank. Each is within
    0..1; all None where there is no gold page."""
    if not gold:
        return {}
    pages = list(dict.fromkeys(found))
    ranks = [rank for rank, page in enumerate(pages, start=1) if page in gold]
    values: dict[str, float | None] = {f"recall@{k}": sum(r <= k for r in ranks) / len(gold) for k in KS}
    values["reciprocal_rank"] = 1.0 / ranks[0] if ranks else 0.0
    ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(10, len(gold)) + 1))
    values["ndcg@10"] = sum(1.0 / math.log2(rank + 1) for rank in ranks if rank <= 10) / ideal
    return values


def token_f1(gold: str, answer: str) -> float:
    """Harmonic mean of precision and recall of words, in 0..1; 0 where either has none.

    >>> round(token_f1("195 euros", "195 euros per night"), 3)
    0.667
    """
    wanted, given = (Counter(re.findall(r"\w+(?:[.,]\d+)*", plain(text))) for text in (gold, answer))
    common = (wanted & given).total()
    return 2 * common / (wanted.total() + given.total()) if common else 0.0


@dataclass(frozen=True)
class Number:
    """A number as written: its value, and the power of ten a scale word gives (None without one)."""

    value: Decimal
    power: int | None = None

    def agrees(self, other: Number) -> bool:
        """Equal in full; where one has no scale word ("in millions" stands over the table), equal as written."""
        if self.power is None or other.power is None:
            return self.value == other.value or self.full == other.full
        return self.full == other.full

    @property
    def full(self) -> Decimal:
        return self.value.scaleb(self.power or 0)


def numbers(text: str) -> list[Number]:
    """The numbers in `text`: "(1,240)" is -1240, "1.2 million" is 1.2 with power 6; a percentage is its number."""
    found = []
    for match in _NUMBER.finditer(text):
        value = Decimal(match["digits"].replace(",", ""))
        negative = match["sign"] is not None or (match["open"] is not None and match["close"] is not None)
        scale = match["scale"]
        found.append(Number(-value if negative else value, _SCALES[scale.lower()] if scale else None))
    return found


def numeric_match(answers: Sequence[str], answer: str) -> float | None:
    """1.0 where every number of one gold answer stands in `answer`; None where no gold answer has a number."""
    wanted = [found for found in map(numbers, answers) if found]
    if not wanted:
        return None
    given = numbers(answer)
    return float(any(all(any(n.agrees(g) for g in given) for n in each) for each in wanted))


def checked(output: Mapping[str, Any], text_of: Callable[[str, int], str]) -> dict[str, Any]:
    """What the pages themselves say of an answer: {quotes_stand: [bool per citation], sentences, supported}.

    `text_of(document, page)` is the text of a page, "" where there is none. A quote stands where the page's
    [start:end) is the quote, letter by letter. A sentence is supported where one cited page holds its numbers and
    most of its words (`cite.verify`); a refusal has no sentences.
    """
    stand, pages = [], []
    for citation in output["citations"]:
        text = text_of(citation["document"], citation["page"])
        start, end, quote = citation["start"], citation["end"], citation["quote"]
        stand.append(bool(quote.strip()) and 0 <= start < end and text[start:end] == quote)
        pages.append(text)
    said = [] if output["refused"] else [part for part in _SENTENCE.split(output["answer"]) if plain(part)]
    supported = sum(any(supports(sentence, text) for text in pages) for sentence in said)
    return {"quotes_stand": stand, "sentences": len(said), "supported": supported}


def signals(response: Response) -> dict[str, float]:
    """Of a live answer: `abstained`, and of what was answered its words, citations, and the shares of quotes that
    stand where they are cited and of sentences that the cited pages support."""
    output = response.output
    if output.get("refused"):
        return {"abstained": 1.0}
    found = {"abstained": 0.0, "words": float(len(response.text.split())), "citations": float(len(output["citations"]))}
    return found | {name: value for name, value in _check_columns(output["checks"]).items() if value is not None}


def supports(sentence: str, text: str) -> bool:
    """Whether `text` holds every number of `sentence` and most of its words."""
    return verify(sentence, Citation(_NOWHERE, text, 0, len(text)), text)


def _check_columns(checks: Mapping[str, Any]) -> dict[str, float | None]:
    """Of an answered case. An answer that cites nothing has no citation that holds, so it counts as 0."""
    stand, sentences = checks["quotes_stand"], checks["sentences"]
    return {
        "citation_validity": sum(stand) / len(stand) if stand else 0.0,
        "groundedness": checks["supported"] / sentences if sentences else 0.0,
    }
