"""A guard that stops what is too long."""

from __future__ import annotations

from modelyard.ports.guard import texts
from modelyard.ports.workload import Request, Response


class LengthGuard:
    """Stops a request whose texts, all messages together, have over `request` characters, and an answer of over
    `answer` characters; None: however many."""

    name = "length"

    def __init__(self, request: int | None = None, answer: int | None = None) -> None:
        self._request, self._answer = request, answer
        self.answers = answer is not None

    def request(self, request: Request) -> str | None:
        size = sum(map(len, texts(request))) if self._request is not None else 0
        if self._request is None or size <= self._request:
            return None
        return f"it has {size:,} characters, and {self._request:,} are allowed"

    def response(self, request: Request, response: Response) -> str | None:
        if self._answer is None or len(response.text) <= self._answer:
            return None
        return f"it has {len(response.text):,} characters, and {self._answer:,} are allowed"
