"""A challenger whose signature lacks a column that clients send: it fails nobody, it refuses them. Real processes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema
from models import put_folder
from tests.model.shop import NUMBERS, labels, numbers
from town import Gateway, Town, eventually

import modelyard
from modelyard.ports.records import Decision, Rollout

PROJECT = """
name: town
workload: model
rollout:
  shadow: %s
  steps: [50, 100]
  margins: {errors: 0.5, latency: 1.0, feedback: 0.5}
  tests: {score high: null, score low: null}
  min_units: 10
  settle: 200ms
  look_every: 200ms
"""


def saved(path: Path, extra: bool) -> Path:
    """A model of five columns, and with `extra` of a sixth that clients may send."""
    x = numbers(200)
    y, names = labels(x), [*NUMBERS, "extra"][: 6 if extra else 5]
    if extra:
        x["extra"] = np.linspace(0, 1, len(x))
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 5)
    inputs = Schema([ColSpec("double", name, required=name != "extra") for name in names])
    signature = ModelSignature(inputs=inputs, outputs=Schema([ColSpec("double")]))
    mlflow.lightgbm.save_model(booster, path, signature=signature, pip_requirements=["lightgbm"])
    return path


@contextmanager
def traffic(gateway: Gateway, statuses: list[int]) -> Iterator[None]:
    """Entities of three kinds: most send five columns, a third sends the sixth too, and one in ten is wrong."""
    stop = threading.Event()

    def ask() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            row: dict[str, Any] = dict.fromkeys(NUMBERS, 0.5)
            if number % 3 == 0:
                row["extra"] = 0.5
            if number % 10 == 9:
                row["typo"] = 1.0
            body = {"dataframe_records": [row]}
            for _ in range(2):  # who is refused tries again: that is no second failure
                reply = gateway.http.post("/invocations", json=body, headers={"x-conversation-id": f"e{number}"})
                statuses.append(reply.status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("shadow", [True, False])
def test_one_that_refuses_what_clients_send_goes_back(town: Town, tmp_path: Path, shadow: bool) -> None:
    (town.root / "modelyard.yml").write_text(PROJECT % str(shadow).lower())
    wide = put_folder(town, saved(tmp_path / "wide", extra=True), "lightgbm")
    narrow = put_folder(town, saved(tmp_path / "narrow", extra=False), "lightgbm")
    town.ledger.add_decision(Decision("gate", "pass", ("good",), {"evidence": {"release": narrow}}))
    town.point(wide)
    statuses: list[int] = []
    with town.gateway() as gateway, modelyard.open(town.root) as project:
        gateway.until_ready(wide)
        with traffic(gateway, statuses):
            started = project.canary(narrow)
            assert isinstance(started, Rollout)
            eventually(lambda: project.rollouts()[0].state == "reverted", "it to go back", gateway.process)
    over = project.rollouts()[0]
    assert over.reason.startswith("refused: ") and ("in the shadow" in over.reason) == shadow
    assert set(statuses) == {200, 400}  # nobody's request failed
    assert town.ledger.pointers("town").champion == wide
