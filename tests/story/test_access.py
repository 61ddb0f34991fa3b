"""Who may see what, from the project folder to the answer."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from modelyard import api
from modelyard.cli.ask import ask, search
from modelyard.cli.data import data
from modelyard.cli.release import release
from modelyard.errors import UserError
from modelyard.lifecycle import run as loop

PROJECT = """
name: yard
chatbot: {embedder: hash}
gate: {floors: {citation_validity: 0.0, abstention_recall: 0.0}}
"""
COMMANDS: dict[str, click.Command] = {"ask": ask, "search": search, "data": data, "release": release}
PAY = "What is the pay of a warden?"


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    (tmp_path / "documents" / "hr").mkdir(parents=True)
    (tmp_path / "modelyard.yml").write_text(PROJECT)
    (tmp_path / "documents" / "tea.md").write_text("# Tea\n\nTea is served at four. It costs 2 euros a cup.\n")
    (tmp_path / "documents" / "hr" / "pay.md").write_text("# Pay\n\nThe pay of a warden is 3100 euros.\n")
    return tmp_path


def run(folder: Path) -> tuple[dict[str, str], str]:
    with api.open(folder) as project:
        outcome = project.run()
        assert outcome.release is not None
        return outcome.steps, outcome.release.id


def cli(name: str, *arguments: str) -> str:
    # Each by itself: the top command remembers how it was called, and the page of the commands is made from it.
    done = CliRunner().invoke(COMMANDS[name], list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_file_closes_a_folder_with_the_next_run(yard: Path) -> None:
    _, first = run(yard)
    sidecar = yard / "documents" / "hr" / ".access.yml"
    sidecar.write_text("groups: [hr]\n")
    _, second = run(yard)
    assert "~ access hr/pay.md: everybody -> hr\n" in cli("release", "diff", first, second, "-C", str(yard))
    assert first != second and set(run(yard)[0].values()) == {"skipped"}
    assert "3100" in cli("ask", PAY, "-C", str(yard), "--group", "sales", "--group", "hr")
    assert "3100" not in cli("ask", PAY, "-C", str(yard))
    for group, names in (("hr", {"hr/pay.md", "tea.md"}), ("HR", {"tea.md"})):
        hits = json.loads(cli("search", "pay warden tea", "-C", str(yard), "--group", group, "--json"))
        assert {hit["document"] for hit in hits} == names
    rows = json.loads(cli("data", "status", "-C", str(yard), "--json"))
    assert {row["document"]: row["groups"] for row in rows} == {"hr/pay.md": ["hr"], "tea.md": None}
    assert "everybody" in cli("data", "status", "-C", str(yard))
    # A file that cannot be understood lets nothing through, however often one tries.
    sidecar.write_text("groups: hr\n")
    for _ in range(2):
        with pytest.raises(UserError, match="groups is a list of names"):
            run(yard)
    sidecar.unlink()
    with api.open(yard) as project:
        outcome = project.run()
    assert outcome.release is not None and outcome.release.id == first
    assert [w for w in outcome.warnings if f"release {first[:12]} shows 1 document (hr/pay.md) to callers" in w]


def test_a_run_cut_short_after_reading_goes_on_next_time(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = run(yard)
    (yard / "documents" / "tea.md").write_text("# Tea\n\nTea is served at five. It costs 3 euros a cup.\n")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(yard)
    steps, second = run(yard)
    assert steps["prepare"] == "skipped" and steps["build"] == "done" and second != first


def test_going_back_to_a_release_that_shows_more_says_so(yard: Path) -> None:
    run(yard)
    with (yard / "modelyard.yml").open("a") as file:
        file.write("targets: {test: {chatbot: {access: [{folder: hr/**, groups: [hr]}]}}}\n")
    _, second = run(yard)
    with api.open(yard) as project:
        moved = project.rollback()
        assert [w for w in moved.warnings if "1 document" in w and "hr/pay.md" in w]
        assert not [w for w in project.promote(second).warnings if "hr/pay.md" in w]
