"""all-MiniLM-L6-v2 as one ONNX graph: token ids in, unit vectors out, int8 inside. Or the quick reader that was made
of it, which gives log-odds.

A BERT of six layers (Devlin et al. 2019; Wang et al. 2020), mean pooling over the mask and L2 normalisation (of the
reader a product with its first token), written with standard operators of opset 20 only. Given `Scales`, weights are
int8 per output channel and the activations before each matrix product go through QuantizeLinear and DequantizeLinear,
which OpenVINO and ONNX Runtime turn into int8 kernels. Needs numpy and onnx; runs when a wheel is built, never at run
time.

The same weights and scales give the same bytes on every machine: all arithmetic here is element-wise float32 or
float64 (IEEE 754 rounds these alike everywhere), maxima and roundings, never a sum whose order could vary.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]

MODEL = "all-MiniLM-L6-v2"
LAYERS, HEADS, WIDTH, INNER, MAX_TOKENS = 6, 12, 384, 1536, 256
HEAD = WIDTH // HEADS
SITES = ("input", "context", "attended", "inner")
"""What is quantised with a scale per channel: the inputs of query/key/value, of the attention's output, of the inner
layer, of the layer's output."""
OPSET, IR_VERSION = 20, 9


@dataclass(frozen=True)
class Scales:
    """What was learned from text, by site such as `3.inner`.

    `smooth` [channels]: the factor each channel is multiplied with before it is quantised, its weights divided by it
    (SmoothQuant, Xiao et al. 2023). `low`, `high`: the range of the product that int8 covers.
    """

    smooth: Mapping[str, NDArray[np.float32]]
    low: Mapping[str, float]
    high: Mapping[str, float]

    @classmethod
    def read(cls, path: Path) -> Scales:
        """From `scales.json`, as `learn.py` writes it: {site: {exponents, low, high}}."""
        sites = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            smooth={site: factors(entry["exponents"]) for site, entry in sites.items()},
            low={site: entry["low"] for site, entry in sites.items()},
            high={site: entry["high"] for site, entry in sites.items()},
        )


_EIGHTHS = (
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
)


def factors(exponents: Sequence[int]) -> NDArray[np.float32]:
    """2 ** (e / 8) for each e, from a table: the last bit of a library's power function is not the same everywhere."""
    whole, eighth = np.divmod(np.asarray(exponents), 8)
    exact: NDArray[np.float64] = np.ldexp(np.array(_EIGHTHS)[eighth], whole)
    return exact.astype(np.float32)


def read_safetensors(path: Path) -> dict[str, Array]:
    """Tensors by name, of a file in the safetensors format (a length, a JSON header, raw little-endian bytes)."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    types = {"F32": "<f4", "I64": "<i8", "I8": "|i1"}
    tensors = {}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(raw[start:end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def build(tensors: Mapping[str, Array], scales: Scales | None) -> onnx.ModelProto:
    """The graph: input_ids, attention_mask (int64 [b, s], s <= 256) -> vector (float32 [b, 384]), or, of weights with a
    `head`, score (float32 [b, 1]).

    Without scales all of it is float32 (sentence-transformers' vectors to 3e-7).
    """
    return _Builder(tensors, scales).model()


@dataclass
class Pieces:
    """A graph as it is put together: its nodes in order, its constants by name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list, kw_only=True)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict, kw_only=True)

    def op(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def const(self, name: str, value: Any) -> str:
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def ints(self, name: str, *values: int) -> str:
        return self.const(name, np.array(values, np.int64))


@dataclass
class _Builder(Pieces):
    tensors: Mapping[str, Array]
    scales: Scales | None

    def model(self) -> onnx.ModelProto:
        x = self.embed()
        mask = self.op("Cast", "mask", ["attention_mask"], to=onnx.TensorProto.FLOAT)
        off = self.op("Sub", "mask.off", [mask, self.const("one", np.float32(1))])
        off = self.op("Mul", "mask.far", [off, self.const("far", np.float32(10000))])
        off = self.op("Unsqueeze", "mask.scores", [off, self.ints("axes.heads", 1, 2)])
        for i in range(LAYERS):
            x = self.layer(i, x, off)
        name, out, width = ("reader", "score", 1) if "head.weight" in self.tensors else (MODEL, "vector", WIDTH)
        if out == "score":
            self.judge(x)
        else:
            self.pool(x, mask)
        given = [
            helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        made = [helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, ["batch", width])]
        graph = helper.make_graph(self.nodes, name, given, made, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model

    # One layer after the other

    def embed(self) -> str:
        words = self.tensors["embeddings.word_embeddings.weight"]
        places = self.tensors["embeddings.position_embeddings.weight"][:MAX_TOKENS]
        places = places + self.tensors["embeddings.token_type_embeddings.weight"][0]
        if self.scales is None:
            x = self.op("Gather", "words", [self.const("words.table", words), "input_ids"])
        else:
            # Gathered first and scaled after, so that no engine unpacks the whole table.
            table, steps = int8(words, axis=1)
            x = self.op("Gather", "words.packed", [self.const("words.table", table), "input_ids"])
            x = self.op("Cast", "words.cast", [x], to=onnx.TensorProto.FLOAT)
            step = self.op("Gather", "words.step", [self.const("words.steps", steps), "input_ids"])
            x = self.op("Mul", "words", [x, step])
        shape = self.op("Shape", "shape", ["input_ids"], start=1, end=2)
        place = self.op("Slice", "places", [self.const("places.table", places), self.ints("zero", 0), shape])
        x = self.op("Add", "embedded", [x, place])
        return self.normalise("embedded.normal", x, "embeddings.LayerNorm")

    def layer(self, i: int, x: str, off: str) -> str:
        source, name = f"encoder.layer.{i}", f"{i}"
        heads = self.ints("heads", 0, 0, HEADS, HEAD)
        into = self.quantised(f"{name}.input", x)
        side = {}
        for part, order in (("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3))):
            factor = float(1 / np.sqrt(HEAD)) if part == "query" else 1.0
            y = self.dense(f"{name}.{part}", into, f"{source}.attention.self.{part}", f"{name}.input", factor)
            y = self.op("Reshape", f"{name}.{part}.split", [y, heads])
            side[part] = self.op("Transpose", f"{name}.{part}.turned", [y], perm=order)
        y = self.op("MatMul", f"{name}.scores", [side["query"], side["key"]])
        y = self.op("Add", f"{name}.masked", [y, off])
        y = self.op("Softmax", f"{name}.weights", [y], axis=-1)
        y = self.op("MatMul", f"{name}.mixed", [y, side["value"]])
        y = self.op("Transpose", f"{name}.mixed.turned", [y], perm=(0, 2, 1, 3))
        y = self.op("Reshape", f"{name}.context", [y, self.ints("merged", 0, 0, WIDTH)])
        y = self.quantised(f"{name}.context", y)
        y = self.dense(f"{name}.attention", y, f"{source}.attention.output.dense", f"{name}.context")
        y = self.op("Add", f"{name}.attention.added", [y, x])
        x = self.normalise(f"{name}.attended", y, f"{source}.attention.output.LayerNorm")
        y = self.quantised(f"{name}.attended", x)
        y = self.dense(f"{name}.wide", y, f"{source}.intermediate.dense", f"{name}.attended")
        y = self.op("Gelu", f"{name}.inner", [y])
        y = self.quantised(f"{name}.inner", y)
        y = self.dense(f"{name}.narrow", y, f"{source}.output.dense", f"{name}.inner")
        y = self.op("Add", f"{name}.added", [y, x])
        return self.normalise(f"{name}.output", y, f"{source}.output.LayerNorm")

    def pool(self, x: str, mask: str) -> None:
        """Mean over the tokens of the text, then length one."""
        kept = self.op("Mul", "kept", [x, self.op("Unsqueeze", "mask.tokens", [mask, self.ints("axis.last", 2)])])
        total = self.op("ReduceSum", "total", [kept, self.ints("axis.tokens", 1)], keepdims=0)
        count = self.op("ReduceSum", "count", [mask, "axis.tokens"], keepdims=1)
        mean = self.op("Div", "mean", [total, count])
        length = self.op("ReduceL2", "length", [mean, "axis.tokens"], keepdims=1)
        self.op("Div", "vector", [mean, length])

    def judge(self, x: str) -> None:
        """Log-odds, of the first token, which has looked at all the others."""
        first = self.op("Gather", "first", [x, self.const("begin", np.int64(0))], axis=1)
        weight = self.const("head.table", self.tensors["head.weight"].T)
        product = self.op("MatMul", "head.product", [first, weight])
        self.op("Add", "score", [product, self.const("head.bias", self.tensors["head.bias"])])

    # Pieces

    def normalise(self, name: str, x: str, source: str) -> str:
        gain = self.const(f"{name}.gain", self.tensors[f"{source}.weight"])
        shift = self.const(f"{name}.shift", self.tensors[f"{source}.bias"])
        return self.op("LayerNormalization", name, [x, gain, shift], axis=-1, epsilon=1e-12)

    def dense(self, name: str, x: str, source: str, site: str, factor: float = 1.0) -> str:
        """x @ weight.T * factor + bias * factor; in int8 the weights take up what smoothing took from `site`."""
        weight = self.tensors[f"{source}.weight"].T.astype(np.float64) * factor
        bias = (self.tensors[f"{source}.bias"].astype(np.float64) * factor).astype(np.float32)
        if self.scales is None:
            table = self.const(f"{name}.table", weight.astype(np.float32))
        else:
            packed, steps = int8(weight / self.scales.smooth[site].astype(np.float64)[:, None], axis=0)
            ends = [self.const(f"{name}.table", packed), self.const(f"{name}.steps", steps[0])]
            table = self.op("DequantizeLinear", f"{name}.weight", ends, axis=1)
        y = self.op("MatMul", f"{name}.product", [x, table])
        return self.op("Add", f"{name}.plain", [y, self.const(f"{name}.bias", bias)])

    def quantised(self, site: str, x: str) -> str:
        if self.scales is None:
            return x
        x = self.op("Mul", f"{site}.smooth", [x, self.const(f"{site}.factors", self.scales.smooth[site])])
        step, zero = int8_range(self.scales.low[site], self.scales.high[site])
        ends = [self.const(f"{site}.step", step), self.const(f"{site}.zero", zero)]
        x = self.op("QuantizeLinear", f"{site}.packed", [x, *ends])
        return self.op("DequantizeLinear", f"{site}.unpacked", [x, *ends])


def int8(weight: Array, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(packed, steps): weight ~ packed * steps, symmetric, the step taken over `axis` so that its largest is 127."""
    steps = (np.abs(weight).max(axis=axis, keepdims=True) / 127).astype(np.float32)
    return np.clip(np.rint(weight / steps.astype(np.float64)), -127, 127).astype(np.int8), steps


def int8_range(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """(step, zero point) that cover low..high with the 256 levels of uint8, zero among them."""
    step = np.float32((high - low) / 255)
    return step, np.uint8(np.clip(np.rint(-low / float(step)), 0, 255))
