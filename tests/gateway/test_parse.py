"""Whatever JSON object comes in, it is understood or refused with one line; nothing else happens."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import ModelyardError
from modelyard.gateway.chat import Cut, parse
from modelyard.gateway.invocations import TABULAR, requests

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=4)
json_values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3)
)
messages = st.lists(
    st.fixed_dictionaries({}, optional={"role": st.sampled_from(["user", "assistant", 1]), "content": json_values})
)
fields = ("model", "n", "stream", "stream_options", "max_tokens", "response_format", "tool_choice", "logprobs")
chat_bodies = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(fields, json_values) | {"messages": messages | json_values}
)
invocation_bodies = st.dictionaries(st.sampled_from([*TABULAR, "params", "messages", "stream", "x"]), json_values)


def refused_in_one_line(error: ModelyardError) -> bool:
    return 400 <= error.status < 500 and "\n" not in str(error)


@given(chat_bodies)
def test_a_chat_completion(body: dict[str, Any]) -> None:
    try:
        asked = parse(body, "town")
    except ModelyardError as error:
        assert refused_in_one_line(error)
    else:
        assert all(set(m) == {"role", "content"} and isinstance(m["content"], str) for m in asked.messages)
        assert body.get("n") in (None, 1) and body.get("model") in (None, "town")


@given(invocation_bodies)
def test_an_invocation(body: dict[str, Any]) -> None:
    try:
        rows, bare = requests(body, frozenset({"messages"}))
    except ModelyardError as error:
        assert refused_in_one_line(error)
    else:
        assert rows and all(set(row) <= {"messages"} for row in rows)
        assert bare == (not set(body) & set(TABULAR))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.integers(1, 12))
def test_a_cut_text_is_a_beginning_however_it_arrives(pieces: list[str], most: int) -> None:
    whole, cut = "".join(pieces), Cut(most)
    out = "".join(cut(piece) for piece in pieces)
    assert whole.startswith(out)
    assert cut.reached or out == whole
    assert Cut(None)(whole) == whole
