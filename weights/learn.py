"""Learn the scales of an int8 graph from text, and write `scales.json` or `quick-reader-scales.json`. Run by hand when
the weights have changed; its result is committed.

    python weights/learn.py MODEL.safetensors TOKENIZER.json embedder|quick-reader

For every place where activations become int8 it tries how much of each channel's range to move into the weights
(SmoothQuant's alpha) and how much of the range's ends to cut off, and keeps what leaves the smallest squared error in
the matrix product that follows, over the tokens of `calibration.txt`, of the quick reader over questions and statements
of `reading`. Needs what the graph needs, and openvino.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import further
import graph
import numpy as np
import onnx
import openvino
import reading
from numpy.typing import NDArray
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent
ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
CUTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
Floats = NDArray[np.float32]


def passages(path: Path) -> list[str | tuple[str, str]]:
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    whole = [block.strip() for block in blocks if block.strip() and not block.startswith("#")]
    # A query is short: its few tokens weigh more in the mean, the two special ones most of all.
    pieces = [" ".join(text.split()[first : 2 * first]) for text in whole for first in (1, 2, 4, 8)]
    return ["", *whole, *pieces]


def pairs(folder: Path) -> list[str | tuple[str, str]]:
    """(question, statement), a few of each file."""
    sets = reading.load(sorted(folder.glob("*.txt")))
    return [
        (one.question, one.statements[at % len(one.statements)]) for at, one in enumerate(sets[:: len(sets) // 100])
    ]


def activations(tensors: Any, tokenizer: Tokenizer, texts: Sequence[str | tuple[str, str]]) -> dict[str, Floats]:
    """What flows into each site in fp32, [tokens, channels]."""
    model = graph.build(tensors, None)
    wanted = {"0.input": "embedded.normal"}
    wanted |= {f"{i}.input": f"{i - 1}.output" for i in range(1, graph.LAYERS)}
    wanted |= {f"{i}.{site}": f"{i}.{site}" for i in range(graph.LAYERS) for site in graph.SITES[1:]}
    for name in wanted.values():
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    seen: dict[str, list[Floats]] = {site: [] for site in wanted}
    for text in texts:
        ids = np.array([tokenizer.encode(*([text] if isinstance(text, str) else text)).ids], np.int64)
        result = compiled({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for site, name in wanted.items():
            seen[site].append(result[name][0])
    return {site: np.concatenate(parts) for site, parts in seen.items()}


def readers(tensors: Any, site: str) -> Floats:
    """The weights, [channels, outputs], of every product that reads `site`."""
    i, kind = site.split(".")
    parts = {
        "input": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "context": ("attention.output.dense",),
        "attended": ("intermediate.dense",),
        "inner": ("output.dense",),
    }[kind]
    return np.concatenate([tensors[f"encoder.layer.{i}.{part}.weight"] for part in parts]).T


def smoothings(x: Floats, w: Floats) -> Iterator[list[int]]:
    """Exponents of the channel factors, one list for each alpha."""
    most, heaviest = np.abs(x).max(axis=0), np.abs(w).max(axis=1)
    for alpha in ALPHAS:
        exact = np.log2(heaviest ** (1 - alpha) / np.maximum(most, 1e-4) ** alpha)
        yield np.rint((exact - np.median(exact)) * 8).astype(int).tolist()


def ranges(x: Floats, exponents: list[int]) -> Iterator[tuple[float, float]]:
    """(low, high), the whole range first. A low end that is short anyway is not cut: there lies GELU's floor."""
    scaled = x * graph.factors(exponents)
    low, high = float(scaled.min()), float(scaled.max())
    for down, up in itertools.product(CUTS if low < -0.3 * high else (1.0,), CUTS):
        yield low * down, high * up


def loss(x: Floats, w: Floats, exact: Floats, exponents: list[int], low: float, high: float) -> float:
    """Mean squared error of the product when both sides are int8."""
    factor = graph.factors(exponents)
    packed, steps = graph.int8(w / factor[:, None], axis=0)
    step, zero = graph.int8_range(low, high)
    q = (np.clip(np.rint(x * factor / step) + zero, 0, 255) - zero) * step
    return float(np.square(q @ (packed * steps) - exact).mean())


def learn(site: str, x: Floats, w: Floats) -> dict[str, Any]:
    exact = x @ w

    def error(exponents: list[int], ends: tuple[float, float]) -> float:
        return loss(x, w, exact, exponents, *ends)

    hopeful = sorted(smoothings(x, w), key=lambda exponents: error(exponents, next(ranges(x, exponents))))[:3]
    exponents, ends = min(((e, r) for e in hopeful for r in ranges(x, e)), key=lambda pair: error(*pair))
    print(f"{site:12s} error {error(exponents, ends):.2e}, range {ends[0]:.3f} to {ends[1]:.3f}", file=sys.stderr)
    return {"exponents": exponents, "low": float(f"{ends[0]:.6g}"), "high": float(f"{ends[1]:.6g}")}


def main(weights: str, tokenizer: str, which: str) -> None:
    tensors = graph.read_safetensors(Path(weights))
    words = Tokenizer.from_file(tokenizer)
    words.no_padding()
    words.enable_truncation(graph.MAX_TOKENS)
    if which == "embedder":
        name, texts = "scales.json", passages(FOLDER / "calibration.txt")
    else:
        name, texts = "quick-reader-scales.json", pairs(FOLDER / "reading")
        tensors = further.trained(tensors, graph.read_safetensors(FOLDER / "quick-reader.safetensors"))
    seen = activations(tensors, words, texts)
    found = {site: learn(site, x, readers(tensors, site)) for site, x in sorted(seen.items())}
    lines = ",\n".join(
        f"{json.dumps(site)}: {json.dumps(value, separators=(',', ':'))}" for site, value in found.items()
    )
    (FOLDER / name).write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
