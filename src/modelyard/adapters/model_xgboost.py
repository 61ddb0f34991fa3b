"""XGBoost models through XGBoost's C library: neither its Python package (it would import pandas and scikit-learn) nor
a DataFrame is needed.

Interface: include/xgboost/c_api.h of XGBoost 2 and 3 (in-place prediction, safe from several threads).
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.model_folder import describe, member
from modelyard.adapters.model_library import load_library
from modelyard.errors import ModelFailed
from modelyard.ports.model import Given, NotDirect, Takes

_CLASSES = {
    "xgboost.core.Booster": "booster",
    "xgboost.sklearn.XGBClassifier": "classifier",
    "xgboost.sklearn.XGBRegressor": "regressor",
}


def _library() -> ctypes.CDLL:
    library = load_library("xgboost", "XGBoost", "libxgboost")
    library.XGBGetLastError.restype = ctypes.c_char_p
    return library


class XgboostModel:
    """A booster, classifier or regressor saved by MLflow. Features are taken by position, in the order of the
    signature, which is checked against the names of the training. Raises NotDirect, ModelFailed for a file that is no
    booster."""

    runtime = "xgboost"
    takes: Takes = "matrix"
    allows_missing = True

    def __init__(self, folder: Path) -> None:
        self.about = describe(folder)
        conf = self.about.flavors["xgboost"]
        self._kind = _CLASSES.get(str(conf.get("model_class", "xgboost.core.Booster")), "")
        if not self._kind:
            raise NotDirect("this class of XGBoost is run by pyfunc")
        path = member(folder, conf.get("data"))
        self._lib, self._handle = _library(), ctypes.c_void_p()
        self._ask("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        self._ask("XGBoosterLoadModel", self._handle, str(path).encode())
        self._ask("XGBoosterSetParam", self._handle, b"nthread", b"1")
        names = [column.name for column in self.about.signature.columns] if self.about.signature else []
        trained = self._strings(b"feature_name")
        if trained and trained != names:
            raise NotDirect("the signature's columns are not those the booster was trained with")
        if "c" in self._strings(b"feature_type"):
            raise NotDirect("the booster has categories that only pandas knows")
        if len(names) != self._features():
            raise NotDirect(f"the signature has {len(names)} columns, the booster takes {self._features()}")
        self._config = self._how()

    def predict(self, given: Given, params: Mapping[str, Any] | None = None) -> NDArray[Any]:
        """Shape [rows], or [rows, classes]; class numbers of a classifier."""
        matrix = np.ascontiguousarray(given, dtype=np.float64)
        rows, width = matrix.shape
        about = f'{{"data":[{matrix.ctypes.data},true],"shape":[{rows},{width}],"typestr":"<f8","version":3}}'
        shape = ctypes.POINTER(ctypes.c_uint64)()
        dimensions = ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        self._ask(
            "XGBoosterPredictFromDense",
            self._handle,
            about.encode(),
            self._config,
            None,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(result),
        )
        size = [int(shape[i]) for i in range(dimensions.value)]
        # What XGBoost gives is its own, and of this thread's next call.
        out = np.ctypeslib.as_array(result, shape=tuple(size)).copy()
        return _classes(out) if self._kind == "classifier" else out

    def close(self) -> None:
        """The booster goes with the process: a thread may still be in it."""

    def _how(self) -> bytes:
        """As `predict` of the class does it: classifiers and regressors stop at the best round, boosters do not."""
        best, found = ctypes.c_char_p(), ctypes.c_int()
        self._ask("XGBoosterGetAttr", self._handle, b"best_iteration", ctypes.byref(best), ctypes.byref(found))
        end = int(best.value) + 1 if self._kind != "booster" and found.value and best.value is not None else 0
        how = {"type": 0, "training": False, "iteration_begin": 0, "iteration_end": end, "missing": float("nan")}
        return json.dumps({**how, "strict_shape": False, "cache_id": 0}).encode()

    def _features(self) -> int:
        found = ctypes.c_uint64()
        self._ask("XGBoosterGetNumFeature", self._handle, ctypes.byref(found))
        return found.value

    def _strings(self, field: bytes) -> list[str]:
        length, values = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_char_p)()
        self._ask("XGBoosterGetStrFeatureInfo", self._handle, field, ctypes.byref(length), ctypes.byref(values))
        return [(values[i] or b"").decode(errors="replace") for i in range(length.value)]

    def _ask(self, function: str, *arguments: Any) -> None:
        if getattr(self._lib, function)(*arguments):
            said = (self._lib.XGBGetLastError() or b"").decode(errors="replace").splitlines()
            raise ModelFailed(f"XGBoost: {said[0] if said else 'failed'}")


def _classes(out: NDArray[np.float32]) -> NDArray[np.int64]:
    if out.ndim == 2 and out.shape[1] > 1:
        return np.asarray(out.argmax(axis=1), dtype=np.int64)
    flat = out.reshape(-1)
    # Softmax gives the class itself, anything else the probability of the second.
    return flat.astype(np.int64) if (flat > 1).any() else (flat > 0.5).astype(np.int64)
