"""What goes wrong around a project says so in one line, and takes nothing else with it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

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


def test_a_password_in_the_url_of_a_chat_model_is_not_shown(tmp_path: Path) -> None:
    root = modelyard.init(tmp_path / "p")
    with (root / "modelyard.yml").open("a") as f:
        f.write("chatbot: {chat: {url: 'http://me:hunter2@host/v1', model: m}}\n")
    shown = CliRunner().invoke(command.cli, ["config", "show", "-C", str(root)]).output
    assert "http://***@host/v1" in shown and "hunter2" not in shown


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


@pytest.mark.parametrize("command", ["ask", "search"])
def test_one_bad_question_does_not_end_the_many(house: Story, command: str) -> None:
    questions = ["", LEAVE_QUESTION, "x" * 100_000, f"{LEAVE_QUESTION}\u2028\x85\r", "\ud800"]
    lines = [json.dumps({"question": q}, ensure_ascii="\ud800" in q or "\r" in q) for q in questions]
    (house.root / "q.jsonl").write_bytes("\ufeff".encode() + "\r\n".join([*lines, "", " "]).encode())
    done = house(command, "--file", "q.jsonl", code=2)
    found = [json.loads(line) for line in done.out.split("\n")[:-1]]
    assert len(found) == 5
    codes = [f["error"]["code"] if isinstance(f, dict) and "error" in f else None for f in found]
    if command == "ask":
        assert codes == ["invalid_request", None, "request_too_large", None, "invalid_request"]
        assert found[1]["answer"] == found[3]["answer"] and found[0]["question"] == ""
        assert "3 of 5 questions" in done.err
    else:
        assert codes[-1] == "invalid_request" and codes[1] is None and codes[3] is None
    (house.root / "q.jsonl").write_text(f"{lines[1]}\n{{\n")
    broken = house(command, "--file", "q.jsonl", code=2)
    assert "q.jsonl:2: one" in broken.err and not broken.out


@pytest.mark.proof
def test_the_gates_verdict_is_the_exit_code(house: Story) -> None:
    abstained = house("run", "--only", "gate", code=4)
    assert "gate: abstain: 2 scored cases" in abstained.out and "modelyard: the gate abstained on" in abstained.err
    assert house("run", "--only", "evaluate", "--json", code=4).json["verdict"] == "abstain"
    judged = house("evaluate", "--json", code=4)
    assert judged.json["verdict"] == "abstain" and "modelyard explain" in judged.err
    refused = house("run", "-t", "prod", code=4)
    assert "deploy    refused" in refused.out and "gate: abstain" in refused.out
    with (house.root / "modelyard.yml").open("a") as f:
        f.write("\ngate: {floors: {right: 1.01}}\n")
    failed = house("run", "--json", code=3)
    assert (failed.json["verdict"], failed.json["deployed"]) == ("fail", False)
    assert "under its floor of 1.01" in failed.err
    assert house("run", "--only", "gate", "--json", code=3).json["verdict"] == "fail"
    assert "gate: fail" in house("evaluate", code=3).out


def test_evaluate_waits_for_whoever_holds_the_target(house: Story) -> None:
    with (house.root / ".modelyard" / "test" / "run.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "--wait" in house("evaluate", "--wait", "0.3", code=6).err
        command = [sys.executable, "-m", "modelyard", "evaluate", "--wait", "60"]
        waiting = subprocess.Popen(command, cwd=house.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert waiting.wait(timeout=100) == 4
