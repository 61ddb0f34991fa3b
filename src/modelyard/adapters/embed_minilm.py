"""all-MiniLM-L6-v2 in int8 on OpenVINO: no torch, no network. The graph pools and normalises by itself.

`python -m hatch_build` explains where the two files come from; here they are only read.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from modelyard import ids
from modelyard.errors import AdapterError, Damaged


def _import_openvino() -> Any:
    """OpenVINO without its telemetry: its conversion tools fall back to a stub when that package cannot be had."""
    name = "openvino_telemetry"
    if name not in sys.modules:
        sys.modules[name] = None  # type: ignore[assignment]
        try:
            return __import__("openvino")
        finally:
            del sys.modules[name]
    return __import__("openvino")


ov = _import_openvino()

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
MAX_TOKENS = 256
_MAX_CHARACTERS = 40_000
"""Text beyond this is not tokenized: 256 tokens are long full, and a pasted book must not cost a second."""
_STEP = 16
"""A text is padded to the next multiple of this. The padding is a function of its own length, never of its
neighbours', so its vector is too; and there are only MAX_TOKENS / _STEP lengths to compile kernels for."""
_BATCH = 8
_PARAMETERS = {"max_tokens": MAX_TOKENS, "pad_to": _STEP, "max_characters": _MAX_CHARACTERS}


def packaged() -> Path:
    """The folder of the weights that were built into this installation.

    Raises Damaged where they are missing, which a wheel built by our hook never is.
    """
    folder = Path(__file__).resolve().parents[1] / "weights" / "minilm"
    for name in (GRAPH, TOKENIZER):
        if not (folder / name).is_file():
            raise Damaged(
                f"the default embedder's {name} is not in this installation of modelyard: build it with "
                "`pip install --force-reinstall --no-deps modelyard` (or `pip install -e .` in a clone)"
            )
    return folder


class MiniLM:
    """The embedder over a folder that holds `model.onnx` and `tokenizer.json`.

    `threads` is the number of cores used by one call (default: all this process may use). Each batch is computed by
    one core, so vectors do not depend on it. Texts are cut at 256 tokens. Not promised: the same last bits on another
    kind of processor, whose kernels round differently.

    Raises Damaged when a file is missing or cannot be read.
    """

    name = "all-MiniLM-L6-v2-int8"
    dimension = 384

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self._members = {name: folder / name for name in (GRAPH, TOKENIZER)}
        for path in self._members.values():
            if not path.is_file():
                raise Damaged(f"the embedder's file is missing: {path}")
        files = {name: ids.digest_file(path) for name, path in self._members.items()}
        self.digest = ids.digest({"files": files, "parameters": _PARAMETERS})
        self._threads = threads or _cores()
        self._tokenizer = _open_tokenizer(self._members[TOKENIZER])
        self._compiled = _compile(self._members[GRAPH], self._threads)
        self._lock = threading.Lock()
        self._idle: list[Any] = []

    def members(self) -> Mapping[str, Path]:
        return dict(self._members)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(_clean(text)).ids)

    def embed(self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        out = np.empty((len(texts), self.dimension), np.float32)
        batches = list(_batches(self._tokens(texts)))
        requests = self._borrow(min(self._threads, len(batches)))
        running: list[NDArray[np.intp] | None] = [None] * len(requests)
        done = 0
        try:
            for turn, (rows, tokens, mask) in enumerate(batches):
                slot = turn % len(requests)
                done += _collect(requests[slot], running[slot], out)
                if progress and turn >= len(requests):
                    progress(done)
                requests[slot].start_async({"input_ids": tokens, "attention_mask": mask}, share_inputs=False)
                running[slot] = rows
            for turn in range(len(batches), len(batches) + len(requests)):
                slot = turn % len(requests)
                done += _collect(requests[slot], running[slot], out)
                running[slot] = None
                if progress:
                    progress(done)
        except RuntimeError as error:
            raise AdapterError(f"OpenVINO could not embed: {error}") from error
        finally:
            for request, rows_left in zip(requests, running, strict=True):
                if rows_left is not None:
                    request.wait()
            with self._lock:
                self._idle.extend(requests)
        return out

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch_fast([_clean(text[:_MAX_CHARACTERS]) for text in texts])
        return [e.ids if len(e.ids) <= MAX_TOKENS else [*e.ids[: MAX_TOKENS - 1], e.ids[-1]] for e in encoded]

    def _borrow(self, count: int) -> list[Any]:
        """Inference requests nobody else is using: each holds the buffers of one computation."""
        with self._lock:
            taken = [self._idle.pop() for _ in range(min(count, len(self._idle)))]
        return taken + [self._compiled.create_infer_request() for _ in range(count - len(taken))]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clean(text: str) -> str:
    """A lone surrogate has no UTF-8 form, and the tokenizer refuses it."""
    return text.encode("utf-8", "replace").decode()


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise Damaged(f"{path} is not a tokenizer: {error}") from error
    # The shipped file cuts and pads at 128; we cut and pad ourselves.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _compile(graph: Path, threads: int) -> Any:
    """One stream a core: no batch is split over threads, so no sum changes its order with their number."""
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        return ov.Core().compile_model(str(graph), "CPU", settings)
    except RuntimeError as error:
        raise Damaged(f"OpenVINO cannot read {graph}: {error}") from error


def _batches(tokens: list[list[int]]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]]:
    """(rows, input_ids [b, s], attention_mask [b, s]), texts of like length together, s a multiple of `_STEP`."""
    padded = np.array([-(-len(t) // _STEP) * _STEP for t in tokens], np.intp)
    order = np.argsort(padded, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(padded[order])) + 1):
        for start in range(0, len(group), _BATCH):
            rows = group[start : start + _BATCH]
            ids_, mask = np.zeros((2, len(rows), padded[rows[0]]), np.int64)
            for i, row in enumerate(rows):
                ids_[i, : len(tokens[row])] = tokens[row]
                mask[i, : len(tokens[row])] = 1
            yield rows, ids_, mask


def _collect(request: Any, rows: NDArray[np.intp] | None, out: NDArray[np.float32]) -> int:
    if rows is None:
        return 0
    request.wait()
    out[rows] = request.get_output_tensor(0).data
    return len(rows)
