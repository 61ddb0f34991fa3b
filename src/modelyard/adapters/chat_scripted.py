"""A chat model that says what it was told to say: for tests, demonstrations and offline runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from modelyard.clock import Clock, SystemClock
from modelyard.errors import DeadlineExceeded
from modelyard.ports.chat import ChatChunk

Reply = str | Callable[[Sequence[Mapping[str, str]]], str]


class ScriptedChat:
    """Plays `replies` in order, the last one for ever, in pieces of `piece` characters, `pause` seconds apart.

    A reply is a text, or a function of the messages. `asked` holds the messages of every call. Words are its tokens.
    """

    def __init__(
        self, *replies: Reply, name: str = "scripted", piece: int = 12, pause: float = 0.0, clock: Clock | None = None
    ) -> None:
        self.name = name
        self.asked: list[list[dict[str, str]]] = []
        self._replies = replies or ("",)
        self._piece, self._pause, self._clock = piece, pause, clock or SystemClock()

    def stream(
        self, messages: Sequence[Mapping[str, str]], *, max_tokens: int, timeout: float | None
    ) -> Iterator[ChatChunk]:
        """See ports.chat.Chat. A reply longer than `max_tokens` words is cut, with finish "length"."""
        reply = self._replies[min(len(self.asked), len(self._replies) - 1)]
        self.asked.append([dict(m) for m in messages])
        text = reply if isinstance(reply, str) else reply(messages)
        words = text.split(" ")
        finish = "stop" if len(words) <= max_tokens else "length"
        text = " ".join(words[:max_tokens])
        until = None if timeout is None else self._clock.monotonic() + timeout
        for at in range(0, len(text), self._piece):
            if self._pause:
                self._clock.sleep(self._pause)
            if until is not None and self._clock.monotonic() >= until:
                raise DeadlineExceeded(f"{self.name} took longer than {timeout:g} seconds")
            yield ChatChunk(text[at : at + self._piece])
        asked = sum(len(m["content"].split()) for m in messages)
        usage = {"prompt_tokens": asked, "completion_tokens": min(len(words), max_tokens)}
        yield ChatChunk("", finish, usage)
