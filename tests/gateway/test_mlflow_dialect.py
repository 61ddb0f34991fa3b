"""What `mlflow models serve` answers, the gateway answers: generated bodies to both, over HTTP. Where it does not, the
difference is one of those that docs/dialects.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import mlflows, put
from tests.model.shop import KINDS, NUMBERS, SMALL
from tests.model.test_as_mlflow import alike, body
from town import Gateway, Town

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own
JSON, CSV = "application/json", "text/csv"
SECRET = "4111-1111"
SERVED = {"lightgbm": ("lightgbm", SMALL), "mixed": ("sklearn", KINDS)}


@pytest.fixture(scope="module", params=list(SERVED))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Gateway]]:
    name = request.param
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    yield from serving(name, SERVED[name][0], tmp_path_factory)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    for _, gateway in serving("linear", "sklearn", tmp_path_factory):
        yield gateway


def serving(name: str, runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Gateway]]:
    town = Town(tmp_path_factory.mktemp(name))
    release = put(town, name, runtime)
    town.point(release)
    with town.gateway(bodies={"scoring": 1_000_000}) as gateway:
        gateway.until_ready(release)
        yield name, gateway
    town.ledger.close()


def ours(gateway: Gateway, sent: bytes, kind: str | None = JSON, path: str = "/invocations") -> httpx.Response:
    headers = {"content-type": kind} if kind is not None else {}
    return gateway.http.post(path, content=sent, headers=headers)


def strict(reply: httpx.Response) -> Any:
    """JSON, and nothing that is none."""

    def refused(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(reply.content, parse_constant=refused)


def test_a_body_that_fits_is_answered_alike(model: tuple[str, Gateway]) -> None:
    name, gateway = model

    @settings(max_examples=25, database=None)
    @given(sent=body(SERVED[name][1], name == "lightgbm"))
    def check(sent: tuple[bytes, str]) -> None:
        mine, their = ours(gateway, *sent), mlflows(name, "POST", "/invocations", *sent)
        assert (mine.status_code, their.status_code) == (200, 200), (sent, mine.text, their.text)
        assert mine.headers["content-type"] == their.headers["content-type"]
        assert alike(strict(mine), strict(their)), sent
        if name == "lightgbm":
            assert mine.content == their.content

    check()


STRICTER = (
    "NaN is no value of it",
    "Infinity is no value of it",
    "a number is expected",
    "a number of 32 bits is expected",
    "a whole number of",
    "a number is too large",
    "true or false is expected",
    "a text is expected",
    "takes no missing values",
    "not null",
    "column the model does not take",
    "columns the model does not take",
    "params and has 1 more field",
    "more field",
    "params: ",
    "is not a list of",
    "index must be",
    "must be a list",
    "values in line",
    "field of a language model",
)
"""What is said where MLflow answers all the same: a row each in docs/model.md."""
JUNK: list[Any] = [None, True, "", SECRET, "1.5", "nan", 1e300, 10**400, -1, 2.5, [1], {"a": 1}, []]


@st.composite
def broken(draw: st.DrawFn, kinds: dict[str, str]) -> tuple[bytes, str | None]:
    """A body that fits, and then one thing about it is changed."""
    sent, kind = draw(body(kinds, False))
    how = draw(st.sampled_from(["value", "column", "key", "cut", "bytes", "type", "constant", "twice", "form"]))
    if how == "cut":
        return sent[: draw(st.integers(0, len(sent)))], kind
    if how == "bytes":
        at = draw(st.integers(0, len(sent) - 1))
        return sent[:at] + draw(st.binary(min_size=1, max_size=2)) + sent[at + 1 :], kind
    if how == "type":
        kinds_ = [
            None,
            "",
            "text/plain",
            f"{JSON}; charset=utf-8",
            f"{JSON};charset=latin-1",
            f"{JSON}; x=1",
            CSV,
            JSON,
        ]
        return sent, draw(st.sampled_from(kinds_))
    if how == "twice":
        return sent + sent, kind
    if kind == CSV:
        return sent.replace(b"\n", b",1\n", 1), kind
    value = json.loads(sent)
    ((form, rows),) = value.items()
    name, junk = draw(st.sampled_from(list(kinds))), draw(st.sampled_from(JUNK))
    if how == "form":
        value = {draw(st.sampled_from(["inputs", "instances", "dataframe_split", "dataframe_records", "rows"])): rows}
    elif how == "key":
        value[draw(st.sampled_from(["params", "instances", "inputs", SECRET, "messages"]))] = junk
    elif how == "constant":
        text = re.sub(
            r"-?\d+\.\d+", draw(st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999"])), sent.decode(), count=1
        )
        return text.encode(), kind
    elif form == "dataframe_split":
        at = draw(st.integers(0, len(kinds) - 1))
        if how == "value":
            rows["data"][0][at] = junk
        else:
            rows["columns"][at] = draw(st.sampled_from([SECRET, *rows["columns"]]))
    else:
        one = rows[0] if isinstance(rows, list) else rows
        if how == "value":
            one[name] = [junk] if isinstance(one[name], list) else junk
        else:
            one.pop(name)
            if draw(st.booleans()):
                one[SECRET] = junk
    return json.dumps(value).encode(), kind


def test_a_body_that_is_wrong_is_refused_in_one_line(model: tuple[str, Gateway]) -> None:
    name, gateway = model

    @settings(max_examples=100, database=None)
    @given(sent=broken(SERVED[name][1]))
    def check(sent: tuple[bytes, str | None]) -> None:
        mine, their = ours(gateway, *sent), mlflows(name, "POST", "/invocations", *sent)
        if mine.status_code == 200:
            assert their.status_code == 200 and alike(strict(mine), json.loads(their.content)), (sent, their.text)
            return
        said = strict(mine)
        assert mine.status_code in (400, 415) and set(said) == {"error_code", "message"}, (sent, mine.text)
        assert "\n" not in said["message"] and SECRET not in mine.text and "Traceback" not in mine.text
        if their.status_code == 200:
            assert any(reason in said["message"] for reason in STRICTER), (sent, said, their.text)

    check()


def test_what_a_probe_asks(numbers: Gateway) -> None:
    for path in ("/ping", "/health", "/version"):
        mine, their = numbers.http.get(path), mlflows("linear", "GET", path)
        assert (mine.status_code, mine.content) == (their.status_code, their.content)
        assert mine.headers["content-type"].startswith("text/plain")  # MLflow says JSON, which these are not


ONE = dict.fromkeys(NUMBERS, 0.5)


@pytest.mark.parametrize(
    ("sent", "same_as"),
    [
        (ONE, {"dataframe_records": [ONE]}),
        ([ONE, ONE], {"dataframe_records": [ONE, ONE]}),
        ([ONE], {"dataframe_records": [ONE]}),
        ([[0.5] * 5], {"dataframe_split": {"columns": NUMBERS, "data": [[0.5] * 5]}}),
        ({"instances": [ONE]}, {"instances": [ONE]}),
        ({"inputs": {name: [1, 2] for name in NUMBERS}}, {"inputs": {name: [1, 2] for name in NUMBERS}}),
    ],
)
def test_predict_takes_records_without_anything_around_them(numbers: Gateway, sent: Any, same_as: Any) -> None:
    plain = ours(numbers, json.dumps(sent).encode(), path="/predict")
    formal = ours(numbers, json.dumps(same_as).encode())
    if sent == [[0.5] * 5]:  # the columns of this model have names
        assert plain.status_code == 400 and "names" in plain.json()["message"]
        return
    assert plain.status_code == 200 and plain.content == formal.content
    assert plain.headers["modelyard-release"] == formal.headers["modelyard-release"]
    assert plain.headers["x-request-id"] != formal.headers["x-request-id"]


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"1", b"null", b'"text"', b"[]", b"{}", b'[{"f0": 1}]', b"[1, 2] [3]", b"[NaN]"]
)
def test_predict_refuses_what_is_no_record(numbers: Gateway, sent: bytes) -> None:
    reply = ours(numbers, sent, path="/predict")
    assert reply.status_code == 400 and "\n" not in strict(reply)["message"], reply.text
    assert ours(numbers, sent, CSV, path="/predict").status_code == 415


def test_a_record_cannot_break_out_of_what_is_put_around_it(numbers: Gateway) -> None:
    good = json.dumps([ONE]).encode()
    assert ours(numbers, good + b', "params": {}', path="/predict").status_code == 400
    assert ours(numbers, b"\xef\xbb\xbf" + good, path="/predict").status_code == 200
    assert ours(numbers, b" \n" + json.dumps(ONE).encode() + b" ", path="/predict").status_code == 200


def test_predict_of_a_chat_workload(served: Gateway) -> None:
    asked = {"messages": [{"role": "user", "content": "hello"}]}
    (one,) = served.http.post("/predict", json=asked).json()
    assert one["answer"] == "you said: hello"
    (one,) = served.http.post("/predict", json=[asked]).json()["predictions"]
    assert one["answer"] == "you said: hello"
    assert served.http.post("/predict", json=[1]).status_code == 400
