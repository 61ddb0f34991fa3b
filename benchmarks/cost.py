"""What answering from a folder of PDFs costs, beside its floor and beside other libraries: one line of JSON for each.

    python benchmarks/cost.py DOCUMENTS QUESTIONS.jsonl [--glossary FILE] [--peers FOLDER] [--only NAME ...]

`modelyard` is an ingest (`benchmarks/ingest.py`). `floor` is what cannot be less: the same files parsed and the same
passages embedded by the same kernel, all in one call, without tables; it also has how often the product's search over
them finds the evidence. The peers (`benchmarks/peers`, each written as its own quick start and with the same model) run
one after the other in environments that `benchmarks/peers/install.sh` makes; one that has none is named with that
command. `cpu_ratio` and `peak_ratio` are against `modelyard` in the same run. CPU is of the whole process tree, peaks
too; imports are not counted for anybody. One process at a time: on a busy machine CPU seconds grow by up to half, and
those of threads that wait for each other, as torch's do, the most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from ingest import Peak, cpu
from parse import sources
from retrieval import VARIANTS, Bench, measured

from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.index_segments import SegmentIndex
from modelyard.ports.index import ROWS
from modelyard.workloads.chatbot.chunk import chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.corpus import embed_text
from modelyard.workloads.chatbot.glossary import Glossary
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents

HERE = Path(__file__).resolve().parent
PEERS = ("langchain", "llamaindex", "haystack")
INSTALL = "benchmarks/peers/install.sh"


def home() -> Path:
    """Where the peers' environments and their model are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelyard-peers"


def ours(documents: Path) -> dict[str, Any]:
    line = last_line([sys.executable, str(HERE / "ingest.py"), str(documents)])
    return {
        key: line[key] for key in ("documents", "pages", "chunks", "cpu_s", "split", "workers", "wall_s", "peak_mb")
    }


def floor(documents: Path, questions: Path, glossary: Path | None) -> dict[str, Any]:
    """Parsing and embedding alone, then what the product finds in what they made."""
    peak = Peak()
    peak.start()
    embedder, spent = MiniLM(packaged()), [sum(cpu())]
    files = [path for path in sorted(documents.rglob("*")) if path.is_file()]
    pages = pa.Table.from_batches(read_documents(sources(files, documents), Limits()))
    spent.append(sum(cpu()))
    # A page's words with their boxes are most of its bytes, and nothing below needs them.
    batches = pages.drop_columns(["words"]).combine_chunks().to_batches()
    del pages
    rows = [row for batch in chunk_pages(with_heads(batches)) for row in batch.to_pylist()]
    spent.append(sum(cpu()))
    texts = [embed_text(row["header"], row["text"]) for row in rows]
    place = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    vectors = embedder.embed(list(place))
    spent.append(sum(cpu()))
    parse, chunk, embed = (round(b - a, 2) for a, b in pairwise(spent))
    megabytes = peak.stop()
    with tempfile.TemporaryDirectory() as folder:
        table = pa.Table.from_pylist(
            [{**row, "embedding": vectors[place[text]]} for row, text in zip(rows, texts, strict=True)], schema=ROWS
        )
        index = SegmentIndex(Path(folder))
        index.write("all", table["chunk_id"].to_pylist(), lambda wanted: table.to_batches())
        found = product(index, embedder, questions, glossary)
    return {
        "chunks": len(rows),
        "embedded": len(place),
        "cpu_s": round(parse + embed, 2),
        "split": {"parse": parse, "embed": embed, "chunk, not counted": chunk},
        "per_cpu_s": round(len(place) / embed, 1),
        "peak_mb": round(megabytes),
        **found,
    }


def product(index: SegmentIndex, embedder: MiniLM, questions: Path, glossary: Path | None) -> dict[str, Any]:
    """hit@1, @5, @10 and MRR of the product's search, without a glossary and with one."""
    cases = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines() if line.strip()]
    words = yaml.safe_load(glossary.read_text(encoding="utf-8")) if glossary else {}
    bench, out = Bench(index.open("all"), embedder, Glossary(words)), {"questions": len(cases)}
    names = {"product": "hits", "product, glossary": "hits_glossary"}
    for variant in VARIANTS:
        if variant.name in names and (words or not variant.glossary):
            ranks, warm, _ = measured(bench, cases, variant)
            some = max(1, len(ranks))
            hits = {f"hit@{cut}": round(sum(0 < r <= cut for r in ranks) / some, 3) for cut in (1, 5, 10)}
            out[names[variant.name]] = hits | {"mrr": round(sum(1 / r for r in ranks if r) / some, 3)}
            out.setdefault("query_ms_cpu", round(warm, 1))
    return out


def peer(name: str, documents: Path, questions: Path, folder: Path) -> dict[str, Any]:
    python = folder / name / "bin" / "python"
    if not python.exists() or not (folder / "model").is_dir():
        return {"skipped": f"no environment under {folder}: `{INSTALL} {name}` makes it"}
    script = HERE / "peers" / f"peer_{name}.py"
    try:
        return last_line([str(python), str(script), str(documents), str(questions), str(folder / "model")])
    except subprocess.CalledProcessError as error:
        return {"failed": (error.stderr or "").strip().splitlines()[-1:]}


def last_line(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description="What ingesting costs, beside the floor and beside peers.")
    parser.add_argument("documents", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--glossary", type=Path)
    parser.add_argument("--peers", type=Path, default=home(), help="where their environments are")
    parser.add_argument("--only", nargs="+", choices=["floor", *PEERS], help="beside modelyard itself")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(floor(given.documents, given.questions, given.glossary)))
        return
    first: dict[str, Any] = {}
    for name in ["modelyard", *(given.only or ["floor", *PEERS])]:
        if name == "modelyard":
            line = first = ours(given.documents)
        elif name == "floor":
            words = ["--glossary", str(given.glossary)] if given.glossary else []
            files = [str(given.documents), str(given.questions)]
            line = last_line([sys.executable, __file__, *files, *words, "--alone"])
            line["cpu_ratio"] = round(first["cpu_s"] / line["cpu_s"], 3)
        else:
            line = peer(name, given.documents, given.questions, given.peers)
            if "cpu_s" in line:
                line["cpu_ratio"] = round(line["cpu_s"] / first["cpu_s"], 2)
                line["peak_ratio"] = round(first["peak_mb"] / line["peak_mb"], 2)
        print(json.dumps({"benchmark": "cost", "who": name, **line}), flush=True)


if __name__ == "__main__":
    main()
