"""The kinds of answers that questions ask for, by their words. English."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal[
    "number",
    "count",
    "weight",
    "speed",
    "temperature",
    "email",
    "phone",
    "secret",
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

_MEASURE = (
    r"decibels?|db|kilos?|kilograms?|kg|grams?|tonnes?|kilometres?|km|metres?|centimetres?|cm|millimetres?|mm|litres?|"
    r"watts?|volts?|kilowatts?|kw|megawatts?|(?:kilo|mega)watt-hours?|kwh|mwh|hectares?|gigabytes?|gb|megabytes?|mb|"
    r"terabytes?|tb"
)
"""Units: so many of them measure something and count nothing. (Meters are things too, and degrees.)"""

_KINDS: tuple[tuple[str, Kind], ...] = (
    (
        r"\b(?:what|which) (?:percentage|percent|proportion|share|part)\b|\bhow many percent\b|"
        r"\bwhat (?:is|was|are|were) (?:(?:the|our|its|their) )?(?:[\w-]+ ){0,2}(?:share|percentage|"
        r"proportion)\b(?! price)",
        "percent",
    ),
    (r"\bhow long (?:is|are|do|does|was|were)\b(?=.*\bopen\b)", "clock"),
    (r"\bhow long\b(?=.*\bin (?:metres|meters|centimetres|millimetres|kilometres|m|cm|mm|km)\b)", "number"),
    (r"\b(?:within|in|after) (?:what|which|how much) time\b", "duration"),
    (
        r"\bhow much (?!(?:is|are|was|were|do|does|did|will|would|can|may|must)\b)(?:\w+ )?"
        r"(?:time|leave|notice|holiday|vacation)\b(?! (?:pay|bonus|allowance|money|party))|\bhow much longer\b|"
        r"\bhow far back\b(?=.*\b(?:go|goes|date|dates|reach|reaches|claim|apply|keep|kept|see)\b)",
        "duration",
    ),
    (
        r"\bfrom (?:when|what time) (?:to|until|till) (?:when|what time)\b|"
        r"\b(?:from|until|till|by|before|at) (?:what|which) (?:time|hour)s?\b",
        "clock",
    ),
    (r"\b(?:what|which) (?:time|hours?)\b|\b(?:opening|office|working) hours\b|\blatest time\b", "clock"),
    (r"\b(?:what|which) countr(?:y|ies)\b", "country"),
    (
        r"\bhow (?:long|soon|quickly|fast)\b|\b(?:what|which) (?:\w+ )?(?:period|duration)\b|\bhow (?:far|"
        r"much) (?:in advance|ahead|earlier)\b",
        "duration",
    ),
    (r"\bhow many (?:\w+ )?(?:seconds|minutes|hours|days|weeks|months|years)\b", "duration"),
    (r"\bhow (?:often|frequently)\b", "frequency"),
    (r"\bhow heavy\b|\b(?:how much|what)\b(?=.*\bweighs?\b)|\bwhat (?:is|was) the weight\b", "weight"),
    (r"\bhow (?:warm|hot|cold)\b|\b(?:what|which) temperature\b|\bwhat (?:is|was) the temperature\b", "temperature"),
    (r"\bwhat (?:is|was) the (?:\w+ )?speed\b|\bwhich speed\b|\bhow fast (?:may|can|is|are)\b", "speed"),
    (
        r"\bhow many\b(?! (?:\w+ )?(?:euros?|dollars?|pounds?|eur|cents?|seconds|minutes|hours|days|weeks|months|"
        rf"years|{_MEASURE})\b)",
        "count",
    ),
    (r"\bhow (?:many|big|large|high|tall|far|deep|wide|old|loud)\b", "number"),
    (
        r"\bhow much\b(?=.*\b(?:cost|costs|pay|pays|paid|price|spend|spent|earn|earns|worth|charge|charged|fee|"
        r"salary|euros?|dollars?)\b)",
        "money",
    ),
    (
        r"\bhow much money\b|\bwhat (?:\w*[^\Ws] )?(?:charge|surcharge|fee)\b"
        r"(?= (?:is|does|for|goes|applies|will|must)\b|\s*\?|$)",
        "money",
    ),
    (
        r"\bwhat (?:do|does|did|will|would|must|may|can|could|should|might)\b(?=.*\b(?:cost|costs|pay|pays|"
        r"charge|bill|earn|spend)\b)",
        "money",
    ),
    (r"\b(?:what|which) (?:amount|sum|value)\b", "number"),
    (r"\bhow much\b", "number"),
    (
        r"\bwhat(?:'s| is| was)\b(?=.*\be-?mail(?: address)?\b)|"
        r"\b(?:give|send|tell) (?:me|us) (?:the|her|his|their|its|your) (?:[\w-]+ ){0,3}e-?mail\b",
        "email",
    ),
    (r"\b(?:give|send|tell) (?:me|us) (?:the|her|his|their|its|your) (?:[\w-]+ ){0,3}(?:phone|number)\b", "phone"),
    (
        r"\b(?:tele)?phone number\b|\b(?:mobile|direct|cell|fax|hotline|extension) number\b|"
        r"\b(?:what|which) extension\b|\b(?:what|which) number\b(?=.*\b(?:call|callers?|dial|ring|reach|use)\b)|"
        r"\b(?:what|which) number for\b|"
        r"^(?:what(?:'s| is) the )?number of the\b(?! \w+s\b(?! \w))",
        "phone",
    ),
    (
        r"\bwhat(?:'s| is| was| are| were) the (?:[\w-]+ ){0,3}"
        r"(?:password|passcode|pin|(?<!dress )(?<!source )code(?! of conduct))s?\b"
        r"(?=[?.!,]|\s*$| (?:of|for|to|in|on|at|from)\b)",
        "secret",
    ),
    (
        r"\bwhat(?:'s| is| was| are| were) (?:(?:the|our|my|an?) )?(?:[\w-]+ ){0,2}(?:rate|amount|yield|score|quota|"
        r"capacity|headcount|average|(?:maximum|minimum) number|height|width|length|depth|diameter|voltage)s?\b",
        "number",
    ),
    (
        r"(?:^|[,;:.?!] |\b(?:and|or|but|so|to|by|of|from|with|for|about|know|tell|say) )who\b|\bwhom\b|\bwhose\b",
        "person",
    ),
    (
        r"(?:^|[,;:.] |^and |^so )when\b(?! (?:i|we|you|he|she|they|it|there|an?|my|our|your|someone|somebody)\b)|"
        r"\bwhen (?:is|are|was|were|do|does|did|can|must|will|should|may|has|have)\b|"
        r"\b(?:what|which) (?:date|day|month|year|weekday)\b|\b(?:until|by|from|since) (?:when|what)\b"
        r"(?! (?:\w+ )?(?:amount|value|sum|price|cost|size|age|grade|level|order)s?\b)",
        "date",
    ),
    (r"\bwhere\b", "place"),
    (
        r"\b(?:which|what) (?:(?!(?:is|are|was|were|do|does|did|can|may|will|must|should) )[\w-]+ ){0,3}?(?:bank|"
        r"insurer|company|companies|firm|provider|airline|restaurant|"
        r"brand|manufacturer|auditor|lawyer|agency|software|app|services|vendor)s?\b(?! (?:car|bonus|card|phone))|"
        r"\bwhat(?:'s| is| are| was| were) the names?\b"
        r"(?! of the (?:[\w-]+ )?(?:log-?in|user|file|folder|field|setting))|"
        r"\bwhat (?:is|was|are|will|were)\b(?=.*\b(?:called|named)\b)",
        "named",
    ),
    (
        r"\bwhy\b|\bhow come\b|\bwhat(?:'s| is| was| were| are) the (?:[\w-]+ )?(?:reason|cause)s?\b|"
        r"\b(?:what|which reasons?) (?:has |have |had )?(?:caused?|causes|led to|made)\b|\bfor what reason\b",
        "reason",
    ),
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
    "secret",
    "reason",
    "clock",
    "country",
    "percent",
    "duration",
    "frequency",
    "named",
    "money",
    "person",
}
"""Kinds of which a text plainly holds one or does not: without, it is no answer."""
_POLAR = re.compile(
    r"(?:and |but |so |or )?(?:is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|have|had|am)\b",
    re.I,
)


_TELL = re.compile(
    r"(?:and |but |so )?(?:can|could|would|will) you (?:please )?(?:tell|give|show|send|say|remind)\b|"
    r"(?:(?:do|does|would) (?:you|we|anyone|anybody|somebody|someone) (?:happen to )?know|may i (?:ask|know)) "
    r"(?:who|what|which|when|where|how|why)\b",
    re.I,
)
"""What is worded as yes or no and asks for something else."""
_MORE = re.compile(
    r"(?:,|\band\b),? (?:if so,? )?(?:(?:for|by|until) )?(?:how (?:much|many|long|often)|what|who)\b[^?]*\?*\s*$", re.I
)
"""What asks for yes or no and then for more: "Is there a bonus for it, and how much?" """


def is_polar(text: str) -> bool:
    """Whether yes or no is asked."""
    return _POLAR.match(text) is not None and _TELL.match(text) is None and _MORE.search(text) is None


def kind_of(lower: str) -> Kind:
    """The kind whose words come first in the question."""
    found = [(m.start(), i, kind) for i, (pattern, kind) in enumerate(_KINDS) if (m := re.search(pattern, lower))]
    return min(found)[2] if found else "thing"


_BEGIN = r"(?:start\w*|beg[aiu]n\w*|since)"
_END = r"(?:end(?:s|ed|ing)?|stop\w*|finish\w*|clos\w*|expir\w*|until|till)"


def other_end(asked: str, text: str) -> bool:
    """Whether it is asked when something begins and `text` tells only until when it lasts, or the other way round."""
    begins = re.search(rf"\b{_BEGIN}\b", asked, re.I) is not None
    ends = re.search(rf"\b{_END}\b", asked, re.I) is not None
    if begins == ends:
        return False
    told, wanted = _END, rf"{_BEGIN}|from|between|(?:on|at) (?:\d\w*|\w+day)"
    if ends:
        told, wanted = _BEGIN, rf"{_END}|to|by|between"
    return bool(re.search(rf"\b{told}\b", text, re.I)) and not re.search(
        rf"\b(?:{wanted})\b|\d\s?[-\u2013]\s?\d", text, re.I
    )


_SUM = re.compile(
    r"\b(?:calculate|compute|by how (?:much|many)\b(?=.*\b(?:ris|rose|gr[eo]w|increas|decreas|f[ae]ll|drop|chang|"
    r"differ|exceed|improv|higher|lower|more|less|fewer|longer|shorter|bigger|smaller)\w*)|"
    r"how (?:much|many) (?:more|less|fewer|higher|lower|longer|shorter)\b(?=.*\b(?:than|compared)\b)|"
    r"difference between|sum of|"
    r"combined(?! \w*(?:ticket|pass|card|fare))|together|in total|average between|year average|ratio|"
    r"(?:asset|inventory|receivables?|payables?) turnover|turnover (?:of|to)\b|growth rate|"
    r"compared? (?:to|with)|"
    r"increase or decrease|(?<=what )percent of)\b"
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
