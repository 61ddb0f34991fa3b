"""A close reader of question and statement: SmolLM2-135M trained further to tell what answers from what stands near by.

How it was trained: `weights/train_smollm.py` in the repository, on `weights/reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters import on_openvino

STATEMENT_TOKENS, QUESTION_TOKENS = 112, 72
BETWEEN, END = 198, 2
"""The tokens of a new line and of an end."""


def packaged() -> Path:
    """The folder of the weights that were built into this installation. Raises Damaged where they are missing."""
    return on_openvino.packaged("close-reader", "the close reader")


class SmolLMReader:
    """The reader over a folder that holds `model.onnx` and `tokenizer.json`.

    Of a longer question the last 72 tokens are read (what asks comes last), of a statement with its context the last
    112. `threads`, `int8`: see `on_openvino.Graph`.

    Raises Damaged when a file is missing or cannot be read.
    """

    name = "smollm2-reader-int8"

    def __init__(self, folder: Path, *, threads: int | None = None, int8: bool | None = None) -> None:
        # One statement at a time: on some processors a sum in float32 depends on how many are computed at once.
        self._graph = on_openvino.Graph(folder, "the close reader", threads=threads, int8=int8, alone=True)
        self.digest = self._graph.digest(
            {"statement_tokens": STATEMENT_TOKENS, "question_tokens": QUESTION_TOKENS, "group": on_openvino.GROUP}
        )

    def members(self) -> Mapping[str, Path]:
        return dict(self._graph.members)

    def read(self, question: str, statements: Sequence[str]) -> NDArray[np.float32]:
        if not statements:
            return np.empty(0, np.float32)
        asked, *said = self._graph.tokens([question, *statements])
        last = [BETWEEN, *asked[-QUESTION_TOKENS:], END]
        tokens = [np.array([*one[-STATEMENT_TOKENS:], *last], "i4") for one in said]
        return self._graph.run(tokens, np.empty((len(tokens), 1), np.float32))[:, 0]
