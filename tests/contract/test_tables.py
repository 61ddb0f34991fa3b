"""What all tables promise, and what Delta on a disk in particular has to withstand."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.adapters import tables_delta
from modelyard.adapters.tables_delta import (
    FILE_BYTES,
    GROUP_BYTES,
    SMALL_FILES,
    DeltaTables,
    compaction_due,
    group_rows,
)
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.errors import Damaged, ModelyardError, NotFound, RefusedByPolicy, StorageError
from modelyard.ports.tables import Match, Tables, TableSpec

TABLES: dict[str, Callable[[Path], Tables]] = {
    "delta": lambda folder: DeltaTables(folder / "tables"),
    "memory": lambda folder: MemoryTables(),
}
SCHEMA = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("page", pa.int32()),
        pa.field("Long Name", pa.string()),
        pa.field(
            "words", pa.list_(pa.struct([pa.field("x", pa.float32()), pa.field("s", pa.string())])), nullable=False
        ),
        pa.field("content", pa.binary()),
    ]
)
SPEC = TableSpec("pages", SCHEMA, feed=True)
EVIL = [
    "it's",
    "a''b",
    'q"q',
    "line\nbreak",
    "\r\n",
    "🦊",
    "é",
    "e\u0301",
    "back\\slash",
    "%_",
    "--x",
    "/*",
    "$1",
    "?",
    "\x00",
    " ",
]


@pytest.fixture(params=sorted(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Tables:
    return TABLES[request.param](tmp_path)


def rows(documents: Sequence[str], each: int = 2, text: str = "text") -> pa.Table:
    values = [
        {"document": d, "page": p, "Long Name": f"{text} {p}", "words": [{"x": 0.5, "s": d}], "content": b"\0\xff"}
        for d in documents
        for p in range(each)
    ]
    return pa.Table.from_pylist(values, schema=SCHEMA)


def documents(table: pa.Table) -> Counter[str]:
    return Counter(table.column("document").to_pylist())


def as_set(table: pa.Table) -> Counter[str]:
    return Counter(repr(row) for row in table.to_pylist())


def needs(tables: Tables, capability: str) -> None:
    if capability not in tables.capabilities:
        pytest.skip(f"{type(tables).__name__} does not do {capability}")


def test_empty_at_start(tables: Tables) -> None:
    assert list(tables.names()) == []
    for act in (
        lambda: tables.read("pages"),
        lambda: tables.scan("pages"),
        lambda: tables.append("pages", rows(["a"])),
        lambda: tables.replace("pages", rows(["a"]), {"document": ["a"]}),
        lambda: tables.delete("pages", {"document": ["a"]}),
        lambda: tables.version("pages"),
        lambda: tables.changes("pages", 0),
    ):
        with pytest.raises(NotFound, match="pages"):
            act()


def test_a_table_made_is_empty_and_made_again_is_untouched(tables: Tables) -> None:
    tables.ensure(SPEC)
    assert tables.read("pages").schema.equals(SCHEMA) and tables.read("pages").num_rows == 0
    tables.append("pages", rows(["a"]))
    before = tables.version("pages")
    tables.ensure(SPEC)
    assert tables.version("pages") == before
    assert tables.read("pages").num_rows == 2 and list(tables.names()) == ["pages"]


EVERY = pa.schema(
    {
        "s": pa.string(), "b": pa.binary(), "t": pa.bool_(), "i8": pa.int8(), "i16": pa.int16(), "i32": pa.int32(),
        "i64": pa.int64(), "f32": pa.float32(), "f64": pa.float64(), "d": pa.date32(),
        "at": pa.timestamp("us", tz="UTC"), "local": pa.timestamp("us"),
        "money": pa.decimal128(10, 2), "list": pa.list_(pa.list_(pa.string())),
        "map": pa.map_(pa.string(), pa.int32()), "in": pa.struct([pa.field("a", pa.list_(pa.binary()))]),
    }
)  # fmt: skip


def test_every_type_that_is_kept_comes_back_as_it_was_declared(tables: Tables) -> None:
    tables.ensure(TableSpec("every", EVERY))
    row = {
        "s": "é", "b": b"\xff", "t": True, "i8": -8, "i16": 16, "i32": 32, "i64": 2**62, "f32": 0.5, "f64": 0.1,
        "d": dt.date(2026, 2, 28), "at": dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        "local": dt.datetime(2026, 1, 2), "money": Decimal("-12.50"), "list": [["a", None], []],
        "map": [("k", 1)], "in": {"a": [b"x"]},
    }  # fmt: skip
    given_rows = pa.Table.from_pylist([row, dict.fromkeys(row)], schema=EVERY)
    tables.append("every", given_rows)
    got = tables.read("every")
    assert got.schema.equals(EVERY) and as_set(got) == as_set(given_rows)
    assert str(got.schema) == str(EVERY)  # down to the names of list items


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.list_(pa.float32(), 3), pa.uint8(), pa.timestamp("ms"), pa.null(), pa.float16()],
    ids=str,
)
def test_types_that_would_come_back_as_others_are_refused(tables: Tables, kind: pa.DataType) -> None:
    with pytest.raises(ValueError, match="not kept"):
        tables.ensure(TableSpec("pages", pa.schema([pa.field("a", kind)])))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "1a", "a'b", "ä"])
def test_names_that_cannot_be_tables(tables: Tables, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a table"):
        tables.ensure(TableSpec(name, SCHEMA))


def test_columns_can_be_added(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a", "b"]))
    wider = TableSpec("pages", pa.schema([*SCHEMA, pa.field("more", pa.list_(pa.string()))]), feed=True)
    tables.ensure(wider)
    assert tables.read("pages").schema.equals(wider.schema)
    assert tables.read("pages").column("more").null_count == 4
    tables.replace("pages", rows(["a"], 1), {"document": ["a"]})
    tables.append("pages", rows(["c"]).append_column("more", pa.array([["x"], None])))
    assert documents(tables.read("pages")) == {"a": 1, "b": 2, "c": 2}
    assert tables.read("pages", ["more"], {"document": ["c"]}).to_pylist() == [{"more": ["x"]}, {"more": None}]
    # A writer of the day before, who does not know the column, goes on.
    tables.ensure(SPEC)
    assert "more" in tables.read("pages").column_names


@pytest.mark.parametrize(
    "column",
    [
        pa.field("page", pa.int64()),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("document", pa.string(), nullable=True),
        pa.field("new", pa.string(), nullable=False),
    ],
    ids=str,
)
def test_a_column_cannot_become_another(tables: Tables, column: pa.Field) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a"]))
    others = [c for c in SCHEMA if c.name != column.name]
    with pytest.raises(RefusedByPolicy, match=column.name):
        tables.ensure(TableSpec("pages", pa.schema([*others, column]), feed=True))
    assert tables.read("pages").schema.equals(SCHEMA)


def test_reading_takes_columns_and_matches(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a", "b", "c"]))
    got = tables.read("pages", columns=["page", "document"], match={"document": ["a", "c", "nope", "a"]})
    assert got.column_names == ["page", "document"] and documents(got) == {"a": 2, "c": 2}
    # A column that is matched need not be read.
    assert tables.read("pages", ["page"], {"document": ["a"], "Long Name": ["text 1"]}).to_pylist() == [{"page": 1}]
    assert tables.read("pages", match={"document": []}).num_rows == 0
    assert tables.read("pages", match={}).num_rows == 6
    assert sum(batch.num_rows for batch in tables.scan("pages", match={"document": ["b"]})) == 2
    for batch in tables.scan("pages", ["content"]):
        assert batch.schema.equals(pa.schema([SCHEMA.field("content")]))


def test_what_is_not_there_cannot_be_asked_for(tables: Tables) -> None:
    tables.ensure(SPEC)
    for act in (
        lambda: tables.read("pages", ["nope"]),
        lambda: tables.read("pages", []),
        lambda: list(tables.scan("pages", match={"nope": ["a"]})),
        lambda: list(tables.scan("pages", match={"page": ["1"]})),
        lambda: tables.delete("pages", {"nope": []}),
    ):
        with pytest.raises(ValueError):
            act()


def test_rows_are_fitted_or_refused_whole(tables: Tables) -> None:
    tables.ensure(SPEC)
    one = rows(["a"], 1)
    shuffled = one.select(["words", "page", "document"]).cast(
        pa.schema([SCHEMA.field("words"), pa.field("page", pa.int64()), pa.field("document", pa.large_string())])
    )
    tables.append("pages", shuffled)
    (row,) = tables.read("pages").to_pylist()
    assert row == {"document": "a", "page": 0, "Long Name": None, "words": [{"x": 0.5, "s": "a"}], "content": None}
    for wrong in (
        one.append_column("nope", pa.array([1])),
        one.drop_columns(["document"]),
        one.set_column(0, "document", pa.array([None], pa.string())),
        one.set_column(1, "page", pa.array([2**40])),
        one.set_column(1, "page", pa.array(["not a number"])),
    ):
        with pytest.raises(ValueError):
            tables.append("pages", wrong)
    assert tables.read("pages").num_rows == 1 and tables.version("pages") == 1


@pytest.mark.parametrize("value", EVIL, ids=repr)
def test_values_are_data_and_never_syntax(tables: Tables, value: str) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["other", value, value + "'"]))
    tables.replace("pages", rows([value], 1), {"document": [value], "Long Name": ["text 0", "text 1", value]})
    assert documents(tables.read("pages")) == {"other": 2, value: 1, value + "'": 2}
    assert documents(tables.read("pages", match={"document": [value]})) == {value: 1}
    tables.delete("pages", {"document": [value]})
    assert documents(tables.read("pages")) == {"other": 2, value + "'": 2}


def test_replacing_again_changes_nothing(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a", "b"]))
    for _ in range(3):
        tables.replace("pages", rows(["b", "new"], 3, "changed"), {"document": ["b", "new", "absent"]})
        assert as_set(tables.read("pages")) == as_set(pa.concat_tables([rows(["a"]), rows(["b", "new"], 3, "changed")]))


def test_replacing_by_nothing_deletes_and_replacing_nothing_adds(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.replace("pages", rows(["a", "b"]), {"document": ["a", "b"]})
    assert documents(tables.read("pages")) == {"a": 2, "b": 2}
    tables.replace("pages", rows([]), {"document": ["a"]})
    assert documents(tables.read("pages")) == {"b": 2}
    tables.replace("pages", rows(["c"]), {})
    assert documents(tables.read("pages")) == {"c": 2}


def test_rows_that_do_not_match_cannot_replace(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a"]))
    for match in ({"document": ["a"]}, {"document": []}, {"document": ["b"], "Long Name": ["text 0"]}):
        with pytest.raises(ValueError, match="must themselves match"):
            tables.replace("pages", rows(["b"]), match)
    assert documents(tables.read("pages")) == {"a": 2}


def test_writing_nothing_makes_no_version(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a"]))
    before = tables.version("pages")
    tables.append("pages", rows([]))
    tables.delete("pages", {"document": ["nope"]})
    tables.delete("pages", {"document": []})
    tables.replace("pages", rows([]), {"document": ["nope"]})
    tables.replace("pages", rows([]), {"document": []})
    assert tables.version("pages") == before and tables.read("pages").num_rows == 2
    tables.delete("pages", {})
    assert tables.version("pages") == before + 1 and tables.read("pages").num_rows == 0


def test_rows_with_a_mark_are_added_once(tables: Tables) -> None:
    tables.ensure(SPEC)
    assert tables.marks("pages", ["a", "b"]) == {}
    for _ in range(3):
        tables.append("pages", rows(["x"]), {"a": 5, "b": 0})
    tables.append("pages", rows(["y"]), {"a": 4})
    tables.append("pages", rows(["y"]), {"a": 6, "b": 0})
    assert documents(tables.read("pages")) == {"x": 2} and tables.marks("pages", ["a", "b", "c"]) == {"a": 5, "b": 0}
    tables.append("pages", rows([]), {"a": 9})
    tables.append("pages", rows(["z"]), {"a": 6})
    tables.append("pages", rows(["w"]))
    assert documents(tables.read("pages")) == {"x": 2, "z": 2, "w": 2}
    assert tables.marks("pages", ["a"]) == {"a": 6}


def test_of_many_that_add_by_the_same_mark_one_does(tables: Tables) -> None:
    tables.ensure(SPEC)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: tables.append("pages", rows([str(n)], 1), {"source": n // 8}), range(32)))
    assert tables.read("pages").num_rows <= 4 and tables.marks("pages", ["source"]) == {"source": 3}


def test_a_table_that_is_only_added_to(tables: Tables) -> None:
    spec = TableSpec("pages", SCHEMA, feed=True, append_only=True)
    for _ in range(2):
        tables.ensure(spec)
    tables.append("pages", rows(["a"]))
    with pytest.raises(RefusedByPolicy, match="only added"):
        tables.replace("pages", rows(["a"]), {"document": ["a"]})
    with pytest.raises(RefusedByPolicy, match="only added"):
        tables.delete("pages", {"document": ["a"]})
    tables.append("pages", rows(["b"]), {"source": 1})
    assert documents(tables.read("pages")) == {"a": 2, "b": 2}


def test_a_null_never_matches(tables: Tables) -> None:
    tables.ensure(SPEC)
    tables.append("pages", rows(["a"]).set_column(2, "Long Name", pa.array([None, ""], pa.string())))
    tables.delete("pages", {"Long Name": ["", "None"]})
    assert tables.read("pages").column("Long Name").to_pylist() == [None]


@pytest.mark.parametrize("count", [tables_delta.IN_SQL + 1, 40_000])
def test_a_match_may_name_very_many_values(tables: Tables, count: int) -> None:
    tables.ensure(SPEC)
    kept = "it's kept"
    many = [f"folder/it's {i:06d}.pdf" for i in range(0, count * 3, 3)]
    between = many[0] + "x"  # within their range, not among them
    tables.append("pages", rows([kept, between, *many[:500]]))
    tables.replace("pages", rows(many, 1), {"document": many, "Long Name": ["text 0", "text 1"]})
    assert tables.read("pages", ["page"]).num_rows == count + 4
    tables.replace("pages", rows(many, 1), {"document": many})
    got = tables.read("pages", ["document", "page"])
    assert got.num_rows == count + 4
    assert documents(tables.read("pages", ["page", "document"], {"document": many})) == Counter(many)
    assert tables.read("pages", ["page"], {"document": many}).column_names == ["page"]
    before = tables.version("pages")
    tables.delete("pages", {"document": many})
    assert documents(tables.read("pages")) == {kept: 2, between: 2}
    assert tables.version("pages") == before + 1
    tables.delete("pages", {"document": many})
    assert tables.version("pages") == before + 1


def test_the_feed_tells_what_changed(tables: Tables) -> None:
    needs(tables, "feed")
    tables.ensure(SPEC)
    start = tables.version("pages")
    assert tables.changes("pages", start).num_rows == 0 and tables.changes("pages", start + 5).num_rows == 0
    tables.append("pages", rows(["a", "b"]))
    tables.replace("pages", rows(["a"], 1, "new"), {"document": ["a"]})
    tables.delete("pages", {"document": ["b"]})
    changes = tables.changes("pages", start)
    assert changes.schema.equals(
        pa.schema([*SCHEMA, pa.field("_change_type", pa.string()), pa.field("_commit_version", pa.int64())])
    )
    assert net(changes) == as_set(tables.read("pages"))
    later = tables.changes("pages", start + 2).select(["document", "_change_type", "_commit_version"]).to_pylist()
    assert later == 2 * [{"document": "b", "_change_type": "delete", "_commit_version": start + 3}]


def net(changes: pa.Table) -> Counter[str]:
    state: Counter[str] = Counter()
    for row in sorted(changes.to_pylist(), key=lambda row: row["_commit_version"]):
        kind, _ = row.pop("_change_type"), row.pop("_commit_version")
        state[repr(row)] += 1 if kind in ("insert", "update_postimage") else -1
    return +state


def test_a_table_without_a_feed_says_so(tables: Tables) -> None:
    tables.ensure(TableSpec("pages", SCHEMA))
    tables.append("pages", rows(["a"]))
    with pytest.raises((NotFound, NotImplementedError), match="feed"):
        tables.changes("pages", 0)
    needs(tables, "feed")
    tables.ensure(SPEC)
    since = tables.version("pages")
    tables.append("pages", rows(["b"]))
    assert documents(tables.changes("pages", since)) == {"b": 2}


DOCUMENTS = st.sampled_from(["a", "b", "it's", "🦊\n"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "replace", "delete"]), st.sets(DOCUMENTS), st.sets(DOCUMENTS), st.integers(0, 2)
    ),
    max_size=6,
)


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_any_sequence_of_writes_is_a_list_of_rows(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    @given(STEPS)
    @settings(max_examples=15 if kind == "delta" else 60, deadline=None, suppress_health_check=list(HealthCheck))
    def check(steps: Sequence[tuple[str, set[str], set[str], int]]) -> None:
        tables = TABLES[kind](tmp_path_factory.mktemp("tables"))
        tables.ensure(SPEC)
        model: Counter[str] = Counter()
        start = tables.version("pages")
        for number, (step, named, extra, each) in enumerate(steps):
            match: Match = {"document": sorted(named | extra)}
            new = rows(sorted(named), each, f"step {number}")
            if step != "append":
                model = Counter({d: n for d, n in model.items() if d not in named | extra})
            if step == "append":
                tables.append("pages", new)
            elif step == "replace":
                tables.replace("pages", new, match)
            else:
                tables.delete("pages", match)
            if step != "delete":
                model += documents(new)
            assert documents(tables.read("pages")) == model
        assert net(tables.changes("pages", start)) == as_set(tables.read("pages"))

    check()


def test_threads_write_together_and_nothing_is_lost(tables: Tables) -> None:
    tables.ensure(SPEC)

    def writer(name: str) -> None:
        for i in range(4):
            tables.replace("pages", rows([name], i + 1), {"document": [name]})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(writer, [f"writer {i}" for i in range(3)]))
    assert documents(tables.read("pages")) == {f"writer {i}": 4 for i in range(3)}


# What Delta on a disk has to withstand.


@pytest.fixture
def delta(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path / "tables")


CONSTRAINED = TableSpec("pages", SCHEMA, constraints={"named": "document <> ''", "paged": "page >= 0"})


def test_constraints_hold_whatever_the_way_in(delta: DeltaTables, tmp_path: Path) -> None:
    delta.ensure(CONSTRAINED)
    version = delta.version("pages")
    delta.ensure(CONSTRAINED)
    assert delta.version("pages") == version
    for write in (
        lambda: delta.append("pages", rows(["a", ""])),
        lambda: delta.replace("pages", rows([""]), {"document": [""]}),
        lambda: delta.replace("pages", rows([""]), {"document": ["", *map(str, range(2000))]}),
    ):
        with pytest.raises(ValueError, match="constraint"):
            write()
    assert delta.version("pages") == version and delta.read("pages").num_rows == 0
    by_hand = deltalake.DeltaTable(tmp_path / "tables" / "pages")
    with pytest.raises(deltalake.exceptions.DeltaError):
        deltalake.write_deltalake(by_hand, rows([""]), mode="append")


def test_a_constraint_that_stored_rows_break_is_refused(delta: DeltaTables) -> None:
    delta.ensure(TableSpec("pages", SCHEMA))
    delta.append("pages", rows([""]))
    with pytest.raises((ValueError, ModelyardError)):
        delta.ensure(CONSTRAINED)


def test_it_is_a_plain_delta_table_after_everything(delta: DeltaTables, tmp_path: Path) -> None:
    delta.ensure(SPEC)
    delta.append("pages", rows(["a", "b"]))
    delta.replace("pages", rows(["a"], 1), {"document": ["a"]})
    delta.replace("pages", rows(["b"], 1), {"document": ["b", *map(str, range(2000))]})
    plain = deltalake.DeltaTable(tmp_path / "tables" / "pages")
    assert documents(plain.to_pyarrow_table()) == {"a": 1, "b": 1}
    assert plain.metadata().configuration["delta.enableChangeDataFeed"] == "true"


def test_other_folders_are_no_tables(delta: DeltaTables, tmp_path: Path) -> None:
    (tmp_path / "tables" / "half" / "_delta_log").mkdir(parents=True)
    (tmp_path / "tables" / "other").mkdir()
    delta.ensure(SPEC)
    assert list(delta.names()) == ["pages"]
    delta.ensure(TableSpec("half", SCHEMA))  # a crash left the folder and no commit
    assert list(delta.names()) == ["half", "pages"]


def test_a_scan_is_a_snapshot(delta: DeltaTables) -> None:
    delta.ensure(SPEC)
    delta.append("pages", rows(["a", "b"]))
    scan = iter(delta.scan("pages"))
    delta.delete("pages", {})
    assert sum(batch.num_rows for batch in scan) == 4


def test_small_files_are_put_together(delta: DeltaTables, tmp_path: Path) -> None:
    delta.ensure(SPEC)
    start = delta.version("pages")
    for i in range(90):
        delta.append("pages", rows([str(i)], 1))
    table = deltalake.DeltaTable(tmp_path / "tables" / "pages")
    assert len(table.file_uris()) < 70
    assert documents(delta.read("pages")) == Counter(map(str, range(90)))
    assert net(delta.changes("pages", start)) == as_set(delta.read("pages"))
    assert list((tmp_path / "tables" / "pages" / "_delta_log").glob("*.checkpoint.parquet"))


def test_when_compaction_is_due() -> None:
    assert not compaction_due([])
    assert not compaction_due([FILE_BYTES] * 1000)
    assert not compaction_due([1] * (SMALL_FILES - 1) + [FILE_BYTES])
    assert compaction_due([1] * SMALL_FILES)


@given(st.integers(0, 10**9), st.integers(0, 10**13))
def test_row_groups_stay_small(count: int, size: int) -> None:
    group = group_rows(count, size)
    assert 16 <= group <= 1 << 20
    if count and size and group > 16:
        assert group * size / count <= GROUP_BYTES * 1.01


WRITER = """
import sys
from pathlib import Path
import pyarrow as pa
from modelyard.adapters.tables_delta import DeltaTables
from modelyard.ports.tables import TableSpec
schema = pa.schema([pa.field("document", pa.string(), nullable=False), pa.field("n", pa.int64())])
tables = DeltaTables(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
name = sys.argv[2]
tables.ensure(TableSpec("t", schema, feed=True, constraints={"ok": "n >= 0"}))
for i in range(int(sys.argv[3])):
    tables.replace("t", pa.table({"document": [name] * 3, "n": [i] * 3}, schema=schema), {"document": [name]})
    print(i, flush=True)
"""


def start_writer(root: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), name, str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_write_together_from_the_first_commit_on(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, f"it's {i}", 6) for i in range(3)]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    got = Counter(map(json.dumps, DeltaTables(tmp_path).read("t").to_pylist()))
    assert got == {json.dumps({"document": f"it's {i}", "n": 5}): 3 for i in range(3)}


def test_a_writer_killed_in_the_middle_leaves_whole_commits(tmp_path: Path) -> None:
    for lines in (2, 5):
        writer = start_writer(tmp_path, "a", 1000)
        assert writer.stdin is not None and writer.stdout is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        for _ in range(lines):
            writer.stdout.readline()
        writer.kill()
        writer.communicate()
        values = DeltaTables(tmp_path).read("t").column("n").to_pylist()
        assert len(values) == 3 and len(set(values)) == 1


FULL = """
import os, resource, signal, sys
from pathlib import Path
import pyarrow as pa
from modelyard.adapters.tables_delta import DeltaTables
from modelyard.errors import StorageError
from modelyard.ports.tables import TableSpec
schema = pa.schema([pa.field("document", pa.string(), nullable=False), pa.field("b", pa.binary())])
tables = DeltaTables(Path(sys.argv[1]))
tables.ensure(TableSpec("t", schema))
tables.append("t", pa.table({"document": ["a"], "b": [b"x"]}, schema=schema))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
big = pa.table({"document": ["b"] * 9, "b": [os.urandom(100_000) for _ in range(9)]}, schema=schema)
for write in (lambda: tables.append("t", big), lambda: tables.replace("t", big, {"document": ["b"]})):
    try:
        write()
    except StorageError as error:
        print("StorageError", chr(10) in str(error), tables.read("t").num_rows)
"""


def test_a_full_disk_is_a_storage_error_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["StorageError False 1"] * 2


def test_a_root_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(StorageError):
        DeltaTables(tmp_path / "tables").ensure(SPEC)


def test_a_table_with_a_file_missing_is_damaged(delta: DeltaTables, tmp_path: Path) -> None:
    delta.ensure(SPEC)
    delta.append("pages", rows(["a"]))
    for file in (tmp_path / "tables" / "pages").glob("*.parquet"):
        file.unlink()
    with pytest.raises(Damaged, match="pages") as caught:
        delta.read("pages")
    assert "\n" not in str(caught.value)
    shutil.rmtree(tmp_path / "tables" / "pages" / "_delta_log")
    with pytest.raises(NotFound):
        delta.read("pages")


NO_PANDAS = """
import sys
class NoPandas:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoPandas)
"""


def test_pandas_is_not_needed(tmp_path: Path) -> None:
    code = NO_PANDAS + WRITER + "print(tables.read('t').num_rows, tables.changes('t', 0).num_rows)"
    command = [sys.executable, "-c", code, str(tmp_path), "a", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, input="\n")
    assert done.stdout.split("\n")[-2] == "3 9"
