"""The embedder port: texts to unit vectors, the same text to the same vector whatever is beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into vectors of unit length, so that a dot product is the cosine similarity.

    The port's central promise: a text's vector depends on the text and on `digest` alone, never on the other texts of
    a call, their order, or on earlier calls. Incremental builds and rolled-back releases stand on it. Calls may come
    from several threads.
    """

    @property
    def name(self) -> str:
        """What people call the model."""
        ...

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) over everything that changes vectors: graph, tokenizer, parameters. Vectors of
        different digests must never be compared; a cache of vectors is keyed by (digest, text)."""
        ...

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Vectors of `texts`, float32 [len(texts), dimension], row i of text i, each of length 1.

        Any string is accepted, the empty one too; what is over the model's limit is cut at its end. `progress` is
        called in the caller's thread with the number of texts done so far; what it raises ends the call.
        """
        ...

    def members(self) -> Mapping[str, Path]:
        """The files a release must carry to embed alike for ever, by member name; empty for remote models."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` as this model counts them, special tokens included and nothing cut."""
        ...
