"""The one path of a request to a loaded release. Exam, `ask`, the MLflow model and the worker all come through here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from modelyard.errors import ModelyardError
from modelyard.ids import short
from modelyard.ports.workload import Call, Delta, Event, Predictor, Request, Response


class Loaded(Protocol):
    """As much of an opened release as answering takes."""

    @property
    def id(self) -> str: ...

    @property
    def predictor(self) -> Predictor: ...


def stream(opened: Loaded, request: Request, call: Call) -> Iterator[Event]:
    """The events of an answer. The last one, and only that, is the Response, and Deltas before it add up to its text.

    Raises what the predictor raises (RequestError, RefusedByPolicy, Unavailable), DeadlineExceeded and Cancelled
    between events, and ModelyardError for a predictor that breaks this promise.
    """
    call.check()
    said: list[str] = []
    events = opened.predictor.predict(request, call)
    try:
        for event in events:
            if isinstance(event, Delta):
                said.append(event.text)
                yield event
                call.check()
                continue
            if said and "".join(said) != event.text:
                raise ModelyardError(f"release {short(opened.id)} streamed another text than it answered with")
            call.check()
            yield event
            return
        raise ModelyardError(f"release {short(opened.id)} ended its answer without a response")
    finally:
        # What the predictor holds (a remote stream, say) is let go at once, not when it happens to be collected.
        close = getattr(events, "close", None)
        if close is not None:
            close()


def answer(opened: Loaded, request: Request, call: Call) -> Response:
    """The whole answer. Raises as `stream` does."""
    *_, last = stream(opened, request, call)
    assert isinstance(last, Response)  # stream ends with one, or raises
    return last


def prediction(release: str, text: str, output: dict[str, Any]) -> dict[str, Any]:
    """An answer as one element of what the MLflow model predicts: the output, the release it came from, and the text
    as OpenAI's `choices`, so that clients of either kind find what they look for."""
    message = {"role": "assistant", "content": text}
    return {**output, "release": release, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
