"""Comparing two releases while units arrive, looking as often as one likes: e-values by betting, and a confidence
sequence for the difference.

A unit (a conversation, an entity) is sent to the challenger by our own coin, with a probability that is written down.
Whatever traffic is like, under "the challenger is no worse" what a unit came to tells nothing of how its coin fell.
So a gambler who is told what became of a unit, and then bets at fair odds on which release it had, wins nothing: the
capital is a martingale, and is ever over 1/alpha with probability alpha at most, however often it is looked at (Ville
1939). Here the gambler bets that what failed was the challenger's. Heavy callers, slow hours and drift change what
failures there are, not the coin, and so not the bound. It holds by unit only: the requests of one unit share one coin.

Sources: Ville, Etude critique de la notion de collectif (1939). Turner, Ly and Grünwald, Generic E-variables for exact
sequential k-sample tests (2024): bets between two groups. Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting, JRSS B 86 (2024): capital as a test of a mean. Howard, Ramdas, McAuliffe and Sekhon, Time-uniform
confidence sequences, Ann. Stat. 49 (2021): mixtures over the size of a bet, and running means.

All bets are fixed beforehand and mixed, so that the capital depends on counts alone and not on their order: a decision
can be made again from a small table. Pure Python: a gateway imports this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ODDS = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0)
"""How much likelier a failure is thought to be with the challenger, one bet each, mixed with equal weights."""
STAKES = (0.9, 0.6, 0.4, 0.25, 0.15, 0.1, 0.06, 0.035, 0.02, 0.01)
"""Shares of the capital that bets on a difference put at risk, mixed with equal weights."""
_STEPS = 16
"""Halvings of the interval in which a limit is looked for: to a thirtieth of a thousandth."""


@dataclass(frozen=True)
class Arms:
    """What became of the units that were sent to the challenger with probability `share`, in counts: (units, failed).

    Raises ValueError for a probability that is not between 0 and 1, or counts that are none.
    """

    share: float
    champion: tuple[int, int]
    challenger: tuple[int, int]

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"a share is between 0 and 1, and not {self.share}")
        if any(not 0 <= failed <= units for units, failed in (self.champion, self.challenger)):
            raise ValueError("not more can have failed than there were")


@dataclass(frozen=True)
class Pairs:
    """Units that both releases answered: how many, and how many failed with one of them only."""

    units: int
    champion_only: int
    challenger_only: int

    def __post_init__(self) -> None:
        if min(self.champion_only, self.challenger_only) < 0 or self.champion_only + self.challenger_only > self.units:
            raise ValueError("not more can have failed than there were")


Counts = Arms | Pairs


@dataclass(frozen=True)
class Difference:
    """Challenger less champion, in shares of units: the estimate, None without units of both, and limits that hold at
    every look at once, each with probability 1 - alpha."""

    value: float | None
    low: float
    high: float


def bets(share: float, base: float, odds: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """By how much the capital is multiplied, as [challenger or not][failed or not].

    The gambler thinks that a unit fails with probability `base` at the champion and with `odds` times its odds at the
    challenger. `base` 0: failures are rare, and only they are bet on. For either outcome the mean over the coin is 1.
    """
    good, bad = 1 / (1 - base + odds * base), odds / (1 - base + odds * base)
    out = [(1 / (share * r + 1 - share), r / (share * r + 1 - share)) for r in (good, bad)]
    return (out[0][0], out[1][0]), (out[0][1], out[1][1])


def worse(counts: Sequence[Counts], base: float = 0.0) -> float:
    """The logarithm of the e-value against "the challenger is no worse": at least log(1 / alpha) at any look with
    probability alpha at most where it is true. 0 without units. `base` as in `bets`, chosen beforehand."""
    return _mixed([sum(_log_bet(one, base, odds) for one in counts) for odds in ODDS])


def _log_bet(one: Counts, base: float, odds: float) -> float:
    if isinstance(one, Pairs):
        # Of a unit that failed with one of the two, a fair coin says which: bet on it, and on nothing else.
        return one.champion_only * math.log(2 / (1 + odds)) + one.challenger_only * math.log(2 * odds / (1 + odds))
    found = bets(one.share, base, odds)
    return sum(
        (units - failed) * math.log(good) + failed * math.log(bad)
        for (units, failed), (good, bad) in zip((one.champion, one.challenger), found, strict=True)
    )


def outweighs(counts: Sequence[Counts], margin: float, base: float = 0.0) -> float:
    """The logarithm of the e-value against "the challenger fails at least `margin` (a share of units) more often".

    What is tested is the running mean of the differences of the units so far, each weighed by its share, so it may
    drift. `base` is the share of units that fails, roughly: it makes the test stronger, never wrong. Valid for counts
    of units whose outcome is final. Raises ValueError for a margin outside -1 to 1.
    """
    return _gained(_terms(counts, base), margin)


def difference(counts: Sequence[Counts], alpha: float, base: float = 0.0) -> Difference:
    """The difference in the share of units that failed, with limits that hold at all looks, each with probability
    1 - `alpha`. Counts as for `outweighs`. The limits are -1 and 1 without units."""
    terms = _terms(counts, base)
    turned = [(n, -z, -low, -high) for n, z, high, low in terms]
    return Difference(_estimate(counts), -_limit(turned, alpha), _limit(terms, alpha))


_Term = tuple[int, float, float, float]
"""Units, their estimate of the difference, and the most and the least that a unit of their kind may estimate."""


def _terms(counts: Sequence[Counts], base: float) -> list[_Term]:
    out: list[_Term] = []
    for one in counts:
        if isinstance(one, Pairs):
            equal = one.units - one.champion_only - one.challenger_only
            out += [(n, z, 1.0, -1.0) for n, z in ((equal, 0.0), (one.champion_only, -1.0), (one.challenger_only, 1.0))]
            continue
        # Weighed by the inverse of its probability, the outcome of one arm estimates the difference without bias,
        # and so it does less any constant: with `base` it varies least.
        p, (n0, k0), (n1, k1) = one.share, one.champion, one.challenger
        high, low = max((1 - base) / p, base / (1 - p)), -max(base / p, (1 - base) / (1 - p))
        found = ((n1 - k1, -base / p), (k1, (1 - base) / p), (n0 - k0, base / (1 - p)), (k0, -(1 - base) / (1 - p)))
        out += [(n, z, high, low) for n, z in found]
    return [term for term in out if term[0]]


def _gained(terms: Sequence[_Term], margin: float) -> float:
    if not -1 <= margin <= 1:
        raise ValueError(f"a difference of shares is between -1 and 1, and not {margin}")
    # A stake of its kind's own size: what is lost on the worst unit is less than the capital, at any margin.
    return _mixed(
        [sum(n * math.log1p(stake / (high + 1) * (margin - z)) for n, z, high, _ in terms) for stake in STAKES]
    )


def _limit(terms: Sequence[_Term], alpha: float) -> float:
    """The least margin that is refuted at level `alpha`; 1 where none is."""
    needed = -math.log(alpha)
    low, high = -1.0, 1.0
    if _gained(terms, high) < needed:
        return 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _gained(terms, middle) >= needed else (middle, high)
    return high


def _estimate(counts: Sequence[Counts]) -> float | None:
    """The differences within each share, weighed by how well each is known."""
    parts: list[tuple[float, float]] = []
    for one in counts:
        if isinstance(one, Pairs):
            parts += [(one.units / 2, (one.challenger_only - one.champion_only) / one.units)] if one.units else []
            continue
        (n0, k0), (n1, k1) = one.champion, one.challenger
        parts += [(n0 * n1 / (n0 + n1), k1 / n1 - k0 / n0)] if n0 and n1 else []
    weight = sum(w for w, _ in parts)
    return sum(w * value for w, value in parts) / weight if weight else None


def _mixed(logs: Sequence[float]) -> float:
    """log of the mean of exp(logs)."""
    most = max(logs)
    return most + math.log(math.fsum(math.exp(x - most) for x in logs) / len(logs))
