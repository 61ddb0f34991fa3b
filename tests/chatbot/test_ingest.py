"""Documents to tables: incremental, idempotent, and whole after every interruption."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from modelyard.adapters.embed_hash import HashEmbedder
from modelyard.adapters.engine_local import LocalEngine
from modelyard.adapters.tables_delta import DeltaTables
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.clock import FakeClock, SystemClock
from modelyard.errors import Cancelled, Damaged, StorageError, UserError
from modelyard.ids import digest_bytes
from modelyard.ports.embedder import Embedder
from modelyard.ports.engine import Engine, Stage
from modelyard.ports.progress import Silent
from modelyard.ports.records import Changes, Source
from modelyard.ports.tables import Tables
from modelyard.ports.workload import Context
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot import ingest as module
from modelyard.workloads.chatbot.ingest import ingest
from modelyard.workloads.chatbot.schemas import prepare_version
from modelyard.workloads.chatbot.workload import ChatbotWorkload

SETTINGS = {"limits": {"max_file": 100_000, "seconds": 60.0, "memory": 10**9, "pages": 1000}}


def rules(number: int, amount: int = 100) -> str:
    """A document whose title says its file's name, so that renaming it changes no header."""
    return (
        f"# Rules {number} of the house\n\nThese rules hold for house {number} and its yard.\n\n"
        f"## Hotels\n\nA hotel may cost {amount} euros per night in town {number}.\n\n"
        f"## Meals\n\nA meal may cost {amount // 4} euros in town {number}. Drinks are not included.\n"
    )


class Counting:
    """The embedder, and every text it was asked for."""

    def __init__(self, digest: str = "") -> None:
        self._inner = HashEmbedder()
        self.name, self.dimension = self._inner.name, self._inner.dimension
        self.digest = digest or self._inner.digest
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, progress: Any = None) -> Any:
        self.texts += texts
        return self._inner.embed(texts, progress=progress)

    def members(self) -> Mapping[str, Path]:
        return {}

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    def taken(self) -> list[str]:
        found, self.texts = self.texts, []
        return found


class Breaking:
    """Tables that break at their `at`-th write, before or after it is done."""

    def __init__(self, inner: Tables, at: int, after: bool) -> None:
        self._inner, self._left, self._after = inner, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._breaking(found) if name in ("append", "replace", "delete") else found

    def _breaking(self, write: Any) -> Any:
        def broken(*args: Any) -> None:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise StorageError("the disk is full")
            write(*args)
            if self._left == 0:
                raise StorageError("the disk is full")

        return broken


class Remembering:
    """An engine that runs a stage once for a batch: stages are pure, and starting a parser takes its time."""

    _known: ClassVar[dict[tuple[str, bytes], list[pa.RecordBatch]]] = {}

    def run(self, stage: Stage, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            key = (repr(stage), batch.serialize().to_pybytes())
            if key not in self._known:
                self._known[key] = list(LocalEngine().run(stage, iter([batch])))
            yield from self._known[key]


@dataclass
class Ports:
    tables: Tables
    embed: Embedder
    engine: Engine

    def embedder(self, folder: Path | None = None) -> Embedder:
        return self.embed


class House:
    """A folder of documents, its tables, and what was seen of it when it was last ingested."""

    def __init__(self, folder: Path, tables: Tables | None = None, engine: Engine | None = None) -> None:
        self.folder, self.engine = folder, engine or Remembering()
        folder.mkdir(parents=True, exist_ok=True)
        self.tables = tables or MemoryTables()
        self.embedder = Counting()
        self.seen: dict[str, str] = {}

    @property
    def ctx(self) -> Context:
        ports: Any = Ports(self.tables, self.embedder, self.engine)
        return Context(SETTINGS, ports, SystemClock(), Silent(), sources=self.folder)

    def put(self, files: Mapping[str, str | bytes | None]) -> None:
        for name, content in files.items():
            path = self.folder / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def changes(self) -> Changes:
        now = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*") if p.is_file()}
        hashes = {name: digest_bytes(path.read_bytes()) for name, path in now.items()}
        changed = tuple(source(now[n], n, sha) for n, sha in sorted(hashes.items()) if self.seen.get(n) != sha)
        return Changes(changed, tuple(sorted(set(self.seen) - set(now))))

    def ingest(self, ctx: Context | None = None) -> None:
        changes = self.changes()
        ingest(ctx or self.ctx, changes)
        self.seen.update({each.path: each.sha256 for each in changes.changed})
        for name in changes.removed:
            del self.seen[name]

    def states(self) -> dict[str, str]:
        return {row["document"]: row["state"] for row in corpus.status(self.tables)}


def source(path: Path, name: str, sha256: str | None = None) -> Source:
    found = path.stat()
    return Source(name, sha256 or digest_bytes(path.read_bytes()), found.st_size, found.st_mtime_ns)


def content(tables: Tables) -> dict[str, list[Any]]:
    """Everything the tables hold that is not a time, in an order of its own."""
    found = {}
    for name, keys in (("documents_raw", 2), ("pages", 3), ("chunks", 6)):
        rows = tables.read(name)
        columns = [column for column in rows.column_names if column not in ("ingested_at", "modified")]
        listed = [list(row.values()) for row in rows.select(columns).to_pylist()]
        found[name] = sorted(listed, key=lambda row: str(row[:keys]))
    return found


def copied(tables: Tables) -> MemoryTables:
    made = MemoryTables()
    for spec in corpus.specs(HashEmbedder().dimension):
        made.ensure(spec)
        if (rows := tables.read(spec.name)).num_rows:
            made.append(spec.name, rows)
    return made


def check_whole(tables: Tables) -> None:
    """Nothing double, nothing half: documents, pages and chunks agree."""
    ready = [row for row in corpus.current(tables).values() if row.state == corpus.READY]
    keys = [(row.document, row.sha256) for row in corpus.documents(tables)]
    assert len(keys) == len(set(keys))
    held = corpus.holdings(tables)
    assert dict(held.pages) == {row.document: (row.sha256, row.pages) for row in ready}
    assert dict(held.chunks) == {row.document: (row.sha256, row.chunks) for row in ready}
    ids = tables.read("chunks", ["chunk_id"]).column("chunk_id").to_pylist()
    assert len(ids) == len(set(ids))


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "documents")
    made.put(
        {"rules-1.md": rules(1), "sub/rules-2.md": rules(2), "notes.txt": "Tea is served at four o'clock every day."}
    )
    made.ingest()
    made.embedder.taken()
    return made


def test_documents_become_rows_pages_and_chunks(house: House) -> None:
    check_whole(house.tables)
    rows = corpus.status(house.tables)
    assert [row["document"] for row in rows] == ["notes.txt", "rules-1.md", "sub/rules-2.md"]
    assert all(row["state"] == "ready" and row["pages"] and row["chunks"] and row["words"] for row in rows)
    chunks = house.tables.read("chunks").to_pylist()
    texts = {(p["document"], p["page"]): p["text"] for p in house.tables.read("pages").to_pylist()}
    for chunk in chunks:
        assert texts[chunk["document"], chunk["page"]][chunk["start"] : chunk["end"]] == chunk["text"]
    expected = HashEmbedder().embed([f"{chunk['header']}\n{chunk['text']}" for chunk in chunks])
    np.testing.assert_array_equal(expected, np.array([chunk["embedding"] for chunk in chunks], np.float32))
    raw = {row["document"]: row["content"] for row in house.tables.read("documents_raw").to_pylist()}
    assert raw["rules-1.md"] == rules(1).encode()


def test_a_second_run_writes_and_embeds_nothing(house: House) -> None:
    names = ("documents_raw", "pages", "chunks")
    before = [house.tables.version(name) for name in names]
    house.ingest()
    house.seen.clear()
    house.ingest()
    os.utime(house.folder / "rules-1.md")
    house.ingest()
    assert [house.tables.version(name) for name in names] == before
    assert house.embedder.taken() == []


def test_only_what_changed_is_embedded(house: House) -> None:
    house.put({"rules-1.md": rules(1, 140)})
    house.ingest()
    fresh = house.embedder.taken()
    assert len(fresh) == 2, "the page about the house stayed as it was"
    assert all("140" in text or "35" in text for text in fresh)
    check_whole(house.tables)
    old = [row for row in corpus.documents(house.tables) if row.state == "removed"]
    assert [(row.document, row.sha256) for row in old] == [("rules-1.md", digest_bytes(rules(1).encode()))]
    bytes_ = house.tables.read("documents_raw", ["content"], {"sha256": [old[0].sha256]}).column("content").to_pylist()
    assert bytes_ == [rules(1).encode()], "older releases still show its pages"


def test_a_document_comes_back(house: House) -> None:
    before = content(house.tables)
    house.put({"rules-1.md": rules(1, 140)})
    house.ingest()
    house.put({"rules-1.md": rules(1)})
    house.ingest()
    check_whole(house.tables)
    house.put({"rules-1.md": None})
    house.ingest()
    assert house.states() == {"notes.txt": "ready", "sub/rules-2.md": "ready"}
    check_whole(house.tables)
    house.put({"rules-1.md": rules(1)})
    house.ingest()
    after = content(house.tables)
    assert after["chunks"] == before["chunks"] and after["pages"] == before["pages"]
    check_whole(house.tables)


def test_a_renamed_document_is_not_embedded_again(house: House) -> None:
    house.put({"rules-1.md": None, "house-1.md": rules(1)})
    house.ingest()
    assert house.embedder.taken() == []
    assert set(house.states()) == {"notes.txt", "house-1.md", "sub/rules-2.md"}
    # The new file takes the old name, and the old file another: both in one run.
    house.put({"house-1.md": rules(3), "the-house-1.md": rules(1)})
    house.ingest()
    assert all("3" in text for text in house.embedder.taken())
    check_whole(house.tables)


def test_equal_texts_are_embedded_once(house: House) -> None:
    house.put({"house-2.md": rules(2), "of-house-2.md": rules(2)})
    house.ingest()
    assert house.embedder.taken() == []


def test_what_cannot_be_read_is_quarantined_with_the_reason(house: House) -> None:
    bad = {
        "photo.png": b"\x89PNG\r\n\x1a\n",
        "empty.txt": b"",
        "broken.pdf": b"%PDF-1.7\nnothing of a PDF",
        "blank.md": "\n \n",
        "large.txt": "word " * 30_000,
    }
    house.put(bad)
    house.ingest()
    rows = {row["document"]: row for row in corpus.status(house.tables)}
    for name in bad:
        assert rows[name]["state"] == "quarantined", name
        assert rows[name]["reason"] and "\n" not in rows[name]["reason"]
        assert rows[name]["chunks"] == 0
    assert rows["rules-1.md"]["state"] == "ready"
    check_whole(house.tables)
    assert {name for name, _ in ChatbotWorkload().snapshot(house.ctx).entries} == {
        "notes.txt",
        "rules-1.md",
        "sub/rules-2.md",
    }
    house.put({"broken.pdf": None, "empty.txt": "Now there is something in it to read."})
    house.ingest()
    assert house.states()["empty.txt"] == "ready"
    assert "broken.pdf" not in house.states()


def test_a_readable_document_that_breaks_leaves_the_corpus_and_may_return(house: House) -> None:
    house.put({"rules-1.md": b"\x00\x01\x02" * 100})
    house.ingest()
    assert house.states()["rules-1.md"] == "quarantined"
    check_whole(house.tables)
    house.put({"rules-1.md": rules(1)})
    house.ingest()
    assert house.states()["rules-1.md"] == "ready"
    check_whole(house.tables)


def test_files_that_the_scan_could_not_open(house: House) -> None:
    refused = Changes((), (), {"rules-1.md": "permission denied", "link.md": "a link that leads nowhere"})
    ingest(house.ctx, refused)
    assert house.states()["rules-1.md"] == house.states()["link.md"] == "quarantined"
    check_whole(house.tables)
    before = house.tables.version("documents_raw")
    ingest(house.ctx, refused)
    assert house.tables.version("documents_raw") == before
    ingest(house.ctx, Changes((source(house.folder / "rules-1.md", "rules-1.md"),), ("link.md",)))
    assert house.states() == {"notes.txt": "ready", "rules-1.md": "ready", "sub/rules-2.md": "ready"}
    check_whole(house.tables)


def test_a_file_that_vanishes_or_changes_before_it_is_read(house: House) -> None:
    gone = Source("gone.md", "0" * 64, 100, 0)
    moving = replace(source(house.folder / "notes.txt", "notes.txt"), sha256="1" * 64)
    ingest(house.ctx, Changes((gone, moving), ()))
    rows = {row["document"]: row for row in corpus.status(house.tables)}
    assert rows["gone.md"]["state"] == "quarantined"
    assert rows["gone.md"]["reason"] == "it vanished before it was read"
    row = corpus.current(house.tables)["notes.txt"]
    assert row.sha256 == digest_bytes((house.folder / "notes.txt").read_bytes()), "what was parsed is what was hashed"
    house.put({"gone.md": rules(9)})
    ingest(house.ctx, Changes((), ()))
    assert house.states()["gone.md"] == "ready", "what may pass is tried again"
    check_whole(house.tables)


def test_another_embedder_redoes_everything_from_the_stored_bytes(house: House) -> None:
    before = content(house.tables)
    house.put({"rules-1.md": None})
    house.embedder = Counting("f" * 64)
    ingest(replace(house.ctx, sources=None), Changes((), ()))
    assert len(house.embedder.taken()) == len(before["chunks"])
    after = content(house.tables)
    assert [row[0] for row in after["documents_raw"]] == [row[0] for row in before["documents_raw"]]
    assert {row.embedder for row in corpus.documents(house.tables)} == {"f" * 64}
    assert after["pages"] == before["pages"]
    check_whole(house.tables)


def test_vectors_of_another_length_are_refused_until_a_person_decides(house: House) -> None:
    house.embedder = Counting("e" * 64)
    house.embedder.dimension = 99
    with pytest.raises(UserError, match="delete the folder tables/chunks"):
        ingest(house.ctx, Changes((), ()))
    check_whole(house.tables)


def test_another_way_to_prepare_redoes_everything_and_embeds_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ingest", "corpus"):
        monkeypatch.setattr(f"modelyard.workloads.chatbot.{name}.prepare_version", f"{prepare_version}+more")
    ingest(replace(house.ctx, sources=None), Changes((), ()))
    assert {row.prepared for row in corpus.documents(house.tables)} == {f"{prepare_version}+more"}
    assert house.embedder.taken() == []
    check_whole(house.tables)


def test_a_build_refuses_tables_that_are_not_of_the_snapshot(house: House) -> None:
    snapshot = ChatbotWorkload().snapshot(house.ctx)
    digest = house.embedder.digest
    shown = corpus.visible(house.tables, snapshot, digest)
    assert set(shown.values()) == {name for name, _ in snapshot.entries}
    with pytest.raises(Damaged, match="prepare again"):
        corpus.visible(house.tables, snapshot, "another embedder")
    house.tables.delete("chunks", {"document": ["notes.txt"]})
    with pytest.raises(Damaged, match=r"notes\.txt"):
        corpus.visible(house.tables, snapshot, digest)
    ingest(house.ctx, Changes((), ()))
    assert corpus.visible(house.tables, snapshot, digest) == shown, "it heals itself"


def second_day(house: House) -> None:
    """One of everything: changed, renamed, removed, new, unreadable."""
    house.put(
        {
            "rules-1.md": rules(1, 140),
            "sub/rules-2.md": None,
            "house-2.md": rules(2),
            "notes.txt": b"\x00\x01" * 200,
            "new.txt": "Coffee is served at ten o'clock in the morning.",
        }
    )


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_broken_at_any_write_it_goes_on_where_it_stopped(
    house: House, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION_DOCUMENTS", 2)
    first, seen = copied(house.tables), dict(house.seen)
    second_day(house)
    house.ingest()
    expected = content(house.tables)
    for at in range(1, 100):
        tables = copied(first)
        house.tables, house.seen = Breaking(tables, at, after), dict(seen)  # type: ignore[assignment]
        try:
            house.ingest()
        except StorageError:
            house.tables = tables
            house.ingest()
        else:
            assert at > 5
            break
        check_whole(tables)
        assert content(tables) == expected, f"broken {'after' if after else 'before'} write {at}"


def test_a_half_done_change_that_was_taken_back(house: House) -> None:
    """Killed between chunks and the row of the document; then the user undoes the change."""
    before = content(house.tables)
    house.put({"rules-1.md": rules(1, 140)})
    tables = house.tables
    house.tables = Breaking(tables, 2, after=True)  # type: ignore[assignment]
    with pytest.raises(StorageError):
        house.ingest()
    house.tables = tables
    house.put({"rules-1.md": rules(1)})
    ingest(house.ctx, Changes((), ()))
    assert content(tables) == before


def test_an_interrupted_ingest_keeps_its_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION_DOCUMENTS", 2)
    house = House(tmp_path / "documents")
    house.put({f"rules-{i}.md": rules(i) for i in range(6)})
    done = 0

    def cancelled() -> bool:
        return len(corpus.documents(house.tables)) >= 4

    with pytest.raises(Cancelled, match="goes on where it stopped"):
        house.ingest(replace(house.ctx, cancelled=cancelled))
    done = len(corpus.current(house.tables))
    assert done == 4
    house.embedder.taken()
    house.ingest()
    assert len(house.embedder.taken()) == 6, "two documents of three passages"
    assert len(house.states()) == 6
    check_whole(house.tables)


class Slow:
    """An engine that takes seconds over each document, by a clock of its own."""

    def __init__(self, seconds: float) -> None:
        self.clock, self._seconds, self._inner = FakeClock(), seconds, Remembering()

    def run(self, stage: Stage, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if "content" in batch.schema.names:
                self.clock.advance(self._seconds)
            yield from self._inner.run(stage, iter([batch]))


@pytest.mark.parametrize(("seconds", "kept"), [(4.0, 5), (60.0, 6), (0.001, 0)])
def test_an_interrupted_ingest_loses_some_seconds(tmp_path: Path, seconds: float, kept: int) -> None:
    """Eight documents lie in one portion, unless reading them takes its time."""
    slow = Slow(seconds)
    house = House(tmp_path / "documents", engine=slow)
    house.put({f"rules-{i}.md": rules(i) for i in range(8)})

    def cancelled() -> bool:
        return slow.clock.monotonic() > 7.5 * seconds

    ctx = replace(house.ctx, clock=slow.clock, cancelled=cancelled)
    with pytest.raises(Cancelled, match="goes on where it stopped"):
        house.ingest(ctx)
    assert len(corpus.current(house.tables)) == kept
    house.embedder.taken()
    house.ingest()
    assert len(house.embedder.taken()) == 3 * (8 - kept)
    check_whole(house.tables)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_ingest import DeltaTables, House, LocalEngine
house = House(Path({folder!r}), DeltaTables(Path({tables!r})), LocalEngine())
print("ready", flush=True)
house.ingest()
print("done", flush=True)
"""


def _killed(folder: Path, tables: Path, after: float) -> bool:
    """Ingest in a process of its own and kill it; whether it was done before."""
    code = CHILD.format(here=str(Path(__file__).parent), folder=str(folder), tables=str(tables))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(after)
    os.killpg(child.pid, signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    return b"done" in rest


@pytest.mark.proof
def test_killed_at_random_moments_nothing_is_double_or_half(tmp_path: Path) -> None:
    folder, store = tmp_path / "documents", tmp_path / "tables"
    house = House(folder, engine=LocalEngine())
    house.put({f"rules-{i}.md": rules(i) for i in range(80)})
    house.ingest()
    rng = random.Random(7)
    kills = 0
    for _ in range(4):
        if _killed(folder, store, rng.uniform(0.0, 1.2)):
            break
        kills += 1
    killed = House(folder, DeltaTables(store), LocalEngine())
    killed.ingest()
    assert kills > 0
    check_whole(killed.tables)
    assert content(killed.tables) == content(house.tables)
