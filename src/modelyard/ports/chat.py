"""The chat port: any model that continues a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ChatChunk:
    """A piece of the reply as it arrives. The last one has `finish` set and `usage` (prompt and completion tokens)."""

    text: str
    finish: str | None = None
    usage: Mapping[str, int] | None = None


class Chat(Protocol):
    """A chat model. `name` is the model's name, as it goes into the release; never its URL."""

    name: str

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, timeout: float | None
    ) -> Iterator[ChatChunk]:
        """The reply to `messages` ([{"role", "content"}, ...]). `timeout` in seconds bounds the whole reply. Closing
        the iterator cancels it. Raises Unavailable (after retries), DeadlineExceeded, RefusedByPolicy (budget spent),
        Unauthorized, AdapterError."""
        ...
