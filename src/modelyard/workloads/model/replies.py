"""What a model answered, as the body of a reply: byte for byte what MLflow writes, but that NaN and infinity, which
JSON has no form for, are the model's failure. Pure."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from modelyard.errors import ModelFailed

NOT_A_NUMBER = "the model answered with NaN or infinity"


def plain(value: Any) -> Any:
    """`value` in lists, dicts and values of JSON. Raises ModelFailed for NaN, infinity, and what has no form there."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ModelFailed(NOT_A_NUMBER)
        return value.tolist()
    return _deep(value)


def _deep(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray):
        return plain(value) if value.dtype.kind in "fiub" else [_deep(one) for one in value]
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value))
    if isinstance(value, np.generic):
        return _deep(value.item())
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ModelFailed(NOT_A_NUMBER)
        return value
    if isinstance(value, Mapping):
        return {_key(key): _deep(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(one) for one in value]
    if isinstance(value, bytes | bytearray):
        return base64.encodebytes(value).decode("ascii")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _deep(float(value))
    if hasattr(value, "model_dump"):
        return _deep(value.model_dump())
    raise ModelFailed(f"the model answered with a {type(value).__name__}, which JSON has no form for")


def _key(key: Any) -> str | int | float | bool | None:
    if isinstance(key, np.generic):
        key = key.item()
    if key is None or isinstance(key, str | int | float | bool):
        return key
    raise ModelFailed("the model answered with an object whose keys are no texts")


_ENCODER = json.JSONEncoder(allow_nan=False)


def encode(value: Any) -> bytes:
    """JSON with the blanks that MLflow's has. `value` is `plain`. Raises ModelFailed."""
    try:
        return _ENCODER.encode(value).encode()
    except (ValueError, TypeError, UnicodeEncodeError):
        raise ModelFailed("the model answered with what JSON has no form for") from None


def reply(answer: Any, *, bare: bool = False) -> tuple[bytes, Mapping[str, float]]:
    """The body of a reply, {"predictions": answer} or (`bare`) the answer alone, and signals. Raises ModelFailed."""
    if isinstance(answer, np.ndarray) and answer.ndim == 1 and answer.dtype.kind in "fiu" and 0 < len(answer) <= _FEW:
        values = answer.tolist()
        total = sum(values)
        if math.isfinite(total) or all(map(math.isfinite, values)):
            # As the encoder writes numbers, and without its start.
            text = ", ".join(map(repr, values))
            body = f"[{text}]" if bare else f'{{"predictions": [{text}]}}'
            return body.encode(), {"score": total / len(values)}
    found = plain(answer)
    return encode(found if bare else {"predictions": found}), signals(answer)


_FEW = 64


def signals(answer: Any) -> Mapping[str, float]:
    """Numbers of an answer that a monitor watches: `score`, the mean of the predictions where they are numbers, one (or
    one per class) a row."""
    if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiub" or not answer.size:
        return {}
    if answer.ndim == 1 or (answer.ndim == 2 and answer.shape[1] == 1):
        return {"score": float(answer.mean())}
    if answer.ndim == 2 and answer.shape[1] == 2:
        return {"score": float(answer[:, 1].mean())}
    return {}
