"""What a use costs, by a list of prices."""

from __future__ import annotations

from collections.abc import Mapping


def cost(usage: Mapping[str, int], prices: Mapping[str, float]) -> float | None:
    """The sum over counts (tokens, say) that have a price; `prices` are of a million of each, in whatever currency.
    None where nothing of it has one.

    >>> cost({"prompt_tokens": 2000, "completion_tokens": 500}, {"prompt_tokens": 0.5, "completion_tokens": 2.0})
    0.002
    >>> cost({"prompt_tokens": 2000}, {}) is None
    True
    """
    priced = [count * prices[name] for name, count in usage.items() if name in prices]
    return sum(priced) / 1e6 if priced else None
