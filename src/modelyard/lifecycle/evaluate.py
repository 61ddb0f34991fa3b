"""Let releases sit the exam: through the serving path, both arms on the same cases, every row kept."""

from __future__ import annotations

import json
import math
import threading
import uuid
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.calc import stats
from modelyard.clock import stamp
from modelyard.cores import cores
from modelyard.errors import Cancelled, ModelyardError, NotFound
from modelyard.ids import short
from modelyard.lifecycle.exam import CASES, Sheet
from modelyard.lifecycle.world import World
from modelyard.ports.records import Release
from modelyard.ports.tables import TableSpec
from modelyard.ports.workload import Call, Case, Response, Row, Workload
from modelyard.serving.answer import answer
from modelyard.serving.opened import OpenedRelease

ROWS = TableSpec(
    "evaluation_rows",
    pa.schema(
        [
            pa.field("sitting", pa.string(), nullable=False),
            pa.field("release", pa.string(), nullable=False),
            pa.field("exam", pa.string(), nullable=False),
            pa.field("case_id", pa.string(), nullable=False),
            ("code", pa.string()),
            ("origin", pa.string()),
            ("slices", pa.list_(pa.string())),
            ("cluster", pa.string()),
            ("values", pa.string()),
            ("unscored", pa.string()),
            ("latency_ms", pa.float64()),
            ("output", pa.string()),
            ("at", pa.string()),
        ]
    ),
)


_QUICK_MS = 5.0
"""A case that takes less is not worth a thread."""


@dataclass(frozen=True)
class Sitting:
    """One release's rows, in the order of the cases."""

    release: str
    rows: tuple[Row, ...]
    latency_ms: tuple[float, ...]


def sit(world: World, release: Release, sheet: Sheet, label: str, *, again: bool = False) -> Sitting:
    """The rows of one release. Those of an earlier sitting of the same exam, by the same code and with every case
    scored, are taken from the table; unless it shall sit `again`."""
    tables = world.heavy.tables
    tables.ensure(ROWS)
    match = {"release": [release.id], "exam": [sheet.digest], "code": [world.code]}
    found = [] if again else tables.read(ROWS.name, match=match).to_pylist()
    earlier = {r["case_id"]: r for r in found if r["unscored"] is None}
    if set(earlier) >= {c.id for c in sheet.cases}:
        rows = [_row_from(earlier[c.id]) for c in sheet.cases]
        return Sitting(release.id, tuple(rows), tuple(earlier[c.id]["latency_ms"] for c in sheet.cases))
    rows, latency = [], []
    with (
        world.heavy.open_release(world.layout.releases / release.id) as opened,
        world.progress.bar(f"{label} {short(release.id)} sits the exam", len(sheet.cases), "cases") as bar,
        closing(_asked(world, opened, sheet.cases)) as asked,
    ):
        for case, said, took in asked:
            world.heavy.context.check()
            rows.append(_scored(opened, case, said))
            latency.append(took)
            bar.advance()
    sitting = Sitting(release.id, tuple(rows), tuple(latency))
    _keep(world, sitting, sheet)
    return sitting


def _asked(
    world: World, opened: OpenedRelease, cases: Sequence[Case]
) -> Generator[tuple[Case, Response | Exception, float]]:
    """(case, its answer or why there is none, ms), in order. Some are asked at once; closed, it asks no more."""
    # More than there are cores, as a case is now and then at what only one can do.
    at_once, ended = min(world.loaded.config.gate.at_once, cores() + cores() // 2), threading.Event()

    def ask(case: Case) -> tuple[Case, Response | Exception, float]:
        call = Call(world.clock, f"exam-{case.id}", cancelled=ended.is_set, effects="exam", groups=case.groups)
        start = world.clock.monotonic()
        try:
            said: Response | Exception = answer(opened, case.request, call)
        except Exception as e:  # noqa: BLE001 a crash of the model is a row, never a pass
            said = e
        return case, said, (world.clock.monotonic() - start) * 1000

    waiting: deque[Future[tuple[Case, Response | Exception, float]]] = deque()
    quick = False
    with ThreadPoolExecutor(at_once, "exam") as threads:
        try:
            for case in cases:
                if quick and not waiting:
                    told = ask(case)
                else:
                    waiting.append(threads.submit(ask, case))
                    if len(waiting) < 2 * at_once:
                        continue
                    told = waiting.popleft().result()
                quick = told[2] < _QUICK_MS
                yield told
            while waiting:
                yield waiting.popleft().result()
        finally:
            ended.set()
            for each in waiting:
                each.cancel()


def _scored(opened: OpenedRelease, case: Case, said: Response | Exception) -> Row:
    if isinstance(said, Cancelled):
        raise said
    try:
        if isinstance(said, Exception):
            raise said
        return opened.workload.score(case, said)
    except ModelyardError as e:
        return _unscored(case, str(e))
    except Exception as e:  # noqa: BLE001 a crash of the model or the scorer is a row, never a pass
        return _unscored(case, f"{type(e).__name__}: {e}")


def _unscored(case: Case, reason: str) -> Row:
    return Row(case.id, {}, reason, case.slices, case.cluster, case.origin)


def _keep(world: World, sitting: Sitting, sheet: Sheet) -> None:
    name, at = uuid.uuid4().hex, stamp(world.clock.now())
    rows = [
        {
            "sitting": name,
            "release": sitting.release,
            "exam": sheet.digest,
            "case_id": row.case,
            "code": world.code,
            "origin": row.origin,
            "slices": list(row.slices),
            "cluster": row.cluster,
            "values": json.dumps(dict(row.values)),
            "unscored": row.unscored,
            "latency_ms": took,
            "output": json.dumps(dict(row.output), ensure_ascii=False),
            "at": at,
        }
        for row, took in zip(sitting.rows, sitting.latency_ms, strict=True)
    ]
    match = {"release": [sitting.release], "exam": [sheet.digest]}
    world.heavy.tables.replace(ROWS.name, pa.Table.from_pylist(rows, schema=ROWS.schema), match)


def _row_from(r: Mapping[str, Any]) -> Row:
    return Row(
        r["case_id"],
        json.loads(r["values"]),
        r["unscored"],
        tuple(r["slices"] or ()),
        r["cluster"] or "",
        r["origin"] or "human",
        json.loads(r["output"]),
    )


def rows(world: World, release: Release) -> list[dict[str, Any]]:
    """The rows of the release's latest sitting, with what was asked. Raises NotFound where it sat no exam."""
    tables = world.heavy.tables
    found = tables.read(ROWS.name, match={"release": [release.id]}).to_pylist() if ROWS.name in tables.names() else []
    if not found:
        raise NotFound(f"release {short(release.id)} sat no exam here: `modelyard evaluate {short(release.id)}`")
    newest = max(found, key=lambda r: str(r["at"]))["sitting"]
    asked = {
        r["case_id"]: json.loads(r["row"])["request"] for r in tables.read(CASES.name, ["case_id", "row"]).to_pylist()
    }
    return [
        {
            "case": r["case_id"],
            "origin": r["origin"],
            "slices": list(r["slices"] or ()),
            "request": asked.get(r["case_id"], {}),
            "output": json.loads(r["output"]),
            "values": json.loads(r["values"]),
            "unscored": r["unscored"],
            "latency_ms": r["latency_ms"],
        }
        for r in found
        if r["sitting"] == newest
    ]


def evidence(
    workload: Workload, sheet: Sheet, ours: Sitting, theirs: Sitting | None, confidence: float
) -> dict[str, Any]:
    """Everything the gate judges by, as plain data: figures with intervals, counts, slices, and the paired differences
    to the champion's (`differences`), where it sat the same exam.

    A case that either arm left unscored is in no figure of the comparison, and is counted.
    """
    seed = int(sheet.digest[:8] or "0", 16)
    out = _figures(workload, ours, confidence, seed)
    out["release"] = ours.release
    out["exam"] = {
        "digest": sheet.digest,
        "origin": sheet.origin,
        "cases": len(sheet.cases),
        "set_aside": list(sheet.set_aside),
        "human": sum(c.origin == "human" for c in sheet.cases),
    }
    if theirs is None:
        return out
    both = [i for i in range(len(ours.rows)) if ours.rows[i].unscored is None and theirs.rows[i].unscored is None]
    differences: dict[str, Any] = {}
    if both:
        a, b = _columns([ours.rows[i] for i in both]), _columns([theirs.rows[i] for i in both])
        names = sorted(set(a) & set(b))
        a, b = {k: a[k] for k in names}, {k: b[k] for k in names}
        clusters = [ours.rows[i].cluster or ours.rows[i].case for i in both]
        weights = stats.resample(clusters, seed)
        for metric in workload.metrics.values():
            if metric.compared:
                found = _guarded(lambda m=metric: stats.paired(m.value, a, b, clusters, weights, confidence))
                if found is not None:
                    spread = _spread(metric.name, a, b)
                    differences[metric.name] = _estimate(found) | {
                        "detectable": _finite(stats.detectable(found.n, spread, confidence))
                    }
    out["champion"] = theirs.release
    out["differences"] = differences
    out["champion_metrics"] = _figures(workload, theirs, confidence, seed)["metrics"]
    out["changed_answers"] = [
        ours.rows[i].case for i in both if said(ours.rows[i].output) != said(theirs.rows[i].output)
    ]
    return out


def said(output: Mapping[str, Any]) -> str:
    """What of an output is its answer, to be compared: `answer` and whether it was refused, else all of it."""
    told = {k: output.get(k) for k in ("answer", "refused")} if "answer" in output else dict(output)
    return json.dumps(told, sort_keys=True, default=str)


def _spread(name: str, a: Mapping[str, stats.Floats], b: Mapping[str, stats.Floats]) -> float:
    """Standard deviation of the differences by case; that of a coin where the figure is no column of its own."""
    if name not in a:
        return 0.5
    values = a[name] - b[name]
    values = values[~np.isnan(values)]
    return float(values.std()) if len(values) else 0.5


def _figures(workload: Workload, sitting: Sitting, confidence: float, seed: int) -> dict[str, Any]:
    scored = [r for r in sitting.rows if r.unscored is None]
    out: dict[str, Any] = {
        "metrics": {},
        "slices": {},
        "scored": len(scored),
        "unscored": [{"case": r.case, "reason": r.unscored} for r in sitting.rows if r.unscored is not None],
        "by_slice": {},
        "scored_human": sum(r.origin == "human" for r in scored),
    }
    if not scored:
        return out
    out["metrics"] = _table(workload, scored, confidence, seed)
    times = [t for r, t in zip(sitting.rows, sitting.latency_ms, strict=True) if r.unscored is None]
    out["latency_ms"] = {"p50": round(stats.quantile(times, 0.5), 2), "p95": round(stats.quantile(times, 0.95), 2)}
    for name in sorted({s for r in scored for s in r.slices}):
        rows = [r for r in scored if name in r.slices]
        out["by_slice"][name] = len(rows)
        if len(rows) < len(scored):
            out["slices"][name] = _table(workload, rows, confidence, seed)
    return out


def _table(workload: Workload, rows: Sequence[Row], confidence: float, seed: int) -> dict[str, Any]:
    columns = _columns(rows)
    clusters = [r.cluster or r.case for r in rows]
    weights = stats.resample(clusters, seed)
    out = {}
    for metric in workload.metrics.values():
        found = _guarded(lambda m=metric: stats.estimate(m.value, columns, clusters, weights, confidence))
        if found is not None:
            out[metric.name] = _estimate(found) | {"higher_is_better": metric.higher_is_better, "unit": metric.unit}
    return out


def _guarded(compute: Any) -> stats.Estimate | None:
    """A figure whose columns no row has is missing: the gate fails closed on it."""
    try:
        found: stats.Estimate | None = compute()
    except KeyError:
        return None
    return found


def _columns(rows: Sequence[Row]) -> dict[str, stats.Floats]:
    names = sorted({name for row in rows for name in row.values})
    return {name: np.array([_number(row.values.get(name)) for row in rows], dtype=np.float64) for name in names}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _estimate(e: stats.Estimate) -> dict[str, Any]:
    return {
        "value": round(e.value, 6),
        "low": _finite(e.low),
        "high": _finite(e.high),
        "n": e.n,
        "clusters": e.clusters,
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
