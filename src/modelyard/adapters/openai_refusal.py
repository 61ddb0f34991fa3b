"""What servers that speak OpenAI's protocol say when they do not answer, as our errors.

Neither a URL nor a key or header ever stands in one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from modelyard.errors import AdapterError, RequestError, Unauthorized

if TYPE_CHECKING:
    import httpx

LONGEST_WAIT = 30.0
"""Seconds: a server that asks for more is given up."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Again(Exception):
    """Something that may pass. `wait`: seconds the server asked for."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def pause(again: Again, attempt: int, longest: float = 8.0) -> float:
    """Seconds to wait before the next attempt (they count from 0): as the server asks, else twice as long each time."""
    return again.wait if again.wait is not None else min(0.5 * 2**attempt, longest)


def refusal(name: str, endpoint: str, response: httpx.Response) -> Exception:
    """`refused` of a reply that httpx has read whole."""
    sent, got = response.request.headers, response.headers
    wait = retry_after(got.get("retry-after", ""), got.get("date", ""))
    secrets = (sent.get("authorization", ""), sent.get("api-key", ""))
    return refused(name, endpoint, response.status_code, response.content, wait, secrets)


def refused(
    name: str, endpoint: str, status: int, body: bytes, wait: float | None, secrets: Iterable[str]
) -> Exception:
    """The error of a reply that is not 200; Again where it may pass. `endpoint` is "the chat endpoint", `wait` what
    `retry_after` says, `secrets` the values of headers that the server may quote and nobody may read."""
    if status in (401, 403):
        return Unauthorized(f"{name}: {endpoint} refuses the key (HTTP {status})")
    if status in _AGAIN:
        return Again(f"{endpoint} answers HTTP {status}", wait)
    if status in (400, 413, 422):
        reason = _reason(body, secrets)
        return RequestError(f"{name}: {endpoint} does not accept the request (HTTP {status}): {reason}")
    return AdapterError(f"{name}: {endpoint} answers HTTP {status}")


def _reason(content: bytes, secrets: Iterable[str]) -> str:
    """The server's own word, without what it may quote of our headers."""
    try:
        body = json.loads(content)
        error = body.get("error") or body.get("message") or body.get("detail") or {}
        text = error.get("message") or error.get("code") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = None
    text = (str(text or "").splitlines() or [""])[0]
    for secret in secrets:
        for form in (secret, secret.removeprefix("Bearer ")):
            if form:
                text = text.replace(form, "***")
    return text[:300] or "no reason given"


def retry_after(value: str, date: str) -> float | None:
    """Seconds, from the two forms of the header Retry-After (RFC 9110, section 10.2.3), the reply's Date beside it;
    None where there is none."""
    value = value.strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):
        return None
