"""Which release answers a unit (a conversation, an entity), what a unit is, and what an answer to one was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from modelyard.errors import AnswerStopped, Busy, Cancelled, ModelyardError, Unread

Values = Mapping[str, float]
"""What a rollout looks at, by name."""
REFUSALS = frozenset({400, 404, 415, 422})
"""HTTP statuses by which a release says that the caller is wrong. Not those that the gateway itself gives, by who asks
(401, 403), how much (413) and how often (429)."""


@dataclass(frozen=True)
class Assignment:
    """The release of a unit. `arm` is "champion", "challenger", "previous", or "split" for a share given by hand to
    none of them, "named" where the request names the release; `probability` is the one it was chosen with. A release
    of None is whichever answers now."""

    release: str | None = None
    arm: str = "champion"
    probability: float = 1.0


def unit_of(requester: str | None, conversation: str | None, first: bytes) -> str:
    """The unit of a request, 16 hex digits: its conversation or entity as the caller names it, else by the first
    message (or the whole body, where there are no messages). Of two callers with the same names each has its own."""
    kind = b"named\0" if conversation is not None else b"first\0"
    what = conversation.encode("utf-8", "surrogatepass") if conversation is not None else first
    parts = b"\0".join((kind, (requester or "").encode(), what))
    return hashlib.blake2b(parts, digest_size=8).hexdigest()


def outcome(error: ModelyardError | None, milliseconds: float, signals: Values) -> Values:
    """What an answer was, as tests see it. `errors` is 1 where the release failed, or a guard had to stop what it said,
    and 0 where it answered or the caller was wrong or went away. `refused` is 1 where it said that the caller is wrong:
    a mistake of the caller's, unless the other release makes fewer of those. `latency` is that of what was answered, or
    what a caller waited who went away: a release that hangs is slow, also where nobody waits for its deadline; how long
    somebody takes to read an answer is no latency of it. And the
    workload's own signals, `cost` among them where it gives one. A queue that was full tells nothing of the release: no
    values."""
    if isinstance(error, Busy):
        return {}
    status, stopped = error.status if error is not None else 200, isinstance(error, AnswerStopped)
    refused = status in REFUSALS and not stopped
    values = {**signals, "errors": float(status >= 500 or stopped), "refused": float(refused)}
    if error is None or (isinstance(error, Cancelled) and not isinstance(error, Unread)):
        values["latency"] = milliseconds
    return values
