"""What the default embedder costs, as one line of JSON: `python benchmarks/embed.py [TEXTS] [--float32] [--threads N]`.

Texts of 180 tokens in the mean (60 to 256), joined from the sentences of `weights/calibration.txt`; each is new to the
process, kernels are warm. `query_ms` is one question alone, CPU time, the median of 50; `open_s` is wall time.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import time
from pathlib import Path

from modelyard.adapters.embed_minilm import MiniLM, packaged

SENTENCES = Path(__file__).resolve().parents[1] / "weights" / "calibration.txt"


def texts(count: int, embedder: MiniLM) -> list[str]:
    rng = random.Random(7)
    pieces = [
        piece for piece in SENTENCES.read_text(encoding="utf-8").replace("\n", " ").split(". ") if len(piece) > 20
    ]
    lengths = {piece: embedder.count_tokens(piece) for piece in pieces}
    made = []
    for _ in range(count):
        wanted, tokens, parts = rng.triangular(60, 256, 200), 0, []
        while tokens < wanted:
            parts.append(rng.choice(pieces))
            tokens += lengths[parts[-1]]
        made.append(". ".join(parts))
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=400)
    parser.add_argument("--float32", action="store_true", help="as on processors without int8 instructions")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    began = time.perf_counter()
    embedder = MiniLM(packaged(), threads=given.threads, int8=False if given.float32 else None)
    opened = time.perf_counter() - began
    corpus = texts(given.count * 2, embedder)
    embedder.embed(corpus[: given.count])

    cpu, wall = time.process_time(), time.perf_counter()
    embedder.embed(corpus[given.count :])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall

    queries = []
    for i in range(60):
        start = time.process_time()
        embedder.embed([f"How many days of annual leave does employee {i} get?"])
        queries.append((time.process_time() - start) * 1000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    tokens = statistics.mean(min(256, embedder.count_tokens(text)) for text in corpus[given.count :])
    figures = {
        "benchmark": "embed",
        "texts": given.count,
        "tokens_mean": round(tokens),
        "per_cpu_s": round(given.count / cpu, 1),
        "per_s": round(given.count / wall, 1),
        "query_ms": round(statistics.median(queries[10:]), 2),
        "open_s": round(opened, 2),
        "peak_mb": round(peak),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
