"""The traces port: single answers, as tools for looking at them want them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Trace:
    """One request, from arrival to its end. `inputs` and `outputs` are the bodies, as JSON where they are, as far as
    they were kept; `usage` is what the model read and wrote; `attributes` whatever else is known of it."""

    request: str
    endpoint: str
    began_ns: int
    duration_ms: float
    status: int
    error: str | None = None
    inputs: Any = None
    outputs: Any = None
    unit: str = ""
    requester: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, str | float] = field(default_factory=dict)


class Traces(Protocol):
    """Where traces go."""

    def write(self, traces: Iterable[Trace]) -> int:
        """How many were written. Raises Unavailable, AdapterError."""
        ...
