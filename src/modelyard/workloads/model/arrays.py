"""Rows to the arrays a model takes, by its signature. Pure.

A value is what its column's type says, or the request is refused: whole numbers are not cut, truths are true, false, 0
or 1, null is a missing value where the type has one. A number may be written as a text ("1.5"), as MLflow allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.errors import RequestError
from modelyard.ports.model import Column, Given, Signature, Takes, Tensor
from modelyard.workloads.model.bodies import Body, Rows, table

_DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "boolean": np.bool_,
    "integer": np.int32,
    "long": np.int64,
    "float": np.float32,
    "double": np.float64,
}
_EXPECTED: Final = {
    "boolean": "true or false is expected",
    "integer": "a whole number of 32 bits is expected",
    "long": "a whole number of 64 bits is expected",
    "float": "a number of 32 bits is expected",
    "double": "a number is expected",
    "string": "a text is expected",
}
_PLAIN: Final = frozenset({int, float})
_NOTHING = type(None)
_RANGES: Final = {"integer": (-(2.0**31), 2.0**31 - 1), "long": (-(2.0**63), 2.0**63)}
_LARGEST_FLOAT: Final = float(np.finfo(np.float32).max)


class Reader:
    """Turns bodies into what a model takes. Made once for a model; safe to use from several threads. `doubles`: it is
    rows of float64 and nothing else."""

    def __init__(self, signature: Signature, takes: Takes, allows_missing: bool) -> None:
        self._signature, self._takes, self._allows_missing = signature, takes, allows_missing
        self._names = [column.name for column in signature.columns] if signature.named else None
        self._places = {name: i for i, name in enumerate(self._names or ())}
        self.doubles = takes == "matrix" and signature.named and all(c.kind == "double" for c in signature.columns)
        self._exact = [(i, c) for i, c in enumerate(signature.columns) if c.kind != "double"]

    def read(self, body: Body, *, lenient: bool = False) -> tuple[Given, int]:
        """What the model takes, and how many rows that is. `lenient`: columns the model does not take are left out (a
        table of an exam has others). Raises RequestError."""
        if self._signature.tensors:
            return self._tensors(body)
        if body.form == "dataframe_split" and (row := self._one_row(body.value)) is not None:
            return row, 1
        rows = table(body, len(self._signature.columns))
        if not rows.data:
            raise RequestError("there is no row to score")
        data, absent = self._in_order(rows, lenient)
        if self._takes == "matrix":
            return self._matrix(data, rows.text, absent), len(data)
        return self._by_column(data, rows.text, absent), len(data)

    def _one_row(self, value: Any) -> NDArray[np.float64] | None:
        """The commonest request, without further questions: one row of plain numbers for a model of doubles, its
        columns in the signature's order. None where it is any other."""
        if not self.doubles or type(value) is not dict or len(value) != 2 or value.get("columns") != self._names:
            return None
        data = value.get("data")
        if type(data) is not list or len(data) != 1:
            return None
        row = data[0]
        if type(row) is not list or len(row) != len(self._places) or not set(map(type, row)) <= _PLAIN:
            return None
        try:
            # A sum that is finite is one of finite numbers.
            return np.array(data, dtype=np.float64) if math.isfinite(sum(row)) else None
        except OverflowError:
            return None

    def _in_order(self, rows: Rows, lenient: bool) -> tuple[list[list[Any]], set[int]]:
        """The values in the order of the signature, and which optional columns are not there."""
        names, columns = rows.names, self._signature.columns
        if self._names is None:
            if len(rows.data[0]) != len(columns):
                raise RequestError(f"the model takes {len(columns)} columns, here are {len(rows.data[0])}")
            return rows.data, set()
        if names is None:
            if len(columns) == 1:
                return rows.data, set()
            raise RequestError("the model's columns have names: send them along")
        if names == self._names:
            return rows.data, set()
        there = {name: i for i, name in enumerate(names)}
        missing = [c.name for c in columns if c.required and c.name not in there]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise RequestError(f"missing column{'s' if len(missing) > 1 else ''}: {', '.join(missing[:5])}{more}")
        extra = [i for i, name in enumerate(names) if name not in self._places]
        if extra and not lenient:
            which = ", ".join(str(i) for i in extra[:5])
            raise RequestError(
                f"{len(extra)} column{'s' if len(extra) > 1 else ''} the model does not take (counted from 0: {which})"
            )
        order = [there.get(name, -1) for name in self._names]
        absent = {i for i, at in enumerate(order) if at < 0}
        return [[row[at] if at >= 0 else None for at in order] for row in rows.data], absent

    def _matrix(self, data: list[list[Any]], text: bool, absent: set[int]) -> NDArray[np.float64]:
        kinds = set(map(type, data[0])) if len(data) == 1 else {kind for row in data for kind in set(map(type, row))}
        if not kinds <= _PLAIN:
            data = [[self._number(i, value, text) for i, value in enumerate(row)] for row in data]
        matrix = self._floats(data)
        gaps = _NOTHING in kinds
        if gaps:
            self._gaps(matrix, absent)
        elif not np.isfinite(matrix).all():
            raise self._wrong(int(np.argwhere(~np.isfinite(matrix))[0, 1]))
        for i, column in self._exact:
            matrix[:, i] = self._checked(i, column, matrix[:, i])
        return matrix

    def _floats(self, data: Any) -> NDArray[np.float64]:
        try:
            return np.array(data, dtype=np.float64)
        except OverflowError:
            raise RequestError("a number is too large") from None

    def _gaps(self, matrix: NDArray[np.float64], absent: set[int]) -> None:
        """Refuse what is missing where nothing may be."""
        if np.isinf(matrix).any():
            raise self._wrong(int(np.argwhere(np.isinf(matrix))[0, 1]))
        for i in map(int, np.flatnonzero(np.isnan(matrix).any(axis=0))):
            column = self._signature.columns[i]
            if column.kind in ("boolean", "integer", "long"):
                raise RequestError(f"column {self._called(i)}: {_EXPECTED[column.kind]}, not null")
            if not self._allows_missing:
                gap = "is missing" if i in absent else "has a null"
                raise RequestError(f"column {self._called(i)} {gap}, and the model takes no missing values")

    def _checked(self, i: int, column: Column, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values as the column's type holds them, still as float64."""
        if column.kind == "float":
            if (np.abs(values) > _LARGEST_FLOAT).any():
                raise self._wrong(i)
            return values.astype(np.float32).astype(np.float64)
        if column.kind == "boolean":
            right = (values == 0) | (values == 1)
        else:
            low, high = _RANGES[column.kind]
            right = (values == np.floor(values)) & (values >= low) & (values <= high)
        if not right.all():
            raise self._wrong(i)
        return values

    def _by_column(self, data: list[list[Any]], text: bool, absent: set[int]) -> dict[str, NDArray[Any]]:
        out: dict[str, NDArray[Any]] = {}
        for i, (column, values) in enumerate(zip(self._signature.columns, zip(*data, strict=True), strict=True)):
            if i in absent:
                continue
            name = column.name or str(i)
            if column.kind == "string":
                if not set(map(type, values)) <= {str, _NOTHING}:
                    raise self._wrong(i)
                out[name] = np.array(values, dtype=object)
                continue
            given = [self._number(i, value, text) for value in values]
            numbers = self._floats([given])[0]
            self._one_gap(i, numbers)
            checked = numbers if column.kind == "double" else self._checked(i, column, numbers)
            out[name] = self._whole(i, given) if column.kind == "long" else checked.astype(_DTYPES[column.kind])
        return out

    def _whole(self, i: int, given: list[float | int | None]) -> NDArray[np.int64]:
        """Beyond 2**53 a float64 would round."""
        try:
            return np.array([int(value or 0) for value in given], dtype=np.int64)
        except OverflowError:
            raise self._wrong(i) from None

    def _one_gap(self, i: int, numbers: NDArray[np.float64]) -> None:
        if np.isfinite(numbers).all():
            return
        if np.isinf(numbers).any():
            raise self._wrong(i)
        if self._signature.columns[i].kind in ("boolean", "integer", "long"):
            raise RequestError(f"column {self._called(i)}: {_EXPECTED[self._signature.columns[i].kind]}, not null")
        if not self._allows_missing:
            raise RequestError(f"column {self._called(i)} has a null, and the model takes no missing values")

    def _number(self, i: int, value: Any, text: bool) -> float | int | None:
        """A value of a column of numbers. NaN and infinity as text are refused; `text`: all values are texts."""
        kind = type(value)
        if kind in _PLAIN or value is None:
            number: float | int | None = value
            return number
        column = self._signature.columns[i]
        if kind is bool:
            return int(value)
        if kind is str:
            if column.kind == "boolean":
                if text and value.lower() in ("true", "false"):
                    return int(value.lower() == "true")
                raise self._wrong(i)
            return self._written(i, column, value)
        raise self._wrong(i)

    def _written(self, i: int, column: Column, value: str) -> float | int:
        try:
            if "_" in value:
                raise ValueError
            number = float(value) if column.kind in ("float", "double") else int(value)
        except ValueError:
            raise self._wrong(i) from None
        if number != number:
            raise self._wrong(i)
        return number

    def _wrong(self, i: int) -> RequestError:
        return RequestError(f"column {self._called(i)}: {_EXPECTED[self._signature.columns[i].kind]}")

    def _called(self, i: int) -> str:
        return self._signature.columns[i].name or str(i)

    def _tensors(self, body: Body) -> tuple[dict[str, NDArray[Any]], int]:
        tensors = self._signature.tensors
        if body.form in ("csv", "parquet", "dataframe_split", "dataframe_records"):
            rows = table(body, 0)
            if not rows.data or not rows.data[0]:
                raise RequestError("there is no row to score")
            values = _from_rows(tensors, rows)
        elif isinstance(body.value, dict):
            values = _from_names(tensors, body.value)
        elif len(tensors) == 1:
            values = {tensors[0].name: body.value}
        else:
            raise RequestError(f"the model takes {len(tensors)} tensors by name")
        out = {tensor.name: tensor_of(tensor, values[tensor.name]) for tensor in tensors}
        first = next(iter(out.values()))
        return out, int(first.shape[0]) if first.ndim else 1


def _from_names(tensors: tuple[Tensor, ...], value: Mapping[str, Any]) -> dict[str, Any]:
    names = {tensor.name for tensor in tensors}
    missing = sorted(names - value.keys())
    if "" in names:
        raise RequestError("the model takes one tensor, without a name")
    if missing:
        raise RequestError(f"missing tensor{'s' if len(missing) > 1 else ''}: {', '.join(missing[:5])}")
    if len(value) > len(names):
        raise RequestError(f"{len(value) - len(names)} tensors the model does not take")
    return dict(value)


def _from_rows(tensors: tuple[Tensor, ...], rows: Rows) -> dict[str, Any]:
    """Tensors out of a table: a column each, or all of it for the only one."""
    data: list[list[Any]] = [[_unwritten(value) for value in row] for row in rows.data] if rows.text else rows.data
    if len(tensors) == 1 and not tensors[0].name:
        tensor = tensors[0]
        wide = len(tensor.shape) > 1
        if len(data[0]) > 1 or (wide and not isinstance(data[0][0], list)):
            return {"": data}
        return {"": [row[0] for row in data]}
    columns = _from_names(tensors, {name: i for i, name in enumerate(rows.names or ())})
    out: dict[str, Any] = {}
    for tensor in tensors:
        column = [row[columns[tensor.name]] for row in data]
        upright = len(tensor.shape) == 2 and not isinstance(column[0], list)
        out[tensor.name] = [[value] for value in column] if upright else column
    return out


def _unwritten(value: Any) -> Any:
    try:
        return value if value is None else float(value)
    except ValueError:
        raise RequestError("the CSV table holds a text where a number is expected") from None


def tensor_of(tensor: Tensor, value: Any) -> NDArray[Any]:
    """A nested list as the tensor. Raises RequestError for another shape, and for values its type does not hold."""
    what = f"tensor {tensor.name}" if tensor.name else "the tensor"
    try:
        raw = np.array(value)
        if raw.dtype == object:
            # Gaps (null) make it one; so do numbers beyond 64 bits, and lists of different lengths raise.
            raw = np.array(_without_text(value, what), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        raise RequestError(f"{what}: nested lists of numbers, all of one length, are expected") from None
    if raw.dtype.kind not in "biuf":
        raise RequestError(f"{what}: numbers are expected")
    if len(raw.shape) != len(tensor.shape) or any(
        want not in (-1, got) for want, got in zip(tensor.shape, raw.shape, strict=True)
    ):
        wanted = ", ".join("any" if want == -1 else str(want) for want in tensor.shape)
        raise RequestError(f"{what}: the shape ({wanted}) is expected, here is {raw.shape}")
    if not raw.size:
        raise RequestError("there is no row to score")
    return _cast(tensor, raw, what)


def _cast(tensor: Tensor, raw: NDArray[Any], what: str) -> NDArray[Any]:
    dtype = np.dtype(tensor.dtype)
    if np.isinf(raw).any():
        raise RequestError(f"{what}: a number is too large")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = raw.astype(dtype)
        if np.isinf(cast).any():
            raise RequestError(f"{what}: a number is too large")
        return cast
    if raw.dtype.kind == "f" and (np.isnan(raw).any() or (raw != np.floor(raw)).any()):
        raise RequestError(f"{what}: whole numbers are expected")
    if dtype.kind == "b":
        low, high = 0, 1
    else:
        info = np.iinfo(dtype)
        low, high = int(info.min), int(info.max)
    if (raw < low).any() or (raw > high).any():
        raise RequestError(f"{what}: a number is out of range")
    return raw.astype(dtype)


def _without_text(value: Any, what: str) -> Any:
    if isinstance(value, list):
        return [_without_text(one, what) for one in value]
    if value is None or type(value) in (int, float, bool):
        return value
    raise RequestError(f"{what}: numbers are expected")
