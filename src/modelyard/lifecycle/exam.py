"""The exam as it is sat: the user's own file, or one generated from the snapshot; each case bound to its content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelyard.clock import stamp
from modelyard.errors import NotFound, UserError
from modelyard.ids import digest, digest_bytes
from modelyard.lifecycle.exam_table import TABLES, read_table
from modelyard.lifecycle.world import World
from modelyard.ports.tables import TableSpec
from modelyard.ports.workload import MISSING, Case, Exam

_MAX_EXAM_BYTES = 50_000_000

CASES = TableSpec(
    "evaluation_set",
    pa.schema(
        [
            pa.field("case_id", pa.string(), nullable=False),
            pa.field("case_digest", pa.string(), nullable=False),
            ("origin", pa.string()),
            ("row", pa.string()),
            ("bound_to", pa.string()),
            ("first_seen", pa.string()),
        ]
    ),
)


@dataclass(frozen=True)
class Sheet:
    """The exam as it is sat now: its cases, a digest of them, and those set aside because what they ask about
    changed."""

    cases: tuple[Case, ...]
    digest: str
    set_aside: tuple[str, ...]
    origin: str


def read_exam(path: Path) -> Exam:
    """The exam file: one JSON object a line, or a table (.csv, .parquet). Empty where there is no such file. Raises
    UserError with the line."""
    try:
        if path.stat().st_size > _MAX_EXAM_BYTES:
            raise UserError(f"{path} is larger than {_MAX_EXAM_BYTES:,} bytes")
        if path.suffix.lower() in TABLES:
            table, numbers = read_table(path)
            return Exam("human", tuple(table), tuple(numbers))
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Exam("human", ())
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text (byte {e.start})") from None
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}") from None
    rows, lines = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:
            raise UserError(f"{path}:{number}: not JSON: {e}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: an object with question, answers and evidence is expected")
        rows.append(row)
        lines.append(number)
    return Exam("human", tuple(rows), tuple(lines))


def set_exam(world: World) -> Sheet:
    """The cases to sit now. With no exam of the user's own one is generated from the snapshot; either way the cases
    are kept in `evaluation_set`, with the content they were bound to when first seen."""
    workload, ctx = world.heavy.workload, world.heavy.context
    exam = read_exam(world.loaded.exam)
    if not exam.rows:
        snapshot = workload.snapshot(ctx)
        exam = Exam("generated", tuple(workload.propose_cases(ctx, snapshot)))
    cases = list(workload.cases(ctx, exam))
    tables = world.heavy.tables
    tables.ensure(CASES)
    known = {
        (r["case_id"], r["case_digest"]): json.loads(r["bound_to"])
        for r in tables.read(CASES.name, ["case_id", "case_digest", "bound_to"]).to_pylist()
    }
    fresh, kept, aside = [], [], []
    for case in cases:
        key = (case.id, _case_digest(case))
        bound = known.get(key)
        if bound is None and MISSING not in case.bound_to.values():
            fresh.append(_case_row(case, key, stamp(world.clock.now())))
        changed = bound is not None and bound != dict(case.bound_to) and case.origin != "generated"
        if changed or MISSING in case.bound_to.values():
            aside.append(case.id)
        else:
            kept.append(case)
    if fresh:
        tables.append(CASES.name, pa.Table.from_pylist(fresh, schema=CASES.schema))
    identity = digest([[c.id, _case_digest(c), dict(c.bound_to)] for c in kept])
    return Sheet(tuple(kept), identity, tuple(aside), exam.origin)


def _case_digest(case: Case) -> str:
    body = {"request": case.request, "expected": case.expected, "evidence": list(case.evidence)}
    if case.groups is not None:
        body["groups"] = sorted(case.groups)
    return digest_bytes(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())


def _case_row(case: Case, key: tuple[str, str], at: str) -> dict[str, Any]:
    row = {"request": case.request, "expected": case.expected, "evidence": list(case.evidence)}
    return {
        "case_id": key[0],
        "case_digest": key[1],
        "origin": case.origin,
        "row": json.dumps(row, ensure_ascii=False),
        "bound_to": json.dumps(dict(case.bound_to), sort_keys=True),
        "first_seen": at,
    }


def rebind(world: World, cases: Sequence[str]) -> None:
    """Forget what content these cases were bound to: a person looked at them, and they hold for what stands there now.

    Raises NotFound for a case that was never sat here.
    """
    tables = world.heavy.tables
    tables.ensure(CASES)
    known = set(tables.read(CASES.name, ["case_id"]).column("case_id").to_pylist())
    for case in cases:
        if case not in known:
            raise NotFound(f"no case {case!r} was ever sat here: `modelyard evaluate` names those that are set aside")
    tables.delete(CASES.name, {"case_id": list(cases)})
