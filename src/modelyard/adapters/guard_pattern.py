"""A guard that stops what matches a pattern.

Not covered: a pattern sees letters, not meaning, and what is spelled otherwise passes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from modelyard.ports.guard import texts
from modelyard.ports.workload import Request, Response


class PatternGuard:
    """Stops a request, an answer, or either (`where`), of which any text matches one of the regular expressions `deny`.

    Of an answer all is looked at that the caller would get, what it quotes too. `reason` is what the caller is told.
    Raises re.error for an expression that is none.
    """

    def __init__(
        self,
        deny: Sequence[str],
        where: Collection[str] = ("request", "answer"),
        reason: str = "",
        name: str = "pattern",
    ) -> None:
        self.name = name
        self._deny = [re.compile(pattern) for pattern in deny]
        self._requests, self.answers = "request" in where, "answer" in where
        self._reason = reason or "it holds what is not allowed here"

    def request(self, request: Request) -> str | None:
        return self._reason if self._requests and self._matches(texts(request)) else None

    def response(self, request: Request, response: Response) -> str | None:
        return self._reason if self.answers and self._matches(texts([response.text, response.output])) else None

    def _matches(self, found: Iterable[str]) -> bool:
        return any(pattern.search(text) for text in found for pattern in self._deny)
