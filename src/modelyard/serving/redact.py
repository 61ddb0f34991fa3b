"""What of a request may be kept: everything, no payload, or the payload without what some patterns find.

Applied before anything is written. Strings, keys and numbers of JSON are looked at one by one, as they are meant and
not as they are escaped; what is not JSON is looked at as text. What cannot be looked at is not kept. Not covered: what
no pattern finds, and a pattern's own running time, which is the business of whoever wrote it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from modelyard.errors import UserError
from modelyard.ports.tokens import SECRET
from modelyard.serving.aside import loads

MASK = "[redacted]"
_OURS = re.compile(SECRET.pattern.encode())

Policy = Literal["none", "drop", "patterns"]


class Redaction:
    """A policy: `none` keeps what came, `drop` no request, response or comment, `patterns` masks what they find. The
    secret of a token of ours, pasted somewhere, is kept under none of them: only which token it was."""

    def __init__(self, policy: Policy = "none", patterns: Sequence[str] = ()) -> None:
        """Raises UserError for a pattern that is none, and for `patterns` without any."""
        if (policy == "patterns") != bool(patterns):
            raise UserError("redaction: patterns belong to the policy `patterns`, which needs one at least")
        self.policy = policy
        self._patterns = [_compiled(pattern) for pattern in patterns]

    def body(self, data: bytes | None) -> bytes | None:
        """As much of a body as may be kept; None for none of it."""
        if data is not None and b"my_" in data:
            data = _OURS.sub(rb"my_\1_[redacted]", data)
        if data is None or self.policy == "none":
            return data
        if self.policy == "drop":
            return None
        text = data.decode("utf-8", "backslashreplace")
        try:
            value = loads(text, str)
        except RecursionError:
            return None
        except ValueError:
            # Escapes would hide what patterns look for, and only a reader of JSON could undo them.
            return None if "\\u" in text else self._masked(text).encode("utf-8", "backslashreplace")
        try:
            kept = self._walk(value)
        except (RecursionError, ValueError):
            return None
        return data if kept is value else json.dumps(kept, ensure_ascii=False).encode("utf-8", "backslashreplace")

    def comment(self, text: str | None) -> str | None:
        """As much of a person's words as may be kept."""
        return None if text is None or self.policy == "drop" else self._masked(SECRET.sub(rf"my_\1_{MASK}", text))

    def name(self, text: str) -> str:
        """A name that rows are joined by: where a pattern finds something in it, a digest stands for it. Whoever can
        guess the name can recognise it by that."""
        if self._masked(text) == text:
            return text
        return "~" + hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]

    def _masked(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def _walk(self, value: Any) -> Any:
        """`value` without what is to be masked: the very same object where nothing is."""
        if isinstance(value, str):
            masked = self._masked(value)
            return value if masked == value else masked
        if isinstance(value, dict):
            pairs = [(self._walk(key), self._walk(item), key, item) for key, item in value.items()]
            changed = any(new is not key or kept is not item for new, kept, key, item in pairs)
            return {new: kept for new, kept, _, _ in pairs} if changed else value
        if isinstance(value, list):
            items = [self._walk(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if isinstance(value, int | float) and not isinstance(value, bool):
            text = repr(value)
            return value if self._masked(text) == text else MASK
        return value


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"redaction: {pattern!r} is no regular expression: {error}") from None
