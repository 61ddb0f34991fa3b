"""What a changed document costs, and what ten snapshots take on disk: `python benchmarks/snapshots.py [DOCUMENTS]`.

1,000 Markdown documents of 1,500 made-up words are prepared and built with the default embedder; then one of them is
written anew from its first word to its last, then 1 % of them eight times over, each time prepared and built. Prints
one line of JSON:

`full_cpu_s`, `one_changed_cpu_s`: CPU of one process that prepares and builds, and all it starts, imports included;
`bare_cpu_s`: the same with nothing to do, both steps asked for by name. `share`: the second over the first.
`snapshots_ratio`: bytes of the index store, the releases, their objects and the local MLflow artifacts together, each
file counted once however many names it has, after ten snapshots over after one; `snapshots_mb`: these, and each part.
`tables_mb`: the Delta tables after one, after ten, and after a vacuum of all that the newest version does not need.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

WORDS = 1_500
PARTS = ("store/index", "store/releases", "store/objects", "test/mlartifacts")


def document(number: int, version: int) -> str:
    """A text of its own, in ten sections."""
    told = random.Random(f"{number} {version}")
    out = [f"# Report {number}\n"]
    for section in range(10):
        words = [told.choice(_STEMS) + told.choice(_ENDINGS) for _ in range(WORDS // 10)]
        sentences = [" ".join(words[i : i + 12]).capitalize() + "." for i in range(0, len(words), 12)]
        out.append(f"## Section {section} of {number}\n\n{' '.join(sentences)}\n")
    return "\n".join(out)


_STEMS = ["ac", "be", "con", "de", "in", "pro", "re", "sub"]
_ENDINGS = [a + b for a in ("ti", "si", "fo", "vi", "du", "fe", "tra", "spe", "mi") for b in ("on", "der", "rm", "se")]


def spent(root: Path, *steps: str) -> float:
    """CPU seconds of one process that runs these steps, and of all it starts."""
    script = "import modelyard, sys\nwith modelyard.open(sys.argv[1]) as p:\n    [p.run(only=s) for s in sys.argv[2:]]"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script, str(root), *steps], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def taken(home: Path) -> tuple[float, dict[str, float]]:
    """Megabytes of all parts, each file once, and of each part by itself."""
    every, parts = dict[int, int](), dict[str, float]()
    for part in PARTS:
        files = {p.stat().st_ino: p.stat().st_blocks * 512 for p in (home / part).rglob("*") if p.is_file()}
        every |= files
        parts[part] = round(sum(files.values()) / 1e6, 1)
    return sum(every.values()) / 1e6, parts


def tables(home: Path) -> float:
    return round(sum(p.stat().st_size for p in (home / "test" / "tables").rglob("*") if p.is_file()) / 1e6, 1)


def measure(count: int, root: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, "-m", "modelyard", "init", str(root)], check=True, capture_output=True)
    paths = [root / "documents" / f"{n % 20:02d}" / f"report-{n}.md" for n in range(count)]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_text(document(number, 0))
    home = root / ".modelyard"
    full = spent(root, "prepare", "build")
    first, _ = taken(home)
    tables_first, bare = tables(home), spent(root, "prepare", "build")
    paths[count // 2].write_text(document(count // 2, 1))
    one = spent(root, "prepare", "build")
    rng = random.Random(3)
    for version in range(2, 10):
        for number in rng.sample(range(count), max(count // 100, 1)):
            paths[number].write_text(document(number, version))
        spent(root, "prepare", "build")
    ten, parts = taken(home)
    tables_ten = tables(home)
    for folder in (home / "test" / "tables").iterdir():
        table = DeltaTable(folder)
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return {
        "documents": count,
        "full_cpu_s": round(full, 2),
        "one_changed_cpu_s": round(one, 2),
        "bare_cpu_s": round(bare, 2),
        "share": round(one / full, 4),
        "share_less_bare": round((one - bare) / (full - bare), 4),
        "snapshots_ratio": round(ten / first, 3),
        "snapshots_mb": {"one": round(first, 1), "ten": round(ten, 1), **parts},
        "tables_mb": {"one": tables_first, "ten": tables_ten, "ten, vacuumed": tables(home)},
    }


def main() -> None:
    count = int(sys.argv[1].replace(",", "")) if sys.argv[1:] else 1_000
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"benchmark": "snapshots", **measure(count, Path(folder) / "many")}))


if __name__ == "__main__":
    main()
