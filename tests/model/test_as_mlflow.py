"""The same body, the same answer: what MLflow's own server makes of generated requests, in the same process."""

from __future__ import annotations

import csv
import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.shop import KINDS, NUMBERS, SMALL, call, mixed, numbers, ours, predictor, theirs

from modelyard.errors import ModelFailed, RequestError, UnsupportedType
from modelyard.ports.workload import Response

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own
MODELS = [
    ("lightgbm", "lightgbm", SMALL),
    ("lightgbm_classes", "lightgbm", SMALL),
    ("xgboost", "xgboost", SMALL),
    ("xgboost_classifier", "xgboost", SMALL),
    ("linear", "sklearn", SMALL),
    ("gradient", "sklearn", SMALL),
    ("lightgbm_estimator", "sklearn", SMALL),
    ("onnx_columns", "onnx", SMALL),
    ("mixed", "sklearn", KINDS),
    ("own", "pyfunc", SMALL),
]
MISSING = {"lightgbm", "lightgbm_classes", "xgboost", "xgboost_classifier", "gradient"}
"""Models that take a missing value."""
NEEDS = {name: package for name, _, _ in MODELS for package in ("lightgbm", "xgboost") if name.startswith(package)}
NEEDS["chain"] = "langchain"

small = st.floats(-1000, 1000, width=32)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "double": st.one_of(st.floats(-1e4, 1e4), st.integers(-1000, 1000)),
    "float": small,
    "long": st.integers(-(2**50), 2**50),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": st.sampled_from(["red", "blue", "green", "never seen", "", "Ünï"]),
}


@st.composite
def rows(draw: st.DrawFn, kinds: dict[str, str], gaps: bool) -> list[dict[str, Any]]:
    """Records that fit the signature."""
    count = draw(st.integers(1, 4))
    gap = st.none() if gaps else st.nothing()
    return [
        {n: draw(VALUES[k] | gap if k in ("double", "float") else VALUES[k]) for n, k in kinds.items()}
        for _ in range(count)
    ]


@st.composite
def body(draw: st.DrawFn, kinds: dict[str, str], gaps: bool) -> tuple[bytes, str]:
    """A body that fits the signature, in any of the forms, its columns in any order."""
    found = draw(rows(kinds, gaps))
    names = draw(st.permutations(list(kinds)))
    form = draw(st.sampled_from(["split", "records", "instances", "columns", "inputs", "one", "csv"]))
    if form == "csv" and not any(value == "" for row in found for value in row.values()):
        out = io.StringIO()
        table = csv.writer(out)
        table.writerow(names)
        table.writerows([["" if row[n] is None else row[n] for n in names] for row in found])
        return out.getvalue().encode(), "text/csv"
    if form == "split":
        value: Any = {"columns": names, "data": [[row[n] for n in names] for row in found]}
        if draw(st.booleans()):
            value["index"] = list(range(7, 7 + len(found)))
        return json.dumps({"dataframe_split": value}).encode(), "application/json"
    records = [{n: row[n] for n in names} for row in found]
    if form == "columns":
        return json.dumps({"inputs": {n: [row[n] for row in found] for n in names}}).encode(), "application/json"
    if form == "one" and all(value is not None for value in found[0].values()):
        return json.dumps({"inputs": records[0]}).encode(), "application/json"
    key = {"records": "dataframe_records", "instances": "instances"}.get(form, "inputs")
    return json.dumps({key: records}).encode(), "application/json"


def alike(a: Any, b: Any) -> bool:
    """Equal to the last bit, or, where another order of adding up is at work, to 12 digits."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=1e-12)
    return bool(a == b) and type(a) is type(b)


@pytest.mark.parametrize(("name", "runtime", "kinds"), MODELS, ids=[m[0] for m in MODELS])
def test_a_body_that_fits_is_answered_as_mlflow_answers_it(name: str, runtime: str, kinds: dict[str, str]) -> None:
    _needed(name)

    @settings(max_examples=20, deadline=None, database=None)
    @given(sent=body(kinds, name in MISSING))
    def check(sent: tuple[bytes, str]) -> None:
        expected = theirs(name, *sent)
        assert expected is not None, sent
        assert alike(ours(name, runtime, *sent), expected), (sent, expected)

    check()


FITS = {"a": 1.0, "b": 1.0, "c": 1, "d": 1, "e": True, "s": "red"}
ONE = dict.fromkeys(NUMBERS, 1.0)
SECRET = "4111-1111"


def split(names: list[str], data: list[Any], **more: Any) -> str:
    return json.dumps({"dataframe_split": {"columns": names, "data": data, **more}})


def one(**values: Any) -> str:
    return json.dumps({"dataframe_records": [{**FITS, **values}]})


WRONG = {
    "not a number": ("lightgbm", split(NUMBERS, [[SECRET, 1, 1, 1, 1]]), "column f0: a number is expected"),
    "nested": ("lightgbm", split(NUMBERS, [[[1], 1, 1, 1, 1]]), "column f0: a number is expected"),
    "missing": ("lightgbm", split(NUMBERS[1:], [[1] * 4]), "missing column: f0"),
    "twice": ("lightgbm", split([*NUMBERS[:4], "f0"], [[1] * 5]), "two columns have the same name"),
    "no rows": ("lightgbm", split(NUMBERS, []), "there is no row"),
    "no names": ("lightgbm", json.dumps({"dataframe_split": {"data": [[1] * 5]}}), "have names"),
    "odd key": ("lightgbm", split(NUMBERS, [[1] * 5], **{SECRET: 1}), "columns, data and"),
    "a list": ("lightgbm", "[1, 2]", "must be a JSON object"),
    "empty": ("lightgbm", "", "is empty"),
    "blank": ("lightgbm", " \n", "is empty"),
    "two forms": ("lightgbm", json.dumps({"inputs": ONE, "instances": [ONE]}), "here are 2"),
    "two bodies": ("lightgbm", json.dumps({"inputs": ONE}) * 2, "extra data"),
    "no form": ("lightgbm", "{}", "here is none"),
    "deep": ("lightgbm", "[" * 100_000, "nested too deeply"),
    "records": ("lightgbm", json.dumps({"dataframe_records": ONE}), "a list of records"),
    "record": ("lightgbm", json.dumps({"dataframe_records": [ONE, SECRET]}), "record 1"),
    "ragged": ("lightgbm", json.dumps({"inputs": {**{name: [1] for name in NUMBERS}, "f0": [1, 2]}}), "as long as"),
    "large": ("lightgbm", split(NUMBERS, [[10**400, 1, 1, 1, 1]]), "too large"),
    "digits": ("lightgbm", '{"inputs": ' + "1" * 5000 + "}", "too many digits"),
    "messages": ("lightgbm", '{"messages": [{"role": "user", "content": "x"}]}', "rows of a table"),
    "null long": ("mixed", one(c=None), "not null"),
    "null it cannot take": ("mixed", one(a=None), "takes no missing values"),
    "null it cannot take either": ("linear", split(NUMBERS, [[None, 1, 1, 1, 1]]), "takes no missing values"),
    "bad parameter": ("own", json.dumps({"inputs": ONE, "params": {"times": SECRET}}), "does not fit"),
    "shape": ("onnx", json.dumps({"inputs": [[1] * 4]}), "shape"),
    "a tensor of nothing": ("onnx", json.dumps({"dataframe_records": [{}]}), "no row to score"),
    "fields of some": ("lightgbm", json.dumps({"instances": [ONE, {"f0": 1.0}]}), "other fields than those before"),
    "ragged tensor": ("onnx", json.dumps({"inputs": [[1] * 5, [1]]}), "nested lists"),
}
"""What both refuse: model, body, what is said."""

STRICTER = {
    "NaN is no JSON": ("lightgbm", split(NUMBERS, [[math.nan, 1, 1, 1, 1]]), "NaN is no value of it"),
    "infinite": ("lightgbm", split(NUMBERS, [[7, 1, 1, 1, 1]]).replace("7", "1e999"), "a number is expected"),
    "NaN as text": ("lightgbm", split(NUMBERS, [["nan", 1, 1, 1, 1]]), "a number is expected"),
    "a column too many": ("lightgbm", split([*NUMBERS, SECRET], [[1] * 6]), "1 column the model does not take"),
    "a field too many": ("lightgbm", json.dumps({"dataframe_records": [{**ONE, SECRET: 1}]}), "1 column the model"),
    "rows of two lengths": ("lightgbm", split(NUMBERS, [[1] * 5, [1]]), "row 1 is not a list of 5"),
    "a wrong index": ("lightgbm", split(NUMBERS, [[1] * 5], index=[1, 2]), "index must be"),
    "a key too many": ("lightgbm", json.dumps({"inputs": ONE, SECRET: 1}), "1 more field"),
    "params no object": ("lightgbm", json.dumps({"inputs": ONE, "params": [SECRET]}), "params: an object"),
    "an unknown parameter": ("lightgbm", json.dumps({"inputs": ONE, "params": {SECRET: 1}}), "params: it takes none"),
    "another parameter": ("own", json.dumps({"inputs": ONE, "params": {SECRET: 1}}), "the model takes times"),
    "one list, one value": ("lightgbm", json.dumps({"inputs": {**ONE, "f0": [1.0]}}), "must be a list"),
    "cut to a whole number": ("mixed", one(c=1.7), "column c: a whole number"),
    "over 32 bits": ("mixed", one(d=2**31), "column d: a whole number of 32 bits"),
    "over 64 bits": ("mixed", one(c=2**63), "column c: a whole number of 64 bits"),
    "null for false": ("mixed", one(e=None), "not null"),
    "a text for true": ("mixed", one(e="false"), "true or false"),
    "a number for true": ("mixed", one(e=2), "true or false"),
    "a number for a text": ("mixed", one(s=5), "a text is expected"),
    "texts in a tensor": ("onnx", json.dumps({"inputs": [["1"] * 5]}), "numbers are expected"),
    "over 32 bits in a tensor": ("onnx", json.dumps({"inputs": [[1e39] * 5]}), "too large"),
}
"""What MLflow answers all the same; listed in docs/model.md."""
RUNTIME = {name: runtime for name, runtime, _ in MODELS} | {"onnx": "onnx", "array": "sklearn"}


@pytest.mark.parametrize("case", [*WRONG, *STRICTER])
def test_a_wrong_body_is_refused_in_one_line_that_repeats_nothing_of_it(case: str) -> None:
    name, sent, said = (WRONG | STRICTER)[case]
    _needed(name)
    with pytest.raises(RequestError) as raised:
        ours(name, RUNTIME[name], sent.encode())
    assert said in str(raised.value)
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value.status == 400
    if "deep" not in case and "digits" not in case:  # MLflow ends in a Python error there
        assert (theirs(name, sent.encode()) is None) == (case in WRONG)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (f"f0,f1,f2,f3,f4,x\n1,1,1,1,1,{SECRET}\n", "1 column the model does not take"),
        ("f0,f1,f2,f3,f4\n1,1\n", "2 values in line 2"),
        (f"f0,f1,f2,f3,f4\n{SECRET},1,1,1,1\n", "column f0"),
        ("", "is empty"),
        ('f0,f1,f2,f3,f4\n"1,1,1,1,1\n', "line 2"),
        ("f0,f1,f2,f3,f4\n1_0,1,1,1,1\n", "column f0"),
    ],
)
def test_a_wrong_csv_body(sent: str, said: str) -> None:
    _needed("lightgbm")
    with pytest.raises(RequestError, match=said) as raised:
        ours("lightgbm", "lightgbm", sent.encode(), "text/csv")
    assert SECRET not in str(raised.value)


def test_an_index_that_pandas_writes_is_left_out() -> None:
    _needed("lightgbm")
    sent = b",f0,f1,f2,f3,f4\n0,1,1,1,1,1\n1,2,2,2,2,2\n"
    assert ours("lightgbm", "lightgbm", sent, "text/csv") == theirs("lightgbm", sent, "text/csv")


PARQUET = "application/vnd.apache.parquet"


@pytest.mark.parametrize("name", ["lightgbm", "mixed", "unsigned", "array"])
@pytest.mark.parametrize("index", [True, False])
def test_a_parquet_body_is_answered_as_mlflow_answers_it(name: str, index: bool) -> None:
    _needed(name)
    table = (mixed() if name == "mixed" else numbers()).iloc[10:14]
    if name == "lightgbm":
        table = table.assign(f2=[0.5, math.nan, 1, 2])[NUMBERS[::-1]]
    body = table.to_parquet(index=index)
    found = ours(name, RUNTIME.get(name, "pyfunc"), body, PARQUET)
    assert len(found["predictions"]) == 4 and alike(found, theirs(name, body, PARQUET))


@pytest.mark.parametrize("sent", [b"", b"PAR1", b"PAR1" * 9, numbers(2).to_parquet()[:-9], mixed(2).to_parquet()])
def test_a_wrong_parquet_body(sent: bytes) -> None:
    with pytest.raises(RequestError) as raised:
        ours("linear", "sklearn", sent, PARQUET)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=latin-1", "application/json; x=1", ""])
def test_other_content_types_are_not_read(kind: str) -> None:
    _needed("lightgbm")
    with pytest.raises(UnsupportedType) as raised:
        ours("lightgbm", "lightgbm", b"{}", kind)
    assert raised.value.status == 415


def test_the_models_failure_is_not_the_callers() -> None:
    with pytest.raises(ModelFailed, match="NaN or infinity") as raised:
        ours("own", "pyfunc", split(NUMBERS, [[-1e7, 1, 1, 1, 1]]).encode())
    assert raised.value.status == 500
    with pytest.raises(ModelFailed) as raised:
        ours("own", "pyfunc", split(NUMBERS, [[1e7, 1, 1, 1, 1]]).encode())
    assert "4111" not in str(raised.value)
    assert "cannot be added" in str(raised.value.__cause__)  # for the log of whoever runs it


@settings(max_examples=300, deadline=None, database=None)
@given(
    sent=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["columns", "data", "index", "f0", "f1", "inputs"]), inner, max_size=4
                )
            ),
            max_leaves=12,
        ).flatmap(
            lambda value: st.sampled_from(["inputs", "instances", "dataframe_split", "dataframe_records"]).map(
                lambda form: json.dumps({form: value}).encode()
            )
        ),
    )
)
def test_whatever_is_sent_is_answered_or_refused(sent: bytes) -> None:
    for name in ("linear", "mixed", "onnx"):
        try:
            ours(name, RUNTIME[name], sent)
        except RequestError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("talker", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("talker", {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}),
        ("chain", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("loud", {"inputs": ["a", "b"]}),
        ("unsigned", {"dataframe_split": {"columns": NUMBERS, "data": [[0.5] * 5]}}),
        ("unsigned", {"inputs": [[0.5] * 5]}),
        ("onnx", {"inputs": [[0.5] * 5] * 2}),
        ("onnx", {"instances": [[0.5] * 5]}),
        ("onnx", {"dataframe_split": {"columns": NUMBERS, "data": [[0.5] * 5] * 3}}),
        ("own", {"inputs": [ONE], "params": {"times": 2.0}}),
        ("array", {"inputs": [[0.5] * 5] * 2}),
        ("array", {"dataframe_split": {"columns": NUMBERS, "data": [[0.5] * 5]}}),
        ("unnamed", {"dataframe_split": {"columns": NUMBERS, "data": [[0.5] * 5]}}),
        ("unnamed", {"inputs": [[0.5, 1, 2, 3, 4]]}),
    ],
)
def test_models_of_other_kinds_answer_as_mlflow_lets_them(name: str, sent: dict[str, Any]) -> None:
    _needed(name)
    body = json.dumps(sent).encode()
    both = [ours(name, RUNTIME.get(name, "pyfunc"), body), theirs(name, body)]
    if name == "chain":  # the second in which it was made
        both = [[{**each, "created": None} for each in said] for said in both]
    assert both[0] == both[1] is not None


@pytest.mark.parametrize("messages", [5, [], [5], [{"content": "x"}], [{"role": "user"}]])
def test_messages_that_are_none(messages: Any) -> None:
    with pytest.raises(RequestError, match="messages"):
        ours("talker", "pyfunc", json.dumps({"messages": messages}).encode())


@pytest.mark.parametrize("form", ["message", "agent", "responses"])
def test_an_agent_says_its_text_whatever_its_form(form: str) -> None:
    (response,) = predictor("agent", "pyfunc").predict({"messages": [{"role": "user", "content": form}]}, call())
    assert isinstance(response, Response) and response.text == "You said Hi"


def test_a_chain_of_langchain_says_its_text() -> None:
    _needed("chain")
    (response,) = predictor("chain", "pyfunc").predict({"messages": [{"role": "user", "content": "Hi"}]}, call())
    assert isinstance(response, Response) and response.text == "You said Hi"


def test_a_language_model_says_its_text_and_what_it_used() -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    (response,) = predictor("talker", "pyfunc").predict(asked, call())
    assert isinstance(response, Response)
    assert response.text == "You said Hi" and response.usage["completion_tokens"] == 4


@pytest.mark.parametrize(("name", "runtime"), [("lightgbm", "lightgbm"), ("xgboost", "xgboost"), ("linear", "sklearn")])
def test_threads_get_their_own_answers(name: str, runtime: str) -> None:
    _needed(name)
    bodies = [split(NUMBERS, [[i / 7, -i, 1, 0.5, i]]).encode() for i in range(40)]
    expected = [ours(name, runtime, one) for one in bodies]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: ours(name, runtime, bodies[i % 40]), range(800))) == expected * 20


ODD = [None, True, 0, 1, 2, "1", "x", 1.5, -0.0, 2**40, 2**31, [], {}, "true", "", 1e300, "1e5", " 7 ", "NaN", 3.0]


def stricter(kind: str, value: Any) -> bool:
    """Whether a value is one of those that only MLflow answers to, in a column of this kind (docs/model.md)."""
    if isinstance(value, list | dict):
        return True
    if kind == "boolean":
        return not (isinstance(value, bool) or value in (0, 1)) or isinstance(value, str)
    if kind == "string":
        return value is not None and not isinstance(value, str)
    if kind in ("long", "integer"):
        size = 2**63 if kind == "long" else 2**31
        return isinstance(value, int | float) and (value != int(value) or not -size <= value < size)
    return value == "NaN"


@pytest.mark.parametrize(("name", "kinds"), [("mixed", KINDS), ("lightgbm", SMALL), ("own", SMALL)])
def test_an_odd_value_is_answered_alike_or_refused(name: str, kinds: dict[str, str]) -> None:
    _needed(name)

    @settings(max_examples=60, deadline=None, database=None)
    @given(
        column=st.sampled_from(list(kinds)),
        value=st.sampled_from(ODD),
        before=st.integers(0, 1),
        form=st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "columns", "one"]),
    )
    def check(column: str, value: Any, before: int, form: str) -> None:
        right = {n: FITS.get(n, 0.5) for n in kinds}
        found = [*([right] * before), {**right, column: value}]
        sent: dict[str, Any] = {form: found}
        if form == "dataframe_split":
            sent = {form: {"columns": list(kinds), "data": [list(row.values()) for row in found]}}
        elif form == "columns":
            sent = {"inputs": {n: [row[n] for row in found] for n in kinds}}
        elif form == "one":
            sent = {"inputs": found[-1]}
        body = json.dumps(sent).encode()
        expected = theirs(name, body)
        try:
            assert alike(ours(name, RUNTIME[name], body), expected), (kinds[column], value, form)
        except (RequestError, ModelFailed):
            assert expected is None or stricter(kinds[column], value), (kinds[column], value, form)

    check()


def _needed(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
