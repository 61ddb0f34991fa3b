"""Reads GGUF, the format of llama.cpp: tensors as float32, and what the file says of the model and its tokenizer.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only the kinds of tensors that our model has are
read. All arithmetic is element-wise float32, so that every machine gets the same numbers.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_F32, _Q4_1, _Q8_0 = 0, 3, 8
_BLOCK = 32
_Q4_1_BLOCK = np.dtype([("step", "<f2"), ("least", "<f2"), ("packed", "u1", 16)])
_Q8_0_BLOCK = np.dtype([("step", "<f2"), ("packed", "i1", 32)])


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """(what the file says, tensors by name). Raises ValueError for another format and for a kind that is not read."""
    return _Reader(path.read_bytes()).file()


def tokenizer(said: dict[str, Any]) -> bytes:
    """The tokenizer as the `tokenizers` library reads it: byte pairs, every digit by itself."""
    vocabulary = {token: number for number, token in enumerate(said["tokenizer.ggml.tokens"])}
    pairs = [pair.split(" ") for pair in said["tokenizer.ggml.merges"]]
    into_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    whole = {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, into_bytes]},
        "decoder": into_bytes,
        "model": {**model, "vocab": vocabulary, "merges": pairs},
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.content, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        return self.content[self.at - length : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            of = self.number("I")
            return [self.value(of) for _ in range(self.number("Q"))]
        return self.number(_NUMBERS[kind])

    def file(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        if self.content[:4] != b"GGUF":
            raise ValueError("not a GGUF file")
        self.at = 8
        tensors, entries = self.number("Q"), self.number("Q")
        said = {self.text(): self.value(self.number("I")) for _ in range(entries)}
        told = []
        for _ in range(tensors):
            name = self.text()
            shape = [self.number("Q") for _ in range(self.number("I"))][::-1]
            told.append((name, shape, self.number("I"), self.number("Q")))
        step = said.get("general.alignment", _BLOCK)
        begin = -(-self.at // step) * step
        return said, {name: self.tensor(name, shape, kind, begin + at) for name, shape, kind, at in told}

    def tensor(self, name: str, shape: list[int], kind: int, at: int) -> NDArray[np.float32]:
        count = int(np.prod(shape))
        if kind == _F32:
            return np.frombuffer(self.content, "<f4", count, at).reshape(shape)
        if kind == _Q8_0:
            blocks = np.frombuffer(self.content, _Q8_0_BLOCK, count // _BLOCK, at)
            return (blocks["packed"] * blocks["step"].astype(np.float32)[:, None]).reshape(shape)
        if kind == _Q4_1:
            blocks = np.frombuffer(self.content, _Q4_1_BLOCK, count // _BLOCK, at)
            step, least = (blocks[part].astype(np.float32)[:, None] for part in ("step", "least"))
            both = np.concatenate([blocks["packed"] & 15, blocks["packed"] >> 4], axis=1)
            return (both * step + least).reshape(shape)
        raise ValueError(f"{name}: tensors of kind {kind} are not read")
