"""What every index promises. The central promise, that a snapshot never changes, is never skipped."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.calc.text import analyse
from modelyard.errors import Damaged, NotFound, RequestError
from modelyard.ids import digest_file
from modelyard.ports.index import ROWS, Passage, Where

ADAPTERS = {
    "segments": ("modelyard.adapters.index_segments", "SegmentIndex", None),
    "chroma": ("modelyard.adapters.index_chroma", "ChromaIndex", "chromadb"),
}
DIMENSION = 12
WORDS = ["revenue", "cost", "profit", "margin", "lease", "tax", "asset", "debt", "share", "dividend"]


@dataclass
class Corpus:
    """Rows by number, the same wherever they are asked for; many share their vector or their words, so that ties are
    common. Remembers what was fetched."""

    fetched: list[str] = field(default_factory=list)
    batch: int = 7

    def row(self, chunk: str) -> dict[str, Any]:
        n = int(chunk[1:])
        rng = np.random.default_rng(n % 11)
        vector = rng.standard_normal(DIMENSION)
        words = [WORDS[(n % 13 + i * i) % len(WORDS)] for i in range(3 + n % 5)]
        return {
            "chunk_id": chunk,
            "document": f"d{n % 4}/é {n % 4}.pdf",
            "page": 1 + n // 4 % 3,
            "start": 10 * (n // 12),
            "end": 10 * (n // 12) + 9,
            "kind": "table" if n % 3 == 0 else "prose",
            "title": f"Report {n % 4}",
            "period": "FY2023" if n % 2 else "",
            "section": "",
            "header": f"Report {n % 4}",
            "text": " ".join(words),
            "embedding": (vector / np.linalg.norm(vector)).astype(np.float32),
        }

    def fetch(self, chunks: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(chunks), self.batch):
            some = list(chunks[start : start + self.batch])
            self.fetched += some
            yield pa.RecordBatch.from_pylist([self.row(chunk) for chunk in some], schema=ROWS)

    def passage(self, chunk: str) -> Passage:
        row = self.row(chunk)
        del row["embedding"]
        return Passage(**row)


def chunks(*numbers: int) -> list[str]:
    return [f"c{n:04d}" for n in numbers]


def order(passage: Passage) -> tuple[str, int, int, str]:
    return (passage.document, passage.page, passage.start, passage.chunk_id)


def nearest(corpus: Corpus, visible: Iterable[str], vector: np.ndarray, k: int) -> list[tuple[str, float]]:
    """The right answer of a dense search, by the definition."""
    scored = [(corpus.passage(c), float(np.dot(corpus.row(c)["embedding"].astype(float), vector))) for c in visible]
    scored.sort(key=lambda pair: (-round(pair[1], 6), order(pair[0])))
    return [(passage.chunk_id, score) for passage, score in scored[:k]]


def question(seed: int) -> np.ndarray:
    vector = np.random.default_rng(1000 + seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class Adapter:
    name: str
    module: Any
    root: Path

    def new(self) -> Any:
        """The index, as another process would open it."""
        return getattr(self.module, ADAPTERS[self.name][1])(self.root)


def load(name: str) -> Any:
    module, _, package = ADAPTERS[name]
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return importlib.import_module(module)


@pytest.fixture(params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    return Adapter(request.param, load(request.param), tmp_path / "a store")


@pytest.fixture
def index(adapter: Adapter) -> Any:
    return adapter.new()


@pytest.fixture
def corpus() -> Corpus:
    return Corpus()


def found(hits: Iterable[Any]) -> list[str]:
    return [hit.passage.chunk_id for hit in hits]


def seen(searcher: Any) -> Any:
    """All that can be seen of a snapshot, to be compared with what is seen later."""
    told: list[Any] = [len(searcher), dict(searcher.documents())]
    for document in searcher.documents():
        told += [searcher.page(document, page) for page in range(5)]
    told += [[(h.passage, h.score) for h in searcher.dense(question(seed), 9)] for seed in range(3)]
    if "lexical" in searcher.capabilities:
        told += [
            [(h.passage, h.score) for h in searcher.lexical(text, 9)] for text in ("revenue tax", "report 2 lease")
        ]
        told += [searcher.document_frequency(term) for term in analyse(" ".join(WORDS))]
    return told


def lexical(searcher: Any) -> Any:
    if "lexical" not in searcher.capabilities:
        pytest.skip(f"{type(searcher).__name__} does not declare the capability 'lexical'")
    return searcher


def test_an_empty_store_has_no_snapshots(index: Any) -> None:
    assert list(index.snapshots()) == []
    with pytest.raises(NotFound, match="s1"):
        index.open("s1")


def test_an_empty_snapshot_can_be_searched(index: Any, corpus: Corpus) -> None:
    assert index.write("s1", [], corpus.fetch).visible == 0
    searcher = index.open("s1")
    assert len(searcher) == 0
    assert list(searcher.dense(question(0), 5)) == []
    assert searcher.documents() == {}
    assert list(searcher.page("d0", 1)) == []
    if "lexical" in searcher.capabilities:
        assert list(searcher.lexical("revenue", 5)) == []
        assert searcher.document_frequency("revenu") == 0


def test_a_passage_comes_back_as_it_was_given(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(30)), corpus.fetch)
    hits = index.open("s1").dense(question(0), 30)
    assert {hit.passage.chunk_id: hit.passage for hit in hits} == {c: corpus.passage(c) for c in chunks(*range(30))}


def test_writing_counts_what_it_did_and_is_idempotent(index: Any, corpus: Corpus) -> None:
    first = index.write("s1", chunks(1, 2, 3), corpus.fetch)
    assert (first.visible, first.added) == (3, 3)
    before = seen(index.open("s1"))
    again = index.write("s1", chunks(3, 2, 1, 1), corpus.fetch)
    assert (again.visible, again.added) == (3, 0)
    assert sorted(corpus.fetched) == chunks(1, 2, 3)
    assert list(index.snapshots()) == ["s1"]
    assert seen(index.open("s1")) == before


def test_a_snapshot_cannot_be_written_again_with_other_chunks(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(1, 2, 3), corpus.fetch)
    with pytest.raises(RequestError, match="never changes"):
        index.write("s1", chunks(1, 2, 4), corpus.fetch)
    assert found(index.open("s1").dense(question(0), 9)) and corpus.fetched == chunks(1, 2, 3)


def test_only_rows_not_seen_before_are_asked_for(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(20)), corpus.fetch)
    corpus.fetched.clear()
    written = index.write("s2", chunks(*range(5, 25)), corpus.fetch)
    assert (written.visible, written.added) == (20, 5)
    assert sorted(corpus.fetched) == chunks(*range(20, 25))
    corpus.fetched.clear()
    assert index.write("s3", chunks(*range(25)), corpus.fetch).added == 0  # those that were gone are back
    assert corpus.fetched == []
    assert len(index.open("s3").dense(question(0), 99)) == 25


def test_fetch_is_not_called_when_nothing_is_missing(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(1, 2, 3), corpus.fetch)

    def never(asked: Sequence[str]) -> Iterable[pa.RecordBatch]:
        raise AssertionError(f"asked for {asked}")

    assert index.write("s2", chunks(2, 3), never).added == 0


def test_progress_counts_up_to_all(index: Any, corpus: Corpus) -> None:
    told: list[tuple[int, int]] = []
    index.write("s1", chunks(*range(20)), corpus.fetch, progress=lambda done, all_: told.append((done, all_)))
    assert told[-1] == (20, 20)
    assert told == sorted(told)


def test_rows_that_stay_away_are_an_error_and_leave_no_snapshot(index: Any, corpus: Corpus) -> None:
    with pytest.raises(Damaged, match="c0003"):
        index.write("s1", chunks(1, 2, 3), lambda asked: corpus.fetch(chunks(1, 2)))
    assert list(index.snapshots()) == []
    assert index.write("s1", chunks(1, 2, 3), corpus.fetch).visible == 3


def test_rows_nobody_asked_for_are_an_error(index: Any, corpus: Corpus) -> None:
    with pytest.raises(RequestError, match="c0009"):
        index.write("s1", chunks(1, 2), lambda asked: corpus.fetch(chunks(1, 2, 9)))
    with pytest.raises(RequestError, match="c0001"):
        index.write("s1", chunks(1, 2), lambda asked: corpus.fetch(chunks(1, 1, 2)))
    assert list(index.snapshots()) == []


def test_a_failing_fetch_leaves_no_snapshot_and_its_error_goes_through(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(1, 2), corpus.fetch)
    before = seen(index.open("s1"))

    def failing(asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from corpus.fetch(asked[:3])
        raise ConnectionResetError("the embedder went away")

    with pytest.raises(ConnectionResetError):
        index.write("s2", chunks(*range(9)), failing)
    assert list(index.snapshots()) == ["s1"]
    assert seen(index.open("s1")) == before
    assert index.write("s2", chunks(*range(9)), corpus.fetch).visible == 9


@pytest.mark.parametrize("wrong", ["dimension", "nan", "column"])
def test_rows_that_cannot_be_used_are_refused(index: Any, corpus: Corpus, wrong: str) -> None:
    def fetch(asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = [corpus.row(chunk) for chunk in asked]
        if wrong == "dimension":
            rows[-1]["embedding"] = rows[-1]["embedding"][:5]
        if wrong == "nan":
            rows[-1]["embedding"] = np.full(DIMENSION, np.nan, np.float32)
        batch = pa.RecordBatch.from_pylist(rows, schema=ROWS)
        yield batch.drop_columns(["text"]) if wrong == "column" else batch

    with pytest.raises(RequestError):
        index.write("s1", chunks(1, 2, 3), fetch)
    assert list(index.snapshots()) == []


def test_what_comes_later_never_changes_a_snapshot(index: Any, adapter: Adapter, corpus: Corpus) -> None:
    rng = np.random.default_rng(5)
    told: dict[str, Any] = {}
    open_since: dict[str, Any] = {}
    for step in range(8):
        name = f"s{step}"
        index.write(name, chunks(*rng.choice(40, size=rng.integers(1, 40), replace=False)), corpus.fetch)
        open_since[name] = index.open(name)
        told[name] = seen(open_since[name])
    for name, before in told.items():
        assert seen(open_since[name]) == before
        assert seen(adapter.new().open(name)) == before
    assert sorted(index.snapshots()) == sorted(told)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_snapshot_shows_exactly_its_chunks_in_the_right_order(name: str, data: st.DataObject) -> None:
    corpus = Corpus()
    with tempfile.TemporaryDirectory() as folder:
        adapter = Adapter(name, load(name), Path(folder) / "store")
        index = adapter.new()
        history = data.draw(st.lists(st.sets(st.integers(0, 60)), min_size=1, max_size=5))
        for step, numbers in enumerate(history):
            index.write(f"s{step}", chunks(*numbers), corpus.fetch)
        for step, numbers in enumerate(history):
            searcher = index.open(f"s{step}")
            assert len(searcher) == len(numbers)
            for k in (3, 100):
                vector = question(step)
                hits = searcher.dense(vector, k)
                right = nearest(corpus, chunks(*numbers), vector, k)
                assert [hit.score for hit in hits] == pytest.approx([score for _, score in right], abs=0.02)
                assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
                if k == 100:
                    assert sorted(found(hits)) == chunks(*sorted(numbers))
                for one, two in itertools.pairwise(hits):
                    assert one.score > two.score or order(one.passage) < order(two.passage)


def test_a_filter_comes_before_the_ranking(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(60)), corpus.fetch)
    index.write("s2", chunks(*range(8, 60)), corpus.fetch)
    searcher = index.open("s2")
    where = Where(frozenset({"d1/é 1.pdf", "no such document"}))
    mine = [c for c in chunks(*range(8, 60)) if int(c[1:]) % 4 == 1]
    hits = searcher.dense(question(0), 5, where)
    assert [h.score for h in hits] == pytest.approx([s for _, s in nearest(corpus, mine, question(0), 5)], abs=0.01)
    assert {hit.passage.document for hit in hits} == {"d1/é 1.pdf"}
    assert sorted(found(searcher.dense(question(0), 99, where))) == mine
    assert list(searcher.dense(question(0), 5, Where(frozenset()))) == []
    assert len(searcher.dense(question(0), 99, Where(None))) == 52


def test_a_filter_leaves_the_statistics_of_a_lexical_search_alone(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(60)), corpus.fetch)
    searcher = lexical(index.open("s1"))
    everywhere = {hit.passage.chunk_id: hit.score for hit in searcher.lexical("lease dividend", 99)}
    there = searcher.lexical("lease dividend", 99, Where(frozenset({"d2/é 2.pdf"})))
    assert {h.passage.chunk_id: h.score for h in there} == {
        c: s for c, s in everywhere.items() if corpus.row(c)["document"] == "d2/é 2.pdf"
    }


def test_k_is_a_limit(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(30)), corpus.fetch)
    searcher = index.open("s1")
    every = found(searcher.dense(question(1), 99))
    assert len(every) == 30
    for k in (0, 1, 7, 30):
        assert found(searcher.dense(question(1), k)) == every[:k]


def test_ties_come_in_the_order_of_document_page_start(index: Any, corpus: Corpus) -> None:
    same = [n for n in range(200) if n % 11 == 3]  # all of one vector
    for step in range(len(same)):  # many segments
        index.write(f"s{step}", chunks(*same[: step + 1]), corpus.fetch)
    searcher = index.open(f"s{len(same) - 1}")
    right = sorted((corpus.passage(c) for c in chunks(*same)), key=order)
    for k in (1, 4, len(same)):
        assert [hit.passage for hit in searcher.dense(question(2), k)] == right[:k]


def test_lexical_scores_follow_bm25(index: Any, corpus: Corpus) -> None:
    index.write("s0", chunks(*range(50)), corpus.fetch)
    index.write("s1", chunks(*range(0, 50, 2)), corpus.fetch)
    searcher = lexical(index.open("s1"))
    texts = {c: f"{corpus.row(c)['header']} {corpus.row(c)['text']}".split() for c in chunks(*range(0, 50, 2))}
    average = sum(map(len, texts.values())) / len(texts)
    expected: dict[str, float] = dict.fromkeys(texts, 0.0)
    for word in ("tax", "share"):
        holding = sum(word in words for words in texts.values())
        assert searcher.document_frequency(*analyse(word)) == holding
        for c, words in texts.items():
            tf = words.count(word)
            idf = np.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            expected[c] += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(words) / average))
    hits = searcher.lexical("What tax? And the SHARES", 99)
    assert {h.passage.chunk_id: h.score for h in hits} == pytest.approx({c: s for c, s in expected.items() if s > 0})
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert found(searcher.lexical("tax share", 3)) == found(hits)[:3]
    assert (
        list(searcher.lexical("of the", 5)) == list(searcher.lexical("", 5)) == list(searcher.lexical("xyzzy", 5)) == []
    )


def test_page_gives_its_passages_in_order(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(60)), corpus.fetch)
    index.write("s2", chunks(*range(6, 70)), corpus.fetch)
    page = index.open("s2").page("d2/é 2.pdf", 1)
    assert list(page) == [corpus.passage(c) for c in chunks(14, 26, 38, 50, 62)]
    assert list(index.open("s2").page("d2/é 2.pdf", 9)) == list(index.open("s2").page("none", 1)) == []


def test_documents_counts_pages_that_show(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(30)), corpus.fetch)
    index.write("s2", chunks(0, 4, 12, 1, 31), corpus.fetch)
    assert index.open("s2").documents() == {"d0/é 0.pdf": 2, "d1/é 1.pdf": 1, "d3/é 3.pdf": 1}


def test_a_vector_of_another_dimension_is_refused(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(1, 2, 3), corpus.fetch)
    searcher = index.open("s1")
    for vector in (np.ones(5, np.float32), np.ones((1, DIMENSION), np.float32), np.full(DIMENSION, np.nan, np.float32)):
        with pytest.raises(RequestError):
            searcher.dense(vector, 3)


def test_a_searcher_is_safe_in_several_threads(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(60)), corpus.fetch)
    index.write("s2", chunks(*range(10, 70)), corpus.fetch)
    fresh = index.open("s2")  # nothing computed yet
    start = threading.Barrier(6)

    def look(_: int) -> Any:
        start.wait()
        return [seen(fresh) for _ in range(3)]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(look, range(6)))
    assert all(one == results[0][0] for result in results for one in result)


def test_what_was_exported_is_what_is_open(index: Any, adapter: Adapter, corpus: Corpus, tmp_path: Path) -> None:
    for step in range(4):
        index.write(f"s{step}", chunks(*range(5 * step, 30 + 5 * step)), corpus.fetch)
    names = index.export("s2", tmp_path / "release")
    assert all((tmp_path / "release" / name).is_file() for name in names)
    assert {name: digest_file(tmp_path / "release" / name) for name in names} == dict(names)
    assert dict(index.export("s2", tmp_path / "release")) == dict(names)  # again, and elsewhere
    assert dict(index.export("s2", tmp_path / "other")) == dict(names)
    exported = adapter.module.open_exported(tmp_path / "release")
    assert exported.snapshot == "s2"
    assert seen(exported) == seen(index.open("s2"))
    with pytest.raises(NotFound):
        index.export("s9", tmp_path / "nothing")
    with pytest.raises(NotFound):
        adapter.module.open_exported(tmp_path)


def test_collecting_keeps_what_is_kept(index: Any, adapter: Adapter, corpus: Corpus, tmp_path: Path) -> None:
    for step in range(5):
        index.write(f"s{step}", chunks(*range(4 * step, 30 + 4 * step)), corpus.fetch)
    told = {name: seen(index.open(name)) for name in ("s1", "s3")}
    index.export("s1", tmp_path / "release")
    index.collect(frozenset({"s1", "s3", "never written"}))
    assert sorted(index.snapshots()) == ["s1", "s3"]
    assert {name: seen(adapter.new().open(name)) for name in told} == told
    assert seen(adapter.module.open_exported(tmp_path / "release")) == told["s1"]
    for gone in ("s0", "s4"):
        with pytest.raises(NotFound):
            index.open(gone)
    corpus.fetched.clear()
    index.write("s5", chunks(*range(42)), corpus.fetch)
    assert set(corpus.fetched) <= set(chunks(0, 1, 2, 3)), "rows that a kept snapshot shows are still there"
    assert {name: seen(index.open(name)) for name in told} == told
    index.collect(frozenset())
    assert list(index.snapshots()) == []
    corpus.fetched.clear()
    index.write("s6", chunks(1, 2), corpus.fetch)
    assert corpus.fetched == chunks(1, 2)
    assert len(index.open("s6")) == 2


def test_collecting_nothing_is_silent(index: Any) -> None:
    index.collect(frozenset({"s1"}))
    index.collect(frozenset())


@pytest.mark.parametrize("name", ["Prod/2026-01 ü", "..", "a" * 64, "%41", "A", "a"])
def test_any_text_names_a_snapshot(index: Any, corpus: Corpus, name: str) -> None:
    index.write(name, chunks(1), corpus.fetch)
    index.write("other", chunks(2), corpus.fetch)
    assert sorted(index.snapshots()) == sorted([name, "other"])
    assert found(index.open(name).dense(question(0), 3)) == chunks(1)


WRITER = """
    import importlib, os, signal, sys, threading, time
    sys.path.insert(0, {tests!r})
    from test_index import ADAPTERS, Corpus, chunks
    from pathlib import Path

    name, root, delay = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    module, index, _ = ADAPTERS[name]
    corpus = Corpus()

    def die():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def fetch(asked):
        for i, batch in enumerate(corpus.fetch(asked)):
            if delay < 0 and i == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
        threading.Thread(target=die, daemon=True).start()

    getattr(importlib.import_module(module), index)(root).write("killed", chunks(*range(20, 90)), fetch)
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("delay", [-1.0, 0.0, 0.01])
def test_a_killed_write_harms_nothing(adapter: Adapter, corpus: Corpus, tmp_path: Path, delay: float) -> None:
    adapter.new().write("s1", chunks(*range(40)), corpus.fetch)
    before = seen(adapter.new().open("s1"))
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER.format(tests=str(Path(__file__).parent))), "utf-8")
    done = subprocess.run(
        [sys.executable, str(script), adapter.name, str(adapter.root), str(delay)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    index = adapter.new()
    assert seen(index.open("s1")) == before
    if delay < 0:
        assert list(index.snapshots()) == ["s1"]
    # Something else comes first, then the write is repeated: both show exactly what they should.
    index.write("s2", chunks(*range(30, 60)), corpus.fetch)
    assert sorted(found(index.open("s2").dense(question(0), 99))) == chunks(*range(30, 60))
    index.write("killed", chunks(*range(20, 90)), corpus.fetch)
    assert sorted(found(index.open("killed").dense(question(0), 99))) == chunks(*range(20, 90))
    assert seen(index.open("s1")) == before


def test_two_processes_may_write_at_once(adapter: Adapter, corpus: Corpus) -> None:
    run: Callable[[int], Any] = lambda n: subprocess.Popen(  # noqa: E731
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import importlib, sys
                sys.path.insert(0, {str(Path(__file__).parent)!r})
                from pathlib import Path
                from test_index import ADAPTERS, Corpus, chunks
                module, index, _ = ADAPTERS[{adapter.name!r}]
                store = getattr(importlib.import_module(module), index)(Path({str(adapter.root)!r}))
                for step in range(3):
                    store.write(f"p{n}-{{step}}", chunks(*range(10 * step, 30 + 10 * step)), Corpus().fetch)
                    store.write(f"both-{{step}}", chunks(*range(9 * step, 40)), Corpus().fetch)
            """),
        ],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    both = [run(n) for n in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    index = adapter.new()
    for step in range(3):
        assert seen(index.open(f"p0-{step}"))[1:] == seen(index.open(f"p1-{step}"))[1:]
        every = found(index.open(f"p0-{step}").dense(question(0), 99))
        assert sorted(every) == chunks(*range(10 * step, 30 + 10 * step))
        assert sorted(found(index.open(f"both-{step}").dense(question(0), 99))) == chunks(*range(9 * step, 40))


def test_a_searcher_stays_right_while_another_process_writes(adapter: Adapter, corpus: Corpus) -> None:
    adapter.new().write("s1", chunks(*range(300)), corpus.fetch)
    searcher = adapter.new().open("s1")
    before = seen(searcher)
    script = f"""
        import importlib, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_index import ADAPTERS, Corpus, chunks
        module, index, _ = ADAPTERS[{adapter.name!r}]
        store = getattr(importlib.import_module(module), index)(Path({str(adapter.root)!r}))
        for step in (1, 3, 4):
            store.write(f"t{{step}}", chunks(*range(100 * step, 100 * step + 400)), Corpus(batch=100).fetch)
        store.collect(frozenset({{"s1", "t1", "t4"}}))
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    nearest_now = searcher.dense(question(1), 9)
    while writer.poll() is None:
        assert searcher.dense(question(1), 9) == nearest_now
        time.sleep(0.02)
    assert writer.returncode == 0
    assert seen(searcher) == before
    later = adapter.new().open("t4")
    assert sorted(found(later.dense(question(1), 999))) == chunks(*range(400, 800))
    right = nearest(corpus, chunks(*range(400, 800)), question(1), 20)
    assert [hit.score for hit in later.dense(question(1), 20)] == pytest.approx([s for _, s in right], abs=0.01)


def documents_of(corpus: Corpus, numbers: Iterable[int]) -> frozenset[str]:
    return frozenset(corpus.row(chunk)["document"] for chunk in chunks(*numbers))


@pytest.mark.parametrize("name", sorted(ADAPTERS))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.sets(st.integers(0, 60)),
    shown=st.sets(st.integers(0, 60)),
    allowed=st.sets(st.integers(0, 3)),
    alone=st.sets(st.integers(0, 60)),
)
def test_restricted_is_as_if_there_were_nothing_else(
    name: str, first: set[int], shown: set[int], allowed: set[int], alone: set[int]
) -> None:
    """Two stores that differ in nothing but what is not allowed show the same, bit for bit."""
    corpus = Corpus()
    mine = {n for n in shown if n % 4 in allowed}
    documents = frozenset({f"d{n}/é {n}.pdf" for n in allowed} | {"not in the snapshot"})
    with tempfile.TemporaryDirectory() as folder:
        full, bare = Adapter(name, load(name), Path(folder) / "a"), Adapter(name, load(name), Path(folder) / "b")
        index = full.new()
        index.write("s0", chunks(*first), corpus.fetch)  # cut into segments otherwise
        index.write("s1", chunks(*shown), corpus.fetch)
        other = bare.new()
        other.write("s0", chunks(*mine, *(n for n in alone if n % 4 not in allowed)), corpus.fetch)
        other.write("s1", chunks(*mine), corpus.fetch)
        searcher = index.open("s1").restricted(documents)
        assert seen(searcher) == seen(other.open("s1")) == seen(other.open("s0").restricted(documents))
        assert seen(searcher.restricted(frozenset()))[:2] == [0, {}]
        assert len(index.open("s1")) == len(shown)  # what it was made of stays as it is


def test_restricted_ands_with_a_filter_and_with_itself(index: Any, corpus: Corpus) -> None:
    index.write("s1", chunks(*range(60)), corpus.fetch)
    two = index.open("s1").restricted(documents_of(corpus, (0, 1)))
    assert len(two) == 30 and set(two.documents()) == documents_of(corpus, (0, 1))
    assert list(two.dense(question(0), 9, Where(documents_of(corpus, (2,))))) == []
    assert {h.passage.document for h in two.dense(question(0), 99, Where(documents_of(corpus, (1, 2))))} == (
        documents_of(corpus, (1,))
    )
    assert set(two.restricted(documents_of(corpus, (1, 2))).documents()) == documents_of(corpus, (1,))
    assert list(two.page("d2/é 2.pdf", 1)) == []
