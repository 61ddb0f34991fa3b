"""What a statement has for and against it as the answer to a question: shares of what is asked, and what is missing.

Pure functions of the question and the statement's own words; what each mark weighs is a setting of the chain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from modelyard.calc.text import stem
from modelyard.workloads.chatbot.kinds import STRICT
from modelyard.workloads.chatbot.lexicon import bag
from modelyard.workloads.chatbot.match import strength
from modelyard.workloads.chatbot.question import Question, Term, fits
from modelyard.workloads.chatbot.table import Table
from modelyard.workloads.chatbot.values import bases

Zones = Sequence[tuple[str, float]]
"""(text, weight): where terms of the question may be met; those of a cell begin with the labels of row and column."""

_TAME = 0.25
"""What a common word of no field weighs of its weight, where the subject of a question is looked for."""
_ANY = frozenset(["piec", "unit", "item"])
"""An amount for one of these is for one of whatever is asked about."""
_SENTENCES = re.compile(r"(?<!\bMr\.|\bDr\.|\bSt\.|\bNo\.)(?<!\bProf\.)(?<!\bMrs\.)(?<=[.!?])\s+(?=[A-Z])")
_CLAUSES = re.compile(_SENTENCES.pattern + r"|;\s+|,\s+(?=(?:and|but|while|whereas)\b)")
_MONEY = re.compile(r"\b(?:euro|dollar|pound|franc|crown|yen)s?\b", re.I)
_IN_MONEY = re.compile(r"\bin (euro|dollar|pound|franc|crown|yen)s?\b", re.I)
_AMOUNT = re.compile(
    r"\b(?:costs?|fees?|prices?|rates?|shares?|deposits?|limits?|charges?|rents?|amounts?|percentage|budgets?|bonus(?:es)?|"
    r"sales|turnover|profits?|loss(?:es)?|interest|fines?|salar(?:y|ies)|tax(?:es)?|dividends?|allowances?|score|number)\b",
    re.I,
)
"""What is high without being tall."""
_BEYOND = re.compile(r"\bhow far (?:over|above|beyond|below|under|up|down)\b", re.I)
"""By how much, which is no distance."""
_RATE = re.compile(r"\b(?:per|(?:for |in |out of )every) [\d,.]*\d\b")
_WITHOUT = re.compile(r"\b(?:without|excluding|except(?: for)?|not counting)\s((?:[\w-]+\s?){1,3})", re.I)
_ALONE = re.compile(r"\b(?:alone|on (?:its|their|his|her) own|by itself|separately)\b", re.I)
_OF_ANY = r"(?!(?:of|and|or|for|is|number|amount|value)\b)[a-z]{3,}"
_SORTS = tuple(
    (re.compile(rf"\b(?:{sorts})\b", re.I), re.compile(rf"\b({sorts})[ -]({heads})\b", re.I))
    for sorts, heads in (
        ("net|gross|operating|pre-?tax", r"profits?|loss|income|margin|result|earnings|sales"),
        ("net|gross", r"weight|salary|pay|wages?|price|amount"),
        ("minimum|maximum|average", _OF_ANY),
        ("planned|actual", _OF_ANY),
        (r"maternity|paternity|parental|adoption|sick|study|bereavement|compassionate|carer'?s'?", "leave|pay"),
        ("internal|external", _OF_ANY),
        ("indoor|outdoor", _OF_ANY),
    )
)
"""Sorts of a thing that exclude each other: alone, and with what they are sorts of."""
_PARTS = re.compile(r"\s*\([^()]*\)|,\s|\s(?:and|or|/)\s")
_DEGREES = {
    "deep": "deep depth",
    "high": "high height tall above",
    "tall": "high height tall",
    "wide": "wide width broad",
    "thick": "thick thickness",
    "loud": "loud noise sound decibel db volume quiet",
    "old": "old age aged built founded born since",
    "far": "far distance away km kilometre kilometer metre minute mile walk",
    "heavy": "heavy weight weigh kg",
    "fast": "fast speed quick within rapid soon",
    "long": "long length lasts lasting duration time period",
}
_SPELT = {word: bag(words).roots for word, words in _DEGREES.items()}


def told(question: Question, text: str) -> float:
    """Share of the words of `text` that the question itself says: what only echoes it answers nothing."""
    words = bag(text).stems
    return sum(t.stem in words for t in question.terms) / len(words) if words else 1.0


def share(question: Question, covered: Mapping[str, float]) -> float:
    """Share of the question's terms, by weight, that are met. covered: stem -> how well, from 0 to 1."""
    return sum(t.weight * covered[t.stem] for t in question.terms) / question.weight


def subject(question: Question, literal: Mapping[str, float], covered: Mapping[str, float]) -> dict[str, float]:
    """How well a statement speaks of the question's subject, that is of the words that name it.

    subject, said: shares of the subject met at all, and met by its own words or such as stand for them. foreign: share
    left unsaid by words that the documents have elsewhere, so that this is most likely another thing. least: how well
    the word met worst is. unsaid: weight of what is asked for itself ("yield" of "What was the yield ...") and not met.
    """
    named = [t for t in question.terms if t.kind in ("word", "name", "compound") and t.weight >= 0.3 and not t.generic]
    tame = _tame(question)
    total = sum(tame.values()) or 1.0
    essential = [t for t in question.terms if t.weight >= 0.3 and not t.generic]
    return {
        "subject": sum(tame[s] * covered[s] for s in tame) / total,
        "said": sum(tame[s] * literal[s] for s in tame) / total,
        "foreign": sum(t.weight * (1 - literal[t.stem]) for t in named if t.known) / total,
        "least": min((covered[t.stem] for t in essential if t.weight >= 0.5), default=1.0),
        "unsaid": sum(t.weight * (1 - covered[t.stem]) for t in named if t.focus),
    }


def held(question: Question, own: str, zones: Zones, cell: bool) -> dict[str, float]:
    """Whether what is asked for stands where the subject is spoken of.

    local: share of the subject met by the very clause that holds it, headings aside; of a cell, by its labels. astray:
    1 where one sentence of two speaks of the subject and only the other holds it. basis: 1 where an amount is for one
    of another thing (a week, a user) than asked, or a rate ("per 10,000 pieces") where a count is; baseless: 1 where it
    is for one of nothing said.
    """
    asked = question.bases
    around = " ".join(text for text, _ in zones[:3])
    rate = question.kind == "count" and _RATE.search(around if cell else own) and not _RATE.search(question.text)
    given = bases(around) if asked else frozenset()
    clauses = [" ".join(text for text, _ in zones[:2])] if cell else _CLAUSES.split(own)
    return {
        "local": _best(question, clauses)[0],
        "astray": 0.0 if cell else _astray(question, own),
        "basis": float(
            bool(rate) or (bool(given) and given.isdisjoint(asked | _ANY)) or _foreign_money(question, around)
        ),
        "baseless": float(bool(asked) and not given),
        "sum": float(bool(question.sum) and question.sum not in own.lower()),
    }


def _foreign_money(question: Question, around: str) -> bool:
    """Whether an amount in one currency is asked for and others are told."""
    asked = {m[1].lower() for m in _IN_MONEY.finditer(question.text)}
    told_ = {m[0].lower().rstrip("s") for m in _MONEY.finditer(around)}
    return bool(asked and told_) and asked.isdisjoint(told_)


def missing(question: Question, covered: Mapping[str, float], fit: float, zones: Zones) -> dict[str, float]:
    """hard: how many names and numbers that are insisted on are missing; half for an acronym that no document has.
    misfit: 1 where there is plainly nothing of the kind asked for, and as much where nothing of the dimension. year: 1
    where the year, half or quarter asked about is not spoken of."""
    unmet = [t for t in question.terms if covered[t.stem] < 0.5]
    acronyms = sum(not t.known and not t.hard and t.text.isupper() and t.weight >= 0.5 for t in unmet)
    return {
        "hard": sum(t.hard for t in unmet) + 0.5 * acronyms,
        "misfit": float(question.kind in STRICT and fit == 0) + _unmeasured(question, zones),
        "year": float(any(t.kind in ("year", "quarter") for t in unmet)),
    }


def left_out(question: Question, texts: Sequence[str]) -> bool:
    """Whether `texts` say that what they tell is without what is asked about: "headcount, without agency workers"."""
    if _WITHOUT.search(question.text):
        return False
    asked = bag(question.text).stems
    parts = (bag(m[1]).stems for text in texts for m in _WITHOUT.finditer(text))
    return any(len(words) > 1 and words <= asked for words in parts)


def one_of_several(question: Question, row: str) -> bool:
    """Whether the question asks for one thing by itself, and `row` is called after that and others."""
    if not _ALONE.search(question.text):
        return False
    asked = bag(question.text).stems
    named = [not bag(part).stems.isdisjoint(asked) for part in re.split(r",\s|\s(?:and|&)\s", row)]
    return any(named) and not all(named)


def opposed(question: Question, own: str, around: str) -> bool:
    """Whether the question asks for one sort of a thing and `own`, a statement with its labels, tells another: the net
    profit, the operating one. Not where the sort that is asked for is named at all, in `around` too."""
    for sorts, with_heads in _SORTS:
        asked, told_ = with_heads.findall(question.text), with_heads.findall(own)
        heads = {stem(head.lower()) for _, head in asked} & {stem(head.lower()) for _, head in told_}
        if not heads:
            continue
        named = {_sort(each) for each in sorts.findall(around.replace("before tax", "pretax"))}
        if named.isdisjoint(_sort(each) for each, head in asked if stem(head.lower()) in heads):
            return True
    return False


def _sort(word: str) -> str:
    """However it is spelt: "pre-tax", "Carers'"."""
    return re.sub(r"[^a-z]", "", word.lower()).rstrip("s")


def names_one(question: Question, term: Term) -> bool:
    """Whether the term may name one row or column among others."""
    return not term.generic and not term.older and term.kind != "number" and not bases(term.text)


def named_rows(question: Question, table: Table) -> frozenset[int]:
    """The rows whose label, or a part of it, the question names in full: "Sunday" of "Sunday and public holiday"."""
    spoken = bag(question.text).stems
    out = set()
    for at, row in enumerate(table.rows):
        parts = (bag(part).stems for part in _PARTS.split(row.cells[0]))
        if any(words and words <= spoken and not all(w.isdigit() for w in words) for words in parts):
            out.add(at)
    return frozenset(out)


def _tame(question: Question) -> dict[str, float]:
    return {t.stem: t.weight * (_TAME if t.generic and t.weight >= 0.3 else 1.0) for t in question.terms}


def _best(question: Question, texts: Sequence[str]) -> tuple[float, float]:
    """Shares of the question's subject met: by that of `texts` which holds what is asked for, and by any."""
    tame = _tame(question)
    total = sum(tame.values()) or 1.0
    shares = [sum(tame[t.stem] * strength(t, text) for t in question.terms) / total for text in texts]
    fit = [fits(question, text) for text in texts] if len(texts) > 1 else [1.0]
    return max(s for s, f in zip(shares, fit, strict=True) if f == max(fit)), max(shares)


def _astray(question: Question, own: str) -> float:
    sentences = _SENTENCES.split(own)
    there, anywhere = _best(question, sentences)
    return float(len(sentences) > 1 and there < 0.3 * anywhere)


def _unmeasured(question: Question, zones: Zones) -> bool:
    """Whether the question asks how deep something is and the statement says nothing of depth."""
    wanted = _SPELT.get(question.degree)
    if wanted is None or (question.degree in ("long", "fast", "far") and question.kind == "duration"):
        return False
    if (question.degree == "high" and _AMOUNT.search(question.text)) or _BEYOND.search(question.text):
        return False
    return all(wanted.isdisjoint(bag(text).roots) for text, weight in zones if weight >= 0.9)
