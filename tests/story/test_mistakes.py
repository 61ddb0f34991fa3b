"""What goes wrong around a project says so in one line, and takes nothing else with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelyard
from modelyard.cli import main as command
from modelyard.errors import ProjectError, UserError
from modelyard.project.load import load
from modelyard.wiring import open_release
from tests.story.conftest import Story

LEAVE_QUESTION = "How many days of leave may be carried over into the next year?"


@pytest.mark.parametrize("folder", ["no", "yes", "null", "1e3", "on", "12", "Über uns!", "~", "a" * 80, "7" + "b" * 70])
def test_a_folder_of_any_name_becomes_a_project(tmp_path: Path, folder: str) -> None:
    root = modelyard.init(tmp_path / folder)
    assert len(load(root).config.name) <= 63


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "my project"}, "'my project' is no good name: letters"),
        ({"name": ""}, "'' is no good name"),
        ({"workload": "chatbt"}, "did you mean 'chatbot'?"),
        ({"workload": "nosuch"}, "'nosuch' is not known"),
        ({"workload": ":Class"}, "modelyard.yml:3: workload: the name of a kind"),
    ],
)
def test_a_project_that_cannot_be_is_not_begun(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ProjectError, match=message.replace("?", r"\?")):
        modelyard.init(tmp_path / "p", **options)
    assert not (tmp_path / "p" / "modelyard.yml").exists()


def test_documents_of_an_odd_name_are_written_or_refused(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" \U0001f600\tc: #'
    odd.mkdir()
    assert load(modelyard.init(tmp_path / "p", documents=odd)).documents == odd
    control = tmp_path / "del\x7f"
    control.mkdir()
    with pytest.raises(ProjectError):
        modelyard.init(tmp_path / "q", documents=control)
    assert not (tmp_path / "q" / "modelyard.yml").exists()


def test_a_workload_of_ones_own_may_be_named(tmp_path: Path) -> None:
    assert load(modelyard.init(tmp_path / "p", workload="mine.models:Mine")).config.workload == "mine.models:Mine"


def test_a_target_that_would_lie_elsewhere_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "house"
    modelyard.init(root)
    (root / "modelyard.yml").write_text("name: house\ntargets:\n  ../../esc: {}\n")
    before = sorted(tmp_path.rglob("*"))
    done = Story(root)("run", "-t", "../../esc", code=2)
    assert "modelyard.yml:3: the target '../../esc' has no good name" in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_is_no_exported_release(tmp_path: Path) -> None:
    with modelyard.open(modelyard.init(tmp_path / "p")) as project, pytest.raises(UserError, match="is a folder"):
        project.import_(tmp_path)


def test_a_password_is_in_nothing_that_is_shown(house: Story) -> None:
    with (house.root / "modelyard.yml").open("a") as f:
        f.write("\nmlflow: {tracking_uri: 'http://me:hunter2@127.0.0.1:9'}\n")
    quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    for arguments, code in (
        (("config", "show"), 0),
        (("config", "show", "--json"), 0),
        (("release", "show", "champion"), 0),
        (("release", "show", "champion", "--json"), 0),
        (("run", "--from", "build"), 7),
    ):
        done = house(*arguments, code=code, env=quick)
        assert "hunter2" not in done.out + done.err
        assert "http://***@127.0.0.1:9" in done.out + done.err


def test_a_defect_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("over\nnothing at http://me:hunter2@host")

    monkeypatch.setattr(command.cli, "main", broken)
    for debug in ("", "1"):
        monkeypatch.setenv("MODELYARD_DEBUG", debug)
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == 1
        error = capsys.readouterr().err
        assert ("Traceback" in error) == bool(debug) and "hunter2" not in error
        assert error.endswith(
            "modelyard: internal error: ZeroDivisionError: over nothing at http://***@host "
            "(set MODELYARD_DEBUG=1 for the traceback)\n"
        )


def test_a_release_opens_beside_a_project_file_that_is_broken_today(
    house: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(house("release", "show", "champion", "--json").json["folder"])
    (house.root / "modelyard.yml").write_text("name: house\nsreve: {}\n")
    with open_release(folder, project=house.root, target="test") as opened:
        assert opened.id == folder.name
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown key sreve" in line and "goes on" in line
    (house.root / "modelyard.yml").unlink()
    open_release(folder, project=house.root, target="test").close()
    assert "goes on" in capsys.readouterr().err
