"""A cell's number as its format shows it: dates as dates, shares as percent, thousands with their separator.

After ECMA-376 part 1, 18.8.30 and 18.8.31 (number formats); names of months and days are English. Fractions and formats
that cannot be told are shown as the plain number.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache

DATE, DATE_TIME = "yyyy\\-mm\\-dd", "yyyy\\-mm\\-dd\\ hh:mm"
# 14 and 22 follow the reader's own settings: shown as nobody can misread them.
BUILT_IN = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: '"$"#,##0;-"$"#,##0',
    6: '"$"#,##0;-"$"#,##0',
    7: '"$"#,##0.00;-"$"#,##0.00',
    8: '"$"#,##0.00;-"$"#,##0.00',
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    14: DATE,
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: DATE_TIME,
    37: "#,##0;(#,##0)",
    38: "#,##0;(#,##0)",
    39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)",
    41: "#,##0;-#,##0;-",
    42: '"$"#,##0;-"$"#,##0;"$"-',
    43: "#,##0.00;-#,##0.00;-",
    44: '"$"#,##0.00;-"$"#,##0.00;"$"-',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
    48: "##0.0E+0",
    49: "@",
}
TOKEN = re.compile(
    r'"([^"]*)"|\\(.)|[_*](.)|\[([^\]]*)\]|(AM/PM|A/P)|(General)|([yYmMdDhHsS])\7*|(E[+-])|([0#?.,%@/])|(.)',
    re.S | re.I,
)
SYMBOL = re.compile(r"\$([^-\]]*)")
CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[\d.]+)$")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LONGEST_FORMAT = 255
MOST_DECIMALS = 30
LAST_DAY = 2_958_466

Token = tuple[str, str]
"""(kind, text): `text` to be shown, `digit` a place of the number, `date` a part of a date, `percent`, `power`,
`half` of a day, `text value` (@), `general`."""


def shown(value: float, code: str, from_1904: bool = False) -> str:
    """A number under a format.

    >>> shown(0.125, "0.0%"), shown(-1234.5, "#,##0.00;(#,##0.00)"), shown(45292, "d mmm yyyy")
    ('12.5%', '(1,234.50)', '1 Jan 2024')
    """
    if not code or code.lower() == "general" or len(code) > LONGEST_FORMAT:
        return general(value)
    section, negative = _section(code, value)
    kinds = {kind for kind, _ in section}
    if "general" in kinds:
        return "".join(general(abs(value) if negative else value) if k == "general" else t for k, t in section)
    if "date" in kinds:
        return _moment(value, section, from_1904) or general(value)
    if "text value" in kinds:
        return general(value)
    if "digit" not in kinds:
        words = "".join(text for kind, text in section if kind in ("text", "percent")).strip()
        return words if words or not section else ""
    if "/" in {text for kind, text in section if kind == "digit"}:
        return general(value)
    return _number(abs(value) if negative else value, section)


def general(value: float) -> str:
    """A number without a format: whole numbers in full, others with eleven digits.

    >>> general(0.1 + 0.2), general(123456789012.0), general(1e21)
    ('0.3', '123456789012', '1E+21')
    """
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.11G}"


@lru_cache(maxsize=1024)
def sections(code: str) -> tuple[tuple[Token, ...], ...]:
    """The parts of a format (positive; negative; zero; text) as tokens."""
    found: list[tuple[Token, ...]] = []
    tokens: list[Token] = []
    for match in TOKEN.finditer(code[:LONGEST_FORMAT]):
        quoted, escaped, _, bracket, half, plain, part, power, place, other = match.groups()
        if quoted is not None or escaped is not None:
            tokens.append(("text", quoted if quoted is not None else escaped))
        elif bracket is not None:
            tokens += _bracket(bracket)
        elif half:
            tokens.append(("half", half))
        elif plain:
            tokens.append(("general", ""))
        elif part:
            tokens.append(("date", match.group().lower()))
        elif power:
            tokens.append(("power", power))
        elif place:
            tokens.append(({"%": "percent", "@": "text value"}.get(place, "digit"), place))
        elif other == ";":
            found.append(_dated(tokens))
            tokens = []
        elif other is not None:
            tokens.append(("text", other))
    return (*found, _dated(tokens))[:4]


def _bracket(inner: str) -> list[Token]:
    if re.fullmatch(r"[hms]+", inner, re.I):
        return [("date", f"[{inner.lower()}]")]
    if symbol := SYMBOL.match(inner):
        return [("text", symbol.group(1))] if symbol.group(1) else []
    if condition := CONDITION.match(inner):
        return [("condition", condition.group())]
    return []


def _dated(tokens: list[Token]) -> tuple[Token, ...]:
    """In a date, points and zeros are no places of a number, except for parts of a second."""
    if not any(kind == "date" for kind, _ in tokens):
        return tuple(tokens)
    kinds = {"0": "fraction"}
    return tuple((kinds.get(text, "text") if kind == "digit" else kind, text) for kind, text in tokens)


def _section(code: str, value: float) -> tuple[tuple[Token, ...], bool]:
    """(the part of the format for this value, whether that part writes the sign itself)."""
    parts = sections(code)
    conditions = [next((text for kind, text in part if kind == "condition"), None) for part in parts]
    if any(conditions):
        for part, condition in zip(parts, conditions, strict=True):
            if condition is None or _holds(condition, value):
                return part, False
        return parts[-1], False
    if value < 0 and len(parts) > 1:
        return parts[1], True
    if value == 0 and len(parts) > 2:
        return parts[2], False
    return parts[0], False


def _holds(condition: str, value: float) -> bool:
    found = CONDITION.match(condition)
    try:
        bound = float(found.group(2)) if found else 0.0
    except ValueError:
        return False
    sign = found.group(1) if found else "="
    return {
        "<": value < bound,
        "<=": value <= bound,
        ">": value > bound,
        ">=": value >= bound,
        "=": value == bound,
        "<>": value != bound,
    }[sign]


def _number(value: float, section: tuple[Token, ...]) -> str:
    power = next((at for at, (kind, _) in enumerate(section) if kind == "power"), len(section))
    places = "".join(text for kind, text in section[:power] if kind == "digit")
    whole, _, decimals = places.partition(".")
    scale = len(whole) - len(whole.rstrip(",")) + len(decimals) - len(decimals.rstrip(","))
    grouped = "," in whole.rstrip(",").lstrip(",")
    whole, decimals = whole.replace(",", ""), re.sub("[.,]", "", decimals)[:MOST_DECIMALS]
    percent = sum(kind == "percent" for kind, _ in section)
    try:
        number = Decimal(repr(value)).scaleb(2 * percent - 3 * scale)
        if power < len(section):
            digits = f"{abs(number):.{len(decimals)}E}"
            return _around(section[:power], "-" if number < 0 else "", digits)
        number = number.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    except InvalidOperation:
        return general(value)
    integer, _, rest = f"{abs(number):f}".partition(".")
    integer = integer.lstrip("0").rjust(whole.count("0"), "0")
    if grouped:
        integer = f"{int(integer or 0):,}" if integer else ""
    kept = len(decimals.rstrip("#?"))
    rest = rest[:kept] + rest[kept:].rstrip("0")
    sign = "-" if number < 0 else ""
    if not decimals and not grouped and not scale:
        return _spread(section, sign, integer, len(whole))
    return _around(section, sign, f"{integer}.{rest}" if rest else integer)


def _around(section: tuple[Token, ...], sign: str, digits: str) -> str:
    """The digits, where the format has its first place for one, among its words."""
    first = next(at for at, (kind, _) in enumerate(section) if kind == "digit")
    words = [text if kind in ("text", "percent") else "" for kind, text in section]
    words[first] = digits
    return f"{sign}{''.join(words)}".strip()


def _spread(section: tuple[Token, ...], sign: str, digits: str, places: int) -> str:
    """Whole digits over the places of the format, as in a telephone number: what is too long goes to the first."""
    out: list[str] = []
    at = 0
    for kind, text in section:
        if kind == "digit" and text != ",":
            end = len(digits) - places + at + 1
            out.append(digits[max(0, end - 1) if at else 0 : max(0, end)])
            at += 1
        elif kind in ("text", "percent"):
            out.append(text)
    return f"{sign}{''.join(out)}".strip()


def moment(value: float, from_1904: bool = False) -> datetime | None:
    """The date of a serial number; None for what is none."""
    if from_1904:
        value += 1462
    if not 0 <= value < LAST_DAY:
        return None
    # The calendar of spreadsheets holds a 29 February 1900: what comes before it is a day later than it counts.
    day = value + 1 if value < 60 else value
    return datetime(1899, 12, 30) + timedelta(microseconds=round(day * 86_400_000) * 1000)


def _moment(value: float, section: tuple[Token, ...], from_1904: bool) -> str | None:
    at = moment(value, from_1904)
    if at is None:
        return None
    half = any(kind == "half" for kind, _ in section)
    fraction = iter(f"{at.microsecond:06d}")
    at = (
        at
        if any(kind == "fraction" for kind, _ in section)
        else (at + timedelta(microseconds=500_000)).replace(microsecond=0)
    )
    out: list[str] = []
    parts = [text for kind, text in section if kind == "date"]
    seen = 0
    for kind, text in section:
        if kind == "text":
            out.append(text)
        elif kind == "half":
            out.append(("AM" if at.hour < 12 else "PM")[: 1 if text.upper() == "A/P" else 2])
        elif kind == "fraction":
            out.append(next(fraction, "0"))
        elif kind == "date":
            before, after = parts[seen - 1] if seen else "", parts[seen + 1] if seen + 1 < len(parts) else ""
            minutes = text[0] == "m" and (before[:1] == "h" or before[:2] == "[h" or after[:1] == "s")
            out.append(_part("n" * len(text) if minutes and len(text) < 3 else text, at, value, half))
            seen += 1
    return "".join(out).strip()


def _part(text: str, at: datetime, value: float, half: bool) -> str:
    """One part of a date: `n` stands for minutes."""
    if text[0] == "[":
        unit = {"h": 24, "m": 1440, "s": 86_400}[text[1]]
        return f"{int(value * unit + 1e-6):0{len(text) - 2}d}"
    kind, length = text[0], len(text)
    if kind == "y":
        return f"{at.year:04d}" if length > 2 else f"{at.year % 100:02d}"
    if kind == "m" and length > 2:
        return MONTHS[at.month - 1][: {3: 3, 5: 1}.get(length, 99)]
    if kind == "d" and length > 2:
        return DAYS[at.weekday()][: 3 if length == 3 else 99]
    number = {"m": at.month, "d": at.day, "h": at.hour, "n": at.minute, "s": at.second}[kind]
    if kind == "h" and half:
        number = (number - 1) % 12 + 1
    return f"{number:02d}" if length > 1 else str(number)
