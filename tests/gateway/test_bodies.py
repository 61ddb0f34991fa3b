"""How large a body may be, and how deep it may be nested."""

from __future__ import annotations

import json
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from town import Town

from modelyard.gateway.body import deeper

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\a\n\u2603', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=values, most=st.integers(0, 8), spaced=st.booleans(), ascii_only=st.booleans())
def test_it_is_the_depth_of_what_json_reads(value: Any, most: int, spaced: bool, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=1 if spaced else None, ensure_ascii=ascii_only).encode()
    assert deeper(raw, most) == (depth(value) > most)


def test_the_bounds_are_those_of_the_configuration(town: Town) -> None:
    town.point(town.release("you said: "))
    with town.gateway(bodies={"chat": 2_000, "scoring": 5_000, "depth": 8}) as gateway:
        gateway.until_ready()

        def asked(path: str, size: int) -> httpx.Response:
            return gateway.http.post(path, json={"messages": [{"role": "user", "content": "x" * size}]})

        assert asked("/v1/chat/completions", 1_500).status_code == 200
        refused = asked("/v1/chat/completions", 2_500)
        assert refused.status_code == 413 and "2,000 bytes" in refused.json()["error"]["message"]
        assert asked("/invocations", 2_500).status_code == 200
        refused = asked("/invocations", 6_000)
        assert refused.status_code == 413 and refused.json()["error_code"] == "INVALID_PARAMETER_VALUE"
        deep: Any = "a secret of mine"
        for _ in range(20):
            deep = [deep]
        for path in ("/v1/chat/completions", "/invocations", "/search"):
            reply = gateway.http.post(path, json={"messages": [], "query": "q", "user": deep})
            assert reply.status_code == 400 and "more than 8 deep" in reply.text and "secret" not in reply.text
