"""all-MiniLM-L6-v2 in int8 on OpenVINO: no torch, no network. The graph pools and normalises by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters import on_openvino

MAX_TOKENS = 256


def packaged() -> Path:
    """The folder of the weights that were built into this installation. Raises Damaged where they are missing."""
    return on_openvino.packaged("minilm", "the default embedder")


class MiniLM:
    """The embedder over a folder that holds `model.onnx` and `tokenizer.json`. Texts are cut at 256 tokens.

    `threads`, `int8`: see `on_openvino.Graph`. Vectors computed in int8 and in float32 have a cosine of about .998. Not
    promised: the same last bits on another kind of processor, whose kernels round differently.

    Raises Damaged when a file is missing or cannot be read.
    """

    name = "all-MiniLM-L6-v2-int8"
    dimension = 384

    def __init__(self, folder: Path, *, threads: int | None = None, int8: bool | None = None) -> None:
        self._graph = on_openvino.Graph(folder, "the embedder", threads=threads, int8=int8)
        self.digest = self._graph.digest({"max_tokens": MAX_TOKENS})

    def members(self) -> Mapping[str, Path]:
        return dict(self._graph.members)

    def count_tokens(self, text: str) -> int:
        return self._graph.count(text)

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        out = np.empty((len(texts), self.dimension), np.float32)
        return self._graph.run([_cut(ids) for ids in self._graph.tokens(texts)], out, progress)


def _cut(ids: list[int]) -> on_openvino.Tokens:
    return np.array(ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]], "i4")
