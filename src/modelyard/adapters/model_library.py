"""The C library inside a Python package that is not imported, because it would bring pandas and scikit-learn along."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

from modelyard.errors import ModelFailed


def load_library(package: str, title: str, name: str) -> ctypes.CDLL:
    """The library `name` (without its ending) of `package`. Raises ModuleNotFoundError where the package is not
    installed or has none, ModelFailed where it does not load: `title` is what people call it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    for ending in (".so", ".dylib"):
        path = Path(found.origin).parent / "lib" / (name + ending)
        if path.is_file():
            try:
                return ctypes.cdll.LoadLibrary(str(path))
            except OSError as error:
                # It needs a library of the system: libgomp on Linux, libomp on macOS.
                raise ModelFailed(f"{title}'s library does not load: {str(error).splitlines()[0]}") from None
    raise ModuleNotFoundError(f"the package {package} has no library", name=package)
