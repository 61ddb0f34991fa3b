"""Frames between gateway and worker."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard import errors
from modelyard.errors import ModelyardError
from modelyard.serving.wire import Decoder, encode, error_from_json, error_to_json

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)
frames = st.lists(st.dictionaries(text, values, max_size=4), max_size=5)


@given(frames, st.lists(st.integers(0, 400), max_size=8))
def test_frames_survive_however_they_are_cut(sent: list[dict[str, object]], cuts: list[int]) -> None:
    data = b"".join(encode(frame) for frame in sent)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder()
    got = [f for a, b in pairwise(places) for f in decoder.feed(data[a:b])]
    assert got == sent


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}, b"bytes"])
def test_what_json_has_no_form_for_is_not_sent(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode({"value": value})


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1x", b"\0\0\0\2\xff\xff"])
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
