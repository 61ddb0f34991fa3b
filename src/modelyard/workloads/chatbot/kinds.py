"""The kinds of answers that questions ask for, by their words, and whether a text holds one of a kind. English."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Literal

from modelyard.calc.text import analyse
from modelyard.workloads.chatbot.lexicon import NUMBER_WORDS, PLACES

Kind = Literal[
    "number",
    "count",
    "weight",
    "speed",
    "temperature",
    "email",
    "phone",
    "money",
    "percent",
    "duration",
    "frequency",
    "date",
    "clock",
    "person",
    "place",
    "country",
    "named",
    "polar",
    "reason",
    "thing",
]

_KINDS: tuple[tuple[str, Kind], ...] = (
    (
        r"\b(?:what|which) (?:percentage|percent|proportion|share|part)\b|\bhow many percent\b|"
        r"\bwhat (?:is|was|are|were) (?:(?:the|our|its|their) )?(?:[\w-]+ ){0,2}(?:share|percentage|"
        r"proportion)\b(?! price)",
        "percent",
    ),
    (r"\b(?:within|in|after) (?:what|which|how much) time\b", "duration"),
    (r"\b(?:what|which) (?:time|hours?)\b|\b(?:opening|office|working) hours\b|\blatest time\b", "clock"),
    (r"\b(?:what|which) countr(?:y|ies)\b", "country"),
    (
        r"\bhow (?:long|soon|quickly|fast)\b|\b(?:what|which) (?:\w+ )?(?:period|duration)\b|\bhow (?:far|"
        r"much) (?:in advance|ahead|earlier)\b",
        "duration",
    ),
    (r"\bhow many (?:\w+ )?(?:seconds|minutes|hours|days|weeks|months|years)\b", "duration"),
    (r"\bhow often\b|\bhow frequently\b", "frequency"),
    (r"\bhow heavy\b|\b(?:how much|what)\b(?=.*\bweighs?\b)|\bwhat (?:is|was) the weight\b", "weight"),
    (r"\bhow (?:warm|hot|cold)\b|\b(?:what|which) temperature\b|\bwhat (?:is|was) the temperature\b", "temperature"),
    (r"\bwhat (?:is|was) the (?:\w+ )?speed\b|\bwhich speed\b|\bhow fast (?:may|can|is|are)\b", "speed"),
    (
        r"\bhow many\b(?! (?:\w+ )?(?:euros?|dollars?|pounds?|eur|cents?|seconds|minutes|hours|days|weeks|months|"
        r"years))",
        "count",
    ),
    (r"\bhow (?:many|big|large|high|tall|far|deep|wide|old|loud)\b", "number"),
    (
        r"\bhow much\b(?=.*\b(?:cost|costs|pay|pays|paid|price|spend|spent|earn|earns|worth|charge|charged|fee|"
        r"salary|euros?|dollars?)\b)",
        "money",
    ),
    (
        r"\bwhat (?:do|does|did|will|would|must|may|can|could|should|might)\b(?=.*\b(?:cost|costs|pay|pays|"
        r"charge|bill|earn|spend)\b)",
        "money",
    ),
    (r"\b(?:what|which) (?:amount|sum|value)\b", "number"),
    (r"\bhow much\b", "number"),
    (r"\bwhat(?:'s| is| was)\b(?=.*\be-?mail(?: address)?\b)", "email"),
    (
        r"\b(?:what|which)\b(?=.*\b(?:phone|telephone) number\b)|\b(?:what|which) number\b(?=.*\b(?:call|dial|ring)\b)",
        "phone",
    ),
    (
        r"\bwhat (?:is|was|are|were) (?:(?:the|our|my|an?) )?(?:[\w-]+ ){0,2}(?:rate|amount|yield|score|quota|capacity|"
        r"headcount|average)s?\b",
        "number",
    ),
    (r"\bwho\b|\bwhom\b|\bwhose\b", "person"),
    (
        r"(?:^|[,;:.] |^and |^so )when\b|\bwhen (?:is|are|was|were|do|does|did|can|must|will|should|may|has|have)\b|"
        r"\b(?:what|which) (?:date|day|month|year|weekday)\b|\b(?:until|by|from|since) (?:when|what)\b"
        r"(?! (?:amount|value|sum|price|size|age|grade|level|order))",
        "date",
    ),
    (r"\bwhere\b", "place"),
    (
        r"\b(?:which|what) (?:(?!(?:is|are|was|were|do|does|did|can|may|will|must|should) )[\w-]+ ){0,3}?(?:bank|"
        r"insurer|company|companies|firm|provider|airline|restaurant|"
        r"brand|manufacturer|auditor|lawyer|agency|software|app|services|vendor)s?\b(?! (?:car|bonus|card|phone))",
        "named",
    ),
    (r"\bwhy\b|\bwhat (?:is|was|were|are) the (?:reason|cause)s?\b", "reason"),
    (
        r"\b(?:cost|price|fee|salary|wage|revenue|profit|budget|bonus|allowance|deposit|dividend|refund|fare|"
        r"rent|lease amount)\b",
        "money",
    ),
)
MEASURED = frozenset(["weight", "speed", "temperature"])
STRICT = MEASURED | {
    "count",
    "email",
    "phone",
    "clock",
    "country",
    "percent",
    "duration",
    "frequency",
    "named",
    "money",
}
"""Kinds of which a text plainly holds one or does not: without, it is no answer."""
_POLAR = re.compile(
    r"(?:and |but |so |or )?(?:is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|have|had|am)\b",
    re.I,
)


def is_polar(text: str) -> bool:
    """Whether yes or no is asked."""
    return _POLAR.match(text) is not None


def kind_of(lower: str) -> Kind:
    """The kind whose words come first in the question."""
    found = [(m.start(), i, kind) for i, (pattern, kind) in enumerate(_KINDS) if (m := re.search(pattern, lower))]
    return min(found)[2] if found else "thing"


_SUM = re.compile(
    r"\b(?:calculate|compute|by how (?:much|many)|how (?:much|many) (?:more|less|fewer|higher|lower|longer|"
    r"shorter)|difference between|sum of|"
    r"combined|together|in total|average between|year average|ratio|turnover|growth rate|compared? (?:to|with)|"
    r"increase or decrease|what percent of)\b"
)
_GREATEST = r"(?:highest|largest|biggest|greatest|longest|heaviest|most expensive|dearest|oldest|best|latest|most)"
_LEAST = r"(?:lowest|smallest|least|fewest|shortest|lightest|cheapest|worst|earliest|youngest|newest)"


def arithmetic(lower: str) -> str:
    """The words that ask for a sum over several figures, which no quote does; "" where there are none."""
    found = _SUM.search(lower)
    return found[0] if found else ""


def superlative(lower: str) -> int:
    """Only where one of several is asked for ("Which site has the most ..."): "the most I may spend" is a limit."""
    asked = re.search(
        r"\b(?:which|who|what [a-z]+ (?:has|had|is|was|got|made|needs|takes)|where|in (?:which|what))\b", lower
    )
    if not asked:
        return 0
    if re.search(rf"\b{_GREATEST}\b(?!\s+(?:i|we|a|an|you|one|may|can|recent))", lower[asked.start() :]):
        return 1
    return -1 if re.search(rf"\b{_LEAST}\b(?!\s+(?:i|we|a|an|you|one|may|can))", lower[asked.start() :]) else 0


_COUNTS = "|".join(w for w in NUMBER_WORDS if w not in ("first", "second", "third"))
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_FITS: dict[str, re.Pattern[str]] = {
    "percent": re.compile(
        r"\d\s?%|percent|per cent|%|\b(?:half|thirds?|quarters?|twentieths?|(?:one|a) (?:fifth|tenth))\b", re.I
    ),
    "clock": re.compile(
        r"\b\d\d?[:.]\d\d\b|\b\d\d?\s?(?:am|pm|a\.m|p\.m|o'clock|h)\b|\b(?:noon|midnight|around the clock|24 hours)\b",
        re.I,
    ),
    "duration": re.compile(
        rf"(?:\d|\b(?:a|an|{_COUNTS}|several|half)\b)[\s\w().-]{{0,16}}"
        r"\b(?:second|minute|hour|day|week|month|year|ms|min|character|digit|metre|meter|mm|cm|km|page|word|mile)s?\b"
        r"|\byears?\b.*\d|\b(?:immediately|at once|permanent|ever|same day|unlimited|unpaid)\b|\b(?:within|"
        r"until|by) \w+",
        re.I,
    ),
    "frequency": re.compile(
        r"\b(?:every|each|once|twice|times|daily|weekly|monthly|quarterly|yearly|annual|annually|continuous|"
        r"repeat|interval)\w*\b|\bper\b|\ba (?:day|week|month|year)\b"
        r"|\d+ (?:day|week|month|year|hour)s?",
        re.I,
    ),
    "date": re.compile(
        rf"\b{_MONTH}\b|\b(?:19|20)\d\d\b|\d\d?[:.]\d\d|\bq[1-4]\b|days?\b|quarter|week|month|year|noon|"
        rf"midnight|\bwhen\b|\bafter\b|\bbefore\b|hours?\b|\bnever\b|\bat once\b|\d(?:st|nd|rd|th)\b",
        re.I,
    ),
    "person": re.compile(
        r"\b[A-Z][a-z\u00c0-\u017f]+ (?:van |von |de |der |den )*[A-Z][a-z\u00c0-\u017f]+|\b(?i:manager|director|"
        r"officer|head|lead|team|desk|board|department|committee|engineer|physician|doctor|counsel|supervisor|employee|"
        r"staff|executive|owner|founder|chair|secretary|people|finance|name|buyer|approver|responsible|contact|leader|"
        r"author|person|role|who|reception|auditor|operator|whoever|customer|supplier|everyone|member|colleague)s?\b",
        0,
    ),
    "place": re.compile(
        r"(?<=[a-z,] )[A-Z\u00c0-\u00de][\w]+|\b(?:at|in|on|to|from|under|behind|room|building|hall|floor|"
        r"portal|site|office|reception)\b"
    ),
}
_MEASURES: dict[str, re.Pattern[str]] = {
    "weight": re.compile(r"\d\s?(?:g|t)\b|\((?:g|t)\)|\b(?:kg|lbs?|tons?|tonnes?|grams?|kilos?|kilograms?|pounds)\b"),
    "speed": re.compile(r"\b(?:km/h|m/s|mph|kph|knots|per (?:hour|second|minute))\b|/(?:h|s|min)\b", re.I),
    "temperature": re.compile(r"\bdegrees?\b|\u00b0|\b(?:celsius|fahrenheit)\b", re.I),
    "phone": re.compile(r"\d[\d /()-]{4,}\d|\b\d{3,}\b"),
}
_NO_COUNT = re.compile(
    r"[$\u20ac\u00a3]\s?\d[\d.,]*|\b\d[\d.,]*\s?(?:%|percent\b|per cent\b|[$\u20ac\u00a3]|"
    r"(?:thousands?|millions?|billions?)? ?(?:of )?(?:euros?|eur|dollars?|usd|pounds?|gbp|cents?|seconds?|minutes?|"
    r"hours?|days?|weeks?|months?|years?)\b)"
    r"|\b\d\d?:\d\d\b|(?<![\d.,])(?:19|20)\d\d(?![\d,]|\.\d)|\b(?:EUR|USD|GBP)\s?\d[\d.,]*",
    re.I,
)
"""Numbers that count no things: money, shares, times, years."""
_MONEY = re.compile(
    r"[$\u20ac\u00a3]|\b(?:euros?|eur|dollars?|usd|pounds?|gbp|chf|cents?|free|price|charge|pay|paid)\b", re.I
)


def speaks_of_money(text: str) -> bool:
    """Whether `text` names a currency, a price or a payment."""
    return _MONEY.search(text) is not None


_TIME = re.compile(
    r"\b\d\d?[:.]\d\d(?= (?:to|until|and)\b|\s?[-\u2013]\s?\d|\s*\Z)(?:\D{1,8}\d\d?[:.]\d\d)?|\b\d\d?:\d\d\b"
)
_WORDS_FOR_NUMBERS = re.compile(
    r"\b(?:"
    + "|".join(w for w in NUMBER_WORDS if w not in ("first", "second", "third"))
    + r"|none|no|unlimited|nothing|free|half|double|twice|once)\b",
    re.I,
)
_COUNTED = re.compile(rf"\b(?:{_COUNTS}|none|unlimited)\b", re.I)


def fits_kind(kind: Kind, text: str, given: Set[str]) -> float:
    """1 where `text` holds something of the kind asked for, 0 where it plainly does not, between where one cannot tell.

    given: the terms that are numbers of the question; they are no answer to it.
    """
    if kind in ("polar", "thing", "reason"):
        return 1.0
    if kind == "email":
        return float("@" in text)
    if kind == "named":
        inside = re.findall(r"(?<=[^.!?:] )[A-Z][\w&'-]*", text)
        return float(any(not set(analyse(name)) <= given for name in inside))
    if kind == "country":
        return float(any(t in PLACES and t not in given for t in analyse(text)))
    if kind in _MEASURES:
        return 1.0 if re.search(r"\d", text) and _MEASURES[kind].search(text) else 0.0
    if kind == "count":
        text = _NO_COUNT.sub(" ", text)
    if kind == "money":
        text = _TIME.sub(" ", text)
    if kind in ("number", "money", "count"):
        numbers = [n for n in re.findall(r"\d[\d.,]*\d|\d", text) if not set(analyse(n)) <= given]
        words = _COUNTED if kind == "count" else _WORDS_FOR_NUMBERS
        if not numbers and not words.search(text):
            return 0.0
        return 1.0 if kind != "money" or _MONEY.search(text) else 0.5
    return 1.0 if _FITS[kind].search(text) else 0.0
