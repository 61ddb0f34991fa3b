"""Tokens: made, listed, revoked. The secret of one is seen once, by whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from modelyard.clock import Clock, stamp
from modelyard.errors import UserError
from modelyard.ports.tokens import Limits, Scope, Spent, Token, Tokens, digest_of, new_secret
from modelyard.project.access import read_groups

MOST_NAME = 100
MOST_SECONDS = 100 * 365 * 86_400.0


def create(
    tokens: Tokens,
    clock: Clock,
    by: str,
    *,
    scope: Scope = "query",
    groups: Sequence[str] = (),
    limits: Limits = Limits(),
    name: str = "",
    expires_in: float | None = None,
) -> tuple[str, Token]:
    """A new token and its secret, which is kept nowhere. `expires_in` in seconds. Raises UserError for a name or group
    that is no good, or a name that a live token has."""
    if not name.isprintable() or len(name) > MOST_NAME:
        raise UserError(f"the name of a token has at most {MOST_NAME} printable characters")
    if expires_in is not None and expires_in > MOST_SECONDS:
        raise UserError("a token expires within a hundred years, or never")
    try:
        members = tuple(read_groups(list(groups)) or ())
    except ValueError as error:
        raise UserError(str(error)) from None
    secret, identity = new_secret()
    now = clock.now()
    token = Token(
        identity,
        digest_of(secret),
        name,
        scope,
        members,
        limits,
        created=stamp(now),
        by=by,
        expires=stamp(now + timedelta(seconds=expires_in)) if expires_in is not None else None,
    )
    tokens.add(token)
    return secret, token


def listing(tokens: Tokens, clock: Clock) -> list[dict[str, Any]]:
    """Every token without its secret or digest, newest first, with its state and what it used today (UTC)."""
    now = clock.now()
    spent = tokens.spent(now.strftime("%F"))
    return [described(token, spent.get(token.id, Spent()), stamp(now)) for token in tokens.all()]


def described(token: Token, spent: Spent, now: str) -> dict[str, Any]:
    """A token as people and programs see it."""
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "groups": list(token.groups),
        "state": token.state(now),
        "limits": asdict(token.limits),
        "spent_today": asdict(spent),
        "created": token.created,
        "by": token.by,
        "expires": token.expires,
        "revoked": token.revoked,
        "used": token.used,
    }
