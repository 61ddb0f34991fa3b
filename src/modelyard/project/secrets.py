"""Secrets by reference: the project file names where one is; its value is read when needed, and never shown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from modelyard.errors import ProjectError

_FORM = re.compile(r"(env|file):([^\0]+)\Z", re.DOTALL)
# As far as the last @ of the word: a password may hold / and @, and what is hidden too much does no harm.
_USERINFO = re.compile(r"://[^\s/]\S*@")


def masked(text: str) -> str:
    """`text` with user and password of every URL in it hidden."""
    return _USERINFO.sub("://***@", text)


@dataclass(frozen=True)
class Secret:
    """`env:NAME` or `file:PATH`. Printing it prints the reference."""

    reference: str

    def __post_init__(self) -> None:
        if not _FORM.match(self.reference):
            # The text itself may be the secret somebody pasted: it is not repeated.
            raise ValueError("a secret is given by reference: env:NAME or file:PATH (what stands there is not shown)")

    def __str__(self) -> str:
        return self.reference

    def reveal(self, root: Path) -> str:
        """The value; relative paths are relative to the project's folder `root`. Raises ProjectError where it is
        missing or empty."""
        kind, _, where = self.reference.partition(":")
        if kind == "env":
            value = os.environ.get(where, "")
            if not value:
                raise ProjectError(
                    f"the environment variable {where} is not set (the project file refers to it as {self})"
                )
            return value
        path = root / where
        try:
            value = path.read_text(encoding="utf-8").strip()
        except OSError as e:
            raise ProjectError(f"the secret file {path} cannot be read: {e.strerror}") from None
        except ValueError:
            raise ProjectError(f"the secret file {path} cannot be read: it is not UTF-8 text") from None
        if not value:
            raise ProjectError(f"the secret file {path} is empty")
        return value
