"""The section `guards` of the project file: what is stopped on its way to the model, or to the caller."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """A mapping of the project file, as strict as all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LengthGuard(Section):
    """Most characters of what goes in, all messages together, and of an answer."""

    request: int | None = Field(None, ge=1)
    answer: int | None = Field(None, ge=1)


class PatternGuard(Section):
    """Texts that stop a request, or an answer: regular expressions, as Python reads them."""

    name: str = Field("pattern", description="what the caller is told the guard is called")
    deny: list[str] = Field(min_length=1)
    where: list[Literal["request", "answer"]] = Field(["request", "answer"], min_length=1)
    reason: str = Field("", description="what the caller is told")

    @field_validator("deny")
    @classmethod
    def _compiled(cls, value: list[str]) -> list[str]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return value


class Guards(Section):
    """What may not reach the model, or the caller. It is part of a release, wherever that is served."""

    length: LengthGuard | None = None
    patterns: list[PatternGuard] = []

    def policy(self) -> tuple[dict[str, Any], ...]:
        """As it stands in a manifest: {kind, settings} each; none for none."""
        length = [{"kind": "length", **self.length.model_dump(mode="json")}] if self.length is not None else []
        return (*length, *({"kind": "pattern", **guard.model_dump(mode="json")} for guard in self.patterns))
