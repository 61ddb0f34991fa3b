"""MLflow models of several flavours, made once, and what MLflow itself answers."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import scoring_server
from mlflow.types.llm import ChatCompletionResponse
from mlflow.types.schema import AnyType, Array, ColSpec, Map, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard.clock import SystemClock
from modelyard.ports.workload import Call
from modelyard.wiring.ports import ReleasePorts
from modelyard.workloads.model.predictor import ModelPredictor

KINDS = {"a": "double", "b": "float", "c": "long", "d": "integer", "e": "boolean", "s": "string"}
DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
NUMBERS = [f"f{i}" for i in range(5)]
SMALL = dict.fromkeys(NUMBERS, "double")


@functools.cache
def _root() -> Path:
    path = Path(tempfile.mkdtemp(prefix="modelyard-models-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def numbers(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.normal(size=(rows, len(NUMBERS))), columns=NUMBERS)


def labels(x: pd.DataFrame) -> pd.Series:
    return (x.f0 + x.f1 * x.f2 > 0.2).astype(int)


def mixed(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "b": rng.normal(size=rows).astype("float32"),
            "c": rng.integers(-9, 9, rows),
            "d": rng.integers(-9, 9, rows).astype("int32"),
            "e": rng.integers(0, 2, rows).astype(bool),
            "s": rng.choice(["red", "blue", "green"], rows),
        }
    )


class Own(mlflow.pyfunc.PythonModel):
    """A model of the user's own: it adds up, and does as it is told."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        total = model_input[NUMBERS].sum(axis=1)
        if (total > 1e6).any():
            raise RuntimeError("4111-1111-1111-1111 cannot be added")
        if (total < -1e6).any():
            return np.full(len(total), np.nan)
        return pd.DataFrame({"total": total * (params or {}).get("times", 1.0), "note": None})


class Talker(mlflow.pyfunc.ChatModel):
    """A language model of the user's own."""

    def predict(self, context: Any, messages: list[Any], params: Any = None) -> ChatCompletionResponse:
        said = {"role": "assistant", "content": f"You said {messages[-1].content}"}
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        return ChatCompletionResponse.from_dict(
            {"choices": [{"index": 0, "message": said}], "usage": usage, "model": "talker", "created": 1}
        )


class Loud(mlflow.pyfunc.PythonModel):
    """A model that says with a type what it takes."""

    def predict(self, model_input: list[str], params: dict[str, Any] | None = None) -> list[str]:
        return [text.upper() for text in model_input]


class Agent(mlflow.pyfunc.PythonModel):
    """A model of the user's own that answers as agents do, in the form it is asked for."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        said = {"role": "assistant", "content": "You said Hi"}
        part = {"type": "output_text", "text": "You said Hi"}
        forms = {
            "message": {**said, "type": "ai"},
            "agent": {"messages": [{"role": "user", "content": "Hi"}, said]},
            "responses": {"output": [{"type": "reasoning"}, {"type": "message", "content": [part]}]},
            "other": {"answer": 42},
        }
        messages = model_input["messages"]
        return forms[next(iter(messages))[0]["content"] if hasattr(messages, "iloc") else messages[0]["content"]]


CHAIN = """
import mlflow
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

def answer(asked):
    last = (asked["messages"] if isinstance(asked, dict) else asked)[-1]
    return AIMessage(content="You said " + (last["content"] if isinstance(last, dict) else last.content))

mlflow.models.set_model(RunnableLambda(answer))
"""
"""A chain as MLflow keeps one of LangChain's: its code."""


@functools.cache
def folder(name: str) -> Path:
    """The folder of the model called so."""
    path = _root() / name
    x, table = numbers(), mixed()
    y = labels(x)
    # Checked by MLflow as it is saved, which takes a second.
    example: Any = x[:3] if name == "lightgbm" else None
    if name == "lightgbm":
        lgb = __import__("lightgbm")
        booster = lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lgb.Dataset(x, y), 20)
        _save(mlflow.lightgbm, booster, path, x, booster.predict(x), example)
    elif name == "lightgbm_classes":
        lgb = __import__("lightgbm")
        three = np.digitize(x.f0, [-0.5, 0.5])
        params = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
        booster = lgb.train(params, lgb.Dataset(x, three), 10)
        _save(mlflow.lightgbm, booster, path, x, booster.predict(x), example)
    elif name == "xgboost":
        xgb = __import__("xgboost")
        booster = xgb.train({"objective": "binary:logistic", "nthread": 1}, xgb.DMatrix(x, y), 20)
        _save(mlflow.xgboost, booster, path, x, booster.predict(xgb.DMatrix(x)), example)
    elif name == "xgboost_classifier":
        xgb = __import__("xgboost")
        classifier = xgb.XGBClassifier(n_estimators=10, n_jobs=1).fit(x, np.digitize(x.f0, [-0.5, 0.5]))
        _save(mlflow.xgboost, classifier, path, x, classifier.predict(x), example)
    elif name == "linear":
        pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
        more = {"serialization_format": "skops", "pyfunc_predict_fn": "predict_proba"}
        _save(mlflow.sklearn, pipe, path, x, pipe.predict_proba(x), example, **more)
    elif name == "gradient":
        trees = HistGradientBoostingRegressor(max_iter=20).fit(x, x.f0 * 3 + x.f1)
        _save(mlflow.sklearn, trees, path, x, trees.predict(x), example, serialization_format="cloudpickle")
    elif name == "mixed":
        picked = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["s"]), (StandardScaler(), ["a", "b", "c", "d"]), remainder="drop"
        )
        pipe = make_pipeline(picked, LogisticRegression()).fit(table, table.a > 0)
        more = {"serialization_format": "cloudpickle", "pyfunc_predict_fn": "predict_proba"}
        _save(mlflow.sklearn, pipe, path, table, pipe.predict_proba(table), None, **more)
    elif name == "own":
        signature = infer_signature(x, params={"times": 1.0})
        mlflow.pyfunc.save_model(path, python_model=Own(), signature=signature, pip_requirements=["pandas"])
    elif name == "array":
        pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(x.to_numpy(), y)
        _save(mlflow.sklearn, pipe, path, x.to_numpy(), y.to_numpy(), None, serialization_format="cloudpickle")
    elif name == "unnamed":
        pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(x.to_numpy(), y)
        signature = ModelSignature(inputs=Schema([ColSpec("double") for _ in NUMBERS]))
        needs = {"pip_requirements": ["scikit-learn"], "serialization_format": "cloudpickle"}
        mlflow.sklearn.save_model(pipe, path, signature=signature, **needs)
    elif name == "onnx_columns":
        _save(mlflow.onnx, graph("total"), path, x, y.to_numpy("float32"), None)
    elif name == "lightgbm_estimator":
        estimator = __import__("lightgbm").LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(x, y)
        _save(mlflow.lightgbm, estimator, path, x, y, None, serialization_format="cloudpickle")
    elif name == "chain":
        source = _root() / "chain.py"
        source.write_text(CHAIN)
        asked = ModelSignature(inputs=Schema([ColSpec(Array(Map(AnyType())), "messages")]))
        mlflow.langchain.save_model(str(source), path, signature=asked, pip_requirements=["langchain"])
    elif name in ("talker", "loud", "agent"):
        made = {"talker": Talker, "loud": Loud, "agent": Agent}[name]()
        mlflow.pyfunc.save_model(path, python_model=made, pip_requirements=["mlflow"])
    elif name == "onnx":
        _save(mlflow.onnx, graph(), path, x.to_numpy("float32"), {"y": x.to_numpy("float32")}, None)
    elif name == "unsigned":
        pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
        mlflow.sklearn.save_model(pipe, path, serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
    else:
        raise KeyError(name)
    return path


def graph(*only: str) -> Any:
    """An ONNX graph that adds up each row, and tells the row doubled; or one of these."""
    onnx = __import__("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "x"], ["double"]),
    ]
    shapes: dict[str, list[int | None]] = {"total": [None], "double": [None, len(NUMBERS)]}
    made = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", kind, [None, len(NUMBERS)])],
        [helper.make_tensor_value_info(n, kind, shape) for n, shape in shapes.items() if not only or n in only],
        [helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _save(flavour: Any, model: Any, path: Path, x: Any, y: Any, example: Any, **more: Any) -> None:
    signature = infer_signature(x, y)
    if isinstance(x, pd.DataFrame):
        # Inference makes a required column of each; types are those of the DataFrame.
        signature.inputs = Schema([ColSpec(one.type, one.name, required=True) for one in signature.inputs.inputs])
    # Named, so that MLflow does not load the model in another process to guess them.
    needs = {"pip_requirements": [flavour.__name__.rpartition(".")[2].replace("sklearn", "scikit-learn")]}
    flavour.save_model(model, path, signature=signature, input_example=example, **needs, **more)


@functools.cache
def predictor(name: str, runtime: str) -> ModelPredictor:
    return ModelPredictor(ReleasePorts({}, None).model(folder(name), runtime))


def call(**more: Any) -> Call:
    return Call(SystemClock(), "k1", **more)


def ours(name: str, runtime: str, body: bytes, content_type: str = "application/json") -> Any:
    """The reply as JSON. Raises what the predictor raises."""
    return json.loads(predictor(name, runtime).invoke(body, content_type, call()).body, parse_constant=_refused)


def _refused(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@functools.cache
def _mlflow(name: str) -> Any:
    return mlflow.pyfunc.load_model(str(folder(name)))


def theirs(name: str, body: bytes, content_type: str = "application/json") -> Any:
    """The reply of `mlflow models serve` as JSON; None where it refuses, or fails."""
    model = _mlflow(name)
    try:
        reply = scoring_server.invocations(
            body.decode() if content_type == "text/csv" else body,
            content_type,
            model,
            model.metadata.get_input_schema(),
        )
    except MlflowException:
        return None
    return json.loads(reply.response) if reply.status == 200 else None
