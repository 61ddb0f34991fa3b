"""The close reader as one ONNX graph: the first layers of SmolLM2-135M (Allal et al. 2025) with a head; tokens in,
log-odds out.

A Llama (Touvron et al. 2023): RMS norms, rotary places, three queries to a key, SwiGLU. Its tokens see what is before
them, so a statement stands before its question, and the head looks at the last. Standard operators of opset 20 only.
Weights are int8 per output channel; what they are multiplied with is rounded by the engine as it comes, groups of it by
their own range (a fixed range, as MiniLM's graph has it, would not hold this model's few great values). The same
weights give the same bytes on every machine, as in `graph.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from graph import Pieces, int8
from numpy.typing import NDArray
from onnx import helper

Array = NDArray[Any]

MODEL = "SmolLM2-135M-Instruct"
LAYERS, HEADS, SHARED, WIDTH, HEAD = 20, 9, 3, 576, 64
"""Layers of the 30 that are kept; queries; keys and values, one for three of these."""
MAX_TOKENS, BASE, EPSILON = 192, 100_000.0, 1e-5
FAR = -10_000.0
OPSET, IR_VERSION = 20, 9
PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def wanted(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Those of the model's tensors that the close reader has."""
    kept = tuple(f"blk.{i}." for i in range(LAYERS))
    return {n: value for n, value in tensors.items() if n.startswith((*kept, "token_embd.", "output_norm."))}


def build(tensors: Mapping[str, Array], *, packed: bool = True) -> onnx.ModelProto:
    """The graph: input_ids, attention_mask (int64 [b, s], s <= 192, ones before zeros) -> score (float32 [b, 1]).

    tensors: of the GGUF file, after training, and `head.weight` [1, 576] and `head.bias` [1]. Not packed, its weights
    are float32.
    """
    return _Builder(tensors, packed).model()


@dataclass
class _Builder(Pieces):
    tensors: Mapping[str, Array]
    packed: bool

    def model(self) -> onnx.ModelProto:
        self.op("Shape", "length", ["input_ids"], start=1, end=2)
        self.ints("zero", 0)
        self.places()
        x = self.embed()
        for i in range(LAYERS):
            x = self.layer(f"{i}", f"blk.{i}", x)
        self.judge(x)
        given = [
            helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        made = [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["batch", 1])]
        graph = helper.make_graph(self.nodes, "reader", given, made, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model

    def places(self) -> None:
        """The turns of each place, and who may look at whom."""
        angles = np.arange(MAX_TOKENS)[:, None] * BASE ** (-np.arange(0, HEAD, 2) / HEAD)
        for name, turn in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
            # Rounded, for the last bit of a library's cosine is not the same everywhere.
            table = np.round(np.tile(turn, 2), 7).astype(np.float32)
            self.op("Slice", name, [self.const(f"{name}.table", table), "zero", "length"])
        later = np.triu(np.full((MAX_TOKENS, MAX_TOKENS), FAR, np.float32), 1)
        both = [self.const("later.table", later), self.ints("corner", 0, 0)]
        self.op("Slice", "later", [*both, self.op("Concat", "square", ["length", "length"], axis=0)])

    def embed(self) -> str:
        words = self.tensors["token_embd.weight"]
        if not self.packed:
            return self.op("Gather", "words", [self.const("words.table", words), "input_ids"])
        # Gathered first and scaled after, so that no engine unpacks the whole table.
        table, steps = int8(words, axis=1)
        x = self.op("Gather", "words.packed", [self.const("words.table", table), "input_ids"])
        x = self.op("Cast", "words.cast", [x], to=onnx.TensorProto.FLOAT)
        return self.op(
            "Mul", "words", [x, self.op("Gather", "words.step", [self.const("words.steps", steps), "input_ids"])]
        )

    def layer(self, name: str, source: str, x: str) -> str:
        into = self.normalise(f"{name}.normal", x, f"{source}.attn_norm")
        query = self.split(f"{name}.query", into, f"{source}.attn_q", HEADS, HEAD**-0.5)
        key = self.split(f"{name}.key", into, f"{source}.attn_k", SHARED)
        value = self.split(f"{name}.value", into, f"{source}.attn_v", SHARED)
        query, key = self.turned(f"{name}.query", query), self.turned(f"{name}.key", key)
        key, value = self.repeated(f"{name}.key", key), self.repeated(f"{name}.value", value)
        key = self.op("Transpose", f"{name}.key.across", [key], perm=(0, 1, 3, 2))
        y = self.op("MatMul", f"{name}.scores", [query, key])
        y = self.op("Softmax", f"{name}.weights", [self.op("Add", f"{name}.masked", [y, "later"])], axis=-1)
        y = self.op(
            "Transpose", f"{name}.mixed.turned", [self.op("MatMul", f"{name}.mixed", [y, value])], perm=(0, 2, 1, 3)
        )
        y = self.op("Reshape", f"{name}.context", [y, self.ints("merged", 0, 0, WIDTH)])
        x = self.op("Add", f"{name}.attended", [x, self.dense(f"{name}.attention", y, f"{source}.attn_output")])
        into = self.normalise(f"{name}.inner.normal", x, f"{source}.ffn_norm")
        gate = self.dense(f"{name}.gate", into, f"{source}.ffn_gate")
        gate = self.op("Mul", f"{name}.silu", [gate, self.op("Sigmoid", f"{name}.sigmoid", [gate])])
        y = self.op("Mul", f"{name}.inner", [gate, self.dense(f"{name}.up", into, f"{source}.ffn_up")])
        return self.op("Add", f"{name}.output", [x, self.dense(f"{name}.down", y, f"{source}.ffn_down")])

    def judge(self, x: str) -> None:
        """Log-odds, of the last token, which has looked at all the others."""
        count = self.op("ReduceSum", "count", ["attention_mask", self.ints("axis.tokens", 1)], keepdims=1)
        last = self.op("GatherND", "last", [x, self.op("Sub", "end", [count, self.ints("one.back", 1)])], batch_dims=1)
        last = self.normalise("last.normal", last, "output_norm")
        product = self.op("MatMul", "head.product", [last, self.const("head.table", self.tensors["head.weight"].T)])
        self.op("Add", "score", [product, self.const("head.bias", self.tensors["head.bias"])])

    # Pieces

    def normalise(self, name: str, x: str, source: str) -> str:
        y = self.op("Mul", f"{name}.squares", [x, x])
        y = self.op("ReduceMean", f"{name}.mean", [y, self.ints("axis.last", -1)], keepdims=1)
        y = self.op(
            "Sqrt", f"{name}.root", [self.op("Add", f"{name}.safe", [y, self.const("epsilon", np.float32(EPSILON))])]
        )
        y = self.op("Div", f"{name}.unit", [self.const("one", np.float32(1)), y])
        y = self.op("Mul", f"{name}.scaled", [x, y])
        return self.op("Mul", name, [y, self.const(f"{name}.gain", self.tensors[f"{source}.weight"])])

    def dense(self, name: str, x: str, source: str, weight: Array | None = None) -> str:
        weight = (self.tensors[f"{source}.weight"] if weight is None else weight).T
        if self.packed:
            table, steps = int8(weight, axis=0)
            ends = [self.const(f"{name}.table", table), self.const(f"{name}.steps", steps[0])]
            held = self.op("DequantizeLinear", f"{name}.held", ends, axis=1)
        else:
            held = self.const(f"{name}.table", weight)
        return self.op("MatMul", f"{name}.product", [x, held])

    def split(self, name: str, x: str, source: str, heads: int, factor: float = 1.0) -> str:
        """[b, heads, s, 64]. The file has the two numbers that a place turns side by side; here they are halves."""
        weight = self.tensors[f"{source}.weight"]
        if not source.endswith("attn_v"):
            weight = weight.reshape(heads, HEAD // 2, 2, WIDTH).swapaxes(1, 2).reshape(heads * HEAD, WIDTH)
        y = self.dense(name, x, source, weight * np.float32(factor))
        y = self.op("Reshape", f"{name}.split", [y, self.ints(f"heads.{heads}", 0, 0, heads, HEAD)])
        return self.op("Transpose", f"{name}.heads", [y], perm=(0, 2, 1, 3))

    def turned(self, name: str, x: str) -> str:
        """Rotary places (Su et al. 2021)."""
        axis, half, whole = self.ints("axis.head", 3), self.ints("half", HEAD // 2), self.ints("whole", HEAD)
        left = self.op("Slice", f"{name}.left", [x, "zero", half, axis])
        right = self.op("Neg", f"{name}.negative", [self.op("Slice", f"{name}.right", [x, half, whole, axis])])
        across = self.op(
            "Mul", f"{name}.across.sin", [self.op("Concat", f"{name}.swapped", [right, left], axis=-1), "sin"]
        )
        return self.op("Add", f"{name}.turned", [self.op("Mul", f"{name}.cos", [x, "cos"]), across])

    def repeated(self, name: str, x: str) -> str:
        """[b, 3, s, 64] -> [b, 9, s, 64], each three times in a row."""
        y = self.op("Unsqueeze", f"{name}.apart", [x, self.ints("axis.repeat", 2)])
        y = self.op("Expand", f"{name}.more", [y, self.ints("repeats", 1, 1, HEADS // SHARED, 1, 1)])
        return self.op("Reshape", f"{name}.all", [y, self.ints("all.heads", 0, HEADS, -1, HEAD)])
