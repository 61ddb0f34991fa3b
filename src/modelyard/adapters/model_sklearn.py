"""Estimators with scikit-learn's interface (also those of LightGBM), called on arrays; on a DataFrame only where a part
of them picks columns by name."""

from __future__ import annotations

import importlib
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer

from modelyard.adapters.model_folder import describe, member
from modelyard.adapters.model_frames import frame, unframed
from modelyard.errors import ModelFailed, RefusedByPolicy, RequestError
from modelyard.ports.model import Described, Given, NotDirect, Signature, Takes

_DTYPES = {"boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64"}
_OFF = ("false", "0")


class SklearnModel:
    """An estimator saved by MLflow, in any of its serialization formats: loading a pickle runs what is in it.

    Raises NotDirect, ModelFailed where it does not load, RefusedByPolicy where MLFLOW_ALLOW_PICKLE_DESERIALIZATION says
    no.
    """

    runtime = "sklearn"
    allows_missing = True
    """Said by the estimator itself, when one is missing."""

    def __init__(self, folder: Path) -> None:
        self.about = describe(folder)
        signature = self.about.signature
        if signature is None:
            raise NotDirect("the model has no signature")
        self._estimator = _load(folder, self.about)
        function = str(self.about.flavors["python_function"].get("predict_fn", "predict"))
        self._predict = getattr(self._estimator, function, None)
        if self._predict is None:
            raise NotDirect(f"the estimator has no {function}")
        for part in _parts(self._estimator):
            # Threads of its own for one row cost more than they save, and a worker answers several requests at a time.
            if getattr(part, "n_jobs", None) not in (None, 1) or type(part).__module__.startswith("lightgbm"):
                part.n_jobs = 1
        self._dtype = _dtype(signature)
        self.takes: Takes = _takes(self._estimator, signature)
        # Said of every array given to an estimator that was fitted on a DataFrame; their order is checked, once.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")

    def predict(self, given: Given, params: Mapping[str, Any] | None = None) -> Any:
        """What the estimator's function gives. Raises RequestError where it takes no missing values and one is."""
        assert self._predict is not None
        x: Any = given
        if self.takes == "columns":
            assert isinstance(given, Mapping)
            x = frame(given)
        elif self.takes == "tensors":
            assert isinstance(given, Mapping)
            x = next(iter(given.values()))
        elif self._dtype != "float64":
            assert isinstance(given, np.ndarray)
            x = given.astype(self._dtype)
        try:
            return unframed(self._predict(x))
        except ValueError as error:
            if "contains NaN" in str(error):
                raise RequestError("a value is null, and the model takes no missing values") from None
            raise

    def close(self) -> None:
        """The estimator goes with the process: a thread may still be in it."""


def _load(folder: Path, about: Described) -> Any:
    flavour = "sklearn" if "sklearn" in about.flavors else "lightgbm"
    conf = about.flavors[flavour]
    path = member(folder, conf.get("pickled_model") or conf.get("data"))
    kind = conf.get("serialization_format", "pickle" if flavour == "sklearn" else "cloudpickle")
    if os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true").lower() in _OFF:
        raise RefusedByPolicy("loading this model runs code of its own: MLFLOW_ALLOW_PICKLE_DESERIALIZATION forbids it")
    try:
        if kind == "skops":
            return importlib.import_module("skops.io").load(path, trusted=conf.get("skops_trusted_types"))
        with path.open("rb") as file:
            return pickle.load(file) if kind == "pickle" else importlib.import_module("cloudpickle").load(file)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a pickle may raise anything
        raise ModelFailed(f"the model does not load: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def _takes(estimator: Any, signature: Signature) -> Takes:
    if signature.tensors:
        if len(signature.tensors) > 1:
            raise NotDirect("an estimator takes one tensor")
        return "tensors"
    names = [column.name for column in signature.columns]
    trained = getattr(estimator, "feature_names_in_", None)
    if trained is not None and list(trained) != names:
        raise NotDirect("the signature's columns are not those the estimator was fitted with")
    if not signature.named:
        raise NotDirect("the signature's columns have no names")
    return "matrix" if signature.numeric and all(map(_on_arrays, _parts(estimator))) else "columns"


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator, and every one it is made of, as far as its parameters tell."""
    yield estimator
    found = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    for value in found:
        yield from (part for part in _flat(value) if isinstance(part, BaseEstimator))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one)
    else:
        yield value


def _on_arrays(part: Any) -> bool:
    """Whether a part of an estimator does the same with an array as with a DataFrame; one of the user's own may not."""
    known = type(part).__module__.partition(".")[0] in ("sklearn", "lightgbm", "xgboost")
    by_name = isinstance(part, ColumnTransformer | FunctionTransformer) or hasattr(part, "_sklearn_output_config")
    return known and not by_name


def _dtype(signature: Signature) -> str:
    """The type that `DataFrame.values` of these columns would have, as scikit-learn takes it."""
    kinds = {column.kind for column in signature.columns}
    if not signature.numeric or ("boolean" in kinds and len(kinds) > 1):
        return "float64"
    return str(np.result_type(*(np.dtype(_DTYPES[kind]) for kind in kinds)))
