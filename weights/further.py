"""What further training adds to the weights of a model, as a small file: of every matrix the greatest singular values
of the difference, in bytes (as LoRA's product of two thin ones, Hu et al. 2021); of anything else the new values.

NAME.a [rank, in] and NAME.b [out, rank], int8, are what b @ a adds to NAME; the steps of their rows and columns are
powers of two, 2 ** NAME.exponents [rank] together. So all products and sums are exact in float64, in any order, on
every machine.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_KINDS = {"float32": "F32", "int64": "I64", "int8": "I8"}


def added(before: Mapping[str, Array], after: Mapping[str, Array], rank: int) -> dict[str, Array]:
    """What `trained` needs to come from the weights before to those after, nearly: `rank` singular values a matrix."""
    made: dict[str, Array] = {}
    for name, value in after.items():
        if value.ndim < 2 or name not in before:
            made[name] = value
            continue
        u, s, v = np.linalg.svd((value - before[name]).astype(np.float64), full_matrices=False)
        a, b = v[:rank] * np.sqrt(s[:rank, None]), u[:, :rank] * np.sqrt(s[:rank])
        steps_a, steps_b = (_steps(np.abs(x).max(axis=axis)) for x, axis in ((a, 1), (b, 0)))
        made[f"{name}.a"] = np.rint(np.ldexp(a, -steps_a[:, None])).astype(np.int8)
        made[f"{name}.b"] = np.rint(np.ldexp(b, -steps_b)).astype(np.int8)
        made[f"{name}.exponents"] = steps_a + steps_b
    return made


def trained(before: Mapping[str, Array], further: Mapping[str, Array]) -> dict[str, Array]:
    """The weights after training: those before, and what `further` adds."""
    made = {**before, **{name: value for name, value in further.items() if value.dtype == np.float32}}
    for name in [name.removesuffix(".a") for name in further if name.endswith(".a")]:
        a = np.ldexp(further[f"{name}.a"].astype(np.float64), further[f"{name}.exponents"][:, None])
        made[name] = (before[name].astype(np.float64) + further[f"{name}.b"].astype(np.float64) @ a).astype(np.float32)
    return made


def write(path: Path, tensors: Mapping[str, Array]) -> None:
    """In the safetensors format, without metadata."""
    header, content = {}, bytearray()
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        raw = np.ascontiguousarray(value).tobytes()
        ends = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": _KINDS[str(value.dtype)], "shape": value.shape, "data_offsets": ends}
        content += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def _steps(largest: Array) -> NDArray[np.int64]:
    """Exponents of the smallest powers of two of which 127 reach `largest`."""
    return np.ceil(np.log2(np.maximum(largest, 1e-30) / 127)).astype(np.int64)
