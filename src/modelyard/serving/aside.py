"""What takes a while, done in a thread beside the event loop, so that others are answered meanwhile.

Only what gives the interpreter out of its hands gains by that: Python code does, and hashing. One call into C that
stays there, as of `json.loads` and `re.sub` on a long text, does not, whatever thread it is in: see `loads`.
"""

from __future__ import annotations

import asyncio
import json
import json.scanner
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

ASIDE_BYTES = 64 << 10
"""What is longer is worth a thread: some milliseconds of work."""
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="aside")
"""No more: they share the interpreter with the loop."""
_MANY_LISTS = 200_000

T = TypeVar("T")


async def aside(size: int, call: Callable[..., T], *args: object) -> T:
    """`call` on something of `size` bytes, in a thread where that may take a while. Raises what it raises."""
    if size <= ASIDE_BYTES:
        return call(*args)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call, *args)


def loads(text: str, constant: Callable[[str], Any]) -> Any:
    """`json.loads` with that for NaN and infinities. A long text is read so that other threads get their turns in
    between. Raises ValueError, RecursionError."""
    if len(text) <= ASIDE_BYTES:
        return json.loads(text, parse_constant=constant)
    if text.count("[") > _MANY_LISTS:  # nothing is called for a list
        return json.loads(text, cls=_Stepwise, parse_constant=constant)
    # Functions of Python's own are where the interpreter changes hands.
    return json.loads(text, parse_constant=constant, object_hook=_object, parse_int=_int, parse_float=_float)


class _Stepwise(json.JSONDecoder):
    """Reads value by value, in Python: ten times slower than the scanner in C, and nobody waits for it."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(**hooks)
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _object(value: dict[str, Any]) -> dict[str, Any]:
    return value


def _int(digits: str) -> int:
    return int(digits)


def _float(digits: str) -> float:
    return float(digits)
