"""The values that a text holds: each number with what it counts or measures, dates, people. English.

From them follows whether a text can answer a question of a kind at all: a price is no number of beds, a date is nobody.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from modelyard.calc.text import analyse, stem
from modelyard.workloads.chatbot.kinds import MEASURED, Kind
from modelyard.workloads.chatbot.lexicon import NEAR, NUMBER_WORDS, PLACES, bag, root

Sort = Literal["plain", "fraction", "money", "percent", "time", "measure", "clock", "date", "year", "code"]

_WORDS = "|".join(w for w in NUMBER_WORDS if w not in ("first", "second", "third"))
_SCALE = r"(?:thousands?|millions?|billions?)"
_FULL_MONTH = r"(?:january|february|march|april|june|july|august|september|october|november|december)"
_MONTH = rf"(?:{_FULL_MONTH}|may|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)"
_WEEKDAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
_CURRENCY = r"(?:(?:euros?|eur|dollars?|usd|pounds?|gbp|chf|cents?|pence)\b|[$\u20ac\u00a3])"
_TIME = r"(?:seconds?|sec|minutes?|min|hours?|h|days?|nights?|weeks?|weekends?|months?|quarters?|years?|ms)\b"
_UNIT = (
    r"(?:(?:characters?|words|km/h|km|m|mm|cm|kg|g|t|gb|mb|tb|kb|kwh|mwh|kw|mw|bar|v|w|db|degrees?|litres?|liters?|l|metres?|meters?|"
    r"kilometres?|kilometers?|millimetres?|centimetres?|miles?|feet|inch(?:es)?|kilos?|kilograms?|grams?|tons?|"
    r"tonnes?|kilowatt-hours?|megawatt-hours?|watts?|volts?|pixels?|gigabytes?|megabytes?|square|cubic|hectares?)\b"
    r"|\u00b0)"
)
_NUMBER = re.compile(
    r"\b(?P<clock>\d\d?:\d\d|\d\d?\.\d\d(?=\s(?:to|until|and)\b|\s?[-\u2013]\s?\d)|"
    r"\d\d?(?:[:.]\d\d)?\s?(?:am|pm|a\.m\.|p\.m\.|o'clock)(?!\w))"
    r"|(?P<sign>[$\u20ac\u00a3]\s?|\b(?:EUR|USD|GBP|CHF)\s)?"
    rf"(?<!\w)(?P<number>\d[\d.,\u00a0]*\d|\d|(?:{_WORDS})\b)",
    re.I,
)
_SORTS: tuple[tuple[re.Pattern[str], Sort], ...] = (
    (re.compile(r"\s?(?:%|percent\b|per cent\b|percentage points?\b)", re.I), "percent"),
    (re.compile(rf"\s?(?:{_SCALE}\s)?(?:of )?(?:us |net )?{_CURRENCY}", re.I), "money"),
    (
        re.compile(
            rf"[\s-]?(?:(?:working|calendar|full|whole|business|consecutive|completed|more|further|additional|extra)\s)?{_TIME}",
            re.I,
        ),
        "time",
    ),
    (re.compile(rf"\s?{_UNIT}", re.I), "measure"),
    (re.compile(rf"(?:st|nd|rd|th)?\s(?:of\s)?{_MONTH}\b", re.I), "date"),
)
_THEN = re.compile(rf"\s?(?:to|or|[-\u2013/])\s?(?=\d|(?:{_WORDS})\b)", re.I)
_AFTER_NAME = re.compile(r"(?<!\w)([A-Z\u00c0-\u00de][\w\u00c0-\u017f]+)\s\Z")
_LISTED = re.compile(r",?\s(?:and|or|to)\s|,\s")
_YEAR = re.compile(r"(?:19|20)\d\d")
_POINTED = re.compile(r"\d\d?\.\d\d")
_FROM_CLOCK = re.compile(r"\d[:.]\d\d\s?(?:to|until|and|[-\u2013])\s?\Z")
_FRACTION = re.compile(r"\.\d{1,2}\Z|,\d\d\Z")
_AFTER_MONTH = re.compile(rf"\b{_MONTH}\s\Z", re.I)
_NUMBERED = re.compile(
    r"(?:[A-Z]{2,}[ -]|[A-Za-z]-|\b(?:[Tt]able|[Ff]igure|[Gg]rade|[Ll]evel|[Pp]age|[Cc]hapter|[Ss]ection|[Aa]rticle|"
    r"[Pp]hase|[Ff]orm|[Rr]oom|[Ll]ine|[Cc]lass|[Ss]tep|[Pp]art|[Nn]o\.|[Vv]ersion|[Rr]elease|[Hh]all|[Aa]nnex)s?\s)\Z"
)
"""What stands before a number that names a thing and counts none: "Table 5", "TW-204", "ISO 27001"."""


_CLAUSE_ENDS = re.compile(r"[.,;:()\n]|\s(?:an?|per|each|every|for (?:each|every))\s")
"""What a number counts ends here: of "two cases a member" it counts no members."""


@dataclass(frozen=True)
class Number:
    """A number of a text. term: as the index has it. after: roots of the words that follow it in its clause. of: the
    name that it stands behind, as the "ferrel" of "Ferrel 80 and 100"; "" for none."""

    term: str
    sort: Sort
    after: tuple[str, ...]
    of: str = ""


@lru_cache(maxsize=1 << 13)
def numbers(text: str) -> tuple[Number, ...]:
    """The numbers of `text`, in digits or as words. The first of a range ("5 to 9 days") is of the sort of its last."""
    found = list(_NUMBER.finditer(text))
    out: list[Number] = []
    for at in range(len(found) - 1, -1, -1):
        match, rest = found[at], text[found[at].end() :]
        sort = _sort(match, text[: match.start()], rest)
        range_ = _THEN.match(rest)
        follows = range_ and at + 1 < len(found) and found[at + 1].start() == match.end() + range_.end()
        if follows and sort in ("plain", "fraction", "year"):
            sort = out[-1].sort
        term = NUMBER_WORDS.get(match[0].lower()) or (analyse(match["number"] or match[0]) or [""])[0]
        clause = _CLAUSE_ENDS.split(rest, maxsplit=1)[0]
        out.append(Number(term, sort, tuple(root(t) for t in analyse(clause)[:4])))
    out.reverse()
    for at, match in enumerate(found):
        if not match[0].isdigit():
            continue  # "Osprey 12,400" are so many
        if name := _AFTER_NAME.search(text[: match.start()]):
            out[at] = replace(out[at], of=(analyse(name[1]) or [""])[-1])
        elif at and out[at - 1].of and _LISTED.fullmatch(text[found[at - 1].end() : match.start()]):
            out[at] = replace(out[at], of=out[at - 1].of)
    return tuple(out)


def _sort(match: re.Match[str], before: str, after: str) -> Sort:
    if match["clock"] or (_POINTED.fullmatch(match["number"]) and _FROM_CLOCK.search(before)):
        return "clock"
    if match["sign"]:
        return "money"
    for pattern, sort in _SORTS:
        if pattern.match(after):
            return sort
    if _AFTER_MONTH.search(before):
        return "date"
    if _YEAR.fullmatch(match["number"]):
        return "year"
    if _NUMBERED.search(before) or after[:1].isalpha():
        return "code"
    return "fraction" if _FRACTION.search(match["number"]) else "plain"


_MONEY = re.compile(
    r"[$\u20ac\u00a3]|\b(?:euros?|eur|dollars?|usd|pounds?|gbp|chf|cents?|free|price|charge|pay|paid)\b", re.I
)
_FREE = re.compile(r"\b(?:free|no (?:charge|fee|cost)s?|nothing|without charge|unpaid)\b", re.I)
_PART = re.compile(r"\b(?:half|double|twice|thirds?|quarters?)\b", re.I)
_PERCENT = re.compile(
    r"%|\bpercent\b|\bper cent\b|\b(?:half|thirds?|three quarters|twentieths?|(?:one|a) (?:fifth|tenth|quarter))\b",
    re.I,
)
_LASTING = re.compile(
    r"\b(?:immediately|at once|permanent(?:ly)?|(?:for)?ever|same (?:working )?day|unlimited|indefinitely|overnight|"
    r"half (?:an? )?(?:hour|day|year)|(?:(?:within|in|for|after|takes?|lasts?|least|most|about|over|under|than|until|"
    r"is) an?|several|few|next|following) (?:(?:working|full|whole) )?(?:second|minute|hour|day|week|month|year)s?|"
    r"an? (?:minute|hour|day|week|month|year) (?:before|after|ahead|earlier|later))\b",
    re.I,
)
_SPANS = re.compile(rf"\b(?:minutes|hours|days|nights|weeks|weekends|months|years)\b[^.;]*\b(?:\d+|{_WORDS})\b", re.I)
_UNTIL = re.compile(
    rf"\b(?:within|until|by|before|after)\s(?:the\s)?(?:\d|{_MONTH}\b|{_WEEKDAY}\b|end\b|noon|midnight)", re.I
)
_OFTEN = re.compile(
    r"\b(?:every|each|once|twice|daily|weekly|monthly|quarterly|yearly|annual(?:ly)?|continuous(?:ly)?|nightly|hourly|"
    r"intervals?|constantly|repeat\w*|times)\b|\b(?:per|an?) (?:day|week|month|year)\b",
    re.I,
)
_DATED = re.compile(
    rf"\b(?:{_WEEKDAY}|{_FULL_MONTH}|q[1-4]|noon|midnight|christmas|easter|(?:first|second|third|fourth|last) "
    r"(?:quarter|half|week|day|month))\b",
    re.I,
)
_WHEN = re.compile(
    r"\b(?:immediately|at once|never|soon|when|once|after|before|until|during|always|every|each|daily|weekly|"
    r"monthly)\b",
    re.I,
)
_TITLE = re.compile(
    r"(?<![\w\"\u201c'])[A-Z\u00c0-\u00de][\w'\u00c0-\u017f]+(?: (?:van|von|de|der|den|da|[A-Z]\.))*"
    r" [A-Z\u00c0-\u00de][\w'\u00c0-\u017f]+"
)
_NOBODY = re.compile(
    rf"(?:{_MONTH}|{_WEEKDAY}|the|an?|in|on|at|for|from|between|all|new|north|south|east|west|table|united|european|"
    r"group|site|hall|building|street|road|policy|manual|guide|handbook|union|version|release)",
    re.I,
)
_ROLE = re.compile(
    r"\b(?:manager|director|officer|head(?! office)|lead|engineer|physician|doctor|nurse|counsel|supervisor|executive|"
    r"owner|founder|chair|secretary|buyer|approver|leader|author|auditor|operator|teacher|coordinator|caretaker|midwife|"
    r"expert|president|contractor|mayor|chief|deputy|assistant|planner|administrator|librarian|pharmacist|ceo|cfo)s?\b",
    re.I,
)
_BODY = re.compile(
    r"\b(?:team|desk|board|department|committee|staff|people|finance|reception|whoever|customer|supplier|everyone|"
    r"everybody|anyone|anybody|nobody|member|person|name|contact|responsible|payroll|facilities|council|employee|employer|"
    r"colleague|technician|parent|volunteer|visitor|patient|guest|security|role)s?\b",
    re.I,
)
_PHONE = re.compile(r"\+?\(?\d[\d /()-]{5,}\d|(?<![\d.,])\d{3,6}(?![\d.,]*\d)(?!\s?(?:%|[a-z]))", re.I)
_CALL = re.compile(
    r"\b(?:(?:tele)?phone|tel|call|dial|extension|switchboard|hotline|mobile|ring|number|line)s?\b", re.I
)
_CAUSE = re.compile(
    r"\b(?:because|since|due to|owing to|thanks to|so that|in order|therefore|thus|hence|reasons?|why|caus\w+|"
    r"(?:as a|the) result of|result(?:s|ed|ing) (?:from|in)|for (?:want|fear|lack)|"
    r"as (?:it|they|he|she|we|the|there|no|too|an?)\b|"
    r"to (?:avoid|keep|save|protect|prevent|make|ensure|spare|reduce|allow|give|let|cut)|otherwise|too \w+|prevent\w*|"
    r"led to|make\w* it|after (?:an?|the|two|three|several)|when (?:an?|the)|blam\w+|trigger\w+|mean(?:s|t|ing)|"
    r"failed|broke|fault\w*|lack\w*)\b",
    re.I,
)
_SECRET = re.compile(
    r"(?<![\w.,])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{3,}|(?<![\d.,])\d{4,}(?![\d.,]*\d)|"
    r"[\"\u201c\u2018'][^\s\"\u201d]+[\"\u201d\u2019']|"
    r"\b(?:password|passcode|pin|code)s? (?:is|are|was|of)"
    r"(?! (?:changed?|set|kept|given|locked|not|in|on|at|for|new|the|an?)\b)",
)
_PLACE = re.compile(
    r"(?<=[a-z,] )[A-Z\u00c0-\u00de]\w+|\b(?:rooms?|building|hall|floor|portal|intranet|site|office|reception|desk|"
    r"entrance|counter|street|folder|caf\u00e9|canteen|page|tool|app|cabinet|garage|yard|gate|door|kitchen|corner|basement|"
    r"courtyard|lobby|archive|server|shelf|department|home|abroad|outside|everywhere|anywhere)\b"
)
_WITHIN = re.compile(r"\b(?:at|in|on|to|from|under|behind|via|through)\b", re.I)
_MEASURES: dict[str, re.Pattern[str]] = {
    "weight": re.compile(r"\d\s?(?:g|t)\b|\((?:g|t)\)|\b(?:kg|lbs?|tons?|tonnes?|grams?|kilos?|kilograms?|pounds)\b"),
    "speed": re.compile(r"\b(?:km/h|m/s|mph|kph|knots|per (?:hour|second|minute))\b|/(?:h|s|min)\b", re.I),
    "temperature": re.compile(r"\bdegrees?\b|\u00b0|\b(?:celsius|fahrenheit)\b", re.I),
}


def speaks_of_money(text: str) -> bool:
    """Whether `text` names a currency, a price or a payment."""
    return _MONEY.search(text) is not None


def fits_kind(
    kind: Kind,
    text: str,
    given: Set[str],
    counted: str = "",
    names: Set[str] = frozenset(),
    numbered: Set[str] = frozenset(),
) -> float:
    """1 where `text` holds something of the kind asked for, 0 where it plainly does not, between where one cannot tell.

    given: the terms that are numbers of the question; they are no answer to it. counted: stem of what is to be counted.
    names: terms of the question, which name nobody that it asks for. numbered: names that a number goes with in it, as
    in "Ferrel 80": behind these a number counts nothing.
    """
    if kind in ("polar", "thing"):
        return 1.0
    if kind == "reason":
        return float(_CAUSE.search(text) is not None)
    if kind == "secret":
        return float(_SECRET.search(text) is not None)
    if kind == "email":
        return float("@" in text)
    if kind == "phone":
        held_ = _PHONE.search(text)
        return 0.0 if not held_ else 1.0 if len(held_[0]) > 8 or _CALL.search(text) else 0.5
    if kind == "named":
        inside = re.findall(r"(?<=[^.!?:] )[A-Z][\w&'-]*", text)
        return float(any(not set(analyse(name)) <= given | names for name in inside))
    if kind == "country":
        return float(any(t in PLACES and t not in given for t in analyse(text)))
    if kind == "person":
        return _person(text, names)
    if kind == "place":
        return 1.0 if _PLACE.search(text) else 0.5 if _WITHIN.search(text) else 0.0
    if kind in MEASURED:
        return 1.0 if re.search(r"\d", text) and _MEASURES[kind].search(text) else 0.0
    held = [n for n in numbers(text) if n.term not in given and n.sort != "code"]
    if kind == "count":
        return _counts(text, [n for n in held if n.of not in numbered or root(counted) in n.after], counted, names)
    sorts = {n.sort for n in held}
    if kind == "number":
        return 1.0 if sorts - {"date", "year", "clock"} or _PART.search(text) or _FREE.search(text) else 0.0
    if kind == "money":
        return _money(text, sorts)
    return _time(kind, text, sorts)


def _money(text: str, sorts: Set[Sort]) -> float:
    if "money" in sorts:
        return 1.0
    if _FREE.search(text):
        return 0.9
    if "percent" in sorts or _PART.search(text):
        return 0.6 if _MONEY.search(text) else 0.3
    if sorts & {"plain", "fraction"}:
        return 0.7 if _MONEY.search(text) else 0.1
    return 0.0


def _time(kind: Kind, text: str, sorts: Set[Sort]) -> float:
    """The same of shares and of all that has to do with time."""
    if kind == "percent":
        return 1.0 if "percent" in sorts or _PERCENT.search(text) else 0.0
    if kind == "clock":
        return (
            1.0
            if "clock" in sorts or re.search(r"\b(?:noon|midnight|around the clock|24 hours)\b", text, re.I)
            else 0.0
        )
    if kind == "duration":
        if "time" in sorts or _LASTING.search(text):
            return 1.0
        if _UNTIL.search(text) or sorts & {"date", "measure"}:
            return 0.7
        return 0.5 if "plain" in sorts and _SPANS.search(text) else 0.0  # "private days may be added, up to three"
    if kind == "frequency":
        return 1.0 if _OFTEN.search(text) else 0.7 if sorts & {"time", "plain"} else 0.0
    if sorts & {"date", "clock", "year"} or _DATED.search(text):
        return 1.0
    return 0.8 if "time" in sorts else 0.5 if _WHEN.search(text) else 0.0


def _person(text: str, names: Set[str]) -> float:
    for match in _TITLE.finditer(text):
        words = match[0].split()
        if not any(_NOBODY.fullmatch(w) for w in words) and not _given(match[0], names):
            return 1.0
    for pattern, fit in ((_ROLE, 0.9), (_BODY, 0.7)):
        if any(not set(analyse(m[0])) & names for m in pattern.finditer(text)):
            return fit
    return 0.3 if _ROLE.search(text) or _BODY.search(text) else 0.0  # the office that the question itself names


def _given(name: str, names: Set[str]) -> bool:
    """Whether `name` is a place, or one that the question itself says: "Tallis Lift Service" is more than its lift."""
    words = set(analyse(name))
    return not words.isdisjoint(PLACES.keys()) or words <= names


_CELL = 10
"""Words that a cell with its label, or a line with a colon, has at most."""


def _counts(text: str, held: list[Number], counted: str, names: Set[str]) -> float:
    """Whether one of the numbers `held` counts things of the name `counted`."""
    wanted = root(counted)
    alike = {wanted} | NEAR.get(wanted, frozenset())
    counting = [n for n in held if n.sort in ("plain", "time", "measure")]
    if wanted and any(alike.intersection(n.after) for n in counting):
        return 1.0
    plain = [n for n in held if n.sort == "plain"]
    if not plain:
        if not held and re.search(r"\b(?:none|unlimited|no|nobody)\b", text, re.I):
            return 1.0
        here = bag(text)
        shares = any(n.sort == "percent" for n in held) and (
            not alike.isdisjoint(here.roots) or len(here.stems & names) > 1
        )
        return 0.5 if shares or any(n.sort in ("time", "measure") for n in held) else 0.0
    if not wanted:
        return 1.0
    if any(not n.after for n in plain) and len(text.split()) <= _CELL:
        return 0.9  # a bare number, as in a cell
    return 0.3 if wanted in bag(text).roots else 0.6


_BASIS = re.compile(
    r"\b(?:per|each|every)\s(?:(?:full|working|calendar|single) |"
    r"(?!second |third |other |few )[a-z]+ (?=(?:hour|day|night|week|month|year|person|employee|user)\b))?([a-z]+)"
    r"|\ban?\s(?:full |whole )?(second(?!\s[a-z])|minute|hour|day|night|week|month|year|person|user|page|head|piece|"
    r"litre|gram|kilo|kilometre|mile)\b"
    r"|\b(hourly|daily|nightly|weekly|monthly|quarterly|yearly|annual|annually)\b|/(h|min|month|year|week|day)\b",
    re.I,
)
_SAME_BASES = """hour hourly h|minut min|day daily diem|night nightly|week weekly|month monthly|quarter quarterly|
year yearly annual annually|kilowatt kwh|kilometr km|person head user employe guest capita traveller traveler adult
member"""
_BASES = {word: group.split()[0] for group in _SAME_BASES.split("|") for word in group.split()}


def bases(text: str) -> frozenset[str]:
    """What amounts in `text` are for one of: the "day" of "3 euros a day", of "daily rate"."""
    found = (stem(next(g for g in m.groups() if g).lower()) for m in _BASIS.finditer(text))
    return frozenset(_BASES.get(word, word) for word in found)
