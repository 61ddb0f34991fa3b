"""What most workloads share: defaults for the optional half of the protocol, and builders of set-level figures."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.errors import UserError
from modelyard.ids import digest_file
from modelyard.ports.records import Changes, Snapshot
from modelyard.ports.workload import Case, Columns, Context, Exam, Metric, Predictor, Request, Response, Row


class BaseWorkload(ABC):
    """A workload that reads its sources as they are: nothing is ingested, the snapshot is the manifest of the files,
    no exam is proposed, and every setting counts as one that changes answers."""

    name: str
    answer_version: int = 1
    accepts: frozenset[str] = frozenset()
    metrics: Mapping[str, Metric] = {}
    floors: Mapping[str, float] = {}
    margins: Mapping[str, float] = {}
    min_cases: Mapping[str, int] = {}

    def prepared(self, ctx: Context) -> str:
        """Nothing is prepared."""
        return ""

    def settings(self, ctx: Context) -> Mapping[str, Any]:
        """All settings, with floats as decimal strings."""
        return {key: freeze(value) for key, value in ctx.settings.items()}

    def ingest(self, ctx: Context, changes: Changes) -> None:
        """Nothing."""
        return None

    def snapshot(self, ctx: Context) -> Snapshot:
        """The files below `ctx.sources`, hidden ones left out, by path and digest.

        Raises UserError for a name that is not Unicode, or a file that cannot be read.
        """
        return Snapshot(entries=tuple(_manifest(ctx)), prepared="")

    def propose_cases(self, ctx: Context, snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
        """None."""
        return iter(())

    @abstractmethod
    def build(self, ctx: Context, snapshot: Snapshot, out_dir: Path) -> None: ...

    @abstractmethod
    def load(self, ctx: Context, artifact_dir: Path) -> Predictor: ...

    @abstractmethod
    def cases(self, ctx: Context, exam: Exam) -> Iterator[Case]: ...

    @abstractmethod
    def score(self, case: Case, response: Response) -> Row: ...

    def signals(self, request: Request, response: Response) -> Mapping[str, float]:
        """None."""
        return {}


def _manifest(ctx: Context) -> Iterator[tuple[str, str]]:
    if ctx.sources is None:
        return
    # Links to folders are not followed: a loop would never end.
    for folder, folders, files in os.walk(ctx.sources):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            ctx.check()
            path = Path(folder, name)
            relative = path.relative_to(ctx.sources).as_posix()
            try:
                relative.encode()
                yield relative, digest_file(path)
            except UnicodeEncodeError:
                raise UserError(f"{relative!a}: the file's name is not valid Unicode; rename it") from None
            except OSError as error:
                raise UserError(f"{relative}: cannot be read ({error.strerror})") from None


def freeze(value: Any) -> Any:
    """`value` in a form that canonical JSON has: floats as plain decimal strings ("0.35", "1.0"), sequences as lists.

    Raises ValueError for NaN and infinity.

    >>> freeze({"threshold": 0.35, "ks": (1, 5)})
    {'threshold': '0.35', 'ks': [1, 5]}
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a setting may not be {value}")
        return format(Decimal(repr(value)), "f")
    if isinstance(value, Mapping):
        return {str(key): freeze(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [freeze(item) for item in value]
    return value


def mean(
    name: str, column: str | None = None, *, higher_is_better: bool = True, unit: str = "", compared: bool = True
) -> Metric:
    """The mean of `column` (default: called as the metric) over the rows that have it; NaN where none has."""
    return Metric(name, _Quotient(column or name), higher_is_better, unit, compared)


def ratio(
    name: str,
    numerator: str,
    denominator: str,
    *,
    higher_is_better: bool = True,
    unit: str = "",
    compared: bool = True,
) -> Metric:
    """The sum of one column over the sum of another, over the rows that have both: a precision, say, of counts per
    row. NaN where the denominator's sum is 0."""
    return Metric(name, _Quotient(numerator, denominator), higher_is_better, unit, compared)


@dataclass(frozen=True)
class _Quotient:
    """The weighted sum of `over` over that of `under`, or of the weights where that is none; of the rows that have
    both."""

    over: str
    under: str | None = None

    def __call__(self, columns: Columns, weights: NDArray[np.float64]) -> float:
        return float(self.draws(columns, weights[None])[0])

    def draws(self, columns: Columns, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """See calc.stats.ManyAtOnce."""
        over = columns[self.over]
        under = columns[self.under] if self.under is not None else np.ones(len(over))
        there = ~(np.isnan(over) | np.isnan(under))
        total = weights @ np.where(there, under, 0.0)
        out: NDArray[np.float64] = np.full(len(weights), np.nan)
        return np.divide(weights @ np.where(there, over, 0.0), total, out=out, where=total > 0)
