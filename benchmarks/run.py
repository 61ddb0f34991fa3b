"""`make bench`: the figures of the README, one JSON line each, in one go.

Every figure is measured here and now, on this machine; ratios are against something measured in the same run.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HANDBOOK = ROOT / "examples" / "handbook"
MODELYARD = [sys.executable, "-m", "modelyard"]
REALDATA = Path(os.environ.get("MODELYARD_REALDATA", ROOT.parent / "shared" / "data"))


def timed(command: Sequence[str], **options: Any) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """(wall seconds, CPU seconds of it and its children, what it printed). A failing command ends the benchmark."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, **options)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


def help_import() -> dict[str, Any]:
    """`modelyard --help`, beside a Python that does nothing."""
    ours = [timed([*MODELYARD, "--help"])[0] for _ in range(7)]
    bare = [timed([sys.executable, "-c", "pass"])[0] for _ in range(7)]
    return {
        "seconds": round(statistics.median(ours), 3),
        "bare_python_seconds": round(statistics.median(bare), 3),
        "limit": 0.3,
    }


def demo() -> dict[str, Any]:
    """The demo after installation: wall time, CPU, the largest process and the largest sum over the process tree."""
    with tempfile.TemporaryDirectory() as folder:
        peak = _PeakOfTree()
        command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--project", f"{folder}/demo"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak.look(process.pid)
            time.sleep(0.2)
        wall = time.perf_counter() - start
        if process.returncode:
            assert process.stdout is not None
            sys.exit(process.stdout.read().decode()[-3000:])
    return {"seconds": round(wall, 1), "limit": 60, "peak_tree_mb": round(peak.megabytes), "memory_limit_mb": 2000}


class _PeakOfTree:
    """Resident memory of a process and all below it (Linux; elsewhere 0): proportional, so that shared pages count
    once."""

    def __init__(self) -> None:
        self.megabytes = 0.0

    def look(self, root: int) -> None:
        total, queue = 0, [root]
        while queue:
            pid = queue.pop()
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(text.split("Pss:")[1].split()[0])
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += [int(p) for p in (task / "children").read_text().split()]
            except (OSError, IndexError, ValueError):
                continue
        self.megabytes = max(self.megabytes, total / 1000)


def no_op(documents: int = 10_000) -> dict[str, Any]:
    """A run on an unchanged corpus of 10,000 documents, beside walking the folder alone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "many"
        subprocess.run([*MODELYARD, "init", str(root)], check=True, capture_output=True)
        with (root / "modelyard.yml").open("a") as f:
            # The cheap embedder: the first run is not what is measured here.
            f.write("chatbot: {embedder: hash}\n")
        for i in range(documents):
            path = root / "documents" / f"{i % 100:02d}" / f"note-{i}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"Note {i}. The container {i} was weighed at {i * 7 % 1000} kilograms on day {i % 365}.\n")
        first, _, _ = timed([*MODELYARD, "run", "-C", str(root)])
        again = [timed([*MODELYARD, "run", "-C", str(root)])[:2] for _ in range(5)]
        walk = "import os, sys; sum(1 for d, _, fs in os.walk(sys.argv[1]) for f in fs if os.stat(os.path.join(d, f)))"
        floor = [timed([sys.executable, "-c", walk, str(root / "documents")])[0] for _ in range(5)]
    wall = statistics.median(w for w, _ in again)
    return {
        "documents": documents,
        "seconds": round(wall, 3),
        "cpu_seconds": round(statistics.median(c for _, c in again), 3),
        "limit": 1.0,
        "first_run_seconds": round(first, 1),
        "ratio_to_walking_the_folder": round(wall / statistics.median(floor), 1),
    }


def script(name: str, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines of another benchmark."""
    _, _, done = timed([sys.executable, str(ROOT / "benchmarks" / name), *arguments])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def questions() -> dict[str, Any]:
    """Questions on the handbook: the 50 used while building, and the 50 that were not."""
    out: dict[str, Any] = {}
    for name in ("building", "held-out"):
        path = HANDBOOK / "questions" / f"{name}.jsonl"
        out[name] = script("answers.py", str(path), "--documents", str(HANDBOOK / "documents"))[-1]
    return out


def filings() -> dict[str, Any]:
    """43 questions on SEC filings, one store for all, beside GPT-4-Turbo with a shared store on the same questions
    (23 % right, 16 % wrong, 60 % refused by human labels; FinanceBench, arXiv 2311.11944).

    Their gold answers are free text, and nobody labels ours. Right here is a number of the gold answer (no year), or
    all of its text, in an answer cited on a gold page: mechanical, and too strict for a gold without a number.
    """
    if not (REALDATA / "filings").is_dir():
        return {"skipped": "no filings here"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.jsonl"
        lines = (REALDATA / "filings" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        for row in rows:
            row["answers"] = [row["answer"], *_numbers(row["answer"])]
            row["evidence"] = [{"document": _pdf(e["document"]), "page": e["page"]} for e in row["evidence"]]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        found = script("answers.py", str(path), "--documents", str(REALDATA / "filings" / "pdfs"))[-1]
    numeric = sum(len(row["answers"]) > 1 for row in rows)
    published = {"right": 23, "wrong": 16, "refused": 60}
    return found | {"with_a_number": numeric, "published_gpt4_turbo_percent": published}


def _pdf(name: str) -> str:
    return name if name.endswith(".pdf") else f"{name}.pdf"


def _numbers(text: str) -> list[str]:
    """The numbers of a gold answer as a filing may print them; years left out."""
    out = []
    for token in re.findall(r"\d[\d,]*(?:\.\d+)?", text):
        plain = token.replace(",", "").rstrip(".")
        if re.fullmatch(r"(19|20)\d\d", plain):
            continue
        short = plain.rstrip("0").rstrip(".") if "." in plain else plain
        whole, _, rest = short.partition(".")
        out += [token, plain, short, f"{int(whole):,}" + (f".{rest}" if rest else "")]
    return list(dict.fromkeys(out))


FIGURES: dict[str, Callable[[], Any]] = {
    "help": help_import,
    "demo": demo,
    "no_op": no_op,
    "switch": lambda: script("switch.py")[-1],
    "questions": questions,
    "filings": filings,
}


def main() -> int:
    asked = sys.argv[1:] or list(FIGURES)
    for name in asked:
        if name not in FIGURES:
            sys.exit(f"{name!r} is not a figure: {', '.join(FIGURES)}")
        print(json.dumps({"figure": name, "cores": os.cpu_count(), **FIGURES[name]()}), flush=True)
    return 0


if __name__ == "__main__":
    if shutil.which("modelyard") is None and not (Path(sys.executable).parent / "modelyard").exists():
        sys.exit("run `make` first")
    sys.exit(main())
