"""A town served by the command itself, with everything that `modelyard serve` puts together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from town import Gateway, Town, eventually

from modelyard.ports.records import Decision
from modelyard.serving.route import alive

QUESTIONS = """        from modelyard.ports.workload import Case
        asked = {"messages": [{"role": "user", "content": "how much?"}]}
        return iter([Case("1", asked, {})])
"""


def judged(town: Town, prefix: str) -> str:
    """A release that passed the gate."""
    release = town.release(prefix)
    town.ledger.add_decision(Decision("gate", "pass", ("good",), {"evidence": {"release": release}}))
    return release


def examined(town: Town) -> None:
    """From now on there is a question that releases can be asked in a drill."""
    (town.root / "evaluation.jsonl").write_text('{"question": "how much?"}\n')
    source = town.root / "standin.py"
    source.write_text(source.read_text().replace("        return iter(())\n", QUESTIONS))


def configured(town: Town, more: str) -> None:
    """More lines for the project file."""
    file = town.root / "modelyard.yml"
    file.write_text(file.read_text() + more)


@contextmanager
def serving(town: Town) -> Iterator[Gateway]:
    command = [sys.executable, "-m", "modelyard", "serve", "-C", str(town.root), "--port", "0"]
    env = {k: v for k, v in os.environ.items() if k != "MODELYARD_TOKEN"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    try:
        info = eventually(lambda: alive(town.layout), "a gateway that listens", process)
        gateway = Gateway(town, info, process)
        gateway.until_ready()
        yield gateway
    finally:
        if process.poll() is None:
            process.terminate()
        _, said = process.communicate(timeout=30)
        (town.root / "gateway.log").write_text(said)
