"""The one path of a request, and guards around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelyard.clock import FakeClock
from modelyard.errors import AnswerStopped, Cancelled, DeadlineExceeded, ModelyardError, RefusedByPolicy, RequestStopped
from modelyard.ports.workload import (
    Call,
    CanInvoke,
    CanPicture,
    CanSearch,
    Delta,
    Event,
    Invoked,
    Request,
    Response,
)
from modelyard.serving.answer import answer, prediction, stream
from modelyard.serving.guarded import guarded

ASKED: Request = {"messages": [{"role": "user", "content": "what?"}]}


@dataclass
class Scripted:
    """A predictor that says what it was given; `closed` tells whether its iterator was given back."""

    events: Sequence[Event]
    closed: bool = False
    entered: int = 0

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        self.entered += 1
        try:
            yield from self.events
        finally:
            self.closed = True

    def close(self) -> None:
        """Nothing."""


class Searching(Scripted):
    def search(self, query: str, k: int, groups: frozenset[str] | None = frozenset()) -> Sequence[Mapping[str, Any]]:
        return [{"document": "d", "page": 1, "score": 1.0, "text": query}] * k


class Picturing(Scripted):
    def page_picture(self, document: str, page: int, quote: str, groups: frozenset[str] | None = frozenset()) -> bytes:
        return f"{document} {page} {quote}{sorted(groups or ()) or ''}".encode()


class Both(Searching, Picturing):
    pass


class Invoking(Scripted):
    def invoke(self, body: bytes, content_type: str, call: Call) -> Invoked:
        self.entered += 1
        return Invoked(b'{"predictions": ' + body + b"}", "application/json", 1)


class Everything(Both, Invoking):
    pass


@dataclass(frozen=True)
class Opened:
    predictor: Any
    id: str = "f" * 64


@dataclass
class Forbids:
    """A guard that stops a word on the way in, and another on the way out."""

    word_in: str = ""
    word_out: str = ""
    name: str = "forbids"
    answers: bool = True
    seen: list[Request] = field(default_factory=list)

    def request(self, request: Request) -> str | None:
        self.seen.append(request)
        return "no such questions" if self.word_in and self.word_in in str(request) else None

    def response(self, request: Request, response: Response) -> str | None:
        return "no such answers" if self.word_out and self.word_out in response.text else None


def call(clock: FakeClock | None = None, **more: Any) -> Call:
    return Call(clock or FakeClock(), "key", **more)


GOOD = (Delta("a "), Delta("b"), Response("a b", {"answer": "a b"}))


def test_the_events_are_the_predictors_and_the_response_is_the_last() -> None:
    assert tuple(stream(Opened(Scripted(GOOD)), ASKED, call())) == GOOD
    assert answer(Opened(Scripted(GOOD)), ASKED, call()) == GOOD[-1]


def test_an_answer_may_come_without_deltas() -> None:
    assert answer(Opened(Scripted(GOOD[-1:])), ASKED, call()).text == "a b"


def test_nothing_after_the_response_is_heard() -> None:
    scripted = Scripted([*GOOD, Delta("c")])
    assert tuple(stream(Opened(scripted), ASKED, call())) == GOOD
    assert scripted.closed


@pytest.mark.parametrize("events", [[], [Delta("a")], [Delta("a"), Response("b", {})]])
def test_a_predictor_that_breaks_its_promise_is_an_error(events: list[Event]) -> None:
    with pytest.raises(ModelyardError):
        answer(Opened(Scripted(events)), ASKED, call())


def test_the_deadline_is_kept_before_the_predictor_is_entered_and_between_events() -> None:
    clock, scripted = FakeClock(), Scripted(GOOD)
    with pytest.raises(DeadlineExceeded):
        answer(Opened(scripted), ASKED, call(clock, deadline=0.0))
    assert not scripted.entered
    events = stream(Opened(scripted), ASKED, call(clock, deadline=1.0))
    assert next(events) == GOOD[0]
    clock.advance(1.0)
    with pytest.raises(DeadlineExceeded):
        next(events)
    assert scripted.closed


def test_a_cancelled_request_gives_back_what_the_predictor_holds() -> None:
    gone, scripted = False, Scripted(GOOD)
    events = stream(Opened(scripted), ASKED, call(cancelled=lambda: gone))
    next(events)
    gone = True
    with pytest.raises(Cancelled):
        next(events)
    assert scripted.closed


def test_so_does_one_that_nobody_listens_to_any_more() -> None:
    scripted = Scripted(GOOD)
    events = stream(Opened(scripted), ASKED, call())
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert scripted.closed


def test_a_prediction_carries_output_release_and_choices() -> None:
    made = prediction("r", "hi", {"answer": "hi", "release": "not this"})
    assert made["answer"] == "hi" and made["release"] == "r"
    assert made["choices"][0]["message"] == {"role": "assistant", "content": "hi"}


def test_no_guards_no_wrapper() -> None:
    scripted = Scripted(GOOD)
    assert guarded(scripted, ()) is scripted


@pytest.mark.parametrize("kind", [Scripted, Searching, Picturing, Both, Invoking, Everything])
def test_guards_keep_the_capabilities(kind: type[Scripted]) -> None:
    bare, wrapped = kind(GOOD), guarded(kind(GOOD), [Forbids()])
    assert isinstance(wrapped, CanSearch) == isinstance(bare, CanSearch)
    assert isinstance(wrapped, CanPicture) == isinstance(bare, CanPicture)
    assert isinstance(wrapped, CanInvoke) == isinstance(bare, CanInvoke)


def test_a_guard_keeps_a_request_from_the_model() -> None:
    scripted = Both(GOOD)
    wrapped: Any = guarded(scripted, [Forbids(), Forbids(word_in="what")])
    with pytest.raises(RefusedByPolicy, match="forbids stopped the request: no such questions"):
        answer(Opened(wrapped), ASKED, call())
    with pytest.raises(RefusedByPolicy):
        wrapped.search("what", 3)
    with pytest.raises(RefusedByPolicy):
        wrapped.page_picture("what.pdf", 1, "")
    assert not scripted.entered


def test_a_guard_keeps_an_answer_from_the_caller_and_no_part_of_it_leaves() -> None:
    wrapped: Any = guarded(Both(GOOD), [Forbids(word_out="b")])
    heard = []
    with pytest.raises(RefusedByPolicy, match="no such answers"):
        for event in stream(Opened(wrapped), ASKED, call()):
            heard.append(event)
    assert heard == []
    with pytest.raises(RefusedByPolicy):
        wrapped.search("about b", 1)


def test_what_guards_let_through_is_what_the_predictor_said() -> None:
    guard = Forbids()
    wrapped: Any = guarded(Both(GOOD), [guard])
    assert answer(Opened(wrapped), ASKED, call()) == GOOD[-1]
    assert len(wrapped.search("q", 2)) == 2
    assert wrapped.page_picture("d", 1, "q") == b"d 1 q"
    assert guard.seen[0] == ASKED


def test_where_no_guard_looks_at_answers_they_are_streamed() -> None:
    wrapped = guarded(Scripted(GOOD), [Forbids(word_in="never", answers=False)])
    assert tuple(stream(Opened(wrapped), ASKED, call())) == GOOD


def test_guards_look_at_scoring_bodies_too() -> None:
    scripted = Invoking(GOOD)
    wrapped: Any = guarded(scripted, [Forbids("secret", "[42]")])
    with pytest.raises(RequestStopped):
        wrapped.invoke(b'{"inputs": "secret"}', "application/json", call())
    assert not scripted.entered
    with pytest.raises(AnswerStopped):
        wrapped.invoke(b"[42]", "application/json", call())
    assert wrapped.invoke(b"\xff[1]", "text/csv", call()).body == b'{"predictions": \xff[1]}'
