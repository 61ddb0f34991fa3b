"""All that is measured of retrieval, one JSON line each: `make bench-retrieval`, or with a folder of one's own,

    python benchmarks/retrieval_all.py FOLDER [cost|quality|index|snapshots ...]

FOLDER holds `pdfs/` and `questions.jsonl` (see `benchmarks/retrieval.py`); cost and quality are left out where it does
not. It takes about an hour of two cores with all peers (`benchmarks/peers/install.sh` makes their environments), and
some 15 minutes without.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/retrieval_all.py FOLDER [cost|quality|index|snapshots ...]")
    folder = Path(sys.argv[1])
    documents, questions = str(folder / "pdfs"), str(folder / "questions.jsonl")
    glossary = ["--glossary", str(HERE / "glossaries" / "finance.yml")]
    parts = {
        "cost": ["cost.py", documents, questions, *glossary],
        "quality": ["retrieval.py", questions, "--documents", documents, *glossary],
        "index": ["index.py"],
        "snapshots": ["snapshots.py"],
    }
    asked = sys.argv[2:] or list(parts)
    if unknown := [name for name in asked if name not in parts]:
        sys.exit(f"{unknown[0]!r} is none of {', '.join(parts)}")
    failed = 0
    for name in asked:
        if name in ("cost", "quality") and not (Path(documents).is_dir() and Path(questions).is_file()):
            print(json.dumps({"benchmark": name, "skipped": f"no pdfs/ and questions.jsonl in {folder}"}), flush=True)
            continue
        script, *arguments = parts[name]
        failed += subprocess.run([sys.executable, str(HERE / script), *arguments], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
