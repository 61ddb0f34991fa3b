"""The composition root: from a project, or a release on disk, to adapters and a workload that work together."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard.wiring.folding import fold_record
    from modelyard.wiring.opening import open_release
    from modelyard.wiring.world import open_endpoints, open_ledger, open_rollouts, open_tokens, open_world

__all__ = ["fold_record", "open_endpoints", "open_ledger", "open_release", "open_rollouts", "open_tokens", "open_world"]

_HOME = dict.fromkeys(("open_endpoints", "open_ledger", "open_rollouts", "open_tokens", "open_world"), "world") | {
    "fold_record": "folding",
    "open_release": "opening",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"modelyard.wiring.{_HOME[name]}"), name)
    raise AttributeError(f"module 'modelyard.wiring' has no attribute {name!r}")
