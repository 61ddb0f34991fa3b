"""Pages ranked inside the index are the pages of ranked passages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.adapters.index_segments import SegmentIndex
from modelyard.ports.index import ROWS, Hit, PageHit, PageSearcher, Where

WORDS = ["sales", "cost", "wage", "tax", "lease", "share"]
SIZE = 90


def _row(n: int) -> dict[str, object]:
    rng = np.random.default_rng(n % 17)
    vector = rng.standard_normal(12)
    text = " ".join(WORDS[(n * k + k) % len(WORDS)] for k in range(1 + n % 6))
    own = {"chunk_id": f"c{n}", "document": f"d{n % 4}", "page": 1 + n // 4 % 6, "start": 10 * (n // 24)}
    more = dict.fromkeys(("title", "period", "section", "header"), "")
    vector /= np.linalg.norm(vector)
    return {**own, **more, "end": 10 * (n // 24) + 9, "kind": "prose", "text": text, "embedding": vector.astype("f4")}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> PageSearcher:
    """Two segments, and rows of both that do not show."""
    index = SegmentIndex(tmp_path_factory.mktemp("index"))
    for name, shown in (("first", range(50)), ("second", [n for n in range(SIZE) if n % 7])):
        ids = [f"c{n}" for n in shown]

        def fetch(wanted: Sequence[str]) -> list[pa.RecordBatch]:
            return pa.Table.from_pylist([_row(int(each[1:])) for each in wanted], schema=ROWS).to_batches()

        index.write(name, ids, fetch)
    found = index.open("second")
    assert isinstance(found, PageSearcher) and "pages" in found.capabilities
    return found


def _pages(hits: Sequence[Hit]) -> dict[tuple[str, int], float]:
    best: dict[tuple[str, int], float] = {}
    for hit in hits:
        best.setdefault((hit.passage.document, hit.passage.page), hit.score)
    return best


def _as_said(found: Sequence[PageHit], expected: dict[tuple[str, int], float], k: int) -> None:
    scores = [hit.score for hit in found]
    assert scores == sorted(expected.values(), reverse=True)[:k]
    assert all(expected[hit.document, hit.page] == hit.score for hit in found)
    assert len({(hit.document, hit.page) for hit in found}) == len(found)


wheres = st.one_of(st.none(), st.frozensets(st.sampled_from(["d0", "d1", "d2", "d3", "none"])))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 40), k=st.integers(1, 30), documents=wheres)
def test_the_nearest_pages(searcher: PageSearcher, seed: int, k: int, documents: frozenset[str] | None) -> None:
    vector = np.random.default_rng(seed).standard_normal(12)
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    where = Where(documents)
    _as_said(searcher.dense_pages(vector, k, where), _pages(searcher.dense(vector, SIZE, where)), k)


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from([*WORDS, "unheard"]), max_size=4), k=st.integers(1, 30), documents=wheres)
def test_the_best_pages_by_words(
    searcher: PageSearcher, words: list[str], k: int, documents: frozenset[str] | None
) -> None:
    text, where = " ".join(words), Where(documents)
    _as_said(searcher.lexical_pages(text, SIZE, where), _pages(searcher.lexical(text, SIZE, where)), SIZE)
    best = [hit.score for hit in searcher.lexical_pages(text, k, where)]
    assert best[:1] == [hit.score for hit in searcher.lexical(text, 1, where)]


def test_a_hit_names_its_passage(searcher: PageSearcher) -> None:
    for hit in searcher.lexical_pages("sales tax", 9):
        (passage,) = [p for p in searcher.page(hit.document, hit.page) if p.start == hit.start]
        assert {"sales", "tax"} & set(passage.text.split())


def test_terms_are_counted_by_document(searcher: PageSearcher) -> None:
    shown = [_row(n) for n in range(SIZE) if n % 7]
    sizes = {d: sum(r["document"] == d for r in shown) for d in ("d0", "d1", "d2", "d3")}
    assert searcher.spread() == sizes
    holding = [r["document"] for r in shown if "wage" in str(r["text"]).split()]
    assert searcher.spread("wage") == {d: holding.count(d) for d in set(holding)}
    assert searcher.spread("unheard") == {}
    only = searcher.restricted(frozenset({"d1"}))
    assert isinstance(only, PageSearcher) and only.spread() == {"d1": sizes["d1"]}
