"""Which runtime a model is served by: its own library where that gives what MLflow gives, else pyfunc.

The library is tried on the model's example and on made-up rows, and has to answer as `mlflow.pyfunc` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.clock import SystemClock
from modelyard.errors import ModelyardError, UserError
from modelyard.ports.model import Described, Model, NotDirect, Signature
from modelyard.ports.workload import Call
from modelyard.workloads.model.exam import same
from modelyard.workloads.model.predictor import ModelPredictor

PYFUNC = "pyfunc"
_MADE_UP: Mapping[str, tuple[Any, ...]] = {
    "boolean": (True, False, True),
    "integer": (0, 7, -3),
    "long": (1, -2, 40),
    "float": (0.5, -1.25, 3.0),
    "double": (0.1, -2.7, 13.5),
    "string": ("a", "b", ""),
}
Opener = Callable[[str], Model]


@dataclass(frozen=True)
class Choice:
    """A runtime, and why it is not the model's own library where it is not."""

    runtime: str
    why: str = ""


def library(about: Described) -> Choice:
    """The library that may run the model, by what its MLmodel says; nothing is loaded."""
    function = about.flavors.get("python_function", {})
    signature = about.signature
    if signature is None:
        return Choice(PYFUNC, "the model has no signature")
    if not signature.plain or about.from_hint:
        return Choice(PYFUNC, "its signature is of types that MLflow parses")
    if signature.params or function.get("code"):
        return Choice(PYFUNC, "it has parameters, or code of its own")
    loader = str(function.get("loader_module", ""))
    serialized = "serialization_format" in about.flavors.get("lightgbm", {})
    plainly = str(function.get("predict_fn", "predict")) == "predict"
    booster = str(about.flavors.get("lightgbm", {}).get("model_class", "")).endswith(".Booster")
    if loader == "mlflow.lightgbm" and booster and signature.numeric and plainly:
        return Choice("lightgbm")
    if loader == "mlflow.xgboost" and signature.numeric and plainly:
        return Choice("xgboost")
    if loader == "mlflow.onnx" and plainly:
        return Choice("onnx")
    if loader == "mlflow.sklearn" or (loader == "mlflow.lightgbm" and not booster and serialized):
        return Choice("sklearn")
    return Choice(PYFUNC, f"{loader or 'its loader'} is run by MLflow")


def choose(about: Described, folder: Path, opened: Opener) -> Choice:
    """The runtime for the model in `folder`; `opened(runtime)` loads it. Raises MissingExtra, ModelFailed for a model
    that does not load, or does not answer its own example."""
    wanted = library(about)
    if wanted.runtime == PYFUNC:
        _answers(opened(PYFUNC), example(about, folder))
        return wanted
    try:
        ours = opened(wanted.runtime)
    except NotDirect as error:
        _answers(opened(PYFUNC), example(about, folder))
        return Choice(PYFUNC, str(error))
    reference = opened(PYFUNC)
    bodies = [body for body in (example(about, folder), *made_up(about.signature)) if body is not None]
    for body in bodies:
        a, b = _tried(ours, body), _tried(reference, body)
        if not (a is None or b is None or same(a, b)) or (a is None) != (b is None):
            return Choice(PYFUNC, f"{wanted.runtime} called directly answers otherwise than MLflow does")
    _answers(ours, example(about, folder))
    return wanted


def example(about: Described, folder: Path) -> bytes | None:
    """The body of the model's example request, where it has one."""
    return (folder / about.example).read_bytes() if about.example is not None else None


def made_up(signature: Signature | None) -> Iterator[bytes]:
    """Bodies of values that fit the signature, whatever they mean."""
    if signature is None or not signature.columns:
        return
    names = [column.name for column in signature.columns] if signature.named else None
    rows = []
    for number in range(3):
        kinds = [_MADE_UP[column.kind] for column in signature.columns]
        rows.append([values[(number + i) % 3] for i, values in enumerate(kinds)])
    for some in (rows, rows[:1]):
        yield json.dumps({"dataframe_split": {"columns": names, "data": some}}).encode()


def _tried(model: Model, body: bytes) -> Any:
    """The answer, or None where there is none."""
    try:
        return json.loads(ModelPredictor(model).invoke(body, "application/json", _call()).body)
    except ModelyardError:
        return None


def _answers(model: Model, body: bytes | None) -> None:
    if body is None:
        return
    try:
        ModelPredictor(model).invoke(body, "application/json", _call())
    except UserError as error:
        raise UserError(f"the model refuses its own input example: {error}") from None


def _call() -> Call:
    return Call(SystemClock(), "example", effects="exam")
