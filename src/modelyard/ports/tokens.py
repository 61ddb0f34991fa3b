"""The tokens port: who may ask an endpoint, as member of which groups, how often, and how much a day.

A token is 256 random bits. Its SHA-256 is all that is kept: there is nothing to guess, so a slow hash would only slow
down who comes in, and looking a digest up tells by its time nothing of the secrets that are there.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Scope = Literal["query", "operate"]
"""`query` gets answers; `operate` also moves what is served, and sees how it is doing."""

PREFIX = "my_"
SECRET = re.compile(r"\bmy_([0-9a-f]{10})_[A-Za-z0-9_-]{43}")
"""A secret of ours wherever it stands, with the token's id in it: for what must be hidden before it is written down."""


@dataclass(frozen=True)
class Limits:
    """What a token may use; None: without limit. Tokens here are those that a model reads and writes (`usage`)."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None

    def __bool__(self) -> bool:
        return any(v is not None for v in vars(self).values())


@dataclass(frozen=True)
class Token:
    """A token without its secret. Times as `clock.stamp` writes them; `expires` and `revoked` are None for never."""

    id: str
    digest: str = field(repr=False)
    name: str = ""
    scope: Scope = "query"
    groups: tuple[str, ...] = ()
    limits: Limits = Limits()
    created: str = ""
    by: str = ""
    expires: str | None = None
    revoked: str | None = None
    used: str | None = None

    def state(self, now: str) -> Literal["live", "expired", "revoked"]:
        """At the time `now`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "live"


@dataclass(frozen=True)
class Spent:
    """What a token used on one day (UTC)."""

    requests: int = 0
    tokens: int = 0


def new_secret() -> tuple[str, str]:
    """A secret and the id of the token that it is of. The id is not secret: listings and records name the token by
    it."""
    identity = secrets.token_hex(5)
    return f"{PREFIX}{identity}_{secrets.token_urlsafe(32)}", identity


def digest_of(secret: str) -> str:
    """What is kept of a secret: SHA-256, 64 hex digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class Tokens(Protocol):
    """The tokens of one target. Safe between processes."""

    def add(self, token: Token) -> None:
        """Durable when it returns. Raises UserError for a name that a live token has."""
        ...

    def all(self) -> Sequence[Token]:
        """Newest first, revoked ones too: who asked last year is still to be named."""
        ...

    def revoke(self, name: str, at: str) -> Token:
        """The token of that id or name is good for nothing from now on. One that was revoked stays as it is. Raises
        NotFound."""
        ...

    def spent(self, day: str) -> Mapping[str, Spent]:
        """What each token used on `day` (YYYY-MM-DD), by id."""
        ...

    def spend(self, day: str, more: Mapping[str, Spent], used: Mapping[str, str]) -> None:
        """Add to what tokens used on `day`, and note when they were last used: all of it, or nothing."""
        ...

    def version(self) -> int:
        """Another number when tokens may have changed since, whoever changed them. Cheap: to be polled."""
        ...

    def close(self) -> None: ...
