"""Sizes and durations as people write them, in and out."""

from __future__ import annotations

import re

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Bytes of "200 MB", "1GiB" or "512". Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in _SIZES:
        raise ValueError(f"{text!r} is not a size such as 200 MB or 1 GiB")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def parse_duration(text: str) -> float:
    """Seconds of "250ms", "30s", "24h" or "7d". Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", text)
    if not match:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 24h")
    return float(match[1]) * _TIMES[match[2]]


def show_size(count: int) -> str:
    """Bytes for people: 1.2 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
