"""A canary on a gateway that serves: real processes, real requests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import modelyard
from modelyard.errors import NotFound, Unavailable
from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Decision, Manifest, Pointers, Release, Rollout, Snapshot
from modelyard.serving.route import alive

PROJECT = """
name: town
workload: flaky:Flaky
rollout:
  shadow: %s
  steps: [50, 100]
  margins: {errors: 0.5, latency: 1.0, abstained: 0.5, feedback: 0.5}
  min_units: 10
  settle: 200ms
  look_every: 200ms
"""
FLAKY = """
from modelyard.ports.workload import Case, Response
from modelyard.workloads.base import BaseWorkload


class Answering:
    def __init__(self, prefix):
        self.prefix = prefix

    def predict(self, request, call):
        question = request["messages"][-1]["content"]
        if self.prefix == "bad":
            raise ZeroDivisionError("it never works")
        yield Response(f"{self.prefix}: {question}", {"answer": question})

    def close(self):
        pass


class Flaky(BaseWorkload):
    name = "flaky"
    accepts = frozenset({"messages"})

    def build(self, ctx, snapshot, out_dir):
        raise NotImplementedError

    def cases(self, ctx, exam):
        for line, row in exam.numbered():
            yield Case(str(line), {"messages": [{"role": "user", "content": row["question"]}]}, {})

    def score(self, case, response):
        raise NotImplementedError

    def load(self, ctx, artifact_dir):
        return Answering((artifact_dir / "prefix.txt").read_text())
"""


class Place:
    """A project whose releases were judged, and its gateway."""

    def __init__(self, root: Path, shadow: bool = True) -> None:
        self.root = root
        (root / "modelyard.yml").write_text(PROJECT % str(shadow).lower())
        (root / "flaky.py").write_text(FLAKY)
        (root / "evaluation.jsonl").write_text('{"question": "one"}\n{"question": "two"}\n')
        self.project = modelyard.open(root)
        self.layout = self.project.world.layout
        self.answers: list[tuple[int, str]] = []

    def release(self, prefix: str) -> str:
        bench = workbench(self.layout.releases)
        (bench / "prefix.txt").write_text(prefix)
        write_snapshot(bench, Snapshot((), ""))
        manifest = Manifest("flaky:Flaky", 1, members(bench), "0" * 64, {"prefix": prefix}, ())
        seal(bench, manifest, self.layout.releases, self.layout.objects)
        ledger = self.project.world.ledger
        ledger.add_release(Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z"))
        ledger.add_decision(Decision("gate", "pass", ("good",), {"evidence": {"release": manifest.id}}))
        return manifest.id

    def point(self, champion: str) -> None:
        self.project.world.ledger.move("town", 0, Pointers(champion=champion), "me", "first", None)

    @contextmanager
    def serving(self) -> Iterator[str]:
        command = [sys.executable, "-m", "modelyard", "serve", "-C", str(self.root), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            info = eventually(lambda: process.poll() is not None or alive(self.layout), "a gateway")
            assert process.poll() is None, process.communicate()[1]
            eventually(lambda: httpx.get(f"{info.url}/ready", trust_env=False).status_code == 200, "it to be ready")
            yield info.url
        finally:
            process.terminate()
            process.communicate(timeout=30)

    @contextmanager
    def traffic(self, url: str) -> Iterator[None]:
        """Clients whose conversations have two requests each."""
        stop = threading.Event()

        def ask(client: int) -> None:
            number = 0
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
                while not stop.is_set():
                    number += 1
                    said = []
                    for _ in range(2):
                        body = {"messages": [{"role": "user", "content": "hello"}]}
                        reply = http.post(
                            "/v1/chat/completions", json=body, headers={"x-conversation-id": f"{client}-{number}"}
                        )
                        self.answers.append((reply.status_code, reply.headers.get("modelyard-release", "")))
                        said.append(self.answers[-1])
                    time.sleep(0.005)
                    if said[0][0] == said[1][0] == 200 and said[0] != said[1]:
                        self.answers.append((0, f"a conversation changed its release: {said}"))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    @property
    def newest(self) -> Rollout:
        return self.project.rollouts()[0]

    @property
    def failed(self) -> list[tuple[int, str]]:
        return [answer for answer in self.answers if answer[0] != 200]


def eventually(find: Callable[[], Any], what: str) -> Any:
    """The limit is only there so that a failing test ends."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := find():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def test_a_good_release_goes_all_the_way_and_no_request_fails(tmp_path: Path) -> None:
    place = Place(tmp_path)
    old, new = place.release("old"), place.release("new")
    place.point(old)
    with place.project, place.serving() as url, place.traffic(url):
        with pytest.raises(NotFound, match="previous"):
            place.project.drill()
        started = place.project.canary(new)
        assert isinstance(started, Rollout) and started.live
        assert place.project.canary(new) == started  # under way already
        eventually(lambda: place.newest.state == "promoted", "the promotion")
        eventually(lambda: place.answers[-1][1] == new, "answers of it")
        drilled = place.project.drill()
        assert (drilled.release, drilled.champion) == (old, new)
        assert (drilled.answered, drilled.failures) == (2, ()) and drilled.pointer_ms > 0
        assert place.project.world.ledger.pointers("town").champion == new
        with pytest.raises(Unavailable, match="not warm"):
            place.project.drill(place.release("third"))
    assert not place.failed
    by = {(move.who, move.why.split(":")[0]) for move in place.project.history()}
    assert ("gateway", "canary from 0 to 50 %") in by and ("gateway", "canary promoted") in by


def test_a_bad_one_goes_back_from_the_shadow_and_nobody_met_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    old, bad = place.release("old"), place.release("bad")
    place.point(old)
    with place.project, place.serving() as url, place.traffic(url):
        place.project.canary(bad)
        eventually(lambda: place.newest.state == "reverted", "it to go back")
    assert not place.failed and {release for _, release in place.answers} == {old}
    assert "in the shadow" in place.newest.reason
    assert place.project.world.ledger.pointers("town").champion == old


def test_without_the_shadow_some_meet_it_and_soon_nobody_does(tmp_path: Path) -> None:
    place = Place(tmp_path, shadow=False)
    old, bad = place.release("old"), place.release("bad")
    place.point(old)
    command = [sys.executable, "-m", "modelyard", "release", "promote", bad, "--canary", "--json", "-C", str(tmp_path)]
    with place.project, place.serving() as url, place.traffic(url):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["challenger"] == bad
        eventually(lambda: place.newest.state == "reverted", "it to go back")
        time.sleep(0.3)
        before = len(place.failed)
        time.sleep(0.5)
        assert len(place.failed) == before
    assert before > 0 and {status for status, _ in place.failed} == {500}
    decision = place.project.history()[0].decision
    assert decision is not None and place.project.explain(decision)["replayed"] is True


def test_a_person_takes_a_canary_back_and_a_plain_rollback_comes_after(tmp_path: Path) -> None:
    place = Place(tmp_path)
    old, new = place.release("old"), place.release("new")
    place.point(old)
    assert not isinstance(place.project.canary(new), Rollout)  # nothing serves: it is promoted
    assert place.project.rollouts() == []
    with place.project, place.serving():
        place.project.canary(old)
        moved = place.project.rollback()
        assert moved.release.id == new and "was on its way" in moved.warnings[0]
        assert place.newest.state == "reverted"
        assert place.project.rollback().release.id == old
