"""A model of text on OpenVINO: a graph that reads tokens, its tokenizer, and what runs them on this machine's cores.

`weights/make.py` in the repository makes the files while the wheel is built; here they are only read.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from modelyard import ids
from modelyard.cores import cores
from modelyard.errors import AdapterError, Damaged

# OpenVINO imports its telemetry, which we do not want in the process. Where the package cannot be had it uses a stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino as ov  # noqa: E402

if sys.modules["openvino_telemetry"] is None:
    del sys.modules["openvino_telemetry"]

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
LENGTHS = (4, 8, 12, *range(16, 257, 8))
"""A text is padded to the next of these. The padding is a function of its own length, never of its neighbours', so what
comes out is too; and there are only so many lengths to compile kernels for."""
_MAX_CHARACTERS = 40_000
"""Text beyond this is not tokenized: a pasted book must not cost a second."""
_TOKENIZED_AT_ONCE = 256
"""What the tokenizer gives of a text takes 25 KB until its numbers are taken out."""
GROUP = 192
"""Where only weights are bytes, what they are multiplied with becomes bytes too, so many of a token's numbers at a
time."""
_AT_ONCE = 1024
"""Tokens computed at once by a core. More is no faster, and 256 of them cost 10 MB; of single words, less is slower."""
_MOST_TEXTS = 32
_THREADS = 16
"""No more by default: each takes 30 MB once it has seen the longest texts."""

Tokens = NDArray[np.int32]


def packaged(name: str, what: str) -> Path:
    """The folder `name` of the weights that were built into this installation; `what` is what people call it.

    Raises Damaged where they are missing, which a wheel built by our hook never is.
    """
    folder = Path(__file__).resolve().parents[1] / "weights" / name
    for file in (GRAPH, TOKENIZER):
        if not (folder / file).is_file():
            raise Damaged(
                f"{what}'s {file} is not in this installation of modelyard: build it with "
                "`pip install --force-reinstall --no-deps modelyard` (or `pip install -e .` in a clone)"
            )
    return folder


class Graph:
    """A graph and its tokenizer. Safe to call from several threads.

    `threads` is the number of cores one call uses (default: all this process may use, at most 16). One core computes
    a batch alone, so what comes out does not depend on their number.

    `int8` says whether to compute in int8 or to unpack the graph to float32 first (default: int8 where the processor
    has instructions for it, elsewhere it would be slower and less exact). `alone`: compute one text at a time.

    Raises Damaged when a file is missing or cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        what: str,
        *,
        threads: int | None = None,
        int8: bool | None = None,
        alone: bool = False,
    ) -> None:
        self._most = 1 if alone else _MOST_TEXTS
        self.members: Mapping[str, Path] = {name: folder / name for name in (GRAPH, TOKENIZER)}
        try:
            held = {name: path.read_bytes() for name, path in self.members.items()}
        except OSError as error:
            raise Damaged(f"{what}'s file is missing or cannot be read: {error}") from error
        self._files = {name: ids.digest_bytes(content) for name, content in held.items()}
        self._threads = threads or min(cores(), _THREADS)
        self._engine = _engine(folder, held, self._files, self._threads, _has_int8() if int8 is None else int8)

    def digest(self, parameters: Mapping[str, Any]) -> str:
        """Of the files and of how they are used."""
        used = {**parameters, "pad_to": LENGTHS, "max_characters": _MAX_CHARACTERS}
        return ids.digest({"files": self._files, "parameters": used})

    def count(self, text: str) -> int:
        """How many tokens `text` has, those at its ends among them."""
        return len(self._engine.tokenizer.encode(_clean(text)).ids)

    def tokens(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The tokens of each text, those that its tokenizer puts at the ends among them."""
        for at in range(0, len(texts), _TOKENIZED_AT_ONCE):
            some = [_clean(text[:_MAX_CHARACTERS]) for text in texts[at : at + _TOKENIZED_AT_ONCE]]
            for encoded in self._engine.tokenizer.encode_batch_fast(some):
                yield encoded.ids

    def run(
        self, tokens: Sequence[Tokens], out: NDArray[np.float32], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """`out` [texts, width of the graph's output], filled with what the graph says of each text. `progress` is told
        how many are done. Raises AdapterError."""
        batches = list(_batches(tokens, self._most, self._threads))
        requests = self._engine.borrow(min(self._threads, len(batches)))
        running: list[NDArray[np.intp] | None] = [None] * len(requests)
        done = 0
        try:
            for turn, (rows, words, mask) in enumerate(batches):
                slot = turn % len(requests)
                done += _collect(requests[slot], running[slot], out)
                if progress and turn >= len(requests):
                    progress(done)
                requests[slot].start_async({"input_ids": words, "attention_mask": mask}, share_inputs=False)
                running[slot] = rows
            for turn in range(len(batches), len(batches) + len(requests)):
                slot = turn % len(requests)
                done += _collect(requests[slot], running[slot], out)
                running[slot] = None
                if progress:
                    progress(done)
        except RuntimeError as error:
            raise AdapterError(f"OpenVINO could not compute: {error}") from error
        finally:
            for request, rows_left in zip(requests, running, strict=True):
                if rows_left is not None:
                    request.wait()
            self._engine.give_back(requests)
        return out


class _Engine:
    """A graph compiled for this machine, and its tokenizer."""

    def __init__(self, tokenizer: Tokenizer, compiled: Any) -> None:
        self.tokenizer, self._compiled = tokenizer, compiled
        self._lock = threading.Lock()
        self._idle: list[Any] = []

    def borrow(self, count: int) -> list[Any]:
        """Inference requests nobody else is using: each holds the buffers of one computation."""
        with self._lock:
            taken = [self._idle.pop() for _ in range(min(count, len(self._idle)))]
        return taken + [self._compiled.create_infer_request() for _ in range(count - len(taken))]

    def ask_once(self, path: Path) -> None:
        """As `Graph.run` does, so that what is made when first needed is made now. Raises Damaged."""
        [request] = self.borrow(1)
        one = np.ones((1, LENGTHS[0]), np.int64)
        try:
            request.start_async({"input_ids": one, "attention_mask": one}, share_inputs=False)
            request.wait()
            _ = request.get_output_tensor(0).data
        except RuntimeError as error:
            raise Damaged(f"OpenVINO cannot run {path}: {error}") from error
        self.give_back([request])

    def give_back(self, requests: Sequence[Any]) -> None:
        with self._lock:
            self._idle.extend(requests)


_made = weakref.WeakValueDictionary[Any, _Engine]()
_last = deque[_Engine](maxlen=3)
"""An embedder and two readers stay for the next release that is opened, though the last was closed."""
_making = threading.Lock()
"""OpenVINO's Python side makes tables when it first needs them, and two threads that need one at the same time wait for
each other for ever: engines are made, and asked for the first time, one after the other."""


def _engine(folder: Path, held: Mapping[str, bytes], files: Mapping[str, str], threads: int, int8: bool) -> _Engine:
    """The engine of these bytes, compiled once in a process: releases differ in their index more often than in their
    models, and to compile one takes 0.4 to 1 CPU s and 100 to 300 MB. Raises Damaged."""
    key = (*sorted(files.items()), threads, int8)
    with _making:
        engine = _made.get(key)
        if engine is None:
            tokenizer = _open_tokenizer(folder / TOKENIZER, held[TOKENIZER])
            engine = _Engine(tokenizer, _compile(folder / GRAPH, held[GRAPH], threads, int8))
            engine.ask_once(folder / GRAPH)
            _made[key] = engine
        if engine not in _last:
            _last.append(engine)
    return engine


def _clean(text: str) -> str:
    """A lone surrogate has no UTF-8 form, and the tokenizer refuses it."""
    return text.encode("utf-8", "replace").decode()


def _open_tokenizer(path: Path, content: bytes) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise Damaged(f"{path} is not a tokenizer: {error}") from error
    # The shipped file cuts and pads at 128; we cut and pad ourselves.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _has_int8() -> bool:
    """Whether this processor multiplies and adds bytes in one instruction without saturating (x86 VNNI).

    Without it OpenVINO's int8 kernels were measured slower than float32 and less exact. Only Linux tells by a file;
    on other systems the answer is no.
    """
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as lines:
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def _compile(path: Path, graph: bytes, threads: int, int8: bool) -> Any:
    """One stream a core: no batch is split over threads, so no sum changes its order with their number."""
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(threads),
        "INFERENCE_NUM_THREADS": str(threads),
        # Left alone, it would be bfloat16 on some processors: a little faster, and other vectors there.
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP) if int8 else "0",
    }
    try:
        core = ov.Core()
        model = core.read_model(graph)
        if not int8:
            _unpack(model)
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise Damaged(f"OpenVINO cannot read {path}: {error}") from error


def _unpack(model: Any) -> None:
    """Weights to float32, activations no longer rounded. The names are the graph builder's."""
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    for name, node in nodes.items():
        stem, _, last = name.rpartition(".")
        if last == "weight":
            table, steps = nodes[f"{stem}.table"].data, nodes[f"{stem}.steps"].data
            node.output(0).replace(ov.op.Constant(table.astype(np.float32) * steps).output(0))
        elif last == "unpacked":
            node.output(0).replace(nodes[f"{stem}.smooth"].output(0))


def _batches(
    tokens: Sequence[Tokens], most: int, threads: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]]:
    """(rows, input_ids [b, s], attention_mask [b, s]): texts of like length together, b <= `most`, s one of `LENGTHS`,
    and few enough of them that each of `threads` has something to do.

    The longest come first, so that buffers are made once and then reused.
    """
    if not tokens:
        return
    padded = np.array(LENGTHS, np.intp)[np.searchsorted(LENGTHS, [len(t) for t in tokens])]
    order = np.argsort(-padded, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(padded[order])) + 1):
        length = padded[group[0]]
        size = min(most, _AT_ONCE // length, -(-len(group) // threads))
        for start in range(0, len(group), size):
            rows = group[start : start + size]
            ids_, mask = np.zeros((2, len(rows), length), np.int64)
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
