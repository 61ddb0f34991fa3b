"""Tensors of the Open Inference Protocol to a body of MLflow's, and its predictions to tensors. Pure, no arrays.

A value is what its datatype says: whole numbers are in its range, FP16 and FP32 are rounded to what they hold. `null`
is a missing value, of FP and BYTES tensors only.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.errors import RequestError

WHOLE = {f"{sign}INT{bits}": (sign, bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
ROUNDED = {"FP16": "e", "FP32": "f", "FP64": "d"}
DATATYPES = frozenset(("BOOL", "BYTES", *WHOLE, *ROUNDED))
OF_KIND = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "bool": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
} | {f"{sign.lower()}int{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
"""Datatypes of MLflow's columns and of numpy's tensors; anything else travels as BYTES."""
UNNAMED = "predictions"
"""The output of a model that gives its only one no name."""
HINTS = frozenset({"content_type"})
"""Parameters that some clients send along to say how a tensor was encoded; it says so itself."""
MOST_AXES = 8


@dataclass(frozen=True)
class Input:
    """A tensor as it was sent: `data` flat, in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]


@dataclass(frozen=True)
class Asked:
    """An inference request. `outputs` are the names that are wanted, None: all of them."""

    id: str | None
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] | None
    parameters: Mapping[str, Any]


def asked(body: Mapping[str, Any]) -> Asked:
    """Raises RequestError."""
    unknown = len(body.keys() - {"id", "inputs", "outputs", "parameters"})
    if unknown:
        raise RequestError(f"the body may have id, inputs, outputs and parameters, and has {unknown} more")
    identity, inputs, outputs = body.get("id"), body.get("inputs"), body.get("outputs")
    if identity is not None and not isinstance(identity, str):
        raise RequestError("id: a text is expected")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError("inputs: a list of tensors is expected")
    found = tuple(_input(one, f"inputs[{i}]") for i, one in enumerate(inputs))
    if len({one.name for one in found}) != len(found):
        raise RequestError("inputs: two tensors have the same name")
    return Asked(identity, found, _outputs(outputs), _parameters(body, "the request"))


def _outputs(value: Any) -> tuple[str, ...] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in value
    ):
        raise RequestError("outputs: a list of {name} is expected")
    for i, one in enumerate(value):
        if one.keys() - {"name", "parameters"}:
            raise RequestError(f"outputs[{i}]: name and parameters are expected")
        if set(_parameters(one, f"outputs[{i}]").items()) - {("binary_data", False)}:
            raise RequestError(f"outputs[{i}]: there are no such parameters; data comes as JSON")
    return tuple(dict.fromkeys(str(one["name"]) for one in value))


def _parameters(holder: Mapping[str, Any], where: str) -> dict[str, Any]:
    value = holder.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str | int | float | bool) for one in value.values()):
        raise RequestError(f"{where}: parameters must be an object of texts, numbers and truths")
    return {name: one for name, one in value.items() if name not in HINTS}


def _input(value: Any, where: str) -> Input:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise RequestError(f"{where}: a tensor with name, shape, datatype and data is expected")
    if value.keys() - {"name", "shape", "datatype", "data", "parameters"}:
        raise RequestError(f"{where}: name, shape, datatype, data and parameters are expected")
    if _parameters(value, where):
        raise RequestError(f"{where}: there are no such parameters; data is sent as JSON")
    shape, datatype, data = value.get("shape"), value.get("datatype"), value.get("data")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 1 for size in shape):
        raise RequestError(f"{where}: shape, a list of whole numbers of at least 1, is expected")
    if not 1 <= len(shape) <= MOST_AXES:
        raise RequestError(f"{where}: a shape of 1 to {MOST_AXES} axes is expected")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise RequestError(f"{where}: datatype, one of {', '.join(sorted(DATATYPES))}, is expected")
    if not isinstance(data, list):
        raise RequestError(f"{where}: data, a list, is expected")
    flat = data
    if any(isinstance(one, list) for one in data):
        if _shape(data) != shape:
            raise RequestError(f"{where}: data is nested, and not as the shape says")
        flat = list(_flat(data))
    if len(flat) != math.prod(shape):
        raise RequestError(f"{where}: the shape has room for {math.prod(shape)} values, here are {len(flat)}")
    return Input(value["name"], datatype, tuple(shape), _read(flat, datatype, where))


def _flat(data: list[Any]) -> Iterator[Any]:
    for one in data:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _read(data: list[Any], datatype: str, where: str) -> list[Any]:
    kinds = set(map(type, data))
    if datatype == "BYTES":
        if kinds <= {str, type(None)}:
            return data
        raise RequestError(f"{where}: BYTES are texts")
    if datatype == "BOOL":
        if kinds <= {bool} or (kinds <= {bool, int} and all(one in (0, 1) for one in data)):
            return [bool(one) for one in data]
        raise RequestError(f"{where}: BOOL is true or false")
    if datatype in WHOLE:
        sign, bits = WHOLE[datatype]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if kinds <= {int} and all(low <= one <= high for one in data):
            return data
        raise RequestError(f"{where}: {datatype} are whole numbers of {bits} bits")
    if not kinds <= {int, float, type(None)}:
        raise RequestError(f"{where}: {datatype} are numbers")
    return [None if one is None else _rounded(one, datatype, where) for one in data]


def _rounded(value: float, datatype: str, where: str) -> float:
    """The number that the datatype holds."""
    form = ROUNDED[datatype]
    try:
        (found,) = struct.unpack(form, struct.pack(form, value))
    except (OverflowError, struct.error):
        found = math.inf
    if not math.isfinite(found):
        raise RequestError(f"{where}: a number is too large for {datatype}")
    return float(found)


def given(request: Asked, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The body for a model with this schema (a `ports.workload.Schema` as JSON). Raises RequestError."""
    more = {"params": dict(request.parameters)} if request.parameters else {}
    if schema is None:
        only = request.inputs[0]
        if len(request.inputs) == 1:
            return {"inputs": nested(only.data, only.shape), **more}
        return {"dataframe_split": _table(request.inputs, [one.name for one in request.inputs]), **more}
    names = [one["name"] for one in schema["inputs"]]
    if schema["tensors"]:
        if names == [""]:
            only = _only(request.inputs)
            return {"inputs": nested(only.data, only.shape), **more}
        return {"inputs": {one.name: nested(one.data, one.shape) for one in request.inputs}, **more}
    first = request.inputs[0]
    if len(request.inputs) == 1 and len(first.shape) == 2 and (first.name not in names or first.shape[1] > 1):
        return {"dataframe_split": _matrix(first, names), **more}
    if all(names):
        return {"dataframe_split": _table(request.inputs, [one.name for one in request.inputs]), **more}
    return {"dataframe_split": _table(request.inputs, None), **more}


def _only(inputs: Sequence[Input]) -> Input:
    if len(inputs) != 1:
        raise RequestError(f"the model takes one tensor, here are {len(inputs)}")
    return inputs[0]


def _matrix(one: Input, names: list[str]) -> dict[str, Any]:
    """All columns in one tensor, in the order of the model's."""
    if one.shape[1] != len(names):
        raise RequestError(f"inputs[0]: the model takes {len(names)} columns, here are {one.shape[1]}")
    data = nested(one.data, one.shape)
    return {"columns": names, "data": data} if all(names) else {"data": data}


def _table(inputs: Sequence[Input], names: list[str] | None) -> dict[str, Any]:
    """A tensor a column."""
    for i, one in enumerate(inputs):
        if len(one.shape) > 2 or (len(one.shape) == 2 and one.shape[1] != 1):
            raise RequestError(f"inputs[{i}]: a column is expected, of shape [rows] or [rows, 1]")
        if one.shape[0] != inputs[0].shape[0]:
            raise RequestError(f"inputs[{i}]: {inputs[0].shape[0]} rows are expected, as in inputs[0]")
    data = [list(row) for row in zip(*(one.data for one in inputs), strict=True)]
    return {"columns": names, "data": data} if names is not None else {"data": data}


def nested(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Flat values as lists in one another."""
    for size in reversed(shape[1:]):
        data = [data[at : at + size] for at in range(0, len(data), size)]
    return data


def metadata(variable: Mapping[str, Any]) -> dict[str, Any]:
    """An input or output of a schema, as the protocol tells of it."""
    kind = OF_KIND.get(variable["kind"], "BYTES")
    return {"name": variable["name"] or UNNAMED, "datatype": kind, "shape": list(variable["shape"])}


def scored(predictions: Any, schema: Mapping[str, Any] | None, wanted: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """The output tensors of what MLflow calls predictions. Raises RequestError for an output that is not there, and
    for one that has no form as a tensor."""
    declared = list(schema["outputs"]) if schema is not None else []
    kinds = {one["name"] or UNNAMED: OF_KIND.get(one["kind"], "BYTES") for one in declared}
    columns = _columns(predictions, next(iter(kinds)) if len(kinds) == 1 else UNNAMED)
    for name in wanted or ():
        if name not in columns:
            raise RequestError(f"outputs: the model gives {', '.join(list(columns)[:10])}")
    return [_output(name, columns[name], kinds.get(name)) for name in wanted or columns]


def _columns(predictions: Any, only: str) -> dict[str, Any]:
    """Values by the name of the output."""
    if isinstance(predictions, dict):
        return predictions
    if isinstance(predictions, list) and predictions and all(isinstance(one, dict) for one in predictions):
        names = dict.fromkeys(itertools.chain.from_iterable(predictions))
        return {name: [one.get(name) for one in predictions] for name in names}
    return {only: predictions}


def _output(name: str, value: Any, declared: str | None) -> dict[str, Any]:
    values = value if isinstance(value, list) else [value]
    shape = _shape(values)
    data = list(_flat(values))
    datatype = _datatype(data, declared) if shape is not None else None
    if shape is None or datatype is None:
        why = "is missing in some rows" if None in data else "is no tensor of one type"
        raise RequestError(f"the output {name} {why}, which has no form here: name other outputs, or ask /invocations")
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _shape(values: list[Any]) -> list[int] | None:
    """The shape of lists in one another; None where they are of different lengths."""
    inner = [_shape(one) if isinstance(one, list) else [] for one in values]
    if any(one != inner[0] for one in inner) or (inner and inner[0] is None):
        return None
    return [len(values), *(inner[0] or [])] if inner else [0]


def _datatype(data: list[Any], declared: str | None) -> str | None:
    kinds = set(map(type, data))
    if kinds <= {bool}:
        found = "BOOL"
    elif kinds <= {str}:
        found = "BYTES"
    elif kinds <= {int}:
        found = "UINT64" if any(one >= 2**63 for one in data) else "INT64"
        if declared in WHOLE:
            return declared
    elif kinds <= {int, float}:
        found = "FP64"
    else:
        return None
    return declared if declared in ROUNDED and found in ("FP64", "INT64") else found
