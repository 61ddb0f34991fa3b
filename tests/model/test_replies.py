"""What a model answers becomes the bytes that MLflow writes."""

from __future__ import annotations

import datetime
import io
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mlflow.pyfunc.scoring_server import predictions_to_json

from modelyard.errors import ModelFailed
from modelyard.workloads.model.replies import reply

shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
numbers = st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_])


def theirs(value: Any) -> bytes:
    out = io.StringIO()
    predictions_to_json(value, out)
    return out.getvalue().encode()


@given(numbers.flatmap(lambda dtype: arrays.arrays(dtype, shapes)))
def test_arrays_are_written_as_mlflow_writes_them(value: np.ndarray[Any, Any]) -> None:
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        with pytest.raises(ModelFailed, match="NaN or infinity"):
            reply(value)
        return
    body, signals = reply(value)
    assert body == theirs(value)
    assert all(math.isfinite(number) for number in signals.values()) or value.size


@pytest.mark.parametrize(
    "value",
    [
        [1, "a", None, True, 0.5],
        [{"a": np.float32(0.1), "b": [np.int64(3)]}],
        {"out": np.array([[1.5], [2.5]])},
        np.array(["red", "Ünï"]),
        np.array([b"ab", b"c"], dtype=object),
        [datetime.datetime(2026, 1, 2, 3, 4), datetime.date(2026, 1, 2)],
        [np.datetime64("2026-01-02")],
        "text",
        7,
    ],
    ids=str,
)
def test_other_answers_too(value: Any) -> None:
    assert json.loads(reply(value)[0]) == json.loads(theirs(value))


@pytest.mark.parametrize("value", [[math.nan], {"a": [math.inf]}, np.array([1.0, math.nan], dtype=object), -math.inf])
def test_what_is_no_number_is_the_models_failure(value: Any) -> None:
    with pytest.raises(ModelFailed, match="NaN or infinity"):
        reply(value)


@pytest.mark.parametrize("value", [object(), [{1, 2}], {(1, 2): 3}, "\ud800x", [lambda: 0]])
def test_what_json_has_no_form_for_is_too(value: Any) -> None:
    try:
        body, _ = reply(value)
    except ModelFailed as error:
        assert "\n" not in str(error)
    else:
        json.loads(body)


def test_signals() -> None:
    assert reply(np.array([0.25, 0.75]))[1] == {"score": 0.5}
    assert reply(np.array([[0.25, 0.75], [0.5, 0.5]]))[1] == {"score": 0.625}
    assert reply(np.array([[0.2, 0.3, 0.5]]))[1] == {}
    assert reply(["a"])[1] == {} and reply(np.array([]))[1] == {}
    assert json.loads(reply([Decimal("1.5")])[0]) == {"predictions": [1.5]}
    assert reply(np.array([0.5]), bare=True)[0] == b"[0.5]"
