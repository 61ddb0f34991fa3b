"""Frames between gateway and worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard import errors
from modelyard.errors import ModelyardError
from modelyard.serving.wire import LIMIT, Decoder, encode, error_from_json, error_to_json

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)
headers = st.dictionaries(text.filter(lambda name: name != "payload"), values, max_size=4)
frames = st.lists(st.tuples(headers, st.binary(max_size=40)), max_size=5)


@given(frames, st.lists(st.integers(0, 400), max_size=8))
def test_frames_survive_however_they_are_cut(sent: list[tuple[dict[str, object], bytes]], cuts: list[int]) -> None:
    data = b"".join(encode(header, payload) for header, payload in sent)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder()
    got = [f for a, b in pairwise(places) for f in decoder.feed(data[a:b])]
    assert got == [header | ({"payload": payload} if payload else {}) for header, payload in sent]


@given(headers)
def test_numbers_keep_their_kind(sent: dict[str, object]) -> None:
    assert repr(next(Decoder().feed(encode(sent)))) == repr(sent)


@pytest.mark.parametrize("value", [2**70, -(2**63) - 1, 1e300, 5e-324, -0.0, 0.1 + 0.2, "null", None, [None, 2**64]])
def test_what_is_easily_changed_on_the_way_is_not(value: object) -> None:
    (got,) = Decoder().feed(encode({"value": value}))
    assert repr(got) == repr({"value": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}, b"bytes", date(2026, 1, 1)])
@pytest.mark.parametrize("place", [lambda v: v, lambda v: ["null", {"a": [v]}], lambda v: {"n": None, "v": v}])
def test_what_json_has_no_form_for_is_not_sent(value: object, place: Callable[[object], object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"value": place(value)})


def test_what_is_nested_too_deeply_is_not_sent() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        encode({"value": value})


def test_a_frame_over_the_limit_is_neither_sent_nor_waited_for() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        encode({"id": 1}, b"x" * LIMIT)
    with pytest.raises(ValueError):
        list(Decoder().feed((LIMIT + 1).to_bytes(4, "big") + b"\0\0\0\2{}"))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\6\0\0\0\2[]",
        b"\0\0\0\5\0\0\0\1x",
        b"\0\0\0\6\0\0\0\2\xff\xff",
        b"\0\0\0\6\0\0\0\3{} ",
        b"\0\0\0\0\0\0\0\0",
    ],
)
def test_another_protocol_is_noticed(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(Decoder().feed(data))


def _all_errors(kind: type[ModelyardError] = ModelyardError) -> list[type[ModelyardError]]:
    return [kind, *(e for sub in kind.__subclasses__() if sub.__module__ == errors.__name__ for e in _all_errors(sub))]


@pytest.mark.parametrize("kind", _all_errors())
def test_every_error_is_the_same_on_the_other_side(kind: type[ModelyardError]) -> None:
    there = error_from_json(error_to_json(kind("one line")))
    assert (type(there), str(there), there.status) == (kind, "one line", kind.status)


@pytest.mark.parametrize("kind", ["Mapping", "annotations", "os", "Exception", "NoSuchThing", "__builtins__"])
def test_a_name_that_is_no_error_of_ours_becomes_the_plain_one(kind: str) -> None:
    assert type(error_from_json({"kind": kind, "message": "m"})) is ModelyardError
