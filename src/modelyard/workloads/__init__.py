"""The kinds of model: each an implementation of one protocol, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelyard.errors import ProjectError

if TYPE_CHECKING:
    from modelyard.ports.workload import Workload

CATALOGUE = {
    "chatbot": "modelyard.workloads.chatbot.workload:ChatbotWorkload",
    "echo": "modelyard.workloads.echo:EchoWorkload",
    "model": "modelyard.workloads.model.workload:ModelWorkload",
}

SURROUNDINGS = {"chatbot": "modelyard.workloads.chatbot.limits:ocr_here"}
"""What beside files and settings changes what a workload makes of them, as a function of its settings. Light to import:
a run that has nothing to do asks it."""


def surroundings(name: str, settings: Mapping[str, Any]) -> str:
    """What of this machine decides how the files of a workload are read; "" where nothing does."""
    if name not in SURROUNDINGS:
        return ""
    module, _, attribute = SURROUNDINGS[name].partition(":")
    return str(getattr(importlib.import_module(module), attribute)(settings))


def workload(name: str) -> Workload:
    """The workload that a project file or a manifest names: one of the catalogue, or `package.module:Class` of the
    user's own, which is made without arguments.

    Raises ProjectError for a name that is neither; it says which known name is nearest.
    """
    path = CATALOGUE.get(name, name)
    module, colon, attribute = path.partition(":")
    if not colon:
        raise ProjectError(f"workload: {name!r} is not known{_nearest(name)} (known: {', '.join(sorted(CATALOGUE))})")
    try:
        made: Workload = getattr(importlib.import_module(module), attribute)()
    except ModuleNotFoundError as error:
        # Only the module that was named may be missing by the user's mistake; what it imports is another matter.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ProjectError(f"workload: {name!r}: there is no module {error.name!r}") from None
    except AttributeError:
        raise ProjectError(f"workload: {name!r}: {module!r} has no {attribute!r}") from None
    return made


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, CATALOGUE, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
