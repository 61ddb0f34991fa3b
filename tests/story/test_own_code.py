"""A workload of the user's own is part of the release: its code is rolled back with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.story.conftest import Story, project

CODE = """
from modelyard.workloads.echo import EchoWorkload, Echo

class Loud(EchoWorkload):
    name = "loud"
    def load(self, ctx, artifact_dir):
        return Echo("{shout} ")
"""


@pytest.fixture
def loud(tmp_path: Path) -> Story:
    story = project(tmp_path / "loud", "--workload", "loud:Loud")
    (story.root / "loud.py").write_text(CODE.format(shout="HEY"))
    (story.root / "evaluation.jsonl").write_text(
        json.dumps({"id": "1", "question": "you", "answers": ["HEY you", "HO you"]})
    )
    story("run")
    return story


def test_changed_code_is_another_release_and_a_rollback_brings_the_old_code_back(loud: Story, tmp_path: Path) -> None:
    first = loud.answers("you")[0]
    assert first["answer"] == "HEY you"
    (loud.root / "loud.py").write_text(CODE.format(shout="HO"))
    # What is deployed is what was built, whatever lies in the project's folder now.
    assert loud.answers("you")[0] == first
    assert loud("run", "--json").json["steps"]["build"] == "done"
    second = loud.answers("you")[0]
    assert second["answer"] == "HO you" and second["release"] != first["release"]
    loud("release", "rollback")
    assert loud.answers("you")[0] == first


def test_code_that_answers_wrongly_does_not_get_through(loud: Story) -> None:
    (loud.root / "loud.py").write_text(CODE.format(shout="BROKEN"))
    loud("run", code=3)
    assert loud.answers("you")[0]["answer"] == "HEY you"
