"""A table with a label becomes an exam; what a model answers becomes columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.errors import UserError
from modelyard.lifecycle.exam import read_exam
from modelyard.ports.model import Column, Signature
from modelyard.ports.workload import Case, Exam, Response
from modelyard.workloads.model.exam import cases, guess_task, same, score

SIGNATURE = Signature(
    (Column("age", "long"), Column("city", "string"), Column("own", "boolean"), Column("x", "double"))
)
CSV = "id,age,city,own,x,customer,paid\nr1,44,007,true,1.5,c1,yes\nr2,30,NA,False,,c1,no\n"


def _cases(settings: dict[str, Any], rows: list[dict[str, Any]], signature: Signature | None = None) -> list[Case]:
    return list(cases(settings, signature, Exam("human", tuple(rows))))


def test_a_csv_table_is_typed_by_the_signature(tmp_path: Path) -> None:
    path = tmp_path / "exam.csv"
    path.write_text(CSV)
    exam = read_exam(path)
    assert exam.lines == (2, 3)
    first, second = cases(
        {"label": "paid", "cluster": "customer", "positive": "yes", "slices": ["own"]}, SIGNATURE, exam
    )
    assert first.request == {
        "dataframe_split": {"columns": ["age", "city", "own", "x"], "data": [[44, "007", True, 1.5]]}
    }
    assert second.request["dataframe_split"]["data"] == [[30, None, False, None]]
    assert (first.id, first.cluster, first.slices) == ("r1", "c1", ("judged", "own=true"))
    assert (first.expected["target"], second.expected["target"]) == (1.0, 0.0)


def test_a_parquet_table_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "exam.parquet"
    pq.write_table(pa.table({"x": [1.5, float("nan")], "age": [1, 2], "label": ["a", "b"]}), path)
    found = _cases({}, [dict(row) for row in read_exam(path).rows])
    assert [case.request["dataframe_split"]["data"][0] for case in found] == [[1.5, 1], [None, 2]]


@pytest.mark.parametrize(
    ("text", "said"),
    [("a,a\n1,2\n", "exam.csv:1"), ("a,b\n1\n", "exam.csv:2"), ('a,b\n1,2\n"3,4\n', "exam.csv:3")],
)
def test_a_broken_table_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "exam.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_exam(tmp_path / "exam.csv")


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "exam.parquet").write_text("no")
    with pytest.raises(UserError, match="cannot be read"):
        read_exam(tmp_path / "exam.parquet")


@pytest.mark.parametrize(
    ("settings", "rows", "said"),
    [
        ({}, [{"age": 1}], "model.label"),
        ({"label": "paid"}, [{"age": 1, "paid": 1}, {"age": 2, "paid": None}], "line 2: there is no paid"),
        ({}, [{"label": 1}], "no column for the model"),
        ({"task": "binary"}, [{"x": 1, "label": i} for i in range(3)], "model.positive"),
        ({"task": "binary", "positive": 7}, [{"x": 1, "label": 1}], "model.positive"),
        ({"task": "regression"}, [{"x": 1, "label": "red"}], "no number"),
    ],
)
def test_a_mistake_in_an_exam_is_told(settings: dict[str, Any], rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _cases(settings, rows)


def test_a_column_the_model_takes_must_be_there() -> None:
    with pytest.raises(UserError, match="city, own"):
        _cases({}, [{"age": 1, "x": 2.0, "label": 1}], SIGNATURE)


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        ([0, 1, 1], "binary"),
        ([True, True], "binary"),
        (["a", "b"], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([1, 2, 3], "multiclass"),
        (list(range(30)), "regression"),
        ([0.5, 1.5, 2.5], "regression"),
    ],
)
def test_the_task_is_guessed_by_the_labels(labels: list[Any], task: str) -> None:
    assert guess_task(labels) == task


def _scored(label: list[Any], said: Any, **settings: Any) -> dict[str, Any]:
    """The columns of the first row, to which the model answered `said`."""
    case = _cases(settings, [{"x": 1, "label": one} for one in label])[0]
    row = score(case, Response("", {"predictions": said}))
    return {**row.values, "unscored": row.unscored} if row.unscored else dict(row.values)


@pytest.mark.parametrize(
    ("labels", "said", "expected"),
    [
        ([1, 0], [0.7], {"label": 1.0, "score": 0.7}),
        ([1, 0], [[0.3, 0.7]], {"label": 1.0, "score": 0.7}),
        ([1, 0], [1], {"label": 1.0, "score": 1.0}),
        ([True, False], [True], {"label": 1.0, "score": 1.0}),
        (["yes", "no"], ["no"], {"label": 1.0, "score": 0.0}),
        (["yes", "no"], [0.2], {"label": 1.0, "score": 0.2}),
        ([2, 1], [2], {"label": 1.0, "score": 1.0}),
        (["a", "b", "c"], ["c"], {"class": 0.0, "predicted_class": 2.0}),
        (["a", "b", "c"], ["z"], {"class": 0.0, "predicted_class": 3.0}),
        ([3, 1, 2], [[0.1, 0.2, 0.7]], {"class": 2.0, "predicted_class": 2.0}),
        ([0.5, 1.5, 2.5], [1.25], {"target": 0.5, "prediction": 1.25}),
        ([0.5, 1.5, 2.5], [{"total": 1.25}], {"target": 0.5, "prediction": 1.25}),
        ([0.5, 1.5, 2.5], {"out": [[1.25]]}, {"target": 0.5, "prediction": 1.25}),
    ],
)
def test_what_a_model_answers_becomes_columns(labels: list[Any], said: Any, expected: dict[str, float]) -> None:
    assert _scored(labels, said) == expected


def test_the_field_to_judge_is_named() -> None:
    said = [{"p": 0.9, "why": "because"}]
    assert "no score" in _scored([1, 0], said)["unscored"]
    assert _scored([1, 0], said, score="p") == {"label": 1.0, "score": 0.9}


def test_a_score_for_the_other_label() -> None:
    assert _scored([0, 1], [0.9], positive=0) == {"label": 1.0, "score": pytest.approx(0.1)}


@pytest.mark.parametrize("said", [None, [], ["text"], [[0.1, 0.2, 0.7]], [None]])
def test_what_cannot_be_read_is_unscored(said: Any) -> None:
    assert _scored([0.5, 1.5, 2.5], said)["unscored"]


def test_recorded_answers_are_given_again_or_not() -> None:
    rows = [{"x": 1, "recorded": 0.25}, {"x": 2, "recorded": "red"}]
    first, second = _cases({}, rows)
    assert score(first, Response("", {"predictions": [0.25 + 1e-9]})).values == {"agrees": 1.0}
    assert score(second, Response("", {"predictions": ["blue"]})).values == {"agrees": 0.0}
    assert same(json.loads('[1, {"a": null}]'), [1.0, {"a": None}]) and not same([1], [1, 2]) and not same(True, 1.5)


def test_a_row_may_hold_the_whole_request() -> None:
    (case,) = _cases({}, [{"request": {"messages": [{"role": "user", "content": "Hi"}]}, "recorded": "Hello"}])
    assert "messages" in case.request
    assert score(case, Response("Hello", {"predictions": "Hello"})).values == {"agrees": 1.0}
