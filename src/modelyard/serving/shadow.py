"""Copies of live requests for a challenger in the shadow. Its answers are compared, and given to nobody.

Never in the way of a live answer: a copy is made once that is given, few are under way at a time, and what comes when
too many wait is dropped and counted.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from modelyard.errors import Busy, Cancelled, ModelyardError
from modelyard.serving.assignment import Values, outcome
from modelyard.serving.rollout import Trial

AT_ONCE = 2
WAITING = 32
_LARGEST = 1 << 20
"""Bytes of a reply over which it is only compared whole."""
_TOLERANCE = 1e-6

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""A release and a job to its whole response. Raises ModelyardError."""


class Shadow:
    """Asks challengers what was asked live. Use from one event loop; close it.

    `counts`: `mirrored`, `failed` of these, `dropped` because too many waited.
    """

    def __init__(self, ask: Ask, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self.counts: Counter[str] = Counter()
        self._ask, self._most = ask, waiting + at_once
        self._turn = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()

    def mirror(self, trial: Trial, unit: str, job: Mapping[str, Any], values: Values, response: Any) -> None:
        """Ask the challenger of `trial` the same. `values` and `response` are what the live answer was: see `outcome`,
        and `Exchange.result` (None where it failed). Returns at once."""
        if len(self._tasks) >= self._most:
            self.counts["dropped"] += 1
            return
        copy = {**job, "key": f"{job.get('key', '')}-shadow", "effects": "shadow"}
        if "stream" in copy:
            copy["stream"] = False
        task = asyncio.get_running_loop().create_task(self._compare(trial, unit, copy, values, response))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, trial: Trial, unit: str, job: Mapping[str, Any], values: Values, response: Any) -> None:
        async with self._turn:
            began = asyncio.get_running_loop().time()
            theirs, failure = None, None
            try:
                theirs = await self._ask(trial.rollout.challenger, job)
            except (Busy, Cancelled):
                self.counts["dropped"] += 1  # its queue is full, or we are going: that says nothing of the release
                return
            except ModelyardError as error:
                failure = error
        self.counts["mirrored"] += 1
        spent = (asyncio.get_running_loop().time() - began) * 1000
        found = dict(outcome(failure, spent, theirs.get("signals", {}) if theirs else {}))
        if failure is not None and not found["errors"]:
            # However it is said: what was answered live is no mistake of the caller's, and what was not is nobody's.
            found["refused"] = 1.0 if response is not None else values.get("refused", 0.0)
        self.counts["failed"] += bool(found["errors"] or (found["refused"] and response is not None))
        if theirs is not None and response is not None:
            found["agreement"] = agreement(_said(response), _said(theirs))
        trial.mirrored(unit, values, found)


def agreement(a: Any, b: Any) -> float:
    """How far two answers agree, from 0 to 1: texts by the words they share, numbers by whether they are equal to a
    millionth, lists and objects by the mean of their parts."""
    if isinstance(a, str) and isinstance(b, str):
        ours, theirs = Counter(a.split()), Counter(b.split())
        total = ours.total() + theirs.total()
        return 2 * (ours & theirs).total() / total if total else 1.0
    if _number(a) and _number(b):
        return float(abs(a - b) <= _TOLERANCE * max(1.0, abs(a), abs(b)))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = a.keys() | b.keys()
        return sum(agreement(a.get(k), b.get(k)) for k in keys) / len(keys) if keys else 1.0
    if isinstance(a, list) and isinstance(b, list):
        longest = max(len(a), len(b))
        return sum(agreement(x, y) for x, y in zip(a, b, strict=False)) / longest if longest else 1.0
    return float(type(a) is type(b) and a == b)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(response: Mapping[str, Any]) -> Any:
    """What of a response is compared: the text of a chat answer, the predictions of a model."""
    if "body" not in response:
        return response.get("text", "")
    body = response["body"]
    if len(body) > _LARGEST:
        return bytes(body)
    try:
        return json.loads(body)
    except ValueError:
        return bytes(body)
