"""Guards around a predictor. What goes in and what comes out passes all of them, whoever serves the release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelyard.errors import AnswerStopped, RequestStopped
from modelyard.ports.guard import Guard
from modelyard.ports.workload import (
    Call,
    CanInvoke,
    CanPicture,
    CanSearch,
    Event,
    HasSchema,
    Invoked,
    Predictor,
    Request,
    Response,
    Schema,
)


def guarded(predictor: Predictor, guards: Sequence[Guard]) -> Predictor:
    """`predictor` behind `guards`, with the same capabilities; without guards the predictor itself.

    What a guard stops raises RequestStopped or AnswerStopped with the guard's name and reason. Behind a guard that
    looks at answers nothing is streamed: no part of an answer leaves before all of it was looked at.
    """
    if not guards:
        return predictor
    kinds = [mixin for capability, mixin in _CAPABILITIES if isinstance(predictor, capability)]
    wrapper: Predictor = type("Guarded", (*kinds, _Guarded), {})(predictor, tuple(guards))
    return wrapper


class _Guarded:
    def __init__(self, predictor: Any, guards: tuple[Guard, ...]) -> None:
        self._predictor, self._guards = predictor, guards
        self._whole = any(guard.answers for guard in guards)

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        self._admit(request)
        if not self._whole:
            yield from self._predictor.predict(request, call)
            return
        for event in self._predictor.predict(request, call):
            if isinstance(event, Response):
                self._release(request, event)
                yield event

    def close(self) -> None:
        self._predictor.close()

    def _admit(self, request: Request) -> None:
        for guard in self._guards:
            if (reason := guard.request(request)) is not None:
                raise RequestStopped(f"the guard {guard.name} stopped the request: {reason}")

    def _release(self, request: Request, response: Response) -> None:
        for guard in self._guards:
            if (reason := guard.response(request, response)) is not None:
                raise AnswerStopped(f"the guard {guard.name} stopped the answer: {reason}")


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


class _Invoking(_Guarded):
    def invoke(self, body: bytes, content_type: str, call: Call) -> Invoked:
        request = {"body": body.decode("utf-8", "replace")}
        self._admit(request)
        invoked: Invoked = self._predictor.invoke(body, content_type, call)
        if self._whole:
            self._release(request, Response(invoked.body.decode("utf-8", "replace"), {}))
        return invoked


class _Described(_Guarded):
    @property
    def schema(self) -> Schema | None:
        found: Schema | None = self._predictor.schema
        return found


_CAPABILITIES: tuple[tuple[Any, type[_Guarded]], ...] = (
    (CanSearch, _Searching),
    (CanPicture, _Picturing),
    (CanInvoke, _Invoking),
    (HasSchema, _Described),
)
