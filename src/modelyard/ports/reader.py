"""The reader port: a model that reads a question and a statement together and says whether this answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Reader(Protocol):
    """Safe to call from several threads. The same question and statement give the same figure, whatever stands beside
    them in a call."""

    @property
    def name(self) -> str:
        """What people call the model."""
        ...

    @property
    def digest(self) -> str:
        """Of all that its figures depend on."""
        ...

    def members(self) -> Mapping[str, Path]:
        """The files it is made of, by name: what a release keeps to read the same elsewhere."""
        ...

    def read(self, question: str, statements: Sequence[str]) -> NDArray[np.float32]:
        """float32 [statements]: log-odds that each answers the question by itself. Both are cut where they are too long
        for the model. Raises AdapterError where it cannot be computed."""
        ...


class Readers(NamedTuple):
    """Two that read one after the other: a quick one many statements, a close one the few that look best then."""

    quick: Reader
    close: Reader
