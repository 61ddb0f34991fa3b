"""ONNX models by ONNX Runtime, on one thread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from modelyard.adapters.model_folder import describe, member
from modelyard.errors import ModelFailed
from modelyard.ports.model import Given, NotDirect, Takes

_FLOAT = "tensor(float)"


class OnnxModel:
    """An ONNX graph saved by MLflow. Raises NotDirect, ModelFailed for a file that is no graph."""

    runtime = "onnx"
    allows_missing = True

    def __init__(self, folder: Path) -> None:
        self.about = describe(folder)
        conf, signature = self.about.flavors["onnx"], self.about.signature
        if conf.get("onnx_session_options"):
            raise NotDirect("its session has options of its own")
        path = member(folder, conf.get("data"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many classes, none of them public
            raise ModelFailed(f"the ONNX model does not load: {(str(error).splitlines() or [''])[0][:300]}") from error
        self._inputs = {one.name: one.type for one in self._session.get_inputs()}
        self._outputs = [one.name for one in self._session.get_outputs()]
        self.takes: Takes = "tensors" if signature is not None and signature.tensors else "matrix"
        kinds = {column.kind for column in signature.columns} if signature else set()
        if self.takes == "matrix" and (len(self._inputs) != 1 or not kinds <= {"float", "double"}):
            raise NotDirect("its columns are no one matrix of floats")

    def predict(self, given: Given, params: Mapping[str, Any] | None = None) -> Any:
        """{output: array} for tensors; for a table one record a row, as MLflow replies with."""
        if isinstance(given, Mapping):
            return dict(zip(self._outputs, self._run(given), strict=True))
        found = [np.asarray(one).reshape(-1) for one in self._run({"": given})]
        if len({len(one) for one in found}) > 1:
            raise ModelFailed("the model's outputs are not as long as each other: send it tensors")
        return [dict(zip(self._outputs, row, strict=True)) for row in zip(*found, strict=True)]

    def _run(self, given: Mapping[str, Any]) -> list[Any]:
        if len(given) == 1 and "" in given:
            given = {next(iter(self._inputs)): given[""]}
        feeds = {
            name: value.astype(np.float32) if self._inputs.get(name) == _FLOAT and value.dtype == np.float64 else value
            for name, value in given.items()
        }
        answers: list[Any] = self._session.run(self._outputs, feeds)
        return answers

    def close(self) -> None:
        """The session goes with the process: a thread may still be in it."""
