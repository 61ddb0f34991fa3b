"""What the tests of rollouts share: a policy, a rollout, and traffic made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from modelyard.clock import stamp
from modelyard.ids import digest
from modelyard.lifecycle.canary import policy_of
from modelyard.ports.records import SHADOW, Manifest, Release, Rollout
from modelyard.project.model import Rollout as Policy


def release(name: str) -> Release:
    manifest = Manifest("echo", 1, {"a.txt": digest(name)}, digest("snapshot"), {"name": name})
    return Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z")


OLD, NEW, OTHER = release("old"), release("new"), release("other")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def policy(**more: Any) -> dict[str, Any]:
    return policy_of(Policy(**{"steps": [1, 5, 25, 100], **more}))


def rollout(stage: int = SHADOW, **more: Any) -> Rollout:
    at = stamp(BEGAN)
    made = Rollout("r1", "site", OLD.id, NEW.id, policy(), stage, "running", at, at, 1, "me")
    return replace(made, **more)


def evidence(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rollout": "r1",
        "stage": 1,
        "share": 5,
        "next": 25,
        "shadow": False,
        "units": {"champion": 1900, "challenger": 100},
        "age": 3600.0,
        "down": None,
        "agreement": None,
        "tests": {},
    }
    return {**found, **more}


def arms(champion: tuple[int, int], challenger: tuple[int, int], share: float = 0.05) -> Mapping[str, Any]:
    row = {"share": share, "champion": list(champion), "challenger": list(challenger)}
    return {"seen": [row], "settled": [row]}
