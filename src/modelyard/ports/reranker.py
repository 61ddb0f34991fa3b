"""The reranker port: a model that reads a question and a passage together and says how well the passage answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Safe to call from several threads."""

    @property
    def name(self) -> str:
        """What people call the model."""
        ...

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """One finite score for each of `texts`, in their order; more is better. Scores of one call can be compared
        with each other, and with nothing else. No texts give no scores, without a call.

        Raises Unavailable where no answer came, Unauthorized, RequestError where the model does not accept what it was
        sent, AdapterError where its answer cannot be understood.
        """
        ...
