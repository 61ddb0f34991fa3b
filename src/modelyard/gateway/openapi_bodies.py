"""What bodies of scoring protocols look like, for the document at /openapi.json: of the model that is served, by its
own columns. Pure; JSON Schema, draft 2020-12.

Where a schema cannot say what is accepted (that two lists are of one length, say) it names a part that always is, and
the description says the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.gateway.invocations import MOST_ROWS
from modelyard.gateway.tensors import OF_KIND, ROUNDED, WHOLE

Json = dict[str, Any]
NOT_BLANK = r"[^\s\x1c-\x1f\x85]"
"""A text that is not only blanks, as Python sees them."""
_FLOATS = {"float": 3.4028234663852886e38, "double": 1.7976931348623157e308}
_RANGES = {"integer": 2**31, "long": 2**63}
_REAL = r"^[+-]?[0-9]{1,15}(\.[0-9]{0,15})?$"
_WHOLE = r"^[+-]?[0-9]{1,9}$"


def thing(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None, *, closed: bool = True) -> Json:
    """An object with these properties, and (`closed`) no other."""
    out: Json = {"type": "object", "properties": {**required, **(optional or {})}}
    if required:
        out["required"] = sorted(required)
    return {**out, "additionalProperties": False} if closed else out


def listed(items: Json, least: int = 1, most: int | None = None) -> Json:
    """A list of `items`."""
    return {"type": "array", "items": items, "minItems": least} | ({"maxItems": most} if most is not None else {})


def value_of(kind: str, missing: bool) -> Json:
    """A value of a column of MLflow's type `kind`; `missing`: null, where the type has a missing value."""
    if kind == "string":
        return {"type": ["string", "null"]}
    if kind == "boolean":
        return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}]}
    if kind in _RANGES:
        # The last number of 64 bits has no exact form as a float, which many read numbers as.
        most = _RANGES[kind] - 1
        whole = {"type": "integer", "minimum": -most, "maximum": most}
        return {"anyOf": [whole, {"type": "boolean"}, {"type": "string", "pattern": _WHOLE}]}
    if kind in _FLOATS:
        real = {"type": "number", "minimum": -_FLOATS[kind], "maximum": _FLOATS[kind]}
        written = {"type": "string", "pattern": _REAL}
        null: list[Json] = [{"type": "null"}] if missing else []
        return {"anyOf": [real, {"type": "boolean"}, written, *null]}
    return {}


def scoring(schema: Mapping[str, Any] | None) -> Json:
    """A JSON body of MLflow's scoring protocol for a model with this schema (a `ports.workload.Schema` as JSON)."""
    if schema is None:
        return {"anyOf": [thing({form: {}}, {"params": {"type": "object"}}) for form in _FORMS]}
    if schema["tensors"]:
        return _scored_tensors(schema["inputs"])
    columns = schema["inputs"]
    values = [value_of(one["kind"], schema["missing"]) for one in columns]
    row = {"type": "array", "prefixItems": values, "items": False, "minItems": len(values)}
    names = [one["name"] for one in columns]
    split = thing({"columns": {"const": names}, "data": listed(row)} if all(names) else {"data": listed(row)})
    split["description"] = "The columns may come in any order, with the values of each row in the same."
    forms = [thing({"dataframe_split": split})]
    if all(names):
        one = record(schema)
        forms += [thing({form: listed(one)}) for form in ("dataframe_records", "instances", "inputs")]
    return {"anyOf": forms}


_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def record(schema: Mapping[str, Any]) -> Json:
    """One row by the names of its columns."""
    needed = {one["name"]: value_of(one["kind"], schema["missing"]) for one in schema["inputs"] if one["required"]}
    others = {one["name"]: value_of(one["kind"], schema["missing"]) for one in schema["inputs"] if not one["required"]}
    return thing(needed, others)


def bare(schema: Mapping[str, Any] | None) -> Json:
    """What /predict takes besides: records without anything around them."""
    if schema is None or schema["tensors"] or not all(one["name"] for one in schema["inputs"]):
        return scoring(schema)
    one = record(schema)
    return {"anyOf": [one, listed(one), *scoring(schema)["anyOf"]]}


def _scored_tensors(inputs: Sequence[Mapping[str, Any]]) -> Json:
    values = {one["name"]: _nested(one) for one in inputs}
    if [*values] == [""]:
        return {"anyOf": [thing({form: values[""]}) for form in ("inputs", "instances")]}
    return thing({"inputs": thing(values)})


def _nested(variable: Mapping[str, Any]) -> Json:
    """Lists in one another, of one row; where an axis may be of any length, of length one."""
    out: Json = _element(OF_KIND.get(variable["kind"], "BYTES"))
    for size in reversed(variable["shape"]):
        out = listed(out, max(size, 1), max(size, 1))
    return out


def tensors(schema: Mapping[str, Any] | None) -> Json:
    """The body of an inference request of the Open Inference Protocol: a tensor a column, of one row."""
    if schema is None:
        return thing({"inputs": {"type": "array", "minItems": 1}}, {"id": _TEXT, "outputs": {}, "parameters": {}})
    null = schema["missing"] and not schema["tensors"]
    given = [_tensor(one, i, null) for i, one in enumerate(schema["inputs"])]
    inputs = {"type": "array", "prefixItems": given, "items": False, "minItems": len(given)}
    inputs["description"] = (
        "A request of one row. Any number of rows is taken: the first size of every shape is that number, and data has "
        "as many values as the sizes multiply to, flat or nested. Inputs may come in any order; columns also as one "
        "tensor of shape [rows, columns]."
    )
    names = [one["name"] or "predictions" for one in schema["outputs"]]
    listing = {**listed(thing({"name": {"enum": names}}), 0), "type": ["array", "null"]}
    wanted: Json = {"outputs": listing} if names else {}
    return thing({"inputs": inputs}, {"id": {"type": ["string", "null"]}, **wanted})


def _tensor(variable: Mapping[str, Any], place: int, null: bool) -> Json:
    shape = [max(size, 1) for size in variable["shape"]]
    datatype, count = OF_KIND.get(variable["kind"], "BYTES"), math.prod(shape)
    element = _element(datatype, null)
    return thing(
        {
            "name": {"const": variable["name"] or (str(place) if place else "predictions")},
            "datatype": {"const": datatype},
            "shape": {"const": shape},
            "data": listed(element, count, count),
        }
    )


def _element(datatype: str, null: bool = False) -> Json:
    if datatype == "BYTES":
        return {"type": ["string", "null"]}
    if datatype == "BOOL":
        return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1]}]}
    if datatype in WHOLE:
        sign, bits = WHOLE[datatype]
        low, high = (0, 2**bits - 1) if sign else (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
        return {"type": "integer", "minimum": low, "maximum": high}
    assert datatype in ROUNDED
    most = {"FP16": 65504.0, "FP32": _FLOATS["float"], "FP64": _FLOATS["double"]}[datatype]
    number = {"type": "number", "minimum": -most, "maximum": most}
    return {"anyOf": [number, {"type": "null"}]} if null else number


_TEXT: Json = {"type": "string"}


def messages() -> Json:
    """Messages of a chat."""
    text = {"type": "string", "pattern": NOT_BLANK}
    part = thing({"type": {"const": "text"}, "text": text}, closed=False)
    user = thing({"role": {"const": "user"}, "content": {"anyOf": [text, listed(part)]}}, closed=False)
    system = thing({"role": {"enum": ["system", "developer"]}, "content": _TEXT}, closed=False)
    said = thing({"role": {"const": "assistant"}}, {"content": {"type": ["string", "null"]}}, closed=False)
    parts = listed(thing({"type": {"const": "text"}, "text": _TEXT}, closed=False))
    earlier = thing({"role": {"const": "user"}, "content": {"anyOf": [_TEXT, parts]}}, closed=False)
    return {
        "description": "The question last, by the user. Before it any number of messages of any role.",
        "anyOf": [_exactly(user), _exactly(system, user), _exactly(earlier, said, user)],
    }


def _exactly(*items: Json) -> Json:
    return {"type": "array", "prefixItems": list(items), "items": False, "minItems": len(items)}


def plain_chat() -> Json:
    """A request of a chat as releases take it: what is said is text."""
    said = thing({"role": {"const": "user"}, "content": {"type": "string", "pattern": NOT_BLANK}}, closed=False)
    return thing({"messages": listed(said)})


def asked_by_rows() -> Json:
    """A JSON body of MLflow's scoring protocol for a chat: a request, or rows of requests."""
    one = plain_chat()
    rows = listed(one, 1, MOST_ROWS)
    split = thing({"columns": {"const": ["messages"]}, "data": listed(_exactly(one["properties"]["messages"]))})
    records = [
        thing({form: rows}, {"params": {"enum": [{}, None]}}) for form in ("dataframe_records", "instances", "inputs")
    ]
    return {"anyOf": [one, *records, thing({"dataframe_split": split})]}
