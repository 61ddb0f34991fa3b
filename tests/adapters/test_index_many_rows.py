"""The default index where not every row is compared in full, and not every posting added up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.adapters.index_segments import SegmentIndex, disk, lexical, open_exported, search, vectors
from modelyard.adapters.index_segments.lexical import Term
from modelyard.calc import bm25
from modelyard.calc.rank import top
from modelyard.calc.text import analyse
from modelyard.ports.index import ROWS, Where

COUNT, DIMENSION = 4_000, 96


class Corpus:
    """4,000 chunks in 40 documents, gathered around 50 topics. Every fourth has the vector of its neighbour."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        topics = rng.standard_normal((50, DIMENSION))
        rows = topics[rng.integers(50, size=COUNT)] + 0.8 * rng.standard_normal((COUNT, DIMENSION))
        rows[3::4] = rows[2::4]
        self.vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        self.words = np.minimum(rng.zipf(1.3, (COUNT, 12)), 400)

    def fetch(self, asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(asked), 500):
            numbers = np.array([int(chunk) for chunk in asked[start : start + 500]])
            ends = pa.array(np.arange(len(numbers) + 1, dtype=np.int32) * DIMENSION)
            columns = {
                "chunk_id": [f"{n:05d}" for n in numbers],
                "document": [f"d{n % 40:02d}" for n in numbers],
                "page": numbers // 40,
                "start": numbers * 0,
                "end": numbers,
                "text": [" ".join(f"word{w}" for w in self.words[n]) for n in numbers],
                "embedding": pa.ListArray.from_arrays(ends, self.vectors[numbers].ravel()),
            }
            rest = {field.name: ["x"] * len(numbers) for field in ROWS if field.name not in columns}
            arrays = [pa.array((columns | rest)[field.name]).cast(field.type) for field in ROWS]
            yield pa.RecordBatch.from_arrays(arrays, schema=ROWS)

    def question(self, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        vector = self.vectors[rng.integers(COUNT)] + 0.03 * rng.standard_normal(DIMENSION).astype(np.float32)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="module")
def stores(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmentIndex, SegmentIndex]:
    """The same snapshot "s", shown by many segments with rows that do not show, and written in one go."""
    grown = SegmentIndex(tmp_path_factory.mktemp("grown"), exact_up_to=1_000)
    whole = SegmentIndex(tmp_path_factory.mktemp("whole"), exact_up_to=1_000)
    for i, (start, stop) in enumerate([(0, 1900), (300, 2600), (500, 3200), (900, 3600), (1000, 3900)]):
        grown.write(f"s{i}", ids(range(start, stop)), corpus.fetch)
    shown = ids(n for n in range(400, COUNT) if n % 7)
    grown.write("s", shown, corpus.fetch)
    whole.write("s", shown[::-1], corpus.fetch)
    assert len(list((grown._root / "segments").iterdir())) > 3
    return grown, whole


def ids(numbers: Any) -> list[str]:
    return [f"{n:05d}" for n in numbers]


def told(hits: Any) -> list[tuple[str, float]]:
    return [(hit.passage.chunk_id, hit.score) for hit in hits]


def test_answers_do_not_depend_on_how_a_snapshot_came_about(
    stores: tuple[SegmentIndex, SegmentIndex], corpus: Corpus, tmp_path: Path
) -> None:
    grown, whole = (store.open("s") for store in stores)
    stores[1].export("s", tmp_path)
    exported = open_exported(tmp_path, exact_up_to=1_000)
    for seed in range(12):
        for where in (Where(), Where(frozenset(f"d{n:02d}" for n in range(seed, 40)))):
            for k in (1, 5, 12):
                found = told(grown.dense(corpus.question(seed), k, where))
                assert found == told(whole.dense(corpus.question(seed), k, where))
                assert found == told(exported.dense(corpus.question(seed), k, where))


def test_what_is_found_shows_and_passes_the_filter_and_is_as_much_as_was_asked_for(
    stores: tuple[SegmentIndex, SegmentIndex], corpus: Corpus
) -> None:
    searcher = stores[0].open("s")
    shown = {n for n in range(400, COUNT) if n % 7}
    for seed in range(6):
        for documents in (range(40), range(0, 40, 2), range(20), range(1)):
            right = {n for n in shown if n % 40 in documents}
            where = Where(frozenset(f"d{n:02d}" for n in documents))
            for k in (1, 9, 30, len(right), len(right) + 1):
                hits = searcher.dense(corpus.question(seed), k, where)
                assert len(hits) == min(k, len(right)) == len({hit.passage.chunk_id for hit in hits})
                assert {int(hit.passage.chunk_id) for hit in hits} <= right


def test_a_restricted_searcher_is_that_of_its_documents_alone(
    stores: tuple[SegmentIndex, SegmentIndex], corpus: Corpus, tmp_path: Path
) -> None:
    documents = frozenset(f"d{n:02d}" for n in range(5, 39))
    alone = SegmentIndex(tmp_path, exact_up_to=1_000)
    alone.write("s", ids(n for n in range(400, COUNT) if n % 7 and 5 <= n % 40 < 39), corpus.fetch)
    part = stores[0].open("s").restricted(documents)
    for seed in range(8):
        assert told(part.dense(corpus.question(seed), 7)) == told(alone.open("s").dense(corpus.question(seed), 7))


def test_few_of_the_nearest_are_missed(stores: tuple[SegmentIndex, SegmentIndex], corpus: Corpus) -> None:
    whole = stores[1]
    exact = SegmentIndex(whole._root, exact_up_to=COUNT)
    kept = 0
    for seed in range(60):
        found, right = (told(index.open("s").dense(corpus.question(seed), 5)) for index in (whole, exact))
        kept += len({chunk for chunk, _ in found} & {chunk for chunk, _ in right})
    assert kept >= 285  # of 300


def test_up_to_the_stated_size_every_row_is_compared(
    stores: tuple[SegmentIndex, SegmentIndex], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "distances", None)
    shown = sum(n % 7 > 0 for n in range(400, COUNT))
    hits = SegmentIndex(stores[0]._root, exact_up_to=shown).open("s").dense(corpus.question(1), 5)
    assert len(hits) == 5
    assert search.EXACT_UP_TO == 250_000


def test_an_older_segment_without_signs_is_searched_alike(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = SegmentIndex(tmp_path / "new", exact_up_to=9), SegmentIndex(tmp_path / "old", exact_up_to=9)
    new.write("s", ids(range(1500)), corpus.fetch)
    arrays = disk.write_arrays
    with monkeypatch.context() as patch:
        patch.setattr(
            disk, "write_arrays", lambda path, some: arrays(path, {k: v for k, v in some.items() if k != "signs"})
        )
        old.write("s", ids(range(1500)), corpus.fetch)
    for seed in range(5):
        assert told(old.open("s").dense(corpus.question(seed), 4)) == told(
            new.open("s").dense(corpus.question(seed), 4)
        )


@given(st.integers(1, 200), st.integers(1, 300), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_distances_count_signs_that_differ(dimension: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    packed = rng.integers(-3, 4, (count, dimension), dtype=np.int8)
    asked = rng.integers(-3, 4, dimension).astype(np.float32)
    right = ((packed >= 0) != (asked >= 0)).sum(axis=1)
    assert (vectors.distances(vectors.signs(packed), asked) == right).all()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_the_best_by_bm25_are_those_that_adding_up_every_posting_gives(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.sampled_from([1, 60, 700, 6000]))
    lengths = rng.integers(1, data.draw(st.sampled_from([2, 60])), n).astype(np.uint32)
    damping = bm25.damping(lengths, n, 20 * n)
    terms = []
    for share in data.draw(st.lists(st.sampled_from([0, 0.001, 0.02, 0.3, 0.9, 1]), max_size=8)):
        rows = np.flatnonzero(rng.random(n) < share).astype(np.uint32)
        counts = rng.integers(1, data.draw(st.sampled_from([2, 9])), len(rows)).astype(np.uint16)
        terms.append(Term(rows, counts, data.draw(st.sampled_from([0.1, 0.5, 1.3, 3.0]))))
    share = data.draw(st.sampled_from([None, 0.0, 0.01, 0.5, 1.0]))
    allowed = None if share is None else np.flatnonzero(rng.random(n) < share)
    k = data.draw(st.sampled_from([0, 1, 3, 40, 1000]))
    scores = np.zeros(n)
    for term in terms:
        scores[term.rows] += term.weight * bm25.gain(term.counts, damping[term.rows])
    may = scores if allowed is None else scores[allowed]
    some = np.flatnonzero(may > 0)
    right = some[top(may[some], k)]
    rows, found = lexical.best(terms, damping, allowed, k)
    assert rows.tolist() == (right if allowed is None else allowed[right]).tolist()
    assert found.tolist() == may[right].tolist()


def test_a_question_of_ten_thousand_words_asks_for_its_first_terms(
    stores: tuple[SegmentIndex, SegmentIndex],
) -> None:
    searcher = stores[0].open("s")
    words = [f"word{n}" for n in range(1, 401)] + [f"other{n}" for n in range(20_000, 29_600)]
    assert len({term for word in words for term in analyse(word)}) == 10_000
    long, short = searcher.lexical(" ".join(words), 20), searcher.lexical(" ".join(words[: search.MOST_TERMS]), 20)
    assert told(long) == told(short) != []
