"""Bodies of MLflow's scoring protocol to rows: JSON in its four forms, CSV, and Parquet. Pure; nothing of pandas.

The forms are those of `mlflow.pyfunc.scoring_server` 3.17. What it would drop, cut or guess is refused here: an error
says what is wrong and where, in names of the model's own and in numbers, and repeats nothing that was sent.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import orjson

from modelyard.errors import RequestError, UnsupportedType

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
MESSAGES = ("messages", "prompt", "input")
"""Keys of a body that MLflow hands to a language model as it is, and answers without `predictions`."""
CSV, JSON, PARQUET = "text/csv", "application/json", "application/vnd.apache.parquet"
ABSENT = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
    + ("NULL", "NaN", "None", "n/a", "nan", "null")
)
"""What stands for a missing value in a CSV file, as pandas reads one."""


@dataclass(frozen=True)
class Rows:
    """A table as it was sent: `names` of the columns, where they have names, and rows of values as long as that.
    `text` where the values are texts of a CSV file that stand for others."""

    names: list[str] | None
    data: list[list[Any]]
    text: bool = False


class Body(NamedTuple):
    """A parsed body: one of the forms with its value, or a file (`form` "csv" or "parquet"), or the whole of a body
    with messages (`form` "messages"); and the parameters sent along."""

    form: str
    value: Any
    params: Mapping[str, Any]


def parse(body: bytes, content_type: str, *, doubles: bool = False) -> Body:
    """`doubles`: all numbers in rows become float64, so whole ones past 64 bits may come as such. Raises RequestError,
    UnsupportedType."""
    if content_type == JSON:
        if doubles and (value := _quickly(body)) is not None:
            return recognise(value)
        return recognise(decode(body))
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    if rest and not all(_utf8(part) for part in rest.split(";")):
        raise UnsupportedType("the content type may say charset=utf-8 and nothing else")
    if kind == JSON:
        return recognise(decode(body))
    if kind == CSV:
        return Body("csv", body, {})
    if kind == PARQUET:
        return Body("parquet", body, {})
    raise UnsupportedType(f"the body must be {JSON}, {CSV} or {PARQUET}")


def _utf8(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return not name.strip() or (name.strip().lower() == "charset" and value.strip().strip('"').lower() == "utf-8")


def decode(body: bytes) -> Mapping[str, Any]:
    """A body of JSON as an object. NaN and infinity are no JSON. Raises RequestError."""
    try:
        text = body.decode("utf-8-sig" if body.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8 text (byte {error.start})") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        said = error.msg[0].lower() + error.msg[1:]
        raise RequestError(f"the body is not JSON: {said} ({where})" if text.strip() else "the body is empty") from None
    except _NotJson as error:
        raise RequestError(f"the body is not JSON: {error} is no value of it; null stands for a missing one") from None
    except RecursionError:
        raise RequestError("the body is not JSON that can be read: it is nested too deeply") from None
    except ValueError:
        raise RequestError("the body is not JSON that can be read: a number in it has too many digits") from None
    if not isinstance(value, dict):
        raise RequestError(f"the body must be a JSON object with one of {', '.join(FORMS)}")
    return value


def _quickly(body: bytes) -> Mapping[str, Any] | None:
    """An object of one field, read in a seventh of the time; None for anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if type(value) is dict and len(value) == 1 else None


class _NotJson(Exception):
    pass


def _constant(name: str) -> NoReturn:
    raise _NotJson(name)


_DECODER = json.JSONDecoder(parse_constant=_constant)


def recognise(value: Mapping[str, Any]) -> Body:
    """Which form an object is. Raises RequestError."""
    if len(value) == 1:
        ((form, only),) = value.items()
        if form in FORMS:
            return Body(form, only, {})
    found = [form for form in FORMS if form in value]
    if any(key in value for key in MESSAGES):
        if found:
            raise RequestError(f"the body has {found[0]} and a field of a language model: one of them is expected")
        if "messages" in value:
            _check_messages(value["messages"])
        return Body("messages", value, {})
    if len(found) != 1:
        what = "here is none" if not found else f"here are {len(found)}"
        raise RequestError(f"the body needs exactly one of {', '.join(FORMS)}: {what}")
    others = len(value) - 1 - ("params" in value)
    if others:
        more = f"{others} more field{'s' if others > 1 else ''}"
        raise RequestError(f"the body may have {found[0]} and params, and has {more}")
    params = value.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise RequestError("params: an object is expected")
    return Body(found[0], value[found[0]], params)


def _check_messages(messages: Any) -> None:
    """What every language model asks of messages; what else they hold is between it and the caller."""
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages: a list of {role, content} is expected")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RequestError(f"messages: message {number} is no object with a role")
        if message.get("content") is None and not message.get("tool_calls"):
            raise RequestError(f"messages: message {number} has no content")


def split(value: Any) -> Rows:
    """`dataframe_split`: {"columns": names, "data": rows, "index": ignored}. Raises RequestError."""
    if not isinstance(value, dict) or "data" not in value or not value.keys() <= {"columns", "data", "index"}:
        raise RequestError("dataframe_split: an object of columns, data and (optionally) index is expected")
    data, names = value["data"], value.get("columns")
    if not isinstance(data, list):
        raise RequestError("dataframe_split: data must be a list of rows")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
            raise RequestError("dataframe_split: columns must be a list of names")
        names = [str(name) for name in names]
        if len(set(names)) != len(names):
            raise RequestError("dataframe_split: two columns have the same name")
    index = value.get("index")
    if index is not None and (not isinstance(index, list) or len(index) != len(data)):
        raise RequestError("dataframe_split: index must be a list as long as data")
    if names is not None and len(names) == 1 and data and not isinstance(data[0], list):
        data = [[one] for one in data]
    width = len(names) if names is not None else len(data[0]) if data and isinstance(data[0], list) else 0
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != width:
            raise RequestError(f"dataframe_split: row {number} is not a list of {width} values")
    return Rows(names, data)


def records(form: str, value: Any) -> Rows:
    """A list of {name: value}; a field that only some have is missing (null) in the others, and under `instances`, as
    in MLflow, refused. Raises RequestError."""
    if not isinstance(value, list):
        raise RequestError(f"{form}: a list of records is expected")
    names: dict[str, None] = {}
    for number, record in enumerate(value):
        if not isinstance(record, dict):
            raise RequestError(f"{form}: record {number} is not an object")
        if record.keys() != names.keys():
            if names and form == "instances":
                raise RequestError(f"{form}: record {number} has other fields than those before it")
            names.update(dict.fromkeys(record))
    known = list(names)
    return Rows(known, [[record.get(name) for name in known] for record in value])


def by_column(form: str, value: Mapping[str, Any]) -> Rows:
    """{name: list of values}, or {name: value} for one row. Raises RequestError."""
    lists = sum(isinstance(values, list) for values in value.values())
    if not lists:
        return Rows(list(value), [list(value.values())] if value else [])
    lengths = {len(values) for values in value.values() if isinstance(values, list)}
    if lists < len(value) or len(lengths) > 1:
        raise RequestError(f"{form}: every column must be a list, and all as long as each other")
    return Rows(list(value), [list(row) for row in zip(*value.values(), strict=True)])


def table(body: Body, width: int) -> Rows:
    """The rows of a body for a model of `width` columns. Raises RequestError."""
    form, value = body.form, body.value
    if form in ("csv", "parquet"):
        return read_file(body)
    if form == "dataframe_split":
        return split(value)
    if form == "dataframe_records":
        return records(form, value)
    if isinstance(value, dict):
        return by_column(form, value)
    if not isinstance(value, list):
        value = [value]
    if any(isinstance(one, dict) for one in value):
        return records(form, value)
    if width == 1 and not any(isinstance(one, list) for one in value):
        return Rows(None, [[one] for one in value])
    for number, row in enumerate(value):
        if not isinstance(row, list) or len(row) != width:
            raise RequestError(f"{form}: row {number} is not a list of {width} values")
    return Rows(None, value)


def read_file(body: Body) -> Rows:
    """The table of a body that is a CSV or a Parquet file. Raises RequestError."""
    if body.form == "csv":
        return read_csv(body.value)
    rows: Rows = importlib.import_module("modelyard.workloads.model.parquet").read_parquet(body.value)
    return rows


def read_csv(body: bytes) -> Rows:
    """A CSV table with a head. A first column without a name is an index, and left out. Raises RequestError."""
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        head = next(lines, None)
        if not head:
            raise RequestError("the body is empty: a CSV table with a head is expected")
        skip = int(head[0] == "" and len(head) > 1)
        if len(set(head)) != len(head):
            raise RequestError("the CSV table has two columns of the same name")
        data: list[list[Any]] = []
        for row in lines:
            if len(row) != len(head):
                if not row:
                    continue
                raise RequestError(f"the CSV table has {len(row)} values in line {lines.line_num}, not {len(head)}")
            data.append([None if value in ABSENT else value for value in row[skip:]])
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8 text (byte {error.start})") from None
    except csv.Error:
        raise RequestError(f"the CSV table cannot be read in line {lines.line_num}") from None
    return Rows(head[skip:], data, text=True)


def guessed(rows: Rows) -> dict[str, Any]:
    """The same table as `dataframe_split`, with the texts of a CSV file as numbers where a whole column is: for a model
    that says nothing of its columns."""
    columns = [_typed([row[i] for row in rows.data]) for i in range(len(rows.names or ()))] if rows.text else None
    data: Sequence[Any] = rows.data if columns is None else [list(row) for row in zip(*columns, strict=True)]
    return {"columns": rows.names, "data": list(data)}


def _typed(values: list[Any]) -> list[Any]:
    for kind in (int, float):
        try:
            return [None if value is None else kind(value) for value in values]
        except ValueError:
            continue
    if all(value is None or value.lower() in ("true", "false") for value in values):
        return [None if value is None else value.lower() == "true" for value in values]
    return values
