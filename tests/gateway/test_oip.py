"""The Open Inference Protocol, version 2, as open_inference_rest.yaml has it, beside what /invocations answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import put
from tests.model.shop import NUMBERS
from town import Gateway, Town, eventually

from modelyard.errors import RequestError
from modelyard.gateway import tensors

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own

# The schemas of the published document, by hand.
TEXTS = {"type": "array", "items": {"type": "string"}}
SHAPE = {"type": "array", "items": {"type": "integer"}}
TENSOR_DATA: dict[str, Any] = {
    "type": "array",
    "items": {"anyOf": [{"$ref": "#/$defs/data"}, {"type": ["number", "string", "boolean"]}]},
}


def record(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


TEXT, FREE = {"type": "string"}, {"type": "object"}
METADATA = record({"name": TEXT, "datatype": TEXT, "shape": SHAPE})
OUTPUT = record({"name": TEXT, "shape": SHAPE, "datatype": TEXT, "data": {"$ref": "#/$defs/data"}}, parameters=FREE)
SERVER = record({"name": TEXT, "version": TEXT, "extensions": TEXTS})
MODEL = record(
    {"name": TEXT, "platform": TEXT},
    versions=TEXTS,
    inputs={"type": "array", "items": METADATA},
    outputs={"type": "array", "items": METADATA},
)
RESPONSE = record(
    {"model_name": TEXT, "outputs": {"type": "array", "items": OUTPUT}}, model_version=TEXT, id=TEXT, parameters=FREE
)
ERROR = {**record({"error": TEXT}), "additionalProperties": False}


def valid(value: Any, schema: dict[str, Any]) -> Any:
    jsonschema.Draft202012Validator({**schema, "$defs": {"data": TENSOR_DATA}}).validate(value)
    return value


def tensor(name: str, datatype: str, shape: list[int], data: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **more}


class Model:
    """A gateway that serves the model called so."""

    def __init__(self, name: str, gateway: Gateway) -> None:
        self.name, self.gateway = name, gateway

    def infer(self, inputs: list[Any], path: str = "/v2/models/town/infer", **more: Any) -> httpx.Response:
        return self.gateway.http.post(path, json={"inputs": inputs, **more})

    def outputs(self, inputs: list[Any], **more: Any) -> list[dict[str, Any]]:
        reply = self.infer(inputs, **more)
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = valid(reply.json(), RESPONSE)["outputs"]
        return found

    def predictions(self, body: Any) -> Any:
        reply = self.gateway.http.post("/invocations", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["predictions"]


def serving(name: str, runtime: str, factory: pytest.TempPathFactory) -> Iterator[Model]:
    town = Town(factory.mktemp(name))
    release = put(town, name, runtime)
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        yield Model(name, gateway)
    town.ledger.close()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    yield from serving("linear", "sklearn", tmp_path_factory)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    yield from serving("mixed", "sklearn", tmp_path_factory)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    pytest.importorskip("onnxruntime")
    yield from serving("onnx", "onnx", tmp_path_factory)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    yield from serving("own", "pyfunc", tmp_path_factory)


def test_the_server_and_its_probes(table: Model) -> None:
    http = table.gateway.http
    for path in ("/v2", "/v2/"):
        assert valid(http.get(path).json(), SERVER)["name"] == "modelyard"
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/town/ready").json() == {"name": "town", "ready": True}


def test_a_model_says_what_it_takes_and_gives(table: Model, graph: Model) -> None:
    about = valid(table.gateway.http.get("/v2/models/town").json(), MODEL)
    assert about["platform"] == "sklearn" and about["name"] == "town"
    assert about["inputs"] == [{"name": name, "datatype": "FP64", "shape": [-1]} for name in NUMBERS]
    assert about["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1, 2]}]
    release = table.gateway.http.get("/ready").json()["release"]
    assert about["versions"] == [release]
    assert table.gateway.http.get(f"/v2/models/town/versions/{release}").json() == about
    (one,) = valid(graph.gateway.http.get("/v2/models/town").json(), MODEL)["inputs"]
    assert one == {"name": "predictions" if not one["name"] else one["name"], "datatype": "FP32", "shape": [-1, 5]}


def test_columns_by_name_and_all_in_one(table: Model) -> None:
    rows = [[0.5, -1, 2, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]
    expected = table.predictions({"dataframe_split": {"columns": NUMBERS, "data": rows}})
    by_name = [tensor(name, "FP64", [3], [row[i] for row in rows]) for i, name in enumerate(NUMBERS)]
    upright = [tensor(name, "FP64", [3, 1], [[row[i]] for row in rows]) for i, name in enumerate(NUMBERS)]
    flat = [value for row in rows for value in row]
    for inputs in (
        by_name,
        by_name[::-1],
        upright,
        [tensor("x", "FP64", [3, 5], flat)],
        [tensor("x", "FP64", [3, 5], rows)],
    ):
        (one,) = table.outputs(inputs, id="42")
        assert (one["name"], one["datatype"], one["shape"]) == ("predictions", "FP64", [3, 2])
        assert tensors.nested(one["data"], one["shape"]) == expected
    reply = table.infer(by_name, id="42", outputs=[{"name": "predictions"}]).json()
    assert reply["id"] == "42" and reply["model_name"] == "town" and len(reply["model_version"]) == 64


def test_columns_of_many_types(mixed: Model) -> None:
    row = {"a": 0.25, "b": 0.5, "c": 2**40, "d": -3, "e": True, "s": "red"}
    kinds = {"a": "FP64", "b": "FP32", "c": "INT64", "d": "INT32", "e": "BOOL", "s": "BYTES"}
    about = mixed.gateway.http.get("/v2/models/town").json()["inputs"]
    assert {one["name"]: one["datatype"] for one in about} == kinds
    (one,) = mixed.outputs([tensor(name, kinds[name], [1], [value]) for name, value in row.items()])
    assert tensors.nested(one["data"], one["shape"]) == mixed.predictions({"dataframe_records": [row]})


def test_tensors(graph: Model) -> None:
    found = {one["name"]: one for one in graph.outputs([tensor("x", "FP32", [2, 5], [[0.1] * 5, [2] * 5])])}
    tenth = struct.unpack("f", struct.pack("f", 0.1))[0]
    assert found["double"]["shape"] == [2, 5] and found["double"]["data"][:5] == pytest.approx([tenth * 2] * 5)
    assert found["total"]["shape"] == [2]
    (only,) = graph.outputs([tensor("x", "FP32", [1, 5], [1] * 5)], outputs=[{"name": "total"}])
    assert only["data"] == [5.0]


def test_parameters_of_the_model_and_outputs_that_have_gaps(own: Model) -> None:
    inputs = [tensor(name, "FP64", [1], [1]) for name in NUMBERS]
    reply = own.infer(inputs)
    assert reply.status_code == 400 and "note is missing" in valid(reply.json(), ERROR)["error"]
    wanted = {"outputs": [{"name": "total"}]}
    assert own.outputs(inputs, **wanted)[0]["data"] == [5.0]
    assert own.outputs(inputs, **wanted, parameters={"times": 3.0})[0]["data"] == [15.0]
    assert own.infer(inputs, **wanted, parameters={"tims": 3.0}).status_code == 400
    crash = own.infer([tensor(name, "FP64", [1], [1e7]) for name in NUMBERS])
    assert crash.status_code == 500 and "4111" not in crash.text and valid(crash.json(), ERROR)


FITS = [tensor(name, "FP64", [1], [1]) for name in NUMBERS]
SECRET = "4111-1111"


def changed(**more: Any) -> list[dict[str, Any]]:
    return [{**FITS[0], **more}, *FITS[1:]]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({}, "inputs: a list of tensors"),
    "empty": ({"inputs": []}, "inputs: a list of tensors"),
    "no tensor": ({"inputs": [SECRET]}, "inputs[0]: a tensor"),
    "odd key": ({"inputs": FITS, SECRET: 1}, "1 more"),
    "id": ({"inputs": FITS, "id": 42}, "id: a text"),
    "twice": ({"inputs": [*FITS, FITS[0]]}, "the same name"),
    "missing": ({"inputs": FITS[1:]}, "missing column"),
    "extra": ({"inputs": [*FITS, tensor(SECRET, "FP64", [1], [1])]}, "does not take"),
    "datatype": ({"inputs": changed(datatype="FP128")}, "datatype, one of"),
    "text": ({"inputs": changed(data=[SECRET])}, "FP64 are numbers"),
    "truth": ({"inputs": changed(data=[True])}, "FP64 are numbers"),
    "too many": ({"inputs": changed(data=[1, 2])}, "room for 1 values, here are 2"),
    "shape": ({"inputs": changed(shape=[-1])}, "at least 1"),
    "huge shape": ({"inputs": changed(shape=[10**12, 10**12], data=[])}, "room for"),
    "no rows": ({"inputs": changed(shape=[0], data=[])}, "at least 1"),
    "no shape": ({"inputs": changed(shape=[])}, "1 to 8 axes"),
    "ragged": ({"inputs": changed(shape=[2], data=[[1], 2])}, "not as the shape says"),
    "rows": ({"inputs": changed(shape=[2], data=[1, 2])}, "inputs[1]: 2 rows are expected"),
    "wide": ({"inputs": [tensor("x", "FP64", [1, 4], [1] * 4)]}, "takes 5 columns, here are 4"),
    "column": ({"inputs": changed(shape=[1, 1, 1])}, "a column is expected"),
    "large": ({"inputs": changed(datatype="FP32", data=[1e39])}, "too large for FP32"),
    "range": ({"inputs": changed(datatype="UINT8", data=[256])}, "whole numbers of 8 bits"),
    "fraction": ({"inputs": changed(datatype="INT64", data=[1.5])}, "whole numbers of 64 bits"),
    "binary": ({"inputs": changed(parameters={"binary_data_size": 8})}, "no such parameters"),
    "binary output": ({"inputs": FITS, "outputs": [{"name": "p", "parameters": {"binary_data": True}}]}, "as JSON"),
    "output": ({"inputs": FITS, "outputs": [{"name": SECRET}]}, "the model gives predictions"),
    "outputs": ({"inputs": FITS, "outputs": "all"}, "a list of {name}"),
    "parameter": ({"inputs": FITS, "parameters": {SECRET: 1}}, "params: it takes none"),
    "null": ({"inputs": changed(data=[None])}, "takes no missing values"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_in_one_line(table: Model, case: str) -> None:
    body, said = WRONG[case]
    reply = table.gateway.http.post("/v2/models/town/infer", json=body)
    assert reply.status_code == 400, reply.text
    message = valid(reply.json(), ERROR)["error"]
    assert said in message and SECRET not in message and "\n" not in message


def test_what_is_not_there_and_what_is_not_read(table: Model, served: Gateway) -> None:
    http = table.gateway.http
    for path in ("/v2/models/other", "/v2/models/town/versions/1", "/v2/models/town/versions/00000000", "/v2/nothing"):
        assert http.get(path).status_code == 404 and valid(http.get(path).json(), ERROR)
    assert http.get("/v2/models/other/ready").status_code == 404
    assert table.infer(FITS, path="/v2/models/other/infer").status_code == 404
    assert (
        valid(http.get("/v2/models/town/infer").json(), ERROR) and http.get("/v2/models/town/infer").status_code == 405
    )
    binary = http.post("/v2/models/town/infer", content=b"{}\0", headers={"inference-header-content-length": "2"})
    assert binary.status_code == 415 and valid(binary.json(), ERROR)
    plain = http.post("/v2/models/town/infer", content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    chat = served.http.post("/v2/models/town/infer", json={"inputs": FITS})
    assert chat.status_code == 400 and "takes no tensors" in valid(chat.json(), ERROR)["error"]
    assert valid(served.http.get("/v2/models/town").json(), MODEL)["inputs"] == []


def test_a_version_is_a_release_that_is_kept_warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    town = Town(tmp_path_factory.mktemp("two"))
    one, two = put(town, "linear", "sklearn"), put(town, "own", "pyfunc")
    town.point(one, previous=two)
    with town.gateway() as gateway:
        gateway.until_ready(one)
        eventually(lambda: gateway.http.get("/v2/models/town").json()["versions"] == [one, two], "both to be warm")
        wanted = {"inputs": FITS, "outputs": [{"name": "total"}]}
        reply = gateway.http.post(f"/v2/models/town/versions/{two[:12]}/infer", json=wanted)
        assert reply.json()["model_version"] == reply.headers["modelyard-release"] == two
        assert reply.json()["outputs"][0]["data"] == [5.0]
        assert gateway.http.post("/v2/models/town/infer", json={"inputs": FITS}).json()["model_version"] == one
        assert gateway.http.get(f"/v2/models/town/versions/{two}").json()["platform"] == "pyfunc"
        assert gateway.http.get(f"/v2/models/town/versions/{two}/ready").json()["ready"] is True
    town.ledger.close()


SCHEMA = {"tensors": False, "inputs": [{"name": n, "kind": "double", "shape": [-1], "required": True} for n in "ab"]}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "shape", "data"]), inner),
    max_leaves=8,
)


@settings(max_examples=300, database=None)
@given(
    body=st.dictionaries(st.sampled_from(["id", "inputs", "outputs", "parameters", "x"]), json_values)
    | st.builds(
        lambda data, shape, kind, name: {"inputs": [tensor(name, kind, shape, data)]},
        st.lists(json_values, max_size=4),
        st.lists(st.integers(-1, 4), max_size=3),
        st.sampled_from(sorted(tensors.DATATYPES)),
        st.sampled_from(["a", "b", "x"]),
    )
)
def test_whatever_is_sent_becomes_a_body_or_is_refused(body: dict[str, Any]) -> None:
    for schema in (SCHEMA, {**SCHEMA, "tensors": True}, None):
        try:
            made = tensors.given(tensors.asked(body), schema)
        except RequestError as error:
            assert "\n" not in str(error)
        else:
            json.dumps(made, allow_nan=False)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(
        [st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)]
    ),
    st.data(),
)
def test_an_answer_of_any_shape_comes_back(shape: list[int], kind: st.SearchStrategy[Any], data: st.DataObject) -> None:
    count = 1
    for size in shape:
        count *= size
    flat = data.draw(st.lists(kind, min_size=count, max_size=count))
    (one,) = tensors.scored(tensors.nested(flat, shape), None, None)
    assert valid(one, OUTPUT) and one["shape"] == shape and one["data"] == flat
