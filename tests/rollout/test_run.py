"""`modelyard run` where the policy is a canary: exit codes, and what a run leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

import modelyard
from modelyard.serving.route import alive


def modelyard_(root: Path, *words: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "modelyard", *words, "-C", str(root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def test_a_run_starts_a_canary_and_says_so_by_its_exit_code(tmp_path: Path) -> None:
    modelyard.init(tmp_path / "p", workload="echo", name="p")
    root = tmp_path / "p"
    (root / "evaluation.jsonl").write_text('{"id": "1", "question": "hi", "answers": ["hi", "a hi"]}\n')
    project = root / "modelyard.yml"
    project.write_text(project.read_text() + "rollout: {policy: canary}\n")
    code, first = modelyard_(root, "run")
    assert (code, first["deployed"], first["canary"]) == (0, True, None)  # nothing to compare with yet
    command = [sys.executable, "-m", "modelyard", "serve", "-C", str(root), "--port", "0"]
    gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with modelyard.open(root) as here:
            while (info := alive(here.world.layout)) is None:
                time.sleep(0.05)
            while httpx.get(f"{info.url}/ready", trust_env=False).status_code != 200:
                time.sleep(0.05)
            project.write_text(project.read_text() + 'echo: {prefix: "a "}\n')
            code, second = modelyard_(root, "run")
            assert (code, second["deployed"]) == (5, False)
            assert here.rollouts()[0].id == second["canary"] and here.rollouts()[0].challenger == second["release"]
            assert modelyard_(root, "run")[0] == 5  # it is under way still
            here.rollback(why="enough")
            code, third = modelyard_(root, "run")
            assert code == 0 and third["canary"] is None and "enough" in third["warnings"][0]
            assert here.world.ledger.pointers("p").champion == first["release"]
    finally:
        gateway.terminate()
        gateway.wait(30)
