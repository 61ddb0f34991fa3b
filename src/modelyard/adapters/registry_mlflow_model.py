"""A release as an MLflow model: what is written when one is logged."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import Array, ColSpec, Object, Property, Schema
from mlflow.utils import requirements_utils

from modelyard import __version__

MODEL_CODE = Path(__file__).parents[1] / "pyfunc.py"
_MESSAGES = Schema([ColSpec(Array(Object([Property("role", "string"), Property("content", "string")])), "messages")])


def save_release(about: Model, to: Path, folder: Path, accepts: frozenset[str]) -> None:
    """Write the MLflow model: our file as its code, the release in `folder` as its artifact. A release of an MLflow
    model takes what that model takes, and needs what that model needs."""
    inner = next(folder.glob("*/MLmodel"), None)
    if inner is not None:
        signature = Model.load(str(inner)).signature
        listed = inner.with_name("requirements.txt")
        needs = listed.read_text(encoding="utf-8").split("\n") if listed.is_file() else []
    else:
        signature, needs = ModelSignature(inputs=_MESSAGES) if "messages" in accepts else None, []
    # It would like an example input, to guess a signature from; what can be said is said here.
    with warnings.catch_warnings(), quiet("mlflow.pyfunc"), _packages_unread():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=str(to),
            mlflow_model=about,
            python_model=str(MODEL_CODE),
            artifacts={"release": str(folder.absolute())},
            signature=signature,
            # Named, so that MLflow does not load the model in another process to guess them.
            pip_requirements=[f"modelyard=={__version__}", *(line.strip() for line in needs if line.strip())],
        )


@contextmanager
def _packages_unread() -> Iterator[None]:
    """MLflow reads all installed packages (0.6 CPU s), to warn where a requirement is not met: ours is what runs."""
    known = vars(requirements_utils)
    before, known["_MODULES_TO_PACKAGES"] = known.get("_MODULES_TO_PACKAGES"), {}
    try:
        yield
    finally:
        known["_MODULES_TO_PACKAGES"] = before


@contextmanager
def quiet(name: str, least: int = logging.ERROR) -> Iterator[None]:
    """What is logged by `name` below `least` is not shown meanwhile."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(least)
    try:
        yield
    finally:
        logger.setLevel(level)
