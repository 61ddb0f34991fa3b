"""A release as an MLflow model: `mlflow.pyfunc.load_model("models:/NAME@champion").predict({"messages": [...]})`.

MLflow runs this file when it loads the model ("models from code"); the release itself is the artifact beside it. It
needs modelyard installed, and no project, tracking server or network.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from modelyard.clock import SystemClock
from modelyard.errors import RequestError
from modelyard.ports.workload import Call, CanInvoke
from modelyard.serving.answer import answer, prediction
from modelyard.wiring import open_release


class ReleaseModel(PythonModel):
    """Opens the release that was logged with it, and answers through the serving path."""

    def load_context(self, context: Any) -> None:
        """Raises Damaged where the artifact is not what its manifest says."""
        self._opened = open_release(Path(context.artifacts["release"]))
        self._clock = SystemClock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Any:
        """One object per request: the workload's output, with `release` and OpenAI's `choices`. A release of an MLflow
        model gives that model's predictions, as lists and plain values.

        `model_input` is a table with a column `messages` (what MLflow makes of `{"messages": [...]}`), one such object,
        or a list of them; for a release of a model what that model takes. Raises RequestError.
        """
        if isinstance(self._opened.predictor, CanInvoke):
            body = json.dumps({**scoring(model_input), "params": dict(params or {})}).encode()
            call = Call(self._clock, key=uuid.uuid4().hex)
            return json.loads(self._opened.predictor.invoke(body, "application/json", call).body)["predictions"]
        return [self._one(request) for request in requests(model_input)]

    def _one(self, request: Mapping[str, Any]) -> dict[str, Any]:
        call = Call(self._clock, key=uuid.uuid4().hex)
        response = answer(self._opened, request, call)
        return prediction(self._opened.id, response.text, dict(response.output))


def scoring(model_input: Any) -> dict[str, Any]:
    """What MLflow made of a scoring request, as one again. NaN is null there."""
    if hasattr(model_input, "to_dict"):
        split = model_input.to_dict(orient="split")
        return {"dataframe_split": {"columns": list(split["columns"]), "data": _missing(split["data"])}}
    return {"inputs": _missing(_plain(model_input))}


def _missing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _missing(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_missing(_plain(one)) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def requests(model_input: Any) -> list[dict[str, Any]]:
    """What was sent, as requests: plain JSON values, without arrays. Raises RequestError."""
    if hasattr(model_input, "to_dict"):
        return [_plain(row) for row in model_input.to_dict(orient="records")]
    if isinstance(model_input, Mapping):
        return [_plain(dict(model_input))]
    if isinstance(model_input, list) and all(isinstance(row, Mapping) for row in model_input):
        return [_plain(dict(row)) for row in model_input]
    raise RequestError("a table with a column `messages`, or an object that has it, is expected")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


mlflow.models.set_model(ReleaseModel())
