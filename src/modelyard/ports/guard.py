"""The guard port: what may keep a request from the model, or an answer from the caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from modelyard.ports.workload import Request, Response


class Guard(Protocol):
    """One rule, wrapped around the predictor, so that it holds however a release is served. Safe to call from several
    threads. A scoring body that nobody parses on the way is looked at as {"body": its text}, and its reply as a
    response of that text."""

    name: str
    answers: bool
    """Whether it looks at answers. Where no guard does, they are streamed; else none leaves before it is whole."""

    def request(self, request: Request) -> str | None:
        """Why this request may not reach the model; None lets it through. Never with words of the request."""
        ...

    def response(self, request: Request, response: Response) -> str | None:
        """Why this answer may not reach the caller; None lets it through. Never with words of the answer."""
        ...


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys of objects apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)
