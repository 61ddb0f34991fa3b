"""What every peer is measured by, standard library only: it runs in the peers' environments, where modelyard is not.

A peer is three functions: `parse(folder)` reads all PDFs of a folder, `store(parsed)` makes them searchable and tells
how many chunks it made, `find(question, count)` gives the (document, page from 1) of that many chunks, best first.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

# None of them is to call home, nor to look for a model anywhere but in the folder that it is given.
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
os.environ |= {"ANONYMIZED_TELEMETRY": "False", "HAYSTACK_TELEMETRY_ENABLED": "False"}

Place = tuple[str, int]
CUTS = (1, 5, 10)
MANY = 60


def main(
    packages: Sequence[str],
    parse: Callable[[Path], Any],
    store: Callable[[Any, str], int],
    find: Callable[[str, int], list[Place]],
) -> None:
    """`python peer_x.py DOCUMENTS QUESTIONS MODEL`: one line of JSON.

    `hits` takes chunks as they come, as the quick starts show them; `hits_one_a_page` asks for 60 chunks and counts a
    page once, as ours does. CPU seconds are user and system, of this process; imports are counted as `start`.
    """
    folder, questions, model = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    started, wall = cpu(), time.perf_counter()
    parsed = parse(folder)
    read = cpu()
    chunks = store(parsed, model)
    stored, wall = cpu(), time.perf_counter() - wall
    del parsed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    cases = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines() if line.strip()]
    ranks, paged, asked = [], [], cpu()
    for case in cases:
        ranks.append(rank(find(case["question"], CUTS[-1]), case))
    asked = cpu() - asked
    for case in cases:
        paged.append(rank([*dict.fromkeys(find(case["question"], MANY))], case))
    line = {
        "versions": {name: version(name) for name in packages},
        "chunks": chunks,
        "cpu_s": round(stored - started, 1),
        "split": {
            "start": round(started, 1),
            "parse": round(read - started, 1),
            "embed and store": round(stored - read, 1),
        },
        "wall_s": round(wall, 1),
        "peak_mb": round(peak),
        "query_ms_cpu": round(1000 * asked / max(1, len(cases)), 1),
        "questions": len(cases),
        "hits": hits(ranks),
        "hits_one_a_page": hits(paged),
    }
    print(json.dumps(line))


def rank(found: Sequence[Place], case: dict[str, Any]) -> int:
    """Of the first evidence page among ten, from 1; 0 for none."""
    gold = {(e["document"].removesuffix(".pdf"), e["page"]) for e in case["evidence"]}
    places = [(name.removesuffix(".pdf"), page) for name, page in found[: CUTS[-1]]]
    return next((at for at, place in enumerate(places, 1) if place in gold), 0)


def hits(ranks: Sequence[int]) -> dict[str, float]:
    some = max(1, len(ranks))
    found = {f"hit@{cut}": round(sum(0 < r <= cut for r in ranks) / some, 3) for cut in CUTS}
    return found | {"mrr": round(sum(1 / r for r in ranks if r) / some, 3)}


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
