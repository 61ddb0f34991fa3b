"""A project over a small corpus, made once with the real command line, and copied for each test that changes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from modelyard.adapters.registry_mlflow_store import make
from modelyard.project.layout import Layout
from tests.story import imported

LEAVE = """# Leave policy

Valid from January 2025. Kept by the people team.

## Annual leave

Every employee has 27 days of annual leave. Up to five days may be carried over into the next year, and they lapse on
31 March.

## Parental leave

Parents take twelve weeks of paid leave within two years of the birth. A request is made eight weeks before it begins.

## Leave by years of service

| Years of service | Days |
|---|---|
| 0 to 4 | 27 |
| 5 to 9 | 29 |
| 10 and more | 31 |
"""
TRAVEL = """# Travel policy

Valid from March 2025.

## Trains and flights

Trains are booked in second class. A flight needs the approval of the team lead, and is booked fourteen days ahead.

## Hotels

The hotel limit is 140 euros per night in Germany, and 165 euros per night in Switzerland. Breakfast is included.
"""
EXAM = [
    {
        "id": "q1",
        "question": "How many days of leave may be carried over into the next year?",
        "answers": ["five days"],
        "evidence": [{"document": "leave.md", "page": 2}],
    },
    {
        "id": "q2",
        "question": "What is the hotel limit per night in Switzerland?",
        "answers": ["165 euros"],
        "evidence": [{"document": "travel.md", "page": 3}],
    },
    {"id": "q3", "question": "What is the hotel limit per night in Japan?", "unanswerable": True},
]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(
    arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line, with `env` over what the environment is."""
    both = {**os.environ, **(env or {})}
    if sys.platform == "linux":  # elsewhere a system's own libraries do not bear a fork
        return imported.call(arguments, folder, both)
    command = [sys.executable, "-m", "modelyard", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, env=both, check=False)


@dataclass(frozen=True)
class Story:
    """A project's folder, and its command line."""

    root: Path

    def __call__(self, *arguments: str, code: int | None = 0, env: dict[str, str] | None = None) -> Result:
        done = run(arguments, self.root, env)
        assert "Traceback" not in done.stderr, done.stderr
        if code is not None:
            assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)

    @property
    def documents(self) -> Path:
        return self.root / "documents"

    def answers(self, *questions: str) -> list[dict[str, Any]]:
        path = self.root / ".questions.jsonl"
        path.write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
        lines = self("ask", "--file", str(path)).out.splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "latency_ms"} for line in lines]


def project(root: Path, *options: str) -> Story:
    """A new project, whose MLflow store is there already: a second of migrations, that other tests are about."""
    assert run(["init", str(root), *options], root.parent).returncode == 0
    db = Layout(root, "test").mlflow_db
    db.parent.mkdir(parents=True, exist_ok=True)
    db.write_bytes(_store())
    return Story(root)


@cache
def _store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "mlflow.db"
        make(db)
        return db.read_bytes()


def start(root: Path) -> Story:
    story = project(root)
    (root / "documents" / "leave.md").write_text(LEAVE)
    (root / "documents" / "travel.md").write_text(TRAVEL)
    (root / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in EXAM))
    return story


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Story:
    story = start(tmp_path_factory.mktemp("story") / "house")
    # As a user's first run: in a process that imports while it works, and makes the store.
    Layout(story.root, "test").mlflow_db.unlink()
    subprocess.run([sys.executable, "-m", "modelyard", "run"], cwd=story.root, check=True, capture_output=True)
    return story


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Story]:
    """A project that has never been run."""
    return lambda: start(tmp_path / "house")


@pytest.fixture
def house(_template: Story, tmp_path: Path) -> Story:
    """A project whose first release is deployed (unproven: three cases prove nothing)."""
    copy = tmp_path / "house"
    shutil.copytree(_template.root, copy, symlinks=True)
    return Story(copy)
