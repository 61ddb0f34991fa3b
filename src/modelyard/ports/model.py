"""An MLflow model as serving sees it: what it takes, and a way to run it.

What is read from its MLmodel file are plain records; what runs it stands behind `Model`, one adapter per flavour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from modelyard.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALARS = frozenset({"boolean", "integer", "long", "float", "double", "string"})
"""Column types that are decoded here, to arrays; for others MLflow's own parser is asked."""
NUMBERS = SCALARS - {"string"}

Takes = Literal["matrix", "columns", "tensors", "request"]
"""What a runtime wants: one float64 matrix of shape [rows, columns] in the signature's order; {name: array of shape
[rows]}; {name: tensor}; or the request as it was sent, parsed from JSON and no more."""

Given: TypeAlias = "NDArray[Any] | Mapping[str, NDArray[Any]] | Mapping[str, Any]"


@dataclass(frozen=True)
class Column:
    """A column of a signature. `kind` is MLflow's name of its type; `name` is empty where columns have none."""

    name: str
    kind: str
    required: bool = True


@dataclass(frozen=True)
class Tensor:
    """A tensor of a signature; -1 in `shape` is any length. `name` is empty where it is the only one and has none."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a model takes: columns or tensors, never both, and parameters by name; and what it gives, where it says."""

    columns: tuple[Column, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    params: tuple[str, ...] = ()
    outputs: tuple[Column | Tensor, ...] = ()

    @property
    def named(self) -> bool:
        """Whether its columns, or tensors, have names."""
        return all(column.name for column in self.columns) and all(tensor.name for tensor in self.tensors)

    @property
    def plain(self) -> bool:
        """Whether bodies for it are decoded here: columns of scalar types or numeric tensors."""
        if self.columns:
            return all(column.kind in SCALARS for column in self.columns)
        return bool(self.tensors) and all(tensor.dtype in TENSORS for tensor in self.tensors)

    @property
    def numeric(self) -> bool:
        """Whether all its columns are numbers, so that a request is a matrix."""
        return bool(self.columns) and all(column.kind in NUMBERS for column in self.columns)


TENSORS = frozenset({"float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"})


@dataclass(frozen=True)
class Described:
    """What the MLmodel file in a folder says. `flavors` maps a flavour to its configuration; `example` is the file with
    an example request, as JSON, where there is one; `requirements` are pip's; `executes` are the files whose loading
    runs code of whoever wrote them (pickles, modules)."""

    flavors: Mapping[str, Mapping[str, Any]]
    signature: Signature | None = None
    from_hint: bool = False
    example: str | None = None
    requirements: tuple[str, ...] = ()
    executes: tuple[str, ...] = field(default=())


class NotDirect(UserError):
    """A runtime cannot run this model as MLflow would; pyfunc does."""


class Model(Protocol):
    """A loaded model. Safe to call from several threads."""

    runtime: str
    """What runs it: "sklearn", "lightgbm", "xgboost", "onnx", "pyfunc"."""
    takes: Takes
    allows_missing: bool
    """Whether a number may be missing (NaN). Where not, a request with one is the caller's mistake."""
    about: Described

    def predict(self, given: Given, params: Mapping[str, Any] | None = None) -> Any:
        """What the model answers: an array, a list, {name: array}, or any value that JSON has a form for. Rows in the
        order given. Raises RequestError for what the request got wrong in a way only the model knows, and whatever the
        model raises."""
        ...

    def close(self) -> None:
        """Give back memory and files."""
        ...
