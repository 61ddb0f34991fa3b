"""From the log into tables: every row once, wherever it was interrupted, and no segment gone too early."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.adapters.tables_delta import DeltaTables
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.errors import Busy, Damaged, RefusedByPolicy, StorageError
from modelyard.fold import main
from modelyard.lifecycle import fold as fold_module
from modelyard.lifecycle.fold import Folded, fold
from modelyard.lifecycle.inference import DETAIL, INFERENCE, OUTCOMES
from modelyard.lifecycle.inference_schemas import legacy, model_services
from modelyard.ports.tables import Tables
from modelyard.project.layout import Layout
from modelyard.serving.disk import hold
from modelyard.serving.log import Log
from modelyard.serving.record import Accepted, Finished, Outcome, Record, request_id
from modelyard.serving.segment import CLOSED, DAMAGED, HEAD_BYTES, OPEN, listed

AT = dt.datetime(2026, 3, 1, 23, 59, 59, 123456, tzinfo=dt.UTC)
AT_NS = 1_772_409_599_123_456_789


class Interrupted(Exception):
    """Stands for a process that ends here."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "record"


def accepted(identity: str, request: bytes | None = b"{}", **more: Any) -> Accepted:
    return Accepted(identity, "handbook", "f" * 64, "openai", AT_NS, request=request, **more)


def finished(identity: str, response: bytes | None = b"{}", **more: Any) -> Finished:
    return Finished(identity, 200, 12.5, response=response, **more)


def played(folder: Path, *stories: list[tuple[str, str]]) -> None:
    """Write a record: of each story one segment, of ("accept" | "finish" | "outcome", id)."""
    record = Record.open(folder)

    async def story() -> None:
        for steps in stories:
            for what, one in steps:
                if what == "accept":
                    await record.accepted(accepted(one))
                elif what == "finish":
                    await record.finished(finished(one))
                else:
                    await record.outcome(Outcome(one, "thumb", "up", AT_NS))
            await record.turn()

    asyncio.run(story())
    # As a gateway that is killed leaves it: nobody closes what is open.
    os.close(record.log._lock)


def ids(tables: Tables, name: str = "inference") -> Counter[str]:
    if name not in tables.names():
        return Counter()
    column = "databricks_request_id" if name == "inference" else "request_id"
    return Counter(tables.read(name, [column]).column(column).to_pylist())


def test_a_request_becomes_a_row_of_each_table(folder: Path, tmp_path: Path) -> None:
    one, two = request_id(), request_id()
    record = Record.open(folder, max_response=100)

    async def story() -> None:
        await record.accepted(
            accepted(
                one, '{"q": "é"}'.encode(), client_id="mine", arm="challenger", probability=0.05, unit="c-1",
                requester="tok", groups=("a", "b"),
            )
        )  # fmt: skip
        await record.accepted(accepted(two, None))
        await record.finished(
            finished(
                one,
                b'{"a": 1}',
                usage={"prompt_tokens": 3},
                cost=0.25,
                signals={"words": 2.5},
                attempts=2,
                first_ms=1.5,
            )
        )
        await record.finished(
            Finished(two, 504, 60_000.4, "DeadlineExceeded", truncated=True, release="e" * 64, response=b"x" * 101)
        )
        await record.outcome(Outcome(one, "comment", "fine", AT_NS, "tok"))

    asyncio.run(story())
    record.close()
    tables = DeltaTables(tmp_path / "tables")
    done = fold(folder, tables)
    assert done == Folded({"inference": 2, "inference_detail": 2, "outcomes": 1}, segments=1)
    assert not listed(folder, CLOSED)
    rows = {row["databricks_request_id"]: row for row in tables.read("inference").to_pylist()}
    assert rows[one] == {
        "databricks_request_id": one, "request_date": dt.date(2026, 3, 1), "client_request_id": "mine",
        "request_time": AT, "status_code": 200, "sampling_fraction": 1.0, "execution_duration_ms": 12,
        "request": '{"q": "é"}', "response": '{"a": 1}', "logging_error_codes": None, "served_entity_id": "f" * 64,
        "requester": "tok",
    }  # fmt: skip
    assert rows[two]["request"] is None and rows[two]["response"] is None
    assert rows[two]["logging_error_codes"] == ["MAX_RESPONSE_SIZE_EXCEEDED"] and rows[two]["status_code"] == 504
    detail = {row["request_id"]: row for row in tables.read("inference_detail").to_pylist()}
    assert detail[one] == {
        "request_id": one, "request_date": dt.date(2026, 3, 1), "request_time": AT, "endpoint": "handbook",
        "release": "f" * 64, "arm": "challenger", "probability": 0.05, "unit": "c-1", "dialect": "openai",
        "groups": ["a", "b"], "status_code": 200, "error": None, "aborted": False, "truncated": False, "attempts": 2,
        "duration_ms": 12.5, "first_ms": 1.5, "usage": [("prompt_tokens", 3)], "cost": 0.25,
        "signals": [("words", 2.5)],
    }  # fmt: skip
    assert rows[two]["served_entity_id"] == detail[two]["release"] == "e" * 64  # the one that answered
    assert detail[two]["error"] == "DeadlineExceeded" and detail[two]["truncated"] is True
    assert tables.read("outcomes").to_pylist() == [
        {"request_id": one, "kind": "comment", "value": "fine", "given_at": AT, "given_by": "tok"}
    ]


def test_the_inference_table_is_exactly_the_one_of_the_ai_gateway(folder: Path, tmp_path: Path) -> None:
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    fold(folder, DeltaTables(tmp_path))
    table = DeltaTable(tmp_path / "inference")
    types = {f.name: getattr(f.type, "type", "array<string>") for f in table.schema().fields}
    assert types == {
        "databricks_request_id": "string", "request_date": "date", "client_request_id": "string",
        "request_time": "timestamp", "status_code": "integer", "sampling_fraction": "double",
        "execution_duration_ms": "long", "request": "string", "response": "string",
        "logging_error_codes": "array", "served_entity_id": "string", "requester": "string",
    }  # fmt: skip
    configuration = table.metadata().configuration
    assert configuration["delta.appendOnly"] == "true" and configuration["delta.enableChangeDataFeed"] == "true"
    with pytest.raises(RefusedByPolicy):
        DeltaTables(tmp_path).delete("inference", {"requester": ["x"]})


def test_a_request_that_ends_in_a_later_segment_holds_its_own_and_all_after_it(folder: Path, tmp_path: Path) -> None:
    a, b, c = (f"{n:032x}" for n in range(3))
    tables = DeltaTables(tmp_path / "tables")
    played(folder, [("accept", a), ("accept", b), ("finish", b)], [("accept", c), ("finish", c)])
    for _ in range(2):
        done = fold(folder, tables)
        assert done.segments == 0 and done.waiting == 2
        assert ids(tables) == ids(tables, "inference_detail") == {b: 1, c: 1}
    record = Record.open(folder)  # closes what was left open
    assert record.counts.aborted == 1
    record.close()
    done = fold(folder, tables)
    assert done.rows["inference"] == 1 and done.segments == 3 and done.waiting == 0
    assert ids(tables) == ids(tables, "inference_detail") == {a: 1, b: 1, c: 1}
    row = next(row for row in tables.read("inference_detail").to_pylist() if row["request_id"] == a)
    assert row["aborted"] is True and row["status_code"] == 500 and row["error"] == "Aborted"


@pytest.mark.parametrize(("kind", "batch", "expected"), [("memory", 1, 10), ("delta", 1 << 20, 6)])
def test_interrupted_after_any_step_every_row_is_there_once(
    tmp_path: Path, kind: str, batch: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module, "BATCH_BYTES", batch)
    names = [f"{n:032x}" for n in range(8)]
    stories = [
        [("accept", names[0]), ("accept", names[1]), ("finish", names[1]), ("outcome", names[1])],
        [("accept", names[2]), ("finish", names[0])],
        [("accept", names[3]), ("finish", names[3]), ("finish", names[2])],
    ]
    steps = 0
    for stop in range(20):
        folder = tmp_path / f"{stop}"
        tables: Tables = DeltaTables(folder / "tables") if kind == "delta" else MemoryTables()
        played(folder, *stories)
        left = [stop]

        def said(step: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Interrupted(step)

        try:
            fold(folder, tables, said)
        except Interrupted:
            steps += 1
        else:
            break
        # More arrives before it is tried again.
        played(folder, [("accept", names[4]), ("finish", names[4]), ("outcome", names[4])])
        fold(folder, tables)
        assert ids(tables) == ids(tables, "inference_detail") == dict.fromkeys(names[:5], 1)
        assert ids(tables, "outcomes") == {names[1]: 1, names[4]: 1}
        assert not listed(folder, CLOSED)
    # Three segments; of each table one commit, or where there is little room one for each segment.
    assert steps == expected


@settings(max_examples=30)
@given(st.data())
def test_any_history_of_gateways_and_folds_keeps_each_request_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    little_room = data.draw(st.booleans())
    tables = MemoryTables()
    began: list[str] = []
    for _ in range(data.draw(st.integers(1, 4))):
        record = Record.open(
            folder, durability="process", segment_bytes=data.draw(st.sampled_from([300, 2_000, 10**6]))
        )
        open_now: list[str] = []

        async def story(record: Record = record, open_now: list[str] = open_now) -> None:
            for _ in range(data.draw(st.integers(0, 15))):
                step = data.draw(st.sampled_from(["accept", "accept", "finish", "turn", "fold", "cut"]))
                if step == "accept":
                    one = request_id()
                    await record.accepted(accepted(one))
                    began.append(one)
                    open_now.append(one)
                elif step == "finish" and open_now:
                    one = open_now.pop(data.draw(st.integers(0, len(open_now) - 1)))
                    await record.finished(finished(one))
                elif step == "turn":
                    await record.turn()
                elif step == "fold":
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr(fold_module, "BATCH_BYTES", 500 if little_room else 1 << 20)
                        fold(folder, tables)
                elif step == "cut":
                    left = data.draw(st.integers(0, 4))

                    def said(_: str) -> None:
                        nonlocal left
                        left -= 1
                        if left < 0:
                            raise Interrupted

                    with contextlib.suppress(Interrupted):
                        fold(folder, tables, said)

        asyncio.run(story())
        record.close()
    Record.open(folder, durability="process").close()
    fold(folder, tables)
    assert ids(tables) == ids(tables, "inference_detail") == dict.fromkeys(began, 1)
    assert not listed(folder, CLOSED)


def test_killed_at_any_moment_the_fold_writes_each_row_once(folder: Path, tmp_path: Path) -> None:
    names = [f"{n:032x}" for n in range(400)]
    stories = [[(what, one) for one in names[n : n + 20] for what in ("accept", "finish")] for n in range(0, 400, 20)]
    played(folder, *stories)
    tables = DeltaTables(tmp_path / "tables")
    command = [sys.executable, "-m", "modelyard.fold", "--record", str(folder), "--tables", str(tmp_path / "tables")]
    for wait in (0.3, 0.5, 0.7):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).get("lost", 0) == 0
    assert ids(tables) == ids(tables, "inference_detail") == dict.fromkeys(names, 1)
    assert not listed(folder, CLOSED)


def test_two_folds_of_one_record_do_not_meet(folder: Path) -> None:
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    lock = hold(folder, "fold.lock")
    with pytest.raises(Busy):
        fold(folder, MemoryTables())
    os.close(lock)
    assert fold(folder, MemoryTables()).segments == 1


def test_no_segment_is_passed_over(folder: Path) -> None:
    names = [f"{n:032x}" for n in range(3)]
    played(folder, *([("accept", one), ("finish", one)] for one in names))
    second = listed(folder, CLOSED)[1]
    slow = second.rename(second.with_suffix(OPEN))  # somebody is still at it
    tables = MemoryTables()
    for _ in range(2):
        fold(folder, tables)
        assert ids(tables) == {names[0]: 1}
    slow.rename(second)
    fold(folder, tables)
    assert ids(tables) == ids(tables, "inference_detail") == dict.fromkeys(names, 1)


def test_what_cannot_be_written_into_tables_stays_in_the_log(folder: Path, tmp_path: Path) -> None:
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    (tmp_path / "tables").write_text("not a folder")
    with pytest.raises(StorageError):
        fold(folder, DeltaTables(tmp_path / "tables"))
    assert len(listed(folder, CLOSED)) == 1
    (tmp_path / "tables").unlink()
    tables = DeltaTables(tmp_path / "tables")
    assert fold(folder, tables).rows["inference"] == 1 and ids(tables) == {"0" * 32: 1}


def test_damage_is_told_and_costs_no_other_row(folder: Path) -> None:
    names = [f"{n:032x}" for n in range(3)]
    played(folder, [(what, one) for one in names for what in ("accept", "finish")], [("accept", "f" * 32)])
    first, second = listed(folder, CLOSED)
    data = bytearray(first.read_bytes())
    data[HEAD_BYTES + 30] ^= 1
    first.write_bytes(data)
    broken = bytearray(second.read_bytes())
    broken[0] ^= 1
    second.write_bytes(broken)
    tables = MemoryTables()
    done = fold(folder, tables)
    assert done.lost > 0 and done.strays == 1 and done.unreadable == 1
    assert ids(tables) == dict.fromkeys(names[1:], 1)
    assert len(listed(folder, DAMAGED)) == 2 and not listed(folder, CLOSED)
    assert fold(folder, tables) == Folded()


def test_rows_of_a_newer_version_are_left_where_they_are(folder: Path) -> None:
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    log = Log.open(folder)
    log.write([b"Z something new"])
    log.close()
    tables = MemoryTables()
    for _ in range(2):
        with pytest.raises(Damaged, match="newer modelyard"):
            fold(folder, tables)
    assert ids(tables) == {"0" * 32: 1} and len(listed(folder, CLOSED)) == 2


def test_what_is_no_text_is_shown_by_its_bytes(folder: Path) -> None:
    record = Record.open(folder)

    async def story() -> None:
        for body in (b"\xff\x00", "ü".encode()):
            one = request_id()
            await record.accepted(accepted(one, body, unit="\ud800"))
            await record.finished(finished(one, body))

    asyncio.run(story())
    record.close()
    tables = MemoryTables()
    fold(folder, tables)
    assert set(tables.read("inference").column("request").to_pylist()) == {"\\xff\x00", "ü"}
    assert set(tables.read("inference_detail").column("unit").to_pylist()) == {"\\ud800"}


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.just("\ud800"),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.text() | st.just("\udfff"), ODD, max_size=3),
    st.dictionaries(st.text(), ODD, max_size=3),
    st.lists(ODD, min_size=6, max_size=6),
    st.binary(max_size=20),
)
def test_no_row_keeps_the_others_out(
    tmp_path_factory: pytest.TempPathFactory, usage: Any, signals: Any, odd: list[Any], body: bytes
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    good, bad = "0" * 32, "1" * 32
    record = Record.open(folder, durability="process")

    async def story() -> None:
        await record.accepted(accepted(good))
        await record.accepted(accepted(bad, body, unit=odd[0], probability=odd[1], groups=[odd[2]]))
        await record.finished(finished(good, usage={"tokens": 3}, signals={"words": 1.5}))
        await record.finished(
            Finished(bad, 200, error=odd[3], usage=usage, signals=signals, attempts=odd[4], cost=odd[5], response=body)
        )

    asyncio.run(story())
    record.close()
    tables = MemoryTables()
    fold(folder, tables)
    rows = {row["request_id"]: row for row in tables.read("inference_detail").to_pylist()}
    assert set(rows) == {good, bad} == set(ids(tables))
    assert rows[good]["usage"] == [("tokens", 3)] and rows[good]["signals"] == [("words", 1.5)]
    kept = dict(rows[bad]["usage"])
    assert all(kept[name] == n for name, n in usage.items() if type(n) is int and abs(n) < 2**63 and name in kept)


def test_the_other_published_schemas(folder: Path) -> None:
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    tables = MemoryTables()
    fold(folder, tables)
    rows = tables.read("inference")
    old = legacy(rows, "handbook")
    assert old.schema.equals(
        pa.schema(
            [
                ("databricks_request_id", pa.string()), ("client_request_id", pa.string()), ("date", pa.date32()),
                ("timestamp_ms", pa.int64()), ("status_code", pa.int32()), ("sampling_fraction", pa.float64()),
                ("execution_time_ms", pa.int64()), ("request", pa.string()), ("response", pa.string()),
                ("request_metadata", pa.map_(pa.string(), pa.string())),
            ]
        )
    )  # fmt: skip
    (row,) = old.to_pylist()
    assert row["timestamp_ms"] == AT_NS // 10**6 and dict(row["request_metadata"])["model_version"] == "f" * 64
    new = model_services(rows)
    assert {"event_time", "invocation_id", "status_code", "latency_ms", "logging_error_codes"} <= set(new.column_names)
    assert new.num_rows == 1 and legacy(rows.slice(0, 0), "x").num_rows == 0


def test_what_was_recorded_is_written_to_a_file(folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "modelyard.yml").write_text("name: shop\nworkload: echo\n")
    out = tmp_path / "inference.parquet"
    command = [sys.executable, "-m", "modelyard", "data", "inference", str(out), "-C", str(project)]
    early = subprocess.run(command, capture_output=True, text=True, check=False)
    assert early.returncode == 2 and "nothing was recorded yet" in early.stderr and not out.exists()
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    fold(folder, DeltaTables(Layout(project, "test").tables))
    for schema, column in (
        ("ai-gateway", "request_time"),
        ("legacy", "timestamp_ms"),
        ("model-services", "event_time"),
    ):
        done = subprocess.run([*command, "--schema", schema], capture_output=True, text=True, check=True)
        assert "1 requests" in done.stdout and column in pq.read_table(out).column_names


def test_small_files_are_put_together_and_marks_survive_it(folder: Path, tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path / "tables")
    for spec in (INFERENCE, DETAIL, OUTCOMES):
        tables.ensure(spec)
    empty = INFERENCE.schema.empty_table()
    one = pa.Table.from_pylist([{"databricks_request_id": "x"}], schema=empty.schema)
    for n in range(1, 73):
        tables.append("inference", one, {"epoch": n})
    assert len(DeltaTable(tmp_path / "tables" / "inference").file_uris()) < 20
    assert tables.marks("inference", ["epoch"]) == {"epoch": 72}
    tables.append("inference", one, {"epoch": 72})
    assert tables.read("inference", ["requester"]).num_rows == 72


def test_the_command_says_what_it_did_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--record", str(folder), "--tables", str(tmp_path / "tables")]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": {}, "segments": 0}
    played(folder, [("accept", "0" * 32), ("finish", "0" * 32)])
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"inference": 1, "inference_detail": 1, "outcomes": 0}
    played(folder, [("accept", "1" * 32), ("finish", "1" * 32)])
    lock = hold(folder, "fold.lock")
    assert main(arguments) == Busy.exit_code
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "Traceback" not in said.err
    os.close(lock)


def test_where_there_is_nothing_to_do_nothing_heavy_is_imported(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from modelyard.fold import main; "
        f"main(['--record', {str(folder)!r}, '--tables', {str(tmp_path)!r}]); "
        "print(sorted({'pyarrow', 'deltalake', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
