"""An embedder of no weights: words and pieces of words hashed into a vector. For tests, and for the tiniest demos.

Feature hashing with signs (Weinberger et al. 2009). It finds texts that share words or spellings and knows nothing of
meaning: nobody should release a chatbot on it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelyard import ids

_WORD = re.compile(r"\w+")
_PIECES = (3, 4)
_WORD_WEIGHT, _PAIR_WEIGHT, _PIECE_WEIGHT = 6, 3, 1


class HashEmbedder:
    """Embeds by hashing; each distinct feature counts once. All arithmetic up to the last division is in integers, so
    vectors are the same bytes on every machine. Thread-safe: it has no state."""

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension
        self.name = f"hash-{dimension}"
        weights = [_WORD_WEIGHT, _PAIR_WEIGHT, _PIECE_WEIGHT]
        self.digest = ids.digest({"kind": "hash", "dimension": dimension, "pieces": list(_PIECES), "weights": weights})

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        out = np.zeros((len(texts), self.dimension), np.float32)
        for i, text in enumerate(texts):
            out[i] = self._vector(text)
            if progress:
                progress(i + 1)
        return out

    def members(self) -> Mapping[str, Path]:
        return {}

    def count_tokens(self, text: str) -> int:
        return len(_WORD.findall(text))

    def _vector(self, text: str) -> NDArray[np.float64]:
        total = np.zeros(self.dimension, np.int64)
        for feature, weight in set(_features(text)):
            code = _code(feature)
            total[(code >> 1) % self.dimension] += weight if code & 1 else -weight
        if not total.any():
            total[0] = 1
        length: float = np.sqrt(float(total @ total))
        return np.divide(total, length, dtype=np.float64)


def _features(text: str) -> Iterator[tuple[str, int]]:
    words = _WORD.findall(text.lower())
    for word in set(words):
        yield word, _WORD_WEIGHT
        framed = f"<{word}>"
        for size in _PIECES:
            for start in range(len(framed) - size + 1):
                yield f"#{framed[start : start + size]}", _PIECE_WEIGHT
    for first, second in itertools.pairwise(words):
        yield f"{first} {second}", _PAIR_WEIGHT


@functools.lru_cache(maxsize=1 << 16)
def _code(feature: str) -> int:
    return int.from_bytes(hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "big")
