"""The wheel's build hook: makes the files of embedder and readers before the wheel, or an editable install, is made."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Weights(BuildHookInterface):
    """Runs `weights/make.py`, and says so when what it made is not what other machines make."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        path = Path(self.root) / "weights" / "make.py"
        spec = importlib.util.spec_from_file_location("make", path)
        assert spec and spec.loader
        make = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(make)
        try:
            if make.make() and not make.is_made(make.DESTINATION):
                self.app.display_warning(
                    "The models' files differ from the recorded ones: vectors made here and elsewhere may not mix."
                )
        except make.Failed as failure:
            self.app.abort(str(failure))
