"""POST /predict: for programs that come from a service of their own. What /invocations takes as JSON, and besides one
record, or a list of records, without anything around it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from modelyard.errors import RequestError
from modelyard.gateway.body import read_value
from modelyard.gateway.invocations import TABULAR, handed_through, one_by_one
from modelyard.gateway.replies import mlflow_error, replying
from modelyard.gateway.service import enter, service

FORMS = frozenset((*TABULAR, "messages"))
"""An object with one of these says itself what it is; any other is a record."""
_JSON = "application/json"


@replying(mlflow_error)
async def predict(request: Request) -> Response:
    """POST /predict. The reply is that of /invocations to the same in one of its forms."""
    raw, value = await read_value(request, "scoring")
    form = form_of(value)
    here = service(request)
    await here.introduced()
    if not here.invokes:
        return await one_by_one(request, "predict", raw, value if form is None else {form[0]: form[1]})
    passage = await enter(request, "predict", raw, value if isinstance(value, dict) else None)
    return await handed_through(request, passage, raw if form is None else wrapped(raw, *form), _JSON)


def form_of(value: Any) -> tuple[str, list[Any]] | None:
    """The form of a bare body and its rows; None for one that names its form. Raises RequestError."""
    if isinstance(value, dict):
        return None if FORMS & value.keys() else ("dataframe_records", [value])
    if not isinstance(value, list):
        raise RequestError("the body must be a record, a list of records, or an object with " + ", ".join(TABULAR))
    if not value:
        raise RequestError("the body is an empty list: there is no row to score")
    return "dataframe_records" if isinstance(value[0], dict) else "inputs", value


def wrapped(raw: bytes, form: str, rows: list[Any]) -> bytes:
    """`raw`, which is one valid JSON value, in `form`. Its numbers stay as they were written."""
    text = raw.removeprefix(b"\xef\xbb\xbf")
    one = len(rows) == 1 and not text.lstrip().startswith(b"[")
    return b'{"%s": %s}' % (form.encode(), b"[" + text + b"]" if one else text)
