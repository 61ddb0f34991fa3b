"""LightGBM boosters through LightGBM's C library: one row costs some 10 microseconds, and neither the Python package
(it would import pandas and scikit-learn) nor a DataFrame is needed.

Interface: include/LightGBM/c_api.h of LightGBM 4.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.model_folder import describe, member
from modelyard.adapters.model_library import load_library
from modelyard.errors import ModelFailed
from modelyard.ports.model import Given, NotDirect, Takes

_FLOAT64, _ROW_MAJOR, _NORMAL = 1, 1, 0
_ONE_THREAD, _ALL_THREADS = b"num_threads=1", b""
_MANY_ROWS = 2_000
"""From here on LightGBM's own threads are worth their start."""


def _library() -> ctypes.CDLL:
    library = load_library("lightgbm", "LightGBM", "lib_lightgbm")
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


class LightgbmModel:
    """A booster saved by MLflow. Features are taken by position, in the order of the signature, which is checked
    against the names the booster was trained with. Raises NotDirect, ModelFailed for a file that is no booster."""

    runtime = "lightgbm"
    takes: Takes = "matrix"
    allows_missing = True

    def __init__(self, folder: Path) -> None:
        self.about = describe(folder)
        conf = self.about.flavors["lightgbm"]
        path = member(folder, conf.get("data"))
        self._lib, self._handle, self._local = _library(), ctypes.c_void_p(), threading.local()
        self._predict_one = self._lib.LGBM_BoosterPredictForMatSingleRowFast
        rounds = ctypes.c_int()
        self._ask(
            "LGBM_BoosterCreateFromModelfile", str(path).encode(), ctypes.byref(rounds), ctypes.byref(self._handle)
        )
        self._features = self._count("LGBM_BoosterGetNumFeature")
        self._classes = self._count("LGBM_BoosterGetNumClasses")
        names = [column.name for column in self.about.signature.columns] if self.about.signature else []
        if len(names) != self._features:
            raise NotDirect(f"the signature has {len(names)} columns, the booster takes {self._features}")
        # LightGBM writes a blank in a name as an underscore.
        trained = [] if not all(names) or _numbered(self._names()) else self._names()
        if trained and trained != [name.replace(" ", "_") for name in names]:
            raise NotDirect("the signature's columns are not those the booster was trained with")
        if _categories(path):
            raise NotDirect("the booster has categories that only pandas knows")

    def predict(self, given: Given, params: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """Shape [rows], or [rows, classes]."""
        matrix, rows = cast("NDArray[Any]", given), len(given)
        out = self._one(matrix) if rows == 1 else self._many(np.ascontiguousarray(matrix, dtype=np.float64))
        return out if self._classes == 1 else out.reshape(rows, self._classes)

    def _one(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        own: _Row | None = getattr(self._local, "row", None)
        if own is None:
            own = self._local.row = _Row(self._features, self._classes, self._fast())
        own.given[:] = matrix[0]
        self._check(self._predict_one(*own.arguments))
        self._complete(own.length, 1)
        return own.out.copy()

    def _many(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = len(matrix)
        out, length = np.empty(rows * self._classes, dtype=np.float64), ctypes.c_int64()
        self._ask(
            "LGBM_BoosterPredictForMat",
            self._handle,
            ctypes.c_void_p(matrix.ctypes.data),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(rows),
            ctypes.c_int32(self._features),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(-1),
            ctypes.c_char_p(_ALL_THREADS if rows >= _MANY_ROWS else _ONE_THREAD),
            ctypes.byref(length),
            ctypes.c_void_p(out.ctypes.data),
        )
        self._complete(length, rows)
        return out

    def _complete(self, length: ctypes.c_int64, rows: int) -> None:
        if length.value != rows * self._classes:
            raise ModelFailed(f"LightGBM gave {length.value} numbers for {rows} rows of {self._classes}")

    def close(self) -> None:
        """The booster goes with the process: a thread may still be in it."""

    def _fast(self) -> ctypes.c_void_p:
        """A configuration of single rows: one is not for several threads."""
        found = ctypes.c_void_p()
        self._ask(
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            self._handle,
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(-1),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(self._features),
            ctypes.c_char_p(_ONE_THREAD),
            ctypes.byref(found),
        )
        return found

    def _names(self) -> list[str]:
        size = 256
        names = [ctypes.create_string_buffer(size) for _ in range(self._features)]
        pointers = (ctypes.c_void_p * self._features)(*[ctypes.addressof(name) for name in names])
        count, longest = ctypes.c_int(), ctypes.c_size_t()
        self._ask(
            "LGBM_BoosterGetFeatureNames",
            self._handle,
            ctypes.c_int(self._features),
            ctypes.byref(count),
            ctypes.c_size_t(size),
            ctypes.byref(longest),
            pointers,
        )
        return [name.value.decode(errors="replace") for name in names]

    def _count(self, function: str) -> int:
        found = ctypes.c_int()
        self._ask(function, self._handle, ctypes.byref(found))
        return found.value

    def _ask(self, function: str, *arguments: Any) -> None:
        self._check(getattr(self._lib, function)(*arguments))

    def _check(self, code: int) -> None:
        if code:
            said = (self._lib.LGBM_GetLastError() or b"").decode(errors="replace").splitlines()
            raise ModelFailed(f"LightGBM: {said[0] if said else 'failed'}")


class _Row:
    """A thread's own place for one row and its answer, so that asking costs no new objects."""

    def __init__(self, features: int, classes: int, fast: ctypes.c_void_p) -> None:
        self.given, self.out = np.empty(features), np.empty(classes)
        self.length = ctypes.c_int64()
        given, out = ctypes.c_void_p(self.given.ctypes.data), ctypes.c_void_p(self.out.ctypes.data)
        self.arguments = (fast, given, ctypes.byref(self.length), out)


def _numbered(names: list[str]) -> bool:
    """Whether these are LightGBM's own names for columns that had none."""
    return names == [f"Column_{i}" for i in range(len(names))]


def _categories(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 100_000))
        tail = file.read().rpartition(b"pandas_categorical:")
    return bool(tail[1]) and tail[2].strip() not in (b"[]", b"null", b"")
