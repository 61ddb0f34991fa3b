"""The main job from beginning to end: an example project over a small handbook, or over a folder of your own.

    python examples/demo.py [--documents FOLDER] [--project FOLDER]

It does what a user does, with the same commands, and prints each: init, run, serve, ask. At a terminal it stays up
serving until Ctrl-C; otherwise it stops after the answers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import modelyard

HERE = Path(__file__).parent
HANDBOOK = HERE / "handbook"
MODELYARD = [sys.executable, "-m", "modelyard"]
QUESTIONS = [
    "What may a grade 6 colleague spend on a hotel night in Copenhagen under the 2025 rules?",
    "For how long can I work from another country in the course of a year?",
    "Can I get paid time off to donate blood?",
]


def main() -> int:
    parser = argparse.ArgumentParser(description="An example project, from documents to served answers.")
    parser.add_argument("--documents", type=Path, help="a folder of your own documents")
    parser.add_argument("--project", type=Path, help="where the example project goes")
    options = parser.parse_args()
    documents = (options.documents or HANDBOOK / "documents").absolute()
    name = "handbook" if options.documents is None else re.sub(r"\W+", "-", documents.name).strip("-") or "own"
    project = options.project or HERE.parent / "demo" / name
    start = time.monotonic()
    if not (project / "modelyard.yml").exists():
        command("init", str(project), "--documents", str(documents))
        if options.documents is None:
            shutil.copy(HANDBOOK / "questions" / "building.jsonl", project / "evaluation.jsonl")
    command("run", "-C", str(project))
    server = serve(project)
    try:
        url = ready(project, server)
        for question in QUESTIONS if options.documents is None else own_questions(project):
            print(f"\n? {question}", flush=True)
            command("ask", question, "-C", str(project), show=False)
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
        unit = 1 if sys.platform == "darwin" else 1024
        print(f"\n{time.monotonic() - start:.0f} s; largest process {peak * unit / 1e6:.0f} MB")
        print(f"The chat page: {url}", flush=True)
        if sys.stdin.isatty() and sys.stdout.isatty():
            print("Serving until Ctrl-C.")
            server.wait()
    except KeyboardInterrupt:
        print()
    finally:
        stop(server)
    return 0


def command(*arguments: str, show: bool = True) -> None:
    """Run one modelyard command as a user would, its output passed on; a failing one ends the demo with its code."""
    if show:
        print(f"$ modelyard {shlex.join(arguments)}", flush=True)
    done = subprocess.run([*MODELYARD, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def serve(project: Path) -> subprocess.Popen[bytes]:
    print(f"$ modelyard serve -C {project} --port 0", flush=True)
    # A session of its own, so that Ctrl-C reaches this script first and the server is then told to drain.
    return subprocess.Popen(
        [*MODELYARD, "serve", "-C", str(project), "--port", "0"], start_new_session=True, stdout=subprocess.DEVNULL
    )


def ready(project: Path, server: subprocess.Popen[bytes], within: float = 60.0) -> str:
    """The address of the gateway once it answers."""
    info = project / ".modelyard" / "test" / "serve.json"
    until = time.monotonic() + within
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(server.returncode or 1)
        try:
            url = str(json.loads(info.read_text())["url"])
            with urllib.request.urlopen(f"{url}/ready", timeout=2) as answer:
                if answer.status == 200:
                    return url
        except (OSError, ValueError, KeyError, urllib.error.URLError):
            time.sleep(0.1)
    sys.exit(f"the gateway was not ready within {within:.0f} s")


def own_questions(project: Path) -> list[str]:
    """Three questions from the exam that was generated from the documents: of a table, of prose, of neither. Those
    that were answered rightly come first: they show what an answer looks like."""
    with modelyard.open(project) as opened:
        rows = sorted(opened.sitting("champion"), key=lambda row: -(row["values"].get("right") or 0.0))

    def first(*slices: str, without: str = "") -> list[str]:
        fits = (r for r in rows if set(slices) <= set(r["slices"]) and without not in r["slices"])
        return [r["request"]["messages"][-1]["content"] for r in fits][:1]

    return first("answerable", "table") + first("answerable", without="table") + first("unanswerable")


def stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
