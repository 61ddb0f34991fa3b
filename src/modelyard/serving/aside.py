"""What takes a while, done in a thread beside the event loop, so that others are answered meanwhile.

Only what gives the interpreter out of its hands gains by that: Python code does, and hashing; one call of `json` or
`re` on a long text does not (gateway/body.py says what is done about it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

ASIDE_BYTES = 64 << 10
"""What is longer is worth a thread: some milliseconds of work."""
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="aside")
"""No more: they share the interpreter with the loop."""

T = TypeVar("T")


async def aside(size: int, call: Callable[..., T], *args: object) -> T:
    """`call` on something of `size` bytes, in a thread where that may take a while. Raises what it raises."""
    if size <= ASIDE_BYTES:
        return call(*args)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call, *args)
