"""An exam for any model: a table with a column of what turned out true, or of answers that were recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.errors import UserError
from modelyard.ports.model import NUMBERS, Signature
from modelyard.ports.workload import Case, Exam, Response, Row
from modelyard.workloads.model.bodies import ABSENT
from modelyard.workloads.model.metrics import PAIRS

JUDGED = "judged"
"""The slice of cases that a person's label, or recorded answer, judges; the gate asks for enough of them."""
_FEW = 20
"""Up to so many different whole numbers are classes; more are a quantity."""


@dataclass(frozen=True)
class Columns:
    """Which columns of the exam are no features: what the settings name."""

    label: str | None
    recorded: str | None
    id: str | None
    cluster: str | None
    slices: tuple[str, ...]
    ignore: tuple[str, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Columns:
        """From the section of the project file."""
        names = {key: settings.get(key) for key in ("label", "recorded", "id", "cluster")}
        return cls(**names, slices=tuple(settings.get("slices", ())), ignore=tuple(settings.get("ignore", ())))


def cases(settings: Mapping[str, Any], signature: Signature | None, exam: Exam) -> Iterator[Case]:
    """The rows of `exam` as cases. Raises UserError naming the line, or the column that is missing."""
    rows = list(exam.numbered())
    if not rows:
        return
    columns = Columns.of(settings)
    truth, recorded = _truth(columns, rows)
    for line, row in rows:
        if truth not in row or row[truth] is None or row[truth] == "":
            raise UserError(f"exam, line {line}: there is no {truth}")
    if recorded:
        expected: list[dict[str, Any]] = [{"recorded": row[truth]} for _, row in rows]
    else:
        expected = _labels(settings, [_value(row[truth]) for _, row in rows])
    features = _features(columns, truth, signature, rows)
    for (line, row), wanted in zip(rows, expected, strict=True):
        name = str(row.get(columns.id or "id", line))
        wanted["field"] = settings.get("score")
        tags = tuple(f"{slice_}={row[slice_]}" for slice_ in columns.slices if row.get(slice_) is not None)
        cluster = str(row.get(columns.cluster)) if columns.cluster and row.get(columns.cluster) is not None else name
        judged = (JUDGED,) if exam.origin == "human" else ()
        request = _request(row, features, signature, line)
        yield Case(name, request, wanted, (), judged + tags, cluster, origin=exam.origin)


def _truth(columns: Columns, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[str, bool]:
    """The column that holds what is right, and whether it is a recorded answer."""
    if columns.label:
        return columns.label, False
    if columns.recorded:
        return columns.recorded, True
    first = rows[0][1]
    for name, recorded in (("label", False), ("target", False), ("recorded", True)):
        if name in first:
            return name, recorded
    raise UserError("exam, line 1: there is no column label; `model.label` in modelyard.yml names the one to predict")


def _labels(settings: Mapping[str, Any], values: list[Any]) -> list[dict[str, Any]]:
    task = settings.get("task", "auto")
    if task == "auto":
        task = guess_task(values)
    if task == "regression":
        if not all(isinstance(value, int | float) for value in values):
            raise UserError("exam: a label is no number, and `model.task` is regression")
        return [{"task": task, "target": float(value)} for value in values]
    if all(isinstance(value, float) and value.is_integer() for value in values):
        values = [int(value) for value in values]
    classes = sorted(set(values), key=_order)
    if task == "binary":
        positive = settings.get("positive")
        if positive is None:
            if len(classes) > 2:
                raise UserError(f"exam: {len(classes)} labels, and `model.task` is binary: name model.positive")
            positive = classes[-1]
        elif not any(_same_class(positive, one) for one in classes):
            raise UserError("exam: no row has the label that model.positive names")
        return [
            {"task": task, "target": float(_same_class(value, positive)), "positive": positive, "classes": classes}
            for value in values
        ]
    return [{"task": task, "target": classes.index(value), "classes": classes} for value in values]


def guess_task(values: Sequence[Any]) -> str:
    """Binary for two labels, multiclass for texts and for few whole numbers, else regression."""
    different = set(values)
    if len(different) == 2 or any(isinstance(value, bool) for value in different):
        return "binary"
    if any(isinstance(value, str) for value in different):
        return "multiclass"
    whole = all(float(value).is_integer() for value in different)
    return "multiclass" if whole and len(different) <= _FEW else "regression"


def _order(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)


def _value(value: Any) -> Any:
    """A text of a CSV file that stands for a number, as that."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value) if "_" not in value else value
        except ValueError:
            continue
    return value


def _features(
    columns: Columns, truth: str, signature: Signature | None, rows: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[str]:
    """The columns that are sent to the model. One it does not take is sent all the same: the champion may."""
    if isinstance(rows[0][1].get("request"), Mapping):
        return []
    known = {column.name for column in signature.columns if column.name} if signature is not None else set()
    here = list(dict.fromkeys(name for _, row in rows for name in row))
    aside = {truth, *columns.ignore, *(name for name in (columns.recorded, columns.label) if name)}
    about = {columns.id or "id", *columns.slices, *([columns.cluster] if columns.cluster else [])} - known
    missing = [c.name for c in signature.columns if c.required and c.name and c.name not in here] if signature else []
    if missing:
        raise UserError(
            f"exam, line {rows[0][0]}: the model takes columns that are not there: {', '.join(missing[:5])}"
        )
    return [name for name in here if name not in aside and name not in about]


def _request(row: Mapping[str, Any], features: list[str], signature: Signature | None, line: int) -> Mapping[str, Any]:
    if not features:
        request = row.get("request")
        if not isinstance(request, Mapping):
            raise UserError(f"exam, line {line}: there is no column for the model, and no request")
        return request
    kinds = {column.name: column.kind for column in signature.columns} if signature is not None else {}
    values = [_typed(row.get(name), kinds.get(name)) for name in features]
    return {"dataframe_split": {"columns": features, "data": [values]}}


def _typed(value: Any, kind: str | None) -> Any:
    """A text of a CSV file as its column's type says; other values as they are."""
    if not isinstance(value, str):
        return value
    if value in ABSENT:
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(value.lower(), value)
    return _value(value) if kind in NUMBERS or kind is None else value


def score(case: Case, response: Response) -> Row:
    """The columns of one case. A prediction that cannot be read is unscored, with the reason."""
    expected, output = case.expected, response.output
    if "recorded" in expected:
        values, reason = _agrees(expected["recorded"], output), None
    else:
        values, reason = _measured(expected, output.get("predictions"))
    return Row(case.id, values, reason, case.slices, case.cluster, case.origin, output)


def _agrees(recorded: Any, output: Mapping[str, Any]) -> dict[str, float | None]:
    said = output.get("predictions", output)
    if isinstance(said, list) and len(said) == 1 and not isinstance(recorded, list):
        said = said[0]
    return {"agrees": float(same(_value(recorded), said))}


def _measured(expected: Mapping[str, Any], said: Any) -> tuple[dict[str, float | None], str | None]:
    value, task = _one(said, expected.get("field")), expected["task"]
    if task == "regression":
        found, what = _number(value), "number"
    elif task == "binary":
        found, what = _positive(value, expected), "score, and no class"
    else:
        found, what = _class(value, expected["classes"]), "class"
    if found is None:
        return {}, f"the model answered with no {what}"
    truth, predicted = PAIRS[task]
    return {truth: float(expected["target"]), predicted: found}, None


def _one(said: Any, field: str | None) -> Any:
    """The prediction of the one row that was asked for: the field of its record that is named, or its only one."""
    for _ in range(3):
        if isinstance(said, list) and len(said) == 1:
            said = said[0]
        elif isinstance(said, Mapping):
            if field is not None:
                said = said.get(field)
            elif len(said) == 1:
                said = next(iter(said.values()))
            else:
                return None
        else:
            break
    return said


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _positive(value: Any, expected: Mapping[str, Any]) -> float | None:
    """The score of the positive class: a probability or any number that grows with it, or the class itself."""
    classes, positive = expected["classes"], expected["positive"]
    if isinstance(value, list):
        at = next((i for i, one in enumerate(classes) if _same_class(one, positive)), -1)
        return _number(value[at]) if len(value) == len(classes) == 2 else None
    if isinstance(value, str | bool):
        return float(_same_class(value, positive))
    number = _number(value)
    named = [one for one in classes if isinstance(one, int | float)]
    if number is not None and len(named) == len(classes) and not {float(one) for one in named} <= {0.0, 1.0}:
        return float(number == positive) if number in named else number
    return number if number is None or _same_class(positive, 1) or isinstance(positive, str) else 1 - number


def _class(value: Any, classes: Sequence[Any]) -> float | None:
    """The number of the predicted class; one more than the last for a class that no row of the exam has."""
    if isinstance(value, list):
        numbers = [_number(one) for one in value]
        if len(value) != len(classes) or any(one is None for one in numbers):
            return None
        return float(max(range(len(numbers)), key=lambda i: numbers[i] or 0.0))
    if not isinstance(value, str | int | float):
        return None
    return float(next((i for i, one in enumerate(classes) if _same_class(one, value)), len(classes)))


def _same_class(a: Any, b: Any) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return str(a) == str(b)
    return bool(float(a) == float(b))


def same(a: Any, b: Any) -> bool:
    """Whether two answers are the same: numbers to 6 digits, all else exactly."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b or a == b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b)) + 1e-9
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
