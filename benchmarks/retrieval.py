"""How often the page with the evidence is among the first found: one JSON line a variant of the search.

    python benchmarks/retrieval.py QUESTIONS.jsonl --documents FOLDER [--glossary benchmarks/glossaries/finance.yml]
                                   [--keep FOLDER] [--only NAME] [--misses]

A line of QUESTIONS holds {"question", "document", "evidence": [{"document", "page"}]}. All documents lie in one store,
and a hit is an evidence page of the right document; one page is one entry of the list. Intervals are of 95 %, by
bootstrap over companies (the words of a file's name before its year), as questions on one company stand or fall
together. `fitted` learns the weights on the other companies and is measured on the one left out. `ms_cpu` is CPU a
question with embedding, on a second pass; `ms_cpu_cold` on the first. `--keep` keeps the indexes: a later run takes
seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from answers import open_index, rows
from numpy.typing import NDArray

from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.index_segments import SegmentIndex
from modelyard.ports.index import PageSearcher, Searcher
from modelyard.workloads.chatbot.catalogue import Catalogue
from modelyard.workloads.chatbot.glossary import Glossary
from modelyard.workloads.chatbot.question import Question, analyse_question
from modelyard.workloads.chatbot.retrieve import Page, Weights, find_pages

CUTS = (1, 5, 10)
DEPTH = 200
FULL = Weights()
NOTHING = replace(FULL, lexical=0.0, heading=0.0, row=0.0, document=0.0, expansion=0.0)
Place = tuple[str, int]


@dataclass(frozen=True)
class Variant:
    """A way to search. glossary: whether it is used; store: "contextual" chunks or "plain" ones, without headers."""

    name: str
    weights: Weights = FULL
    glossary: bool = False
    store: str = "contextual"
    find: Callable[[Bench, Question, Variant], list[Place]] | None = None


@dataclass
class Bench:
    """An index with what a search over it needs."""

    searcher: Searcher
    embedder: MiniLM
    glossary: Glossary
    catalogue: Catalogue = field(init=False)

    def __post_init__(self) -> None:
        self.catalogue = Catalogue(self.searcher)

    def analysed(self, text: str) -> Question:
        return analyse_question(" ".join(text.split()), self.catalogue.rarity, self.catalogue.everywhere)

    def pages(
        self, question: Question, variant: Variant, most: int = 10, vector: NDArray[np.float32] | None = None
    ) -> list[Page]:
        said = self.glossary.expand(question.text) if variant.glossary else ()
        expanded = self.embedder.embed([", ".join(said)])[0] if said and variant.weights.expansion else None
        return find_pages(
            self.searcher,
            self.catalogue,
            question,
            self.embedder.embed([question.text])[0] if vector is None else vector,
            pages=most,
            depth=DEPTH,
            expansions=said,
            expanded=expanded,
            weights=variant.weights,
        )


def places(pages: Iterable[Page]) -> list[Place]:
    return [(page.document, page.page) for page in pages]


def one_a_passage(bench: Bench, question: Question, variant: Variant) -> list[Place]:
    """The passages as a vector store gives them, pages repeated: what quick starts show."""
    vector = bench.embedder.embed([question.text])[0]
    return [(h.passage.document, h.passage.page) for h in bench.searcher.dense(vector, 10)]


def words_only(bench: Bench, question: Question, variant: Variant) -> list[Place]:
    assert isinstance(bench.searcher, PageSearcher)
    return [(h.document, h.page) for h in bench.searcher.lexical_pages(question.text, 10)]


def reciprocal_ranks(bench: Bench, question: Question, variant: Variant) -> list[Place]:
    """Fusion by rank (Cormack et al. 2009) in place of sums of scores."""
    assert isinstance(bench.searcher, PageSearcher)
    vector = bench.embedder.embed([question.text])[0]
    arms = bench.searcher.dense_pages(vector, DEPTH), bench.searcher.lexical_pages(question.text, DEPTH)
    scores: dict[Place, float] = {}
    for hits in arms:
        for rank, hit in enumerate(hits, 1):
            scores[hit.document, hit.page] = scores.get((hit.document, hit.page), 0.0) + 1 / (60 + rank)
    return sorted(scores, key=lambda place: -scores[place])[:10]


def feedback(bench: Bench, question: Question, variant: Variant) -> list[Place]:
    """Pseudo-relevance feedback (Rocchio): the question's vector moved towards the first three passages found."""
    vector = bench.embedder.embed([question.text])[0]
    first = bench.pages(question, variant, 3, vector)
    near = bench.embedder.embed([f"{p.passage.header}\n{p.passage.text}" for p in first]).mean(0)
    moved = vector + 0.3 * near
    return places(bench.pages(question, variant, 10, (moved / np.linalg.norm(moved)).astype(np.float32)))


def by_clause(bench: Bench, question: Question, variant: Variant) -> list[Place]:
    """Only the sentence that asks is embedded, without what leads up to it."""
    parts = re.split(r"(?<=[.!?])\s+(?=[A-Z])|:\s+(?=(?i:what|which|who|when|how|is|are|do|does)\b)", question.text)
    asks = " ".join(p for p in parts if p.rstrip().endswith("?")) or question.text
    return places(bench.pages(question, variant, 10, bench.embedder.embed([asks])[0]))


def neighbours(bench: Bench, question: Question, variant: Variant) -> list[Place]:
    """A page is worth more where the pages beside it are near too."""
    found = {(p.document, p.page): p.total for p in bench.pages(question, variant, 60)}
    low = min(found.values(), default=0.0)

    def beside(place: Place) -> float:
        return max(found.get((place[0], place[1] + step), low) for step in (-1, 1))

    return sorted(found, key=lambda place: -found[place] - 0.2 * beside(place))[:10]


VARIANTS = (
    Variant("plain passages, dense, as they come", store="plain", find=one_a_passage),
    Variant("contextual passages, dense, as they come", find=one_a_passage),
    Variant("plain, dense, one a page", NOTHING, store="plain"),
    Variant("dense, one a page", NOTHING),
    Variant("lexical, one a page", find=words_only),
    Variant("dense + lexical, by rank", find=reciprocal_ranks),
    Variant("dense + lexical", replace(NOTHING, lexical=FULL.lexical)),
    Variant("dense + documents meant", replace(NOTHING, document=FULL.document)),
    Variant("dense + lexical + documents meant", replace(FULL, heading=0.0, row=0.0)),
    Variant("... + headings", replace(FULL, row=0.0)),
    Variant("... + rows", replace(FULL, heading=0.0)),
    Variant("product"),
    Variant("product, plain passages", store="plain"),
    Variant("product, without dense", replace(FULL, dense=0.0)),
    Variant("product, without lexical", replace(FULL, lexical=0.0)),
    Variant("product, without documents meant", replace(FULL, document=0.0)),
    Variant("product, feedback", find=feedback),
    Variant("product, only the asking sentence embedded", find=by_clause),
    Variant("product, neighbours", find=neighbours),
    Variant("product, glossary in words alone", replace(FULL, expansion=0.0), glossary=True),
    Variant("product, glossary", glossary=True),
    Variant("product, glossary, feedback", glossary=True, find=feedback),
    Variant("product, glossary, neighbours", glossary=True, find=neighbours),
    Variant("dense + lexical, glossary", replace(NOTHING, lexical=0.5, expansion=0.3), glossary=True),
)


def measured(bench: Bench, cases: Sequence[dict[str, Any]], variant: Variant) -> tuple[list[int], float, float]:
    """(rank of the first evidence page by question, 0 for none in ten; CPU ms a question warm; cold)."""
    spent = []
    for _ in range(2):
        began, ranks = time.process_time(), []
        for case in cases:
            question = bench.analysed(case["question"])
            find = variant.find
            found = find(bench, question, variant) if find else places(bench.pages(question, variant))
            ranks.append(rank_of(found, case))
        spent.append(1000 * (time.process_time() - began) / len(cases))
    return ranks, spent[1], spent[0]


def rank_of(found: Sequence[Place], case: dict[str, Any]) -> int:
    gold = {(e["document"], e["page"]) for e in case["evidence"]}
    return next((at for at, place in enumerate(found, 1) if place in gold), 0)


def fitted(bench: Bench, cases: Sequence[dict[str, Any]], groups: Sequence[str], glossary: bool) -> list[int]:
    """Ranks under weights that were learned on the other companies: coordinate search over six weights."""
    variant = Variant("", glossary=glossary)
    names = ("dense", "expansion", "lexical", "heading", "row", "document")
    known = []
    for case in cases:
        found = bench.pages(bench.analysed(case["question"]), variant, 150)
        parts = np.array([[p.why.get(n, 0.0) / getattr(FULL, n) for n in names] for p in found]).reshape(-1, len(names))
        gold = {(e["document"], e["page"]) for e in case["evidence"]}
        known.append((parts, np.array([p in gold for p in places(found)], bool)))

    def rank(at: int, weights: NDArray[np.float64]) -> int:
        scores, gold = known[at][0] @ weights, known[at][1]
        return int((scores > scores[gold].max()).sum()) + 1 if gold.any() else 0

    def worth(some: Sequence[int], weights: NDArray[np.float64]) -> float:
        ranks = [rank(at, weights) for at in some]
        return sum((1 / r if r else 0) + (0 < r <= 5) for r in ranks)

    out = [0] * len(cases)
    for left in dict.fromkeys(groups):
        train = [at for at, group in enumerate(groups) if group != left]
        weights = np.array([1.0, 0.5, 0.5, 0.5, 0.5, 0.2])
        for _ in range(3):
            for column in range(1, len(names)):
                tried = [0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0]
                options = [np.where(np.arange(len(names)) == column, value, weights) for value in tried]
                weights = max([weights, *options], key=lambda w: worth(train, w))
        for at in range(len(cases)):
            if groups[at] == left:
                out[at] = rank(at, weights)
    return [r if r <= 10 else 0 for r in out]


def figures(ranks: Sequence[int], groups: Sequence[str]) -> dict[str, Any]:
    """hit@1, @5, @10 and MRR, each with its interval."""
    columns = np.array([[0 < r <= cut for cut in CUTS] + [1 / r if r else 0.0] for r in ranks], float)
    names = [*dict.fromkeys(groups)]
    members = [np.flatnonzero([g == name for g in groups]) for name in names]
    draws = np.random.default_rng(7).integers(len(names), size=(4000, len(names)))
    means = np.array([columns[np.concatenate([members[m] for m in draw])].mean(0) for draw in draws])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    labels = [*(f"hit@{cut}" for cut in CUTS), "mrr"]
    return {
        label: {"value": round(float(columns[:, i].mean()), 3), "low": round(low[i], 3), "high": round(high[i], 3)}
        for i, label in enumerate(labels)
    }


def company(case: dict[str, Any]) -> str:
    return re.split(r"_?(?:19|20)\d\d", str(case["document"]))[0]


def plain_index(documents: Path, embedder: MiniLM, root: Path) -> Searcher:
    """The same passages without their headers."""
    index = SegmentIndex(root)
    if "plain" not in index.snapshots():
        table = rows(documents, embedder)
        texts = table["text"].to_pylist()
        vectors = pa.array(list(embedder.embed(texts)), table.schema.field("embedding").type)
        table = table.set_column(table.schema.get_field_index("embedding"), "embedding", vectors)
        table = table.set_column(table.schema.get_field_index("header"), "header", pa.array([""] * len(texts)))
        index.write("plain", table["chunk_id"].to_pylist(), lambda wanted: table.to_batches())
    return index.open("plain")


def lines(args: argparse.Namespace, keep: Path) -> Iterator[dict[str, Any]]:
    cases = [json.loads(line) for line in args.questions.read_text().splitlines() if line.strip()]
    groups = [company(case) for case in cases]
    words = yaml.safe_load(args.glossary.read_text()) if args.glossary else {}
    embedder, glossary = MiniLM(packaged()), Glossary(words)
    benches = {"contextual": Bench(open_index(args.documents, embedder, keep / "contextual"), embedder, glossary)}
    chosen = [v for v in VARIANTS if args.only in v.name and (words or not v.glossary)]
    if any(v.store == "plain" for v in chosen):
        benches["plain"] = Bench(plain_index(args.documents, embedder, keep / "plain"), embedder, glossary)
    for variant in chosen:
        ranks, warm, cold = measured(benches[variant.store], cases, variant)
        if args.misses:
            for case, rank in zip(cases, ranks, strict=True):
                if not 0 < rank <= 5:
                    print(f"{rank:3} {case['question'][:110]}", file=sys.stderr)
        spent = {"ms_cpu": round(warm, 1), "ms_cpu_cold": round(cold, 1)}
        yield {"variant": variant.name, "questions": len(cases), **figures(ranks, groups), **spent}
    for uses in (False, True) if words else (False,):
        name = "fitted by company, glossary" if uses else "fitted by company"
        if args.only in name:
            ranks = fitted(benches["contextual"], cases, groups, uses)
            yield {"variant": name, "questions": len(cases), **figures(ranks, groups)}


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the evidence is among the first pages.")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--glossary", type=Path, help="a YAML file as `chatbot.glossary` of a project")
    parser.add_argument("--keep", type=Path, help="folder for the indexes, kept for the next run")
    parser.add_argument("--only", default="", help="variants with this in their name")
    parser.add_argument("--misses", action="store_true", help="print the questions whose page is not among five")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for line in lines(args, args.keep or Path(scratch)):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
