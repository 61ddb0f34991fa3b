"""What goes on side by side in a run: cases of an exam, and what is opened before the first step."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunInfo

from modelyard.cores import cores
from tests.story.conftest import Story, project

CODE = """
import os, signal, threading, time
from pathlib import Path

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where a shell began the tests in its background
from modelyard.errors import UserError
from modelyard.workloads.echo import EchoWorkload, Echo

ASKED = Path({log!r})

class Slow(Echo):
    def predict(self, request, call):
        question = request["messages"][-1]["content"]
        with ASKED.open("a") as log:
            log.write(question + "\\n")
        {predict}
        yield from super().predict(request, call)

class Shop(EchoWorkload):
    name = "shop"
    def load(self, ctx, artifact_dir):
        return Slow("")
    {more}
"""
TOGETHER = "MEET.wait(30)"
"""Both cases of a pair have to be under way before either goes on."""
LATER_FIRST = "time.sleep(0.3 / int(question))"
INTERRUPTED = "os.kill(os.getpid(), signal.SIGINT) if question == '3' and 'STOP' in os.environ else time.sleep(0.05)"


@pytest.fixture
def shop(tmp_path: Path) -> Story:
    return project(tmp_path / "shop", "--workload", "shop:Shop")


def write(shop: Story, cases: int, predict: str = "pass", more: str = "") -> Path:
    """The workload, and an exam that asks 1, 2, ... The file of what was asked."""
    log = shop.root.parent / "asked"
    shared = "\nMEET = threading.Barrier(2)\n"
    (shop.root / "shop.py").write_text(CODE.format(log=str(log), predict=predict, more=more) + shared)
    rows = [{"id": f"q{n}", "question": str(n), "answers": [str(n)]} for n in range(1, cases + 1)]
    (shop.root / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return log


def recorded(shop: Story) -> dict[str, RunInfo]:
    """Runs and steps in the registry."""
    store = f"sqlite:///{next(shop.root.rglob('mlflow.db'))}"
    client = MlflowClient(store, store)
    [experiment] = [e for e in client.search_experiments() if e.name != "Default"]
    return {run.info.run_name: run.info for run in client.search_runs([experiment.experiment_id])}


@pytest.mark.skipif(cores() < 2, reason="one core asks one case at a time")
def test_cases_sit_the_exam_side_by_side(shop: Story) -> None:
    write(shop, 6, TOGETHER)
    assert shop("run", "--json").json["steps"]["evaluate"] == "done"


def test_every_case_gets_its_own_answer_whichever_comes_first(shop: Story) -> None:
    write(shop, 12, LATER_FIRST)
    shop("run")
    rows = [json.loads(line) for line in shop("evaluate", "--rows").out.splitlines()]
    assert [row["case"] for row in rows] == [f"q{n}" for n in range(1, 13)]
    assert all(row["output"]["answer"] == row["request"]["messages"][-1]["content"] for row in rows)


def test_an_interrupted_exam_asks_no_more_and_is_sat_again(shop: Story) -> None:
    log = write(shop, 60, INTERRUPTED)
    shop("run", code=130, env={"STOP": "1"})
    assert len(log.read_text().split()) < 20
    assert shop("run", "--json").json["steps"]["evaluate"] == "done"


def test_a_workload_is_opened_once_beside_the_first_step_and_only_where_something_is_built(shop: Story) -> None:
    # Neither goes on before both are under way.
    warm = "def warm(self, ctx): MEET.wait(30); ASKED.open('a').write('warm\\n')"
    ingest = "def ingest(self, ctx, changes): 'MEET' in os.environ and MEET.wait(30); super().ingest(ctx, changes)"
    log = write(shop, 1, more=f"{warm}\n    {ingest}")
    shop("run", "--only", "prepare")
    assert not log.exists()
    (shop.root / "documents" / "more.txt").write_text("more")
    shop("run", env={"MEET": "1"})
    shop("run")  # nothing to do, nothing to open
    assert log.read_text().split() == ["warm", "1"]


ENDLESS = "def ingest(self, ctx, changes):\n        while True: time.sleep(0.01); ctx.check()"


@pytest.mark.parametrize("more", ["", ENDLESS], ids=["prepared", "while documents are read"])
def test_what_cannot_be_opened_ends_the_run_with_its_line(shop: Story, more: str) -> None:
    write(
        shop, 1, more=f"def warm(self, ctx): raise UserError('the model is nowhere: put it into models/')\n    {more}"
    )
    ended = shop("run", code=2)
    assert ended.err.strip().splitlines()[-1].endswith("the model is nowhere: put it into models/")


def test_a_registry_that_cannot_be_opened_ends_the_run_while_documents_are_read(shop: Story) -> None:
    write(shop, 1, more=ENDLESS)
    with (shop.root / "modelyard.yml").open("a") as file:
        file.write("mlflow: {tracking_uri: 'http://127.0.0.1:9'}\n")
    assert "127.0.0.1:9" in shop("run", code=7, env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}).err


INTERRUPT = "def ingest(self, ctx, changes): time.sleep(3); os.kill(os.getpid(), signal.SIGINT); time.sleep(9)"


def test_an_interrupted_first_step_is_in_an_open_registry(shop: Story) -> None:
    write(shop, 1, more=INTERRUPT)
    assert "interrupted" in shop("run", code=130).err
    assert {name: info.status for name, info in recorded(shop).items()} == {"run test": "KILLED", "prepare": "KILLED"}


def test_an_interrupted_first_step_waits_for_no_registry_that_is_silent(shop: Story) -> None:
    write(shop, 1, more=INTERRUPT)
    with socket.create_server(("127.0.0.1", 0)) as silent, (shop.root / "modelyard.yml").open("a") as file:
        file.write(f"mlflow: {{tracking_uri: 'http://127.0.0.1:{silent.getsockname()[1]}'}}\n")
        file.flush()
        assert "interrupted" in shop("run", code=130).err


def test_a_step_that_failed_before_the_registry_was_open_is_in_it(shop: Story) -> None:
    write(shop, 1, more="def ingest(self, ctx, changes): raise UserError('the documents are locked')")
    before = int(time.time() * 1000)
    assert "the documents are locked" in shop("run", code=2).err
    runs = recorded(shop)
    assert {name: info.status for name, info in runs.items()} == {"run test": "FAILED", "prepare": "FAILED"}
    assert all(before <= info.start_time <= info.end_time for info in runs.values())
