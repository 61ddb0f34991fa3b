"""Arrays to the DataFrame that MLflow would have made of the same request, and answers of pandas to plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from numpy.typing import NDArray


def frame(columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """{name: array of shape [rows]} as a DataFrame; columns of text get the type that pandas infers."""
    return pd.DataFrame(
        {name: values.tolist() if values.dtype == object else values for name, values in columns.items()}
    )


def unframed(value: Any) -> Any:
    """A DataFrame or Series as records, as MLflow replies with one; anything else as it is. What is missing in a column
    that holds no floats is None."""
    if isinstance(value, pd.Series):
        value = pd.DataFrame(value)
    if not isinstance(value, pd.DataFrame):
        return value
    value = value.copy(deep=False)
    for i, kind in enumerate(value.dtypes):
        if not pd.api.types.is_float_dtype(kind) and value.iloc[:, i].isna().any():
            column = value.iloc[:, i].astype(object)
            value.isetitem(i, column.where(column.notna(), None))
    return value.to_dict(orient="records")
