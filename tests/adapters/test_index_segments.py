"""What the default index promises beyond the port: scores that do not depend on history, files that can be trusted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.adapters.index_segments import SegmentIndex, open_exported, plan, search, segment, vectors
from modelyard.errors import Damaged, NotFound, RequestError, StorageError
from modelyard.ports.index import ROWS, Where

DIMENSION = 24
WORDS = [f"w{i}" for i in range(12)] + ["1,240", "12.5%", "revenue", "revenues", "U.S.", "café"]


def row(n: int, dimension: int = DIMENSION) -> dict[str, Any]:
    rng = np.random.default_rng(n // 3)  # every third row has a vector and words of its own
    vector = rng.standard_normal(dimension) * (1 if n % 5 else 1e-3)
    return {
        "chunk_id": f"{n * 7919 % 1000:03d}-{n}",
        "document": f"d{n % 5}",
        "page": n // 5 % 4,
        "start": n // 20,
        "end": n,
        "kind": "prose",
        "title": f"T{n % 5}",
        "period": None,
        "section": "s",
        "header": f"T{n % 5} {WORDS[n % 7]}",
        "text": " ".join(rng.choice(WORDS, 1 + n % 9)),
        "embedding": (vector / np.linalg.norm(vector)).astype(np.float32),
    }


NAMES = {row(n)["chunk_id"]: n for n in range(600)}


def chunks(numbers: Any) -> list[str]:
    return [row(n)["chunk_id"] for n in numbers]


def fetching(batch: int = 50, **more: Any) -> Callable[[Sequence[str]], Iterator[pa.RecordBatch]]:
    def fetch(asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(asked), batch):
            yield pa.RecordBatch.from_pylist([row(NAMES[c], **more) for c in asked[start : start + batch]], schema=ROWS)

    return fetch


def answers(searcher: Any) -> Any:
    rng = np.random.default_rng(3)
    told: list[Any] = [len(searcher), dict(searcher.documents())]
    for where in (Where(), Where(frozenset({"d1", "d4"}))):
        for k in (1, 4, 500):
            told += [
                [
                    (h.passage, h.score)
                    for h in searcher.dense(rng.standard_normal(DIMENSION).astype(np.float32), k, where)
                ],
                [(h.passage, h.score) for h in searcher.lexical("revenue w1 w3 w3 1240 of T1", k, where)],
            ]
    told += [searcher.page("d1", 2), [searcher.document_frequency(term) for term in ("w1", "revenu", "12.5", "none")]]
    return told


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name != ".lock")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 130), st.integers(1, 80), st.integers(1, 7)), min_size=1, max_size=14))
def test_a_snapshot_scores_alike_however_it_came_about(steps: list[tuple[int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        grown = SegmentIndex(Path(folder) / "grown")
        for i, (start, length, stride) in enumerate(steps):
            numbers = range(start, start + length, stride)
            grown.write(f"s{i}", chunks(numbers), fetching(13))
        for i, (start, length, stride) in list(enumerate(steps))[-3:]:
            whole = SegmentIndex(Path(folder) / f"whole{i}")
            whole.write("s", chunks(reversed(range(start, start + length, stride))), fetching(1000))
            assert answers(grown.open(f"s{i}", verify=True)) == answers(whole.open("s"))


def test_small_steps_are_merged_and_score_as_before(tmp_path: Path) -> None:
    grown = SegmentIndex(tmp_path / "grown")
    most = 0
    for n in range(1, 40):
        grown.write(f"s{n}", chunks(range(n // 3, 5 * n)), fetching())
        grown.collect(frozenset({f"s{n}"}))
        most = max(most, len(list((tmp_path / "grown" / "segments").iterdir())))
    assert 1 < most <= plan.MOST
    whole = SegmentIndex(tmp_path / "whole")
    whole.write("s", chunks(range(13, 195)), fetching())
    assert answers(grown.open("s39")) == answers(whole.open("s"))


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import importlib.util, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("mine", {__file__!r})
        mine = importlib.util.module_from_spec(spec); spec.loader.exec_module(mine)
        mine.SegmentIndex(Path(sys.argv[1])).write("s", mine.chunks(range(150)), mine.fetching(7))
    """)
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there")], check=True, env=os.environ | {"PYTHONHASHSEED": "7"}
    )
    here = SegmentIndex(tmp_path / "here")
    here.write("s", chunks(reversed(range(150))), fetching(1000))
    told = [
        {str(path.relative_to(root)): path.read_bytes() for path in files(root)}
        for root in (tmp_path / "here", tmp_path / "there")
    ]
    assert told[0] == told[1]
    # A merged segment is what would have been written in one go.
    grown = SegmentIndex(tmp_path / "grown")
    for n in range(15, 160, 15):
        grown.write(f"s{n}", chunks(range(n)), fetching())
    shown = [opened for opened, _ in _shelves(grown.open("s120"))]
    assert len(shown) > 1
    merged = segment.write([s.part(np.ones(len(s), bool)) for s in shown], tmp_path / "grown")
    again = SegmentIndex(tmp_path / "again")
    again.write("s", chunks(range(120)), fetching())
    assert merged == _shelves(again.open("s"))[0][0].digest


def _shelves(searcher: Any) -> list[tuple[Any, Any]]:
    return [(shelf.segment, shelf.shown) for shelf in searcher._shelves]


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1)), max_size=30), st.integers(0, 10**5))
def test_merging_leaves_few_segments_and_none_that_is_mostly_unseen(sizes: list[tuple[int, float]], added: int) -> None:
    parts = [(rows, max(1, round(rows * share))) for rows, share in sizes]
    again = plan.merge(parts, added)
    rest = [part for i, part in enumerate(parts) if i not in again]
    assert len(again) == len(set(again))
    small = [part for part in rest if part[0] < plan.BIG]
    assert len(small) + (added > 0 or bool(again)) <= plan.MOST
    assert all(parts[i][0] < plan.BIG or parts[i][1] * 2 < parts[i][0] for i in again)
    assert all(shown * 2 >= rows for rows, shown in rest)
    if len(parts) < plan.MOST:
        assert all(shown * 2 < rows for rows, shown in (parts[i] for i in again))


def test_what_is_put_down_on_the_way_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "BIG", 100)
    index, asked = SegmentIndex(tmp_path / "parts"), []

    def cut_short(ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        asked.append(len(ids))
        for i, batch in enumerate(fetching(40)(ids)):
            if len(asked) == 1 and i == 8:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        index.write("s", chunks(range(450)), cut_short)
    assert index.snapshots() == []
    assert index.write("s", chunks(range(450)), cut_short).visible == 450
    assert asked == [450, 450 - 240]
    whole = SegmentIndex(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(plan, "BIG", 10_000)
        whole.write("s", chunks(range(450)), fetching())
    assert answers(index.open("s")) == answers(whole.open("s"))
    # Many that are small become few that are not, and never one of everything.
    for n in range(450, 600, 10):
        index.write(f"s{n}", chunks(range(n)), fetching())
    sizes = [len(opened) for opened, _ in _shelves(index.open("s590"))]
    assert len(sizes) <= plan.MOST + 6 and max(sizes) < 2 * plan.BIG + 40


@pytest.mark.parametrize(("start", "step", "times"), [(200_000, 2_000, 300), (200_000, 100, 500), (0, 1, 5_000)])
def test_rows_are_rewritten_a_bounded_number_of_times(start: int, step: int, times: int) -> None:
    sizes, rewritten = [start] if start else [], 0
    for _ in range(times):
        again = set(plan.merge([(size, size) for size in sizes], step))
        moved = sum(sizes[i] for i in again)
        rewritten += moved
        sizes = [size for i, size in enumerate(sizes) if i not in again] + [moved + step]
    assert rewritten < 10 * times * step


def test_a_small_change_costs_little_space(tmp_path: Path) -> None:
    index = SegmentIndex(tmp_path)
    index.write("s1", chunks(range(500)), fetching())
    full = sum(path.stat().st_size for path in files(tmp_path))
    index.write("s2", chunks(range(5, 505)), fetching())
    assert sum(path.stat().st_size for path in files(tmp_path)) - full < full / 10


def test_files_of_an_export_are_the_stores_own_and_cannot_be_written(tmp_path: Path) -> None:
    index = SegmentIndex(tmp_path / "store")
    index.write("s1", chunks(range(50)), fetching())
    names = index.export("s1", tmp_path / "release")
    assert {name.split("/")[0] for name in names} == {"index"}
    for name in names:
        path = tmp_path / "release" / name
        assert path.stat().st_nlink == 2
        assert path.stat().st_mode & 0o222 == 0
    index.collect(frozenset())
    assert len(open_exported(tmp_path / "release")) == 50


def test_an_export_replaces_an_older_one(tmp_path: Path) -> None:
    index = SegmentIndex(tmp_path / "store")
    index.write("s1", chunks(range(50)), fetching())
    index.write("s2", chunks(range(20)), fetching())
    index.export("s1", tmp_path / "release")
    index.export("s2", tmp_path / "release")
    assert len(open_exported(tmp_path / "release")) == 20


def _store(tmp_path: Path) -> SegmentIndex:
    index = SegmentIndex(tmp_path / "store")
    index.write("s1", chunks(range(50)), fetching())
    index.write("s2", chunks(range(10, 60)), fetching())
    return index


@pytest.mark.parametrize("name", ["snapshot.json", "segment.json", "rows.arrow", "vectors.bin", "postings.bin"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "grown", "emptied", "missing"])
def test_damage_is_told_and_names_the_file(tmp_path: Path, name: str, harm: str) -> None:
    index = _store(tmp_path)
    before = answers(index.open("s2"))
    path = next(path for path in files(tmp_path) if path.name == name and "s1" not in path.parts)
    good = path.read_bytes()
    bad = {
        "flipped": good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :],
        "cut": good[:-1],
        "grown": good + b" ",
        "emptied": b"",
        "missing": None,
    }[harm]
    path.unlink()
    if bad is not None:
        path.write_bytes(bad)
    if name == "snapshot.json" and harm == "grown":
        assert answers(index.open("s2")) == before  # a space after the JSON changes nothing
    elif name == "snapshot.json" and harm == "missing":
        with pytest.raises(NotFound):
            index.open("s2")
    else:
        with pytest.raises(Damaged, match=name):
            index.open("s2", verify=True)
        if not (harm == "flipped" and name.endswith((".arrow", ".bin"))):
            with pytest.raises(Damaged, match=name):
                index.open("s2")


@pytest.mark.parametrize("name", ["snapshot.json", "segment.json", "rows.arrow", "vectors.bin", "postings.bin"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "missing"])
@pytest.mark.parametrize("again", ["s2", "s3"])
def test_a_write_mends_what_it_stands_on(tmp_path: Path, name: str, harm: str, again: str) -> None:
    index = SegmentIndex(tmp_path / "store")
    index.write("s2", chunks(range(50)), fetching())
    before, told = {path: path.read_bytes() for path in files(tmp_path)}, answers(index.open("s2"))
    path = next(path for path in before if path.name == name)
    good = before[path]
    path.unlink()
    if harm != "missing":
        middle = len(good) // 2
        path.write_bytes(good[:-1] if harm == "cut" else good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    written = index.write(again, chunks(range(50)), fetching())
    assert written.visible == 50
    if name != "snapshot.json" or again == "s2":
        assert (written.repaired > 0) == ((name, harm) != ("snapshot.json", "missing"))
        assert {path: path.read_bytes() for path in files(tmp_path) if path in before} == before
        assert answers(index.open("s2", verify=True)) == told
    assert answers(index.open(again, verify=True)) == told
    assert index.write(again, chunks(range(50)), fetching()).repaired == 0


def test_collecting_removes_nothing_when_a_kept_snapshot_cannot_be_read(tmp_path: Path) -> None:
    index = _store(tmp_path)
    path = tmp_path / "store" / "snapshots" / "s2" / "snapshot.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    before = files(tmp_path)
    with pytest.raises(Damaged, match=r"snapshot\.json"):
        index.collect(frozenset({"s2"}))
    assert files(tmp_path) == before


def test_a_file_that_cannot_be_written_leaves_nothing_half_visible(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import importlib.util, resource, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("mine", {__file__!r})
        mine = importlib.util.module_from_spec(spec); spec.loader.exec_module(mine)
        index = mine.SegmentIndex(Path(sys.argv[1]))
        index.write("s1", mine.chunks(range(20)), mine.fetching())
        told = mine.answers(index.open("s1"))
        for limit in (0, 100, 3000, 9000, 14000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                index.write("s2", mine.chunks(range(200)), mine.fetching())
            except mine.StorageError as error:
                assert sys.argv[1] in str(error)
            else:
                raise SystemExit("wrote beyond the limit")
            assert index.snapshots() == ["s1"]
            assert mine.answers(index.open("s1")) == told
            assert not list((Path(sys.argv[1]) / "partial").iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert index.write("s2", mine.chunks(range(200)), mine.fetching()).visible == 200
    """)
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], check=True, timeout=60)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot be written"):
        SegmentIndex(tmp_path / "file" / "store").write("s", chunks(range(3)), fetching())


def test_death_at_any_step_of_a_write_or_a_collection_harms_nothing(tmp_path: Path) -> None:
    """A forked writer dies at its n-th fsync, for every n, with no chance to clean up."""
    script = textwrap.dedent(f"""
        import importlib.util, os, shutil, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("mine", {__file__!r})
        mine = importlib.util.module_from_spec(spec); spec.loader.exec_module(mine)
        sync, remove, root = os.fsync, os.rmdir, Path(sys.argv[1])

        def dying(act, n):
            left = [n]
            def died(call):
                def step(*args, **more):
                    left[0] -= 1
                    if left[0] == 0:
                        os._exit(9)
                    return call(*args, **more)
                return step
            child = os.fork()
            if child == 0:
                os.fsync, os.rmdir = died(sync), died(remove)
                act()
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

        def write():
            mine.SegmentIndex(root).write("s2", mine.chunks(range(30, 70)), mine.fetching())

        def collect():
            mine.SegmentIndex(root).collect(frozenset({{"s1"}}))

        index = mine.SegmentIndex(root)
        index.write("s1", mine.chunks(range(50)), mine.fetching())
        told = mine.answers(index.open("s1"))
        died = 0
        for act in (write, collect):
            for n in range(1, 99):
                killed = dying(act, n)
                died += killed
                assert mine.answers(index.open("s1", verify=True)) == told
                for name in index.snapshots():
                    index.open(name, verify=True)
                write()
                assert len(index.open("s2")) == 40
                assert not list((root / "partial").iterdir())
                if act is write:
                    collect()
                    assert index.snapshots() == ["s1"]
                    assert len(list((root / "segments").iterdir())) == 1
                if not killed:
                    break
        print(died)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "store")], check=True, timeout=120, capture_output=True, text=True
    )
    assert int(done.stdout) > 8


def test_a_segment_of_other_rules_is_analysed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = SegmentIndex(tmp_path / "store")
    monkeypatch.setattr(segment, "ANALYSER", "older")
    monkeypatch.setattr(segment, "analyse", str.split)
    index.write("s1", chunks(range(80)), fetching())
    monkeypatch.undo()
    with pytest.raises(NotFound, match=r"'older'.*build it again"):
        index.open("s1")
    index.write("s2", chunks(range(81)), fetching())
    fresh = SegmentIndex(tmp_path / "fresh")
    fresh.write("s2", chunks(range(81)), fetching())
    assert answers(index.open("s2")) == answers(fresh.open("s2"))
    assert search.ANALYSER != "older"


def test_segments_of_another_format_are_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = SegmentIndex(tmp_path)
    monkeypatch.setattr(segment, "FORMAT", 0)
    index.write("s1", chunks(range(9)), fetching())
    monkeypatch.undo()
    with pytest.raises(NotFound, match="build again"):
        index.open("s1")
    assert index.write("s2", chunks(range(9)), fetching()).added == 9
    assert len(index.open("s2")) == 9


def test_what_a_desktop_leaves_behind_is_not_ours(tmp_path: Path) -> None:
    index = _store(tmp_path)
    for name in ("segments", "snapshots", "partial"):
        (tmp_path / "store" / name / ".DS_Store").write_bytes(b"x")
    index.write("s3", chunks(range(9)), fetching())
    assert list(index.snapshots()) == ["s1", "s2", "s3"]
    index.collect(frozenset({"s3"}))
    assert len(index.open("s3")) == 9


def test_embeddings_of_two_dimensions_are_refused(tmp_path: Path) -> None:
    index = SegmentIndex(tmp_path)
    index.write("s1", chunks(range(5)), fetching())
    with pytest.raises(RequestError, match="24 and 30 dimensions"):
        index.write("s2", chunks(range(9)), fetching(dimension=30))
    assert list(index.snapshots()) == ["s1"]
    assert index.write("s3", chunks(range(5, 9)), fetching(dimension=30)).visible == 4


@given(
    st.sampled_from([1, 3, 384, 1536, 4096]),
    st.sampled_from(["normal", "constant", "spike", "zero", "tiny"]),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_similarities_are_whole_numbers_counted_exactly(dimension: int, shape: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((300, dimension)).astype(np.float32)
    if shape == "constant":
        rows = np.sign(rows) / np.float32(np.sqrt(dimension))
    if shape == "spike":
        rows[:, 0] = 1e6
    if shape in ("zero", "tiny"):
        rows[::2] *= 0 if shape == "zero" else np.float32(1e-30)
    packed, inverse = vectors.pack(rows)
    one_by_one = [vectors.pack(rows[i : i + 1]) for i in range(0, 300, 37)]
    assert all((packed[i * 37] == p[0]).all() and inverse[i * 37] == v[0] for i, (p, v) in enumerate(one_by_one))
    asked, scale = vectors.pack_question(rows[1])
    exact = packed.astype(np.int64) @ asked.astype(np.int64)
    assert np.abs(exact).max(initial=0) < 2**24
    scores = vectors.similarities(packed, inverse, asked, None)
    assert (scores == exact.astype(np.float32) * inverse).all()
    some = np.flatnonzero(rng.random(300) < 0.4)
    assert (vectors.similarities(packed, inverse, asked, some) == scores[some]).all()
    cosine = rows.astype(float) @ rows[1].astype(float)
    cosine /= np.maximum(np.linalg.norm(rows.astype(float), axis=1) * np.linalg.norm(rows[1].astype(float)), 1e-300)
    assert np.abs(scores * scale - cosine).max() < 0.02


def test_packed_vectors_find_what_the_full_ones_find() -> None:
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((60, 384))
    rows = topics[rng.integers(60, size=8000)] + 0.7 * rng.standard_normal((8000, 384))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    packed, inverse = vectors.pack(rows)
    kept = 0
    for i in range(100):
        question = rows[i] + 0.03 * rng.standard_normal(384).astype(np.float32)
        asked, _ = vectors.pack_question(question)
        near = np.argsort(-vectors.similarities(packed, inverse, asked, None))[:10]
        kept += len(set(near.tolist()) & set(np.argsort(-(rows @ question))[:10].tolist()))
    assert kept >= 980
