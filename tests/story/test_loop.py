"""From documents to answers and back, by the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.story.conftest import Story

LEAVE_QUESTION = "How many days of leave may be carried over into the next year?"
HOTEL_QUESTION = "What is the hotel limit per night in Switzerland?"


def test_the_first_release_is_admitted_unproven_and_answers_with_a_page(house: Story) -> None:
    (release,) = house("release", "list", "--json").json
    assert set(release) == {"id", "version", "created", "state", "aliases"}
    assert (release["version"], release["state"], release["aliases"]) == (1, "unproven", ["champion"])
    answer = house("ask", LEAVE_QUESTION, "--json").json
    assert set(answer) == {"answer", "refused", "citations", "release", "latency_ms"}
    assert "five days" in answer["answer"] and not answer["refused"] and answer["release"] == release["id"]
    assert {(c["document"], c["page"]) for c in answer["citations"]} == {("leave.md", 2)}
    refused = house("ask", "What is the hotel limit per night in Japan?", "--json").json
    assert refused["refused"] and not refused["citations"]
    hits = house("search", "hotel limit", "-k", "2", "--json").json
    assert len(hits) == 2 and set(hits[0]) == {"document", "page", "score", "text", "also"}
    why = house("search", "hotel limit", "-k", "2", "--json", "--why").json[0]["why"]
    assert set(why) == {"parts", "document", "superseded_by"} and why["parts"]["dense"] > 0
    assert (hits[0]["document"], hits[0]["page"]) == ("travel.md", 3)


def test_a_run_with_nothing_to_do_writes_nothing(house: Story) -> None:
    def state() -> dict[str, int]:
        kept = (p for p in (house.root / ".modelyard").rglob("*") if p.is_file() and "-shm" not in p.name)
        return {str(p): p.stat().st_mtime_ns for p in kept if p.name != "run.lock"}

    house("run")
    before = state()
    outcome = house("run", "--json").json
    assert set(outcome["steps"].values()) == {"skipped"} and outcome["deployed"]
    assert state() == before


def test_a_changed_document_is_the_only_one_read_again_and_a_rollback_answers_as_before(house: Story) -> None:
    first = house("release", "list", "--json").json[0]["id"]
    before = house.answers(LEAVE_QUESTION, HOTEL_QUESTION)
    leave = house.documents / "leave.md"
    leave.write_text(leave.read_text().replace("five days", "eight days"))
    (house.documents / "travel.md").unlink()
    (house.documents / "pets.md").write_text("# Pets\n\nDogs may come to the office on Fridays.\n")
    assert house("run", "--allow-removals", "--json").json["deployed"]
    after = house.answers(LEAVE_QUESTION, HOTEL_QUESTION)
    assert "eight days" in after[0]["answer"] and after[1]["refused"]
    diff = house("release", "diff", "previous", "champion", "--json").json
    assert diff["documents"] == {"added": ["pets.md"], "removed": ["travel.md"], "changed": ["leave.md"]}
    house("release", "rollback")
    assert house.answers(LEAVE_QUESTION, HOTEL_QUESTION) == before
    champion = [r for r in house("release", "list", "--json").json if "champion" in r["aliases"]]
    assert [r["id"] for r in champion] == [first]
    # Nothing changed since: a run leaves the pointer where a person put it, and says so.
    again = house("run", "--json")
    assert not again.json["deployed"] and "somebody moved the pointer" in again.json["warnings"][0]
    moves = house("release", "history", "--json").json
    assert [m["generation"] for m in moves] == list(range(len(moves), 0, -1)) and moves[0]["champion"] == first


def test_an_exported_release_has_the_same_id_and_answers_elsewhere(house: Story, tmp_path: Path) -> None:
    before = house.answers(LEAVE_QUESTION, "And the hotel limit in Germany?")
    house("release", "export", "champion", str(tmp_path / "release.tar"))
    other = Story(tmp_path / "other")
    other.root.mkdir()
    other("init", ".")
    (other.root / "evaluation.jsonl").write_text((house.root / "evaluation.jsonl").read_text())
    imported = other("release", "import", str(tmp_path / "release.tar"), "--json").json
    assert imported["id"] == before[0]["release"]
    other("release", "promote", imported["id"][:10], code=2)
    (tmp_path / "release.tar").write_bytes((tmp_path / "release.tar").read_bytes()[:-4000] + b"x" * 4000)
    other("release", "import", str(tmp_path / "release.tar"), code=None)


def test_a_missing_or_altered_member_is_refused(house: Story) -> None:
    release = house("release", "show", "champion", "--json").json
    victim = Path(release["folder"]) / "snapshot.json"
    victim.chmod(0o644)
    victim.write_text(victim.read_text().replace("leave", "heave"))
    error = house("ask", LEAVE_QUESTION, code=9).err
    assert "snapshot.json is not what its digest says" in error
    victim.unlink()
    assert "snapshot.json is missing" in house("ask", LEAVE_QUESTION, code=9).err


def test_every_decision_is_made_again_from_its_inputs(house: Story) -> None:
    moves = house("release", "history", "--json").json
    admission = house("explain", moves[0]["decision"][:12], "--json").json
    assert (admission["kind"], admission["verdict"], admission["replayed"]) == ("admit", "unproven", True)
    gate = house("explain", admission["inputs"]["gate"], "--json").json
    assert (gate["kind"], gate["verdict"], gate["replayed"]) == ("gate", "abstain", True)
    assert "at least 30 are needed" in " ".join(gate["reasons"])
    assert "replayed from its inputs: the same again" in house("explain", gate["id"][:12]).out


def test_prod_admits_nothing_unproven_and_shares_no_state(house: Story) -> None:
    result = house("run", "-t", "prod", code=4)
    assert "the policy of prod admits no unproven release" in result.err
    assert house("release", "list", "-t", "prod", "--json").json[0]["aliases"] == []
    assert "nothing is deployed in prod" in house("ask", "-t", "prod", LEAVE_QUESTION, code=2).err
    name = house("release", "list", "-t", "prod", "--json").json[0]["id"][:12]
    house("release", "promote", name, "-t", "prod", code=4)
    # The same content has the same id in every target.
    assert name == house("release", "list", "--json").json[0]["id"][:12]


def test_a_release_that_breaks_a_floor_fails_and_the_champion_stays(house: Story) -> None:
    before = house.answers(LEAVE_QUESTION)
    with (house.root / "modelyard.yml").open("a") as f:
        f.write("\ngate: {floors: {right: 1.01}}\n")
    failed = house("run", "--from", "evaluate", code=3)
    assert "under its floor of 1.01" in failed.err
    assert house.answers(LEAVE_QUESTION) == before


@pytest.mark.proof
def test_losing_most_documents_at_once_needs_to_be_meant(house: Story) -> None:
    before = house.answers(LEAVE_QUESTION)
    for path in house.documents.iterdir():
        path.unlink()
    error = house("run", code=2).err
    assert "2 of 2 documents are gone" in error and "--allow-removals" in error
    assert house.answers(LEAVE_QUESTION) == before


def test_two_runs_at_once_one_says_who_holds_the_target(house: Story) -> None:
    import fcntl

    with (house.root / ".modelyard" / "test" / "run.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(json.dumps({"pid": 4242, "what": "`modelyard run -t test`", "since": "2026-01-01T00:00:00.000Z"}))
        lock.flush()
        error = house("run", code=6).err
    assert "process 4242" in error and "--wait" in error
    house("run")


@pytest.mark.proof
@pytest.mark.parametrize("seconds", [0.7, 1.6, 3.0])
def test_a_killed_run_goes_on_and_nothing_is_double(fresh: Callable[[], Story], seconds: float) -> None:
    story = fresh()
    process = subprocess.Popen(
        [sys.executable, "-m", "modelyard", "run"], cwd=story.root, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    story("run")
    status = story("data", "status", "--json").json
    assert [(d["document"], d["state"]) for d in status] == [("leave.md", "ready"), ("travel.md", "ready")]
    hits = story("search", "leave", "-k", "20", "--json").json
    assert len({(h["document"], h["page"]) for h in hits}) == len(hits)
    assert "five days" in story.answers(LEAVE_QUESTION)[0]["answer"]
    assert not list((story.root / ".modelyard" / "store" / "releases").glob(".building-*"))


def test_what_cannot_be_read_is_named_and_stops_nothing(house: Story) -> None:
    (house.documents / "empty.pdf").touch()
    (house.documents / "picture.pdf").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    (house.documents / "sheet.ods").write_bytes(b"PK\3\4")
    (house.documents / "round").symlink_to(".")
    for left in ("Thumbs.db", "Desktop.ini", ".DS_Store", "~$leave.docx"):
        (house.documents / left).write_bytes(b"x" * 162)
    (house.documents / "nowhere.md").symlink_to("gone.md")
    (house.documents / "two\nlines \U0001f600.md").write_text("# Parking\n\nThe garage closes at 22:15 every day.\n")
    house("run")
    reasons = {row["document"]: row["reason"] for row in house("data", "quarantine", "--json").json}
    assert set(reasons) == {"empty.pdf", "picture.pdf", "sheet.ods", "nowhere.md", "round"}
    assert all(reasons.values())
    status = {row["document"] for row in house("data", "status", "--json").json}
    assert status == {*reasons, "leave.md", "travel.md", "two\nlines \U0001f600.md"}
    answer = house.answers("When does the garage close?")[0]
    assert answer["citations"][0]["document"] == "two\nlines \U0001f600.md" and "22:15" in answer["answer"]
    # And a run that changes nothing is still one.
    assert set(house("run", "--json").json["steps"].values()) == {"skipped"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ask", ""), 2, "empty"),
        (("ask", "x" * 100_000), 2, "characters"),
        (("ask",), 2, "give a question"),
        (("ask", "--file", "none.jsonl"), 2, "none.jsonl is not there"),
        (("ask", "hi", "-t", "dev"), 2, "there is no target 'dev'"),
        (("release", "show", "0000000000"), 2, "no release"),
        (("release", "show", "v99"), 2, "no release"),
        (("release", "rollback"), 2, "no previous release"),
        (("release", "rollback", "--to", "v1"), 0, ""),
        (("explain", "0000000000"), 2, "no decision"),
        (("run", "--only", "bake"), 2, "bake"),
        (("release", "import", "none.tar"), 2, "none.tar is not there"),
        (("release", "import", "modelyard.yml"), 2, "not an exported release"),
        (("init", "."), 2, "is there already"),
        (("init", "new", "--documents", "none"), 2, "none is not there"),
        (("serve", "--host", "0.0.0.0", "--port", "0"), 2, "set a token first"),
    ],
)
def test_a_mistake_is_one_clear_line(house: Story, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = house(*arguments, code=code)
    assert message in result.err


def test_an_exam_that_is_wrong_names_the_line(house: Story) -> None:
    for line, message in (("{", "not JSON"), ('{"id": "q", "question": 3}', "question"), ("[]", "an object")):
        (house.root / "evaluation.jsonl").write_text(f"\n{line}\n")
        error = house("evaluate", code=2).err
        assert message in error and "2" in error


def test_the_model_loads_in_a_clean_process_elsewhere(house: Story, tmp_path: Path) -> None:
    shown = house("release", "show", "champion", "--json").json
    name = "house"
    script = f"""
import json, mlflow
mlflow.set_tracking_uri({shown["mlflow"]["tracking_uri"]!r})
version = mlflow.MlflowClient().get_model_version_by_alias({name!r}, "champion")
question = {{"messages": [{{"role": "user", "content": {LEAVE_QUESTION!r}}}]}}
out = [mlflow.pyfunc.load_model(uri).predict(question) for uri in
       ("models:/{name}@champion", f"runs:/{{version.run_id}}/model")]
print(json.dumps(out))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first == second and first[0]["answer"] == house.answers(LEAVE_QUESTION)[0]["answer"]
    assert first[0]["release"] == shown["id"] and first[0]["choices"][0]["message"]["content"] == first[0]["answer"]


@pytest.mark.proof
def test_an_alias_moved_by_hand_is_reported_and_put_back(house: Story, tmp_path: Path) -> None:
    shown = house("release", "show", "champion", "--json").json
    script = f"""
import mlflow
client = mlflow.MlflowClient({shown["mlflow"]["tracking_uri"]!r}, {shown["mlflow"]["tracking_uri"]!r})
client.delete_registered_model_alias("house", "champion")
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    outcome = house("run", "--from", "deploy", "--json").json
    assert "in the registry by hand" in outcome["warnings"][0]
    assert not house("run", "--from", "deploy", "--json").json["warnings"]


def test_an_mlflow_store_of_another_version_is_refused_with_the_command_that_helps(house: Story) -> None:
    import sqlite3

    with sqlite3.connect(house.root / ".modelyard" / "test" / "mlflow.db") as base:
        base.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    assert "mlflow db upgrade" in house("run", "--from", "build", code=2).err
    with sqlite3.connect(house.root / ".modelyard" / "test" / "mlflow.db") as base:
        base.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    assert "newer MLflow" in house("run", "--from", "build", code=2).err


def test_config_shows_where_each_value_came_from(house: Story) -> None:
    shown = house("config", "show", "--origin", "-t", "prod").out
    assert "gate.min_human" in shown and "# default of prod" in shown and "modelyard.yml:2" in shown


@pytest.mark.proof
def test_a_rollback_holds_even_where_the_journal_was_lost(house: Story) -> None:
    (house.documents / "pets.md").write_text("# Pets\n\nDogs may come to the office on Fridays.\n")
    house("run")
    house("release", "rollback")
    for path in (house.root / ".modelyard" / "test").glob("journal.db*"):
        path.unlink()
    outcome = house("run", "--json").json
    assert not outcome["deployed"] and "somebody moved the pointer" in outcome["warnings"][-1]
    assert house("run", "--from", "deploy", "--json").json["deployed"]


@pytest.mark.proof
def test_a_case_whose_page_changed_is_set_aside_until_it_was_looked_at(house: Story) -> None:
    leave = house.documents / "leave.md"
    leave.write_text(leave.read_text().replace("Every employee has 27 days", "Every employee has 28 days"))
    house("run")
    evidence = house("evaluate", "--json", code=4).json["evidence"]
    assert evidence["exam"]["set_aside"] == ["q1"] and evidence["exam"]["cases"] == 2
    house("evaluate", "--rebind", "q9", code=2)
    evidence = house("evaluate", "--rebind", "q1", "--json", code=4).json["evidence"]
    assert evidence["exam"]["set_aside"] == [] and evidence["exam"]["cases"] == 3


@pytest.mark.proof
def test_a_damaged_release_is_mended_by_building_it_again(house: Story) -> None:
    before = house.answers(LEAVE_QUESTION)
    folder = Path(house("release", "show", "champion", "--json").json["folder"])
    next(folder.rglob("rows.arrow")).unlink()
    house("ask", LEAVE_QUESTION, code=9)
    house("run")
    assert house.answers(LEAVE_QUESTION) == before


@pytest.mark.proof
@pytest.mark.parametrize("harm", ["altered", "cut"])
def test_a_damaged_segment_is_refused_and_the_next_run_mends_it_everywhere(
    fresh: Callable[[], Story], harm: str
) -> None:
    house = fresh()
    house("run")
    before = house.answers(LEAVE_QUESTION)
    home = house.root / ".modelyard"
    victim = next((home / "store" / "index" / "segments").rglob("postings.bin"))
    good, inode = victim.read_bytes(), victim.stat().st_ino
    twins = [path for path in home.rglob("*") if path.is_file() and path.stat().st_ino == inode]
    assert len(twins) == 4, "store, release, objects and MLflow hold one file"
    victim.chmod(0o644)
    with victim.open("r+b") as file:  # the bytes on disk change, under every name they have
        file.seek(len(good) // 2)
        file.write(bytes([good[len(good) // 2] ^ 1]))
        if harm == "cut":
            file.truncate(len(good) - 1)
    refused = house("ask", LEAVE_QUESTION, code=9).err
    assert "postings.bin is not what its digest says" in refused and "`modelyard run`" in refused
    assert len(refused.strip().splitlines()) == 1
    told = house("run").err
    assert told.count("the index was damaged on disk: what was, is written again from the tables") == 1
    assert all(path.read_bytes() == good for path in twins)
    assert house.answers(LEAVE_QUESTION) == before
    assert "damaged" not in house("run").err


@pytest.mark.proof
def test_a_damaged_segment_gets_into_no_later_release(house: Story) -> None:
    victim = next((house.root / ".modelyard" / "store" / "index" / "segments").rglob("vectors.bin"))
    good = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(good[:-9] + bytes(9))
    (house.documents / "note.md").write_text("# Canteen\n\nLunch is served from noon to two.\n")
    assert "damaged" in house("run").err
    release = Path(house("release", "show", "champion", "--json").json["folder"])
    assert all(path.read_bytes() != good[:-9] + bytes(9) for path in release.rglob("vectors.bin"))


@pytest.mark.proof
def test_an_exam_without_cases_is_too_little_evidence_not_a_failure(house: Story) -> None:
    (house.root / "evaluation.jsonl").write_text("")
    for path in house.documents.iterdir():
        path.unlink()
    (house.documents / "note.txt").write_text("Short.\n")
    outcome = house("run", "--allow-removals", "--json").json
    assert outcome["verdict"] == "abstain" and outcome["unproven"]
