"""modelyard: from documents or transactions to an evaluated, versioned, served, watched and reversible model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard.api import Project, init, open
    from modelyard.errors import ModelyardError

__version__ = "0.1.0"

__all__ = ["ModelyardError", "Project", "__version__", "init", "open"]

_HOME = {
    "ModelyardError": "modelyard.errors",
    "Project": "modelyard.api",
    "init": "modelyard.api",
    "open": "modelyard.api",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: `modelyard --help` and a worker need none of this.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'modelyard' has no attribute {name!r}")
