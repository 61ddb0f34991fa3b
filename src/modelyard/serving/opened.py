"""A release that is loaded and ready to answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.ports.records import Manifest

if TYPE_CHECKING:
    from modelyard.ports.workload import Predictor, Workload


@dataclass(frozen=True)
class OpenedRelease:
    """What `wiring.open_release` gives: members verified, guards wrapped around the predictor."""

    id: str
    folder: Path
    manifest: Manifest
    workload: Workload
    predictor: Predictor

    def close(self) -> None:
        self.predictor.close()

    def __enter__(self) -> OpenedRelease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
