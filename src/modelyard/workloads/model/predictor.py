"""One request to an MLflow model: body to arrays, model, answer to body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.errors import ModelFailed, ModelyardError, RequestError
from modelyard.ports.model import Column, Model, Tensor
from modelyard.ports.workload import Call, Event, Invoked, Request, Response, Schema, Variable
from modelyard.workloads.model.arrays import Reader
from modelyard.workloads.model.bodies import FORMS, JSON, Body, guessed, parse, read_file, recognise
from modelyard.workloads.model.replies import encode, plain, reply

_TAKE_MISSING = frozenset({"lightgbm", "xgboost"})
"""Runtimes all of whose models take missing values; of others only the model itself knows."""


class ModelPredictor:
    """Answers scoring bodies, and the same as parsed requests. Safe to call from several threads, as far as the model
    is."""

    def __init__(self, model: Model) -> None:
        self._model = model
        signature = model.about.signature
        self._known = frozenset(signature.params) if signature is not None else None
        self._reader = None
        if model.takes != "request" and signature is not None:
            self._reader = Reader(signature, model.takes, model.allows_missing)
        self._doubles = self._reader is not None and self._reader.doubles

    def invoke(self, body: bytes, content_type: str, call: Call) -> Invoked:
        """The reply to a body of MLflow's scoring protocol, as `mlflow models serve` gives it."""
        call.check()
        parsed = parse(body, content_type, doubles=self._doubles)
        answer, rows = self._answer(parsed, lenient=False)
        said, figures = reply(answer, bare=parsed.form == "messages")
        call.check()
        return Invoked(said, JSON, rows, figures)

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        """The Response to a parsed request; its output is {"predictions"}, or what a language model answered. In an
        exam, whose table has columns for older and newer models, those that this one does not take are left out."""
        call.check()
        body = recognise(request)
        answer, rows = self._answer(body, lenient=call.effects == "exam")
        found = plain(answer)
        output = found if body.form == "messages" and isinstance(found, dict) else {"predictions": found}
        call.check()
        text = _said(found) if body.form == "messages" else encode(found).decode()
        yield Response(text, output, _usage(output) if body.form == "messages" else {"rows": rows})

    @property
    def schema(self) -> Schema | None:
        """As the signature has it; None without one."""
        signature = self._model.about.signature
        if signature is None:
            return None
        given: tuple[Column | Tensor, ...] = signature.columns or signature.tensors
        inputs, outputs = tuple(map(_variable, given)), tuple(map(_variable, signature.outputs))
        runtime = self._model.runtime
        return Schema(runtime, inputs, outputs, bool(signature.tensors), runtime in _TAKE_MISSING)

    def close(self) -> None:
        """Give the model back."""
        self._model.close()

    def _answer(self, body: Body, lenient: bool) -> tuple[Any, int]:
        self._check_params(body.params)
        if self._reader is not None:
            if body.form == "messages":
                raise RequestError("the model takes rows of a table, not messages")
            given, rows = self._reader.read(body, lenient=lenient)
            return self._guarded(given, body.params), rows
        given = _request(body)
        return self._guarded(given, body.params), _count(given)

    def _check_params(self, params: Mapping[str, Any]) -> None:
        if params and self._known is not None and not params.keys() <= self._known:
            raise RequestError(
                f"params: the model takes {', '.join(sorted(self._known))}" if self._known else "params: it takes none"
            )

    def _guarded(self, given: Any, params: Mapping[str, Any]) -> Any:
        try:
            return self._model.predict(given, params) if params else self._model.predict(given)
        except ModelyardError:
            raise
        except Exception as error:  # the model's own code: whatever it raises is its failure
            raise ModelFailed(f"the model failed on this request ({type(error).__name__})") from error


def _variable(one: Column | Tensor) -> Variable:
    if isinstance(one, Tensor):
        return Variable(one.name, one.dtype, one.shape)
    return Variable(one.name, one.kind, required=one.required)


def _request(body: Body) -> Mapping[str, Any]:
    """The request for a model that says nothing of its columns; MLflow parses it."""
    if body.form == "messages":
        value: Mapping[str, Any] = body.value
        return value
    if body.form in ("csv", "parquet"):
        return {"dataframe_split": guessed(read_file(body))}
    return {body.form: body.value}


def _count(request: Mapping[str, Any]) -> int:
    """The rows of a request, as far as its form tells."""
    for form, value in request.items():
        rows = value.get("data") if form == "dataframe_split" and isinstance(value, dict) else value
        if form in FORMS and isinstance(rows, list):
            return len(rows)
    return 1


def _usage(output: Mapping[str, Any]) -> Mapping[str, int]:
    """What a language model says it used, where it does."""
    said = output.get("usage")
    return {str(k): v for k, v in said.items() if isinstance(v, int)} if isinstance(said, Mapping) else {}


def _said(found: Any) -> str:
    """What a person reads of a language model's answer: the text of OpenAI's first choice, of a message (LangChain's),
    of the last message of an agent, of the outputs of a Responses agent; else JSON."""
    one = found[0] if isinstance(found, list) and len(found) == 1 else found
    if isinstance(one, dict):
        choices, messages, outputs = (one.get(name) for name in ("choices", "messages", "output"))
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            one = choices[0].get("message")
        elif isinstance(messages, list) and messages:
            one = messages[-1]
        elif isinstance(outputs, list):
            items = [item for item in outputs if isinstance(item, dict)]
            parts = [part for item in items for part in item.get("content") or () if isinstance(part, dict)]
            one = {"content": "".join(part["text"] for part in parts if isinstance(part.get("text"), str))}
        if isinstance(one, dict) and isinstance(one.get("content"), str) and one["content"]:
            text: str = one["content"]
            return text
    return one if isinstance(one, str) else encode(found).decode()
