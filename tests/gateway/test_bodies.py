"""How deep a body may be nested."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

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
