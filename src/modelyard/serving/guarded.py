"""Guards around a predictor. What goes in and what comes out passes all of them, whoever serves the release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelyard.errors import RefusedByPolicy
from modelyard.ports.guard import Guard
from modelyard.ports.workload import Call, CanPicture, CanSearch, Event, Predictor, Request, Response


def guarded(predictor: Predictor, guards: Sequence[Guard]) -> Predictor:
    """`predictor` behind `guards`, with the same capabilities; without guards the predictor itself.

    A request or an answer that a guard stops raises RefusedByPolicy with the guard's name and reason. Behind guards
    nothing is streamed: no part of an answer leaves before all of it was looked at.
    """
    if not guards:
        return predictor
    kinds = {
        (False, False): _Guarded,
        (True, False): _Searching,
        (False, True): _Picturing,
        (True, True): _SearchingAndPicturing,
    }
    return kinds[isinstance(predictor, CanSearch), isinstance(predictor, CanPicture)](predictor, tuple(guards))


class _Guarded:
    def __init__(self, predictor: Any, guards: tuple[Guard, ...]) -> None:
        self._predictor, self._guards = predictor, guards

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        self._admit(request)
        for event in self._predictor.predict(request, call):
            if isinstance(event, Response):
                self._release(request, event)
                yield event

    def close(self) -> None:
        self._predictor.close()

    def _admit(self, request: Request) -> None:
        for guard in self._guards:
            if (reason := guard.request(request)) is not None:
                raise RefusedByPolicy(f"the guard {guard.name} stopped the request: {reason}")

    def _release(self, request: Request, response: Response) -> None:
        for guard in self._guards:
            if (reason := guard.response(request, response)) is not None:
                raise RefusedByPolicy(f"the guard {guard.name} stopped the answer: {reason}")


class _Searching(_Guarded):
    def search(self, query: str, k: int, groups: frozenset[str] | None = frozenset()) -> Sequence[Mapping[str, Any]]:
        request = {"query": query, "k": k}
        self._admit(request)
        found: Sequence[Mapping[str, Any]] = self._predictor.search(query, k, groups)
        text = "\n".join(str(one.get("text", "")) for one in found)
        self._release(request, Response(text, {"results": list(found)}))
        return found


class _Picturing(_Guarded):
    def page_picture(self, document: str, page: int, quote: str, groups: frozenset[str] | None = frozenset()) -> bytes:
        self._admit({"document": document, "page": page, "quote": quote})
        picture: bytes = self._predictor.page_picture(document, page, quote, groups)
        return picture


class _SearchingAndPicturing(_Searching, _Picturing):
    pass
