"""How well the chain answers: right, wrong and refused on a file of questions over a folder of documents.

    python benchmarks/answers.py QUESTIONS.jsonl --documents FOLDER [--why]

A line of QUESTIONS is {"id", "question", "history", "answers", "evidence": [{"document", "page"}], "unanswerable"}.
Prints one JSON line; needs no project. `--keep FOLDER` keeps the index, so that the next run begins with the questions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelyard import ids
from modelyard.adapters import read_minilm, read_smollm
from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.index_segments import SegmentIndex
from modelyard.clock import SystemClock
from modelyard.ports.index import ROWS, Searcher
from modelyard.ports.reader import Readers
from modelyard.ports.workload import Call, Response
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.chunk import chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.generate import DEFAULT_PROMPT
from modelyard.workloads.chatbot.judge import judge
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.schemas import SOURCES


def rows(folder: Path, embedder: MiniLM) -> pa.Table:
    """Every chunk of every document of `folder`, with its vector."""
    sources = (
        pa.RecordBatch.from_pylist(
            [
                {
                    "document": path.relative_to(folder).as_posix(),
                    "sha256": ids.digest_file(path),
                    "content": path.read_bytes(),
                }
            ],
            schema=SOURCES,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    pages = with_heads(read_documents(sources, Limits()))
    chunks = [row for batch in chunk_pages(pages) for row in batch.to_pylist()]
    vectors = embedder.embed([f"{c['header']}\n{c['text']}" for c in chunks])
    return pa.Table.from_pylist([{**c, "embedding": v} for c, v in zip(chunks, vectors, strict=True)], schema=ROWS)


def open_index(folder: Path, embedder: MiniLM, root: Path) -> Searcher:
    """A searcher over `folder`; what `root` already holds is not made again."""
    index = SegmentIndex(root)
    if "answers" not in index.snapshots():
        table = rows(folder, embedder)
        index.write("answers", table["chunk_id"].to_pylist(), lambda wanted: table.to_batches())
    return index.open("answers")


def packaged_readers() -> Readers:
    """As a release has them."""
    quick, close = read_minilm.packaged(), read_smollm.packaged()
    return Readers(read_minilm.MiniLMReader(quick), read_smollm.SmolLMReader(close))


def ask(bot: Chatbot, case: dict[str, Any]) -> dict[str, Any]:
    """The output of the chain for one line of the file."""
    messages = [*case.get("history", []), {"role": "user", "content": case["question"]}]
    events = list(bot.predict({"messages": messages}, Call(SystemClock(), "")))
    assert isinstance(events[-1], Response)
    return dict(events[-1].output)


def summary(cases: Sequence[dict[str, Any]], verdicts: Sequence[str], seconds: float) -> dict[str, Any]:
    """The figures of one run."""
    answerable = [v for c, v in zip(cases, verdicts, strict=True) if not c.get("unanswerable")]
    unanswerable = [v for c, v in zip(cases, verdicts, strict=True) if c.get("unanswerable")]
    count = {v: verdicts.count(v) for v in ("right", "wrong", "refused")}
    return {
        "questions": len(cases),
        **count,
        "answerable_right": _share(answerable.count("right"), len(answerable)),
        "unanswerable_refused": _share(unanswerable.count("refused"), len(unanswerable)),
        "wrong_share": _share(count["wrong"], len(cases)),
        "ms_cpu": round(1000 * seconds / max(1, len(cases)), 1),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _reports(
    cases: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]], verdicts: Sequence[str]
) -> Iterator[str]:
    for case, output, verdict in zip(cases, outputs, verdicts, strict=True):
        gold = " | ".join(case["answers"]) or "(unanswerable)"
        pages = ", ".join(f"{e['document']}:{e['page']}" for e in case["evidence"])
        cited = ", ".join(f"{c['document']}:{c['page']}" for c in output["citations"])
        found = [(r["document"], r["page"]) for r in output["retrieved"]]
        ranks = [
            found.index((e["document"], e["page"])) + 1 for e in case["evidence"] if (e["document"], e["page"]) in found
        ]
        yield (
            f"{verdict.upper():8}{case['id']} {case['question']}\n"
            + (f"        as: {output['question']}\n" if output["question"] != case["question"] else "")
            + f"        gold: {gold} [{pages}] retrieved at {ranks or 'none'}\n"
            f"        said: {output['answer']} [{cited}] {output['reason'] or ''}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the chain answers.")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="folder for the index, kept for the next run")
    parser.add_argument("--why", action="store_true", help="print every question that was not answered right")
    parser.add_argument("--only", default="", help="START:STEP, every STEP-th question from START")
    args = parser.parse_args()
    cases = [json.loads(line) for line in args.questions.read_text().splitlines() if line.strip()]
    if args.only:
        start, step = map(int, args.only.split(":"))
        cases = cases[start::step]
    embedder = MiniLM(packaged())
    with tempfile.TemporaryDirectory() as scratch:
        searcher = open_index(args.documents, embedder, args.keep or Path(scratch))
        bot = Chatbot(searcher, embedder, None, {}, DEFAULT_PROMPT, readers=packaged_readers())
        start_cpu = time.process_time()
        outputs = [ask(bot, case) for case in cases]
        seconds = time.process_time() - start_cpu
    verdicts = [
        judge(c["answers"], c["evidence"], bool(c.get("unanswerable")), o) for c, o in zip(cases, outputs, strict=True)
    ]
    if args.why:
        for report, case, verdict in zip(_reports(cases, outputs, verdicts), cases, verdicts, strict=True):
            if verdict != ("refused" if case.get("unanswerable") else "right"):
                print(report, file=sys.stderr)
    print(json.dumps(summary(cases, verdicts, seconds)))


if __name__ == "__main__":
    main()
