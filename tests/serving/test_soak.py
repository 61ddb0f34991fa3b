"""Gateways and folds killed over and over, at random: every row in the tables once. For `make faults`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from modelyard.adapters.tables_delta import DeltaTables
from modelyard.serving.record import Record

SECONDS = float(os.environ.get("MODELYARD_SOAK_SECONDS", "40"))

SERVER = """
import asyncio, sys
from pathlib import Path
from modelyard.serving.record import Accepted, Finished, Record, request_id

def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

async def client(record):
    while True:
        one = request_id()
        await record.accepted(Accepted(one, "e", "r", "openai", 1, request=one.encode() * 9))
        say("accepted", one)
        await asyncio.sleep(0)
        await record.finished(Finished(one, 200, 1.0, response=one.encode() * 9))
        say("finished", one)

async def main():
    record = Record.open(Path(sys.argv[1]), durability=sys.argv[2], segment_bytes=30_000)
    await asyncio.gather(*(client(record) for _ in range(8)))

asyncio.run(main())
"""


class Folds:
    """Folds without end, most of them killed."""

    def __init__(self, command: list[str], chance: random.Random) -> None:
        self.command, self.chance = command, chance
        self.done = threading.Event()
        self.trouble: list[str] = []
        self.killed = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.done.is_set():
            process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if self.chance.random() < 0.6:
                time.sleep(self.chance.random() * 3)
                process.kill()
                self.killed += 1
            _, said = process.communicate()
            self.trouble += [said] if said and "another process" not in said else []

    def stop(self) -> None:
        self.done.set()
        self.thread.join()


@pytest.mark.slow
def test_whatever_is_killed_and_however_often_every_row_is_there_once(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("MODELYARD_SOAK_SEED", "0")))
    command = [sys.executable, "-m", "modelyard.fold", "--record", str(tmp_path / "r"), "--tables", str(tmp_path / "t")]
    folds = Folds(command, random.Random(chance.random()))
    said: list[str] = []
    killed, until = 0, time.monotonic() + SECONDS
    while time.monotonic() < until:
        durability = chance.choice(["disk", "process"])
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path / "r"), durability], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        for _ in range(chance.randint(1, 3_000)):
            line = server.stdout.readline()
            assert line, "the server ended by itself"
            said.append(line.strip())
        server.kill()
        said += [line.strip() for line in server.stdout.read().splitlines(keepends=True) if line[-1] == "\n"]
        server.wait()
        killed += 1
    folds.stop()
    Record.open(tmp_path / "r").close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    told = {(what, one) for what, one in (line.split() for line in said)}
    accepted = {one for what, one in told if what == "accepted"}
    tables = DeltaTables(tmp_path / "t")
    for table, column in (("inference", "databricks_request_id"), ("inference_detail", "request_id")):
        found = Counter(tables.read(table, [column]).column(column).to_pylist())
        assert set(found.values()) == {1} and accepted <= set(found)
        # Beyond what was said: what was under way when its server was killed.
        assert len(found) - len(accepted) <= 8 * killed
    aborted = tables.read("inference_detail", ["request_id", "aborted"]).to_pylist()
    assert not {one for what, one in told if what == "finished"} & {r["request_id"] for r in aborted if r["aborted"]}
    assert not folds.trouble and sorted(p.name for p in (tmp_path / "r").iterdir()) == ["fold.lock", "lock"]
    print(f"{killed} servers and {folds.killed} folds killed, {len(accepted):,} requests")
