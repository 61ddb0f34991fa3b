"""Any MLflow model, by `mlflow.pyfunc`: those of the user's own, and what no other runtime here runs as MLflow would.

Imports mlflow and pandas; only a model that needs them is opened here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Before mlflow is imported: it reads these once. A value the user set stays.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from modelyard.adapters.model_folder import describe
from modelyard.adapters.model_frames import frame, unframed
from modelyard.errors import ModelFailed, RequestError, UserError
from modelyard.ports.model import Given, Takes
from modelyard.project.secrets import masked

_UNFIT = "the body does not fit the model's signature"
_MESSAGES = ("messages", "prompt", "input")


class PyfuncModel:
    """An MLflow model as MLflow loads it. Loading one may run code that lies in it.

    Raises ModelFailed where it does not load; ModuleNotFoundError for a package it needs.
    """

    runtime = "pyfunc"
    allows_missing = True

    def __init__(self, folder: Path) -> None:
        self.about = describe(folder)
        signature = self.about.signature
        decoded = signature is not None and signature.plain and not self.about.from_hint
        self._tensors = decoded and signature is not None and bool(signature.tensors)
        self.takes: Takes = ("tensors" if self._tensors else "columns") if decoded else "request"
        try:
            self._model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # the model's own code
            raise ModelFailed(f"the model does not load: {type(error).__name__}: {_line(error)}") from error
        self._named = signature is None or signature.named
        self._schema = self._model.metadata.get_input_schema()
        self._params = self._model.metadata.get_params_schema()

    def predict(self, given: Given, params: Mapping[str, Any] | None = None) -> Any:
        """What the model answers. Raises RequestError for a request that MLflow does not fit to the signature, and
        whatever the model raises."""
        if self.takes == "request":
            assert isinstance(given, Mapping)
            data, sent = self._parsed(given)
            params = {**sent, **(params or {})}
        else:
            assert isinstance(given, Mapping)
            data = self._arranged(given)
        try:
            mlflow.pyfunc._validate_prediction_input(data, dict(params or {}), self._schema, self._params)
        except MlflowException:
            raise RequestError(_UNFIT) from None
        try:
            return unframed(self._model.predict(data, params=dict(params) if params else None))
        except MlflowException as error:
            if self.about.from_hint and error.error_code == "INVALID_PARAMETER_VALUE":
                raise RequestError("the body does not fit the types the model asks for") from None
            raise

    def _arranged(self, given: Mapping[str, Any]) -> Any:
        if self._tensors:
            return dict(given) if self._named else next(iter(given.values()))
        table = frame(given)
        if not self._named:
            table.columns = range(len(table.columns))
        return table

    def _parsed(self, request: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The request as MLflow's server would parse it: data, params."""
        try:
            if any(key in request for key in _MESSAGES):
                found: tuple[Any, dict[str, Any]]
                found = scoring_server._split_data_and_params_for_llm_input(dict(request), self._params)
                return found
            data = {key: value for key, value in request.items() if key in scoring_server.SUPPORTED_FORMATS}
            params = request.get("params")
            if self.about.from_hint:
                if "inputs" not in data:
                    raise RequestError("the body needs inputs: the model says with a type what it takes")
                return data["inputs"], params or {}
            return scoring_server.infer_and_parse_data(data, self._schema), params or {}
        except MlflowException:
            raise RequestError(_UNFIT) from None

    def close(self) -> None:
        """The model goes with the process: a thread may still be in it."""


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def fetch(uri: str, folder: Path) -> Path:
    """Download the MLflow model at `uri` (models:/NAME/VERSION, runs:/..., a URL) into `folder`, from the tracking
    server that MLFLOW_TRACKING_URI names. Raises UserError where it cannot be had."""
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except Exception as error:  # noqa: BLE001 - of every store there is
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise UserError(f"{masked(uri)} cannot be fetched: {_line(error)}") from None
