"""What a question asks: the kind of answer, the terms that matter and how much, what it insists on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from modelyard.calc.text import STOP_WORDS, analyse, fold, stem
from modelyard.workloads.chatbot.kinds import Kind, arithmetic, is_polar, kind_of, other_end, superlative
from modelyard.workloads.chatbot.lexicon import DEPARTMENTS, GENERIC, LIGHT, NUMBER_WORDS, plain_verbs, root
from modelyard.workloads.chatbot.values import bases, fits_kind

_UNIT_WORDS = """second minute hour day week month year percent euro dollar pound km kilometre kilometer metre meter
cm mm
kg gram tonne ton litre liter degree bar volt watt people person employee piece unit device user page copy time night"""
_UNITS = frozenset(stem(u) for u in _UNIT_WORDS.split())
_HEADS = frozenset(stem(u) for u in ["people", "person", "employee", "piece", "unit", "device", "user", "page", "copy"])
_CURRENCY = r"(?:EUR|USD|GBP|CHF|DKK|CZK|[$\u20ac\u00a3])"
_NUMBER = re.compile(
    rf"({_CURRENCY}\s?)?(?<![\w.,])(\d[\d,. \u00a0]*\d|\d)(?![\w])(\s?%|\s?{_CURRENCY})?(?:[\s-]+([a-zA-Z]+))?"
)
_DAY_OF_MONTH = re.compile(
    r"(?i)(?<![\w.,])\d\d?(?:st|nd|rd|th)?(?= (?:of )?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))"
)
_YEAR = re.compile(r"(?<![\w.,-])(?:FY|fy)?\s?((?:19|20)\d\d)(?=Q[1-4]\b|(?!\w|[.,]\d))")
_FISCAL = re.compile(r"\b(?:FY|CY|fiscal year)?\s?(?:19|20)\d\d(?:Q[1-4])?\b|\b(?:FY|CY)\b", re.I)
_ID = re.compile(
    r"\b([A-Z][a-z\u00df-\u017f]{2,}|(?i:grade|level|class|tier|band|zone|line|area|phase|step|stage|hall|room|"
    r"table|chapter|section|category|type|"
    r"group|version|page|article|form|floor|gate|bay|platform|unit|model|series|part|severity|priority|site|"
    r"region|annex|appendix|item|note|"
    r"plan|round|batch|size|building|block|code|option|schedule))s?\s+(?:no\.?\s*|number\s+)?(\d{1,4}|[A-Z]|"
    r"[IVX]{1,4})(?![\w.,:]*\d)(?!\w)"
)
_CODE = re.compile(
    r"(?<![\w-])[A-Z]{1,4}(?:-[A-Z0-9]{1,5})*-\d{1,6}[A-Z]?(?![\w-])|"
    r"(?<![\w-])[A-Z]{2,4}[ -]\d{1,4}(?![\w.,-]*\d)(?!\w)"
)
_VERSION = re.compile(
    r"(?<![\w.,])\d+(?:\.\d+){2,}(?![\w])|(?i:\b(?:version|release|v|firmware|build) ?)(\d+(?:\.\d+)+)(?!\w)"
)
_NAME = re.compile(r"[A-Z\u00c0-\u00de][\w\u00c0-\u017f&'-]*|\w*\d\w*[A-Za-z]\w*|[A-Za-z]+\d\w*")
_ASKING_WORDS = """what which who whom whose when where why how is are was were do does did can could may must
should will would"""
_ASKS = frozenset(_ASKING_WORDS.split())
_QUARTER = re.compile(
    r"(?:\b|(?<=\d))(?:q([1-4])|(first|second|third|fourth|1st|2nd|3rd|4th|last|final) quarter)\b", re.I
)
_HALF = re.compile(r"\b(?:h([12])|(first|second|1st|2nd) half)\b(?! (?:an )?(?:hour|day|price))", re.I)
_CALENDAR_WORDS = """christmas easter eve am pm ok okay january february march april may june july august september
october november december monday tuesday wednesday thursday friday saturday sunday i euro euros"""
_CALENDAR = frozenset(_CALENDAR_WORDS.split())


@dataclass(frozen=True)
class Term:
    """One term of a question. `hard`: an answer that does not speak of it is none. `value` for numbers."""

    text: str
    stem: str
    root: str
    weight: float
    kind: Literal["word", "name", "year", "quarter", "number", "id", "compound"] = "word"
    hard: bool = False
    value: float | None = None
    noun: str = ""
    """Stem of the word the number counts or numbers: "year" of "seven years", "grad" of "grade 5"."""
    focus: bool = False
    """Whether it belongs to what is asked for ("dock doors" of "How many dock doors ...")."""
    known: bool = True
    """Whether the documents have this very word."""
    generic: bool = False
    """Whether it is a common word of no field, which a passage may do without."""
    older: bool = False
    """Whether it comes from an earlier question."""


@dataclass(frozen=True)
class Question:
    """A question, analysed."""

    text: str
    kind: Kind
    terms: tuple[Term, ...]
    years: tuple[str, ...]
    superlative: int = 0
    """+1 asks for the greatest, -1 for the least, 0 for neither."""
    polar: bool = False
    sum: str = ""
    """The words that ask for arithmetic over several figures ("by how much"), which no quote does; "" where none."""

    degree: str = ""
    """The word of "how deep"."""

    counted: str = ""
    """Stem of what is counted ("dock doors" -> "door"); "" where nothing is."""

    @property
    def given(self) -> frozenset[str]:
        """What the question itself names, and so does not ask for."""
        kinds = ("year", "number", "id", "name") if self.kind in ("named", "country") else ("year", "number", "id")
        return frozenset(t.stem for t in self.terms if t.kind in kinds)

    @property
    def bases(self) -> frozenset[str]:
        """What an amount is asked for one of."""
        return bases(self.asked) if self.kind in ("money", "number", "thing", "count", "percent") else frozenset()

    @property
    def asked(self) -> str:
        """The sentences that ask, without what leads up to them."""
        return _asked(self.text)

    @property
    def undated(self) -> bool:
        """Whether it names no year, half or quarter."""
        return not any(t.kind in ("year", "quarter") for t in self.terms)

    @property
    def weight(self) -> float:
        return sum(t.weight for t in self.terms) or 1.0


def analyse_question(
    text: str, rarity: Callable[[str], float], everywhere: Callable[[str], bool], inherited: str = ""
) -> Question:
    """`rarity(term)` is 0 for a term of every passage and 1 for one of none; `everywhere(name)` tells whether most
    documents speak of it, so that naming it (the company, say) narrows nothing. Terms of `inherited`, an earlier
    question, weigh half and insist on nothing, but for what it names."""
    question = _analyse(text, rarity, everywhere)
    if not inherited:
        return question
    own = {t.stem for t in question.terms}
    older = _analyse(inherited, rarity, everywhere)
    # What "it" or "there" stands for: the things named before, unless the question names others.
    meant = not any(t.hard and t.kind in ("name", "id") for t in question.terms)
    added = [
        replace(
            t,
            weight=t.weight * (0.7 if t.hard else 0.5),
            hard=meant and t.hard and t.kind in ("name", "id"),
            focus=False,
            older=True,
        )
        for t in older.terms
        if t.stem not in own
    ]
    return replace(question, terms=(*question.terms, *added), years=question.years or older.years)


def _analyse(text: str, rarity: Callable[[str], float], everywhere: Callable[[str], bool]) -> Question:
    clean = " ".join(text.split())
    lower = fold(clean).lower()
    asked = _asked(clean)
    polar = is_polar(asked)
    terms: dict[str, Term] = {}
    years = tuple(dict.fromkeys(m[1] for m in _YEAR.finditer(clean)))
    for year in years:
        terms[year] = Term(year, year, year, 0.6, "year", True, float(year))
    for match in _QUARTER.finditer(clean):
        nth = ("fir", "1st", "", "sec", "2nd", "", "thi", "3rd", "", "fou", "4th", "las", "fin")
        which = f"q{match[1] or min(4, 1 + nth.index(match[2][:3].lower()) // 3)}"
        terms[which] = Term(match[0], which, which, 0.6, "quarter", True)
    for match in _HALF.finditer(clean):
        which = f"h{match[1] or (1 if match[2][0] in '1fF' else 2)}"
        terms[which] = Term(match[0], which, which, 0.6, "quarter", True)
    for term in [*_identifiers(clean), *_numbers(clean, lower)]:
        terms.setdefault(term.stem, term)
    for match in _COMPOUND.finditer(lower):
        if any(part in LIGHT or part in STOP_WORDS or part in NUMBER_WORDS for part in match[0].split("-")):
            # "on-time" is no time: its parts say little, and together they name one thing.
            terms[match[0]] = Term(match[0], match[0], match[0], 0.75, "compound")
    names = _names(clean)
    focus = _focus(lower)
    degree = re.search(r"\bhow ([a-z]+)", lower)
    spent = plain_verbs(_FISCAL.sub(" ", _HALF.sub(" ", _QUARTER.sub(" ", clean))))
    aside = _aside(clean)
    for word in re.findall(r"[^\W_]+(?:[&'.][^\W_]+)*", re.sub(r"(?<=\d)[,.\u00a0](?=\d)", "", spent)):
        for each in analyse(word):
            if each in terms or (each.replace(".", "").isdigit() and each in {t.stem for t in terms.values()}):
                continue
            bare = fold(word).lower().replace("'", "")
            light = bare in LIGHT or each in LIGHT or bare in NUMBER_WORDS or bool(degree and degree[1] == bare)
            if bare.replace(".", "").isdigit():
                continue
            named = word in names and not light
            common = named and everywhere(each)
            weight = 0.12 if light or common else _weight(rarity(each), named)
            if each in aside:
                weight *= 0.4
            is_focus = each in focus and not light
            # An acronym nobody wrote may well stand there in full.
            short = rarity(each) >= 1 and word.isalpha() and word.isupper() and 2 <= len(word) <= 5
            name = named and not common and not short
            terms[each] = Term(
                word,
                each,
                root(each),
                weight * (1.25 if is_focus else 1.0),
                "name" if name else "word",
                name and each not in aside and not (bare in DEPARTMENTS and _acts(clean, word)),
                focus=is_focus,
                known=rarity(each) < 1,
                generic=not name and (each in GENERIC or bare in GENERIC),
            )
    kind: Kind = "polar" if polar else kind_of(fold(asked).lower())
    counted = _COUNTED.search(lower) if kind == "count" else None
    return Question(
        clean,
        kind,
        tuple(terms.values()),
        years,
        superlative(lower),
        polar,
        arithmetic(lower),
        degree[1] if degree else "",
        (analyse(counted[1]) or [""])[-1] if counted else "",
    )


def fits(question: Question, text: str) -> float:
    """1 where `text` holds something of the kind asked for, 0 where it plainly does not, between where one cannot tell.

    Numbers that the question itself names are no answer to it.
    """
    if question.kind in ("date", "clock") and other_end(question.asked, text):
        return 0.0
    names = frozenset(t.stem for t in question.terms if t.weight >= 0.2 or t.text[:1].isupper())
    numbered = frozenset(t.noun for t in question.terms if t.kind == "id" and t.noun)
    return fits_kind(question.kind, text, question.given, question.counted, names, numbered)


_ASKING = (
    r"(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|may|must|should|will)\b"
)
_SENTENCES = re.compile(rf"(?<=[.!?])\s+(?=[A-Z]|(?i:{_ASKING}))|[:;]\s+(?=(?i:{_ASKING}))")


_KNOWS = re.compile(r"(?:do (?:we|you) know|(?:any|no) idea|can you (?:help|tell)(?: me)?|please)\W*", re.I)


def _asked(text: str) -> str:
    """The sentences of `text` that ask, without what leads up to them; all of it where none does."""
    parts = _SENTENCES.split(text)
    if len(parts) > 1 and _KNOWS.fullmatch(parts[-1]):
        return text
    asking = [p for p in parts if p.rstrip().endswith("?")] or [p for p in parts if re.match(_ASKING, p, re.I)]
    return " ".join(asking) or text


def _aside(text: str) -> frozenset[str]:
    """Terms of what only leads up to the question or says how to answer it."""
    return frozenset(analyse(plain_verbs(text))) - frozenset(analyse(plain_verbs(_asked(text))))


def _acts(text: str, department: str) -> bool:
    """Whether the department does something: an answer need not name it. But the number of one is no other's."""
    return re.search(rf"\b(?:of|for|to|in) (?:the )?{re.escape(department)}\b", text) is None


def _weight(rarity: float, named: bool) -> float:
    """A word nobody wrote is as likely another word for something that somebody did, unless it is a name."""
    return 0.75 if rarity >= 1 and not named else 0.25 + 0.75 * rarity


def _identifiers(text: str) -> list[Term]:
    """ "grade 5", "Phase II", "class B": a word and the number that names one of its kind; "H-22", "DN 100": codes."""
    out = []
    for match in _VERSION.finditer(text):
        version = match[1] or match[0]
        each = (analyse(version) or [version])[0]
        out.append(Term(version, each, each, 0.9, "id", True))
    for match in _CODE.finditer(text):
        if not _FISCAL.fullmatch(match[0]) and not re.match(_CURRENCY, match[0]):
            last = analyse(re.split(r"[ -]", match[0])[-1])
            out.append(Term(match[0], last[-1] if last else match[0].lower(), match[0].lower(), 0.9, "id", True))
    for match in _ID.finditer(text):
        noun, value = stem(fold(match[1]).lower()), match[2]
        if value == "I" or (match.start() == 0 and match[1].lower() in _ASKS):
            continue
        if (
            fold(match[1]).lower() in STOP_WORDS | LIGHT | _CALENDAR
            or noun in _UNITS
            or (len(value) == 4 and value[:2] in ("19", "20"))
        ):
            continue
        after = re.match(r"\s+([a-z]+)", text[match.end() :])
        counts = value.isdigit() and after is not None and stem(after[1]) in _UNITS and stem(after[1]) not in _HEADS
        if counts:
            continue
        number = float(value) if value.isdigit() else None
        each = (analyse(value) or [value.lower()])[0]
        out.append(Term(match[0], each, each, 0.9, "id", True, number, noun))
    return out


def _numbers(text: str, lower: str) -> list[Term]:
    out = []
    for match in _NUMBER.finditer(_DAY_OF_MONTH.sub(" ", text)):
        digits = match[2].strip(" .,\u00a0")
        if re.fullmatch(r"(?:19|20)\d\d", digits):
            continue
        each = analyse(digits)
        if len(each) != 1:
            continue
        try:
            value = float(each[0])
        except ValueError:
            continue
        if re.fullmatch(r"\d{1,2}\.\d{1,2}", digits) and not (match[1] or match[3]) and not _measured(match[4]):
            out.append(Term(digits, each[0], each[0], 0.9, "id", True, value))  # a version
            continue
        noun = (
            "euro"
            if match[1] or (match[3] and "%" not in match[3])
            else "percent"
            if match[3]
            else stem((match[4] or "").lower())
        )
        out.append(Term(match[0].strip(), each[0], each[0], 0.5, "number", False, value, noun))
    for match in re.finditer(r"\b([a-z]+)(?=[\s-]+([a-z]+))", lower):
        value_text, noun = NUMBER_WORDS.get(match[1]), match[2]
        if value_text is None:
            continue
        if stem(noun) in _UNITS and match[1] not in ("one", "first", "second", "once"):
            text_, weight = f"{match[1]} {noun}", 0.5
        elif match[1] not in _COMMON_NUMBERS and noun not in STOP_WORDS | LIGHT:
            text_, weight = match[1], 0.3
        else:
            continue
        out.append(Term(text_, value_text, value_text, weight, "number", False, float(value_text), stem(noun)))
    return out


_COMMON_NUMBERS = frozenset(["one", "first", "second", "once", "zero", "third", "two"])


def _measured(word: str | None) -> bool:
    """Whether `word`, which follows a number, is a unit or a scale."""
    return word is not None and (len(word) <= 2 or stem(word.lower()) in _UNITS or word.endswith(("illion", "illions")))


def _names(text: str) -> frozenset[str]:
    """Words written as names: capitals within the sentence, acronyms, codes. The first word only where it is a code."""
    out: set[str] = set()
    start = True
    for match in re.finditer(r"[^\W_]+(?:[&'-][^\W_]+)*|[.?!:]", text):
        word = match[0]
        if word in ".?!:":
            start = word != "."
            continue
        code = any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
        acronym = len(word) > 1 and word.isupper()
        capital = _NAME.fullmatch(word) is not None and word[0].isupper()
        code = code and not re.fullmatch(r"\d+(?:st|nd|rd|th)", word)
        if (code or acronym or (capital and not start)) and fold(word).lower() not in _CALENDAR:
            parts = re.findall(r"[^\W_]+(?:[&'][^\W_]+)*", word)
            out.update(p for p in parts if len(parts) == 1 or not p.islower())  # "Teams-style", "12-year-old"
        start = False
    return frozenset(out)


_FOCUS = re.compile(
    r"(?:\b(?:how many|how much|what|which|whose)\s+(?:is|are|was|were|kind of|type of|sort of)?|"
    r"\bwho(?:'s| is| are| was| were| will be))\s*"
    r"(?:the|an?|our|my|your)?\s*"
    r"((?:[\w-]+\s+){0,3}?[\w-]+)(?=\s+(?:is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|"
    r"have|had|of|in|for|on|at|to|"
    r"per|from|by|when|if|that|with|between|after|before|during|under)\b|[?.,]|\s*$)"
)


_COMPOUND = re.compile(r"(?<![\w-])[a-z]{2,}(?:-[a-z]{2,})+(?![\w-])")
_COUNTED = re.compile(
    r"\bhow many (?:of (?:the|our|my|these|those) )?((?:[\w-]+ ){0,3}?[\w-]+)(?= (?:is|are|was|were|do|does|did|"
    r"can|could|may|must|should|"
    r"will|would|has|have|had|of|in|for|on|at|to|per|from|by|with|there)\b|[?.,]|\s*$)"
)


def _focus(lower: str) -> frozenset[str]:
    match = _FOCUS.search(lower)
    return frozenset(analyse(match[1])) if match else frozenset()


def rarity_of(frequency: int, passages: int) -> float:
    """0 for a term in every passage, 1 for a term in none."""
    if passages <= 0:
        return 1.0
    return max(0.0, min(1.0, math.log((passages + 1) / (frequency + 1)) / math.log(passages + 1)))
