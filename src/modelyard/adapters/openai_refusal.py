"""What servers that speak OpenAI's protocol say when they do not answer, as our errors.

Neither a URL nor a key or header ever stands in one.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import httpx

from modelyard.errors import AdapterError, RequestError, Unauthorized

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
    """The error of a reply that is not 200, read whole; Again where it may pass. `endpoint` is "the chat endpoint"."""
    status = response.status_code
    if status in (401, 403):
        return Unauthorized(f"{name}: {endpoint} refuses the key (HTTP {status})")
    if status in _AGAIN:
        return Again(f"{endpoint} answers HTTP {status}", retry_after(response))
    if status in (400, 413, 422):
        return RequestError(f"{name}: {endpoint} does not accept the request (HTTP {status}): {_reason(response)}")
    return AdapterError(f"{name}: {endpoint} answers HTTP {status}")


def _reason(response: httpx.Response) -> str:
    """The server's own word, without what it may quote of our headers."""
    try:
        body = response.json()
        error = body.get("error") or body.get("message") or body.get("detail") or {}
        text = error.get("message") or error.get("code") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = None
    authorization = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    text = (str(text or "").splitlines() or [""])[0][:300] or "no reason given"
    for secret in (authorization, response.request.headers.get("api-key", "")):
        if secret:
            text = text.replace(secret, "***")
    return text


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, from the header's two forms (RFC 9110, section 10.2.3); None where there is none."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        sent = parsedate_to_datetime(response.headers.get("date", ""))
        return max(0.0, (parsedate_to_datetime(value) - sent).total_seconds())
    except (ValueError, TypeError):
        return None
