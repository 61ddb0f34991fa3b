"""The tokens of a target as a running gateway knows them: followed as they change, and what they spend written down.

A request costs one SHA-256 and a look into a dictionary; the ledger's file is asked by a thread beside it, so a token
that is revoked is good for nothing within half a second. While the file cannot be read, what was known last holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from modelyard.clock import Clock, stamp
from modelyard.errors import ModelyardError
from modelyard.gateway.auth import Caller
from modelyard.gateway.limits import Allowance
from modelyard.ports.tokens import Spent, Token, Tokens, digest_of

POLL_SECONDS = 0.25
SAVE_SECONDS = 2.0
"""How often what was spent is written down: a gateway that is killed forgets as much."""

T = TypeVar("T")
log = logging.getLogger("modelyard.gateway")


class Keyring:
    """Who has which secret. `fixed` are those of the configuration: {secret: caller}. A secret is asked for where
    there is one among `fixed` that is `required`, or as soon as the target has tokens: also when all were revoked,
    since revoking the last one must not let everybody in.

    Opening the tokens raises what their adapter raises.
    """

    def __init__(
        self, fixed: Mapping[str, Caller], required: bool, tokens: Callable[[], Tokens] | None, clock: Clock
    ) -> None:
        self._fixed = {digest_of(secret): (caller, math.inf) for secret, caller in fixed.items()}
        self._always, self._clock = required, clock
        self._tokens = tokens() if tokens is not None else None
        self._known: dict[str, tuple[Caller, float]] = dict(self._fixed)
        self._allowances: dict[str, Allowance] = {}
        self._used: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._following: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._seen = 0
        self.required = required
        self.live = 0
        if self._tokens is not None:
            self._take(*self._read(self._tokens))

    def find(self, secret: str) -> Caller | None:
        """Who has this secret and may come in now."""
        found = self._known.get(digest_of(secret))
        if found is None or (found[1] != math.inf and found[1] <= self._clock.now().timestamp()):
            return None
        if found[0].allowance is not None:
            self._used.add(found[0].id)
        return found[0]

    def start(self) -> None:
        """Begin to follow the tokens."""
        if self._tokens is not None:
            self._following = asyncio.get_running_loop().create_task(self._follow(self._tokens))

    async def stop(self) -> None:
        """Write down what was spent, and let go of the file. May be called when it was never started."""
        self._stopping.set()
        try:
            if self._following is not None:
                await self._following
            if self._tokens is not None:
                await self._save(self._tokens)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._thread.shutdown()
        if self._tokens is not None:
            self._tokens.close()

    async def _follow(self, tokens: Tokens) -> None:
        loop = asyncio.get_running_loop()
        saved, broken = loop.time(), ""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._stopping.wait()
            try:
                if (found := await self._aside(self._look, tokens, self._seen)) is not None:
                    self._take(*found)
                broken = ""
                if loop.time() - saved >= SAVE_SECONDS:
                    saved = loop.time()
                    await self._save(tokens)
            except ModelyardError as error:
                if str(error) != broken:
                    log.error("the tokens cannot be read: %s", error)
                broken = str(error)
            except Exception:  # whatever it is: a token that is revoked later must be heard of
                if broken != "bug":
                    log.exception("the tokens cannot be read")
                broken = "bug"

    def _look(self, tokens: Tokens, seen: int) -> tuple[int, list[Token], Mapping[str, Spent]] | None:
        return None if tokens.version() == seen else self._read(tokens)

    def _read(self, tokens: Tokens) -> tuple[int, list[Token], Mapping[str, Spent]]:
        version = tokens.version()  # before the rows: what changes meanwhile is read again
        return version, list(tokens.all()), tokens.spent(self._clock.now().strftime("%F"))

    def _take(self, version: int, tokens: list[Token], spent: Mapping[str, Spent]) -> None:
        now, known = stamp(self._clock.now()), dict(self._fixed)
        for token in tokens:
            if token.state(now) != "live":
                continue
            if token.id not in self._allowances:
                self._allowances[token.id] = Allowance(token.limits, self._clock, spent.get(token.id, Spent()))
            caller = Caller(token.id, token.scope, frozenset(token.groups), self._allowances[token.id], token.name)
            until = datetime.fromisoformat(token.expires).timestamp() if token.expires else math.inf
            known[token.digest] = (caller, until)
        self.live = len(known) - len(self._fixed)
        self.required = self._always or bool(tokens)
        self._known, self._seen = known, version

    async def _save(self, tokens: Tokens) -> None:
        """Write down what was spent since the last time. What cannot be written is held until the next."""
        days: dict[str, dict[str, Spent]] = {}
        for token, allowance in self._allowances.items():
            for day, spent in allowance.unsaved().items():  # of a day that is over, too: midnight comes in between
                days.setdefault(day, {})[token] = spent
        used, self._used = dict.fromkeys(self._used, stamp(self._clock.now())), set()
        if used and not days:
            days = {"": {}}
        for day, more in days.items():
            try:
                await self._aside(tokens.spend, day, more, used)
                used = {}
            except Exception as error:
                for token, spent in more.items():
                    self._allowances[token].again(day, spent)
                if not isinstance(error, ModelyardError):
                    raise
                log.error("what tokens spent cannot be written down, and is held: %s", error)

    async def _aside(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
