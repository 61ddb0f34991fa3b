"""`make bench-serving`: the figures of docs/operating.md, one JSON line each, in one go.

    python benchmarks/serving.py [NAME ...]

Peers run where benchmarks/peers/serving.sh made their environments; ratios are against what was measured in the same
run. What each measures stands at the top of its file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS: dict[str, list[str]] = {
    "tabular": ["tabular.py"],
    "chat_overhead": ["chat_overhead.py"],
    "switch": ["switch.py"],
    "steady": ["steady.py", "--requests", "3000"],
    "hop": ["hop.py"],
    "record": ["record.py"],
    "edge": ["edge.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]}")
    failed = []
    for name in names:
        script, *arguments = BENCHMARKS[name]
        done = subprocess.run([sys.executable, str(HERE / script), *arguments], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed.append(name)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                print(json.dumps({"benchmark": name, **json.loads(line)}), flush=True)
    if failed:
        sys.exit(f"did not keep what is promised: {', '.join(failed)}")


if __name__ == "__main__":
    main()
