"""What all tests share: no deadlines (speed is measured in benchmarks/), and nothing that reports home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
for _name in ("MLFLOW_TRACKING_URI", "MODELYARD_TOKEN", "MODELYARD_CHAT_URL", "MODELYARD_CHAT_KEY"):
    os.environ.pop(_name, None)

settings.register_profile("modelyard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelyard")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real data, where there is one."""
    folder = Path(os.environ.get("MODELYARD_REALDATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip("no real data here (MODELYARD_REALDATA)")
    return folder
