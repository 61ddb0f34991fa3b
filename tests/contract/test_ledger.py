"""What every ledger promises, and what SQLite in particular has to withstand."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from modelyard.adapters.ledger_schema import STEPS, statements
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.clock import FakeClock
from modelyard.errors import AdapterError, Busy, Damaged, NotFound, StorageError, UserError
from modelyard.ids import digest
from modelyard.ports.ledger import Ledger
from modelyard.ports.records import Decision, Manifest, Pointers, Release

LEDGERS: dict[str, Callable[[Path], Ledger]] = {"sqlite": lambda folder: SqliteLedger(folder / "deep" / "ledger.db")}


GUARDS: tuple[dict[str, Any], ...] = ({"kind": "length", "request": 5},)


def make_release(name: str, created: str = "2026-01-01T00:00:00.000Z", **more: Any) -> Release:
    settings = {"name": name, "k": 8, "threshold": "0.35", "deep": {"list": ["é", "🦊", None, True]}}
    manifest = Manifest("echo", 1, {"a/b.txt": digest(name)}, digest("snapshot"), settings, guards=GUARDS)
    return Release(manifest.id, manifest, "built", created, **more)


A, B, C = (make_release(name) for name in "abc")


@pytest.fixture(params=sorted(LEDGERS))
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    made = LEDGERS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def stocked(ledger: Ledger) -> Ledger:
    for release in (A, B, C):
        ledger.add_release(release)
    return ledger


def move(ledger: Ledger, expected: int, champion: str | None, endpoint: str = "site", **more: str | None) -> Pointers:
    return ledger.move(endpoint, expected, Pointers(99, champion, **more), who="me", why="because", decision=None)


def test_empty_at_start(ledger: Ledger) -> None:
    assert list(ledger.releases()) == []
    assert list(ledger.history()) == list(ledger.decisions()) == []
    assert ledger.pointers("site") == Pointers()
    with pytest.raises(NotFound, match="release list"):
        ledger.release("v1")


def test_a_release_comes_back_as_it_was_written(ledger: Ledger) -> None:
    ledger.add_release(replace(A, version=7, code="c0de"))
    assert ledger.release(A.id) == replace(A, version=7, code="c0de")
    assert ledger.release(A.id).manifest.id == A.id


def test_a_release_written_again_keeps_state_time_and_version(stocked: Ledger) -> None:
    stocked.set_state(A.id, "passed")
    stocked.set_version(A.id, 3)
    stocked.add_release(replace(A, created="2030-01-01T00:00:00.000Z", version=9))
    assert stocked.release(A.id) == replace(A, state="passed", version=3)


def test_releases_come_newest_first(ledger: Ledger) -> None:
    for i in (2, 1, 3):
        ledger.add_release(make_release(str(i), created=f"2026-01-0{i}T00:00:00.000Z"))
    assert [r.manifest.settings["name"] for r in ledger.releases()] == ["3", "2", "1"]


def test_state_and_version_of_an_unknown_release_are_refused(ledger: Ledger) -> None:
    with pytest.raises(NotFound):
        ledger.set_state(A.id, "passed")
    with pytest.raises(NotFound):
        ledger.set_version(A.id, 1)


def test_a_version_names_the_release_that_took_it_last(stocked: Ledger) -> None:
    stocked.set_version(A.id, 1)
    with pytest.raises(NotFound):
        stocked.set_version("0" * 64, 1)
    assert stocked.release("v1").id == A.id
    stocked.set_version(B.id, 1)
    assert stocked.release("v1").id == B.id
    assert stocked.release(A.id).version is None


@pytest.mark.parametrize("name", ["v0", "v01", "v", "v7", "v-1", "v" + "9" * 40, "", "abc", "*", "%", "g" * 12])
def test_names_that_name_nothing(stocked: Ledger, name: str) -> None:
    with pytest.raises(NotFound, match="release list"):
        stocked.release(name)


def test_a_release_is_named_by_eight_digits_or_more(stocked: Ledger) -> None:
    for length in (8, 9, 30, 64):
        assert stocked.release(A.id[:length]).id == A.id
    for wrong in (A.id[:7], A.id[:20] + ("0" if A.id[20] != "0" else "1"), A.id + "0", A.id[:8] + "%"):
        with pytest.raises(NotFound):
            stocked.release(wrong)


def test_a_prefix_that_fits_several_lists_them(ledger: Ledger) -> None:
    twins = [replace(A, id="abcdef0123456789" + digit * 48) for digit in "0123456"]
    for twin in twins:
        ledger.add_release(twin)
    with pytest.raises(UserError) as caught:
        ledger.release("abcdef01")
    assert "fits 7 releases" in str(caught.value) and "abcdef01234567890, " in str(caught.value)
    assert "2 more" in str(caught.value)
    assert ledger.release("abcdef01234567893").id == twins[3].id


def test_moves_follow_each_other(stocked: Ledger) -> None:
    assert move(stocked, 0, A.id) == Pointers(1, A.id)
    assert move(stocked, 1, A.id, challenger=B.id) == Pointers(2, A.id, B.id)
    assert move(stocked, 2, B.id, previous=A.id) == stocked.pointers("site") == Pointers(3, B.id, None, A.id)
    assert [m.pointers.generation for m in stocked.history("site")] == [3, 2, 1]


def test_a_move_may_split_traffic(stocked: Ledger) -> None:
    split = Pointers(champion=A.id, previous=C.id, traffic=((A.id, 95), (B.id, 5)))
    moved = stocked.move("site", 0, split, "me", "because", None)
    assert moved == stocked.pointers("site") == stocked.history("site")[0].pointers
    assert moved.split == ((A.id, 95), (B.id, 5)) and moved.named() == (A.id, C.id, B.id)
    assert move(stocked, 1, A.id).split == ((A.id, 100),)
    with pytest.raises(NotFound):
        stocked.move("site", 2, Pointers(champion=A.id, traffic=(("f" * 64, 100),)), "me", "because", None)
    for wrong in (((A.id, 50),), ((A.id, 50), (A.id, 50)), ((A.id, 150), (B.id, -50))):
        with pytest.raises(ValueError, match="100"):
            Pointers(champion=A.id, traffic=wrong)


def test_endpoints_move_apart(stocked: Ledger) -> None:
    move(stocked, 0, A.id, endpoint="one")
    move(stocked, 0, B.id, endpoint="two 🦊")
    move(stocked, 1, C.id, endpoint="one")
    assert stocked.pointers("two 🦊") == Pointers(1, B.id)
    assert [m.endpoint for m in stocked.history()] == ["one", "two 🦊", "one"]
    assert len(stocked.history("one")) == 2 and not stocked.history("three")


def test_a_move_is_refused_when_the_endpoint_moved_meanwhile(stocked: Ledger) -> None:
    move(stocked, 0, A.id)
    for expected in (0, 2, -1):
        with pytest.raises(Busy, match="moved meanwhile"):
            move(stocked, expected, B.id)
    assert stocked.pointers("site") == Pointers(1, A.id)


def test_a_move_to_a_release_nobody_knows_is_refused_whole(stocked: Ledger) -> None:
    for wrong in (Pointers(0, "f" * 64), Pointers(0, A.id, "f" * 64), Pointers(0, A.id, None, "f" * 64)):
        with pytest.raises(NotFound):
            stocked.move("site", 0, wrong, "me", "because", None)
    assert stocked.pointers("site") == Pointers() and not stocked.history()


def test_a_move_says_who_why_and_when(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", clock=FakeClock())
    ledger.add_release(A)
    ledger.move("site", 0, Pointers(0, A.id), who="ada", why='it\'s "better"\n🦊', decision="d" * 64)
    (line,) = ledger.history()
    assert (line.who, line.why, line.decision) == ("ada", 'it\'s "better"\n🦊', "d" * 64)
    assert line.at == "2026-01-01T00:00:00.000Z"
    with pytest.raises(UserError, match="not text"):
        ledger.move("site", 1, Pointers(0, A.id), who="\udcff", why="", decision=None)
    assert ledger.pointers("site").generation == 1


def test_the_same_decision_is_one_row_with_the_newer_time(ledger: Ledger) -> None:
    inputs = {"n": 30, "rows": [{"x": 0.1, "why": "é 🦊", "none": None}]}
    first = Decision("gate", "pass", ("good", "enough"), inputs, at="2026-01-01T00:00:00.000Z")
    again = replace(first, at="2027-01-01T00:00:00.000Z")
    assert ledger.add_decision(first) == ledger.add_decision(again) == first.id
    assert list(ledger.decisions()) == [again]
    assert ledger.decision(first.id) == ledger.decision(first.id[:8]) == again
    assert ledger.decision(first.id).id == first.id
    with pytest.raises(NotFound):
        ledger.decision(first.id[:7])


def test_decisions_come_newest_first_and_by_kind(ledger: Ledger) -> None:
    for i, kind in enumerate(["gate", "admit", "gate"]):
        ledger.add_decision(Decision(kind, "pass", (str(i),), {}, at=f"2026-01-0{i + 1}T00:00:00.000Z"))
    assert [d.reasons for d in ledger.decisions()] == [("2",), ("1",), ("0",)]
    assert [d.reasons for d in ledger.decisions("gate")] == [("2",), ("0",)]
    assert not ledger.decisions("alert")


def test_a_decision_without_a_time_gets_one(ledger: Ledger) -> None:
    ledger.add_decision(Decision("gate", "pass", ()))
    assert ledger.decisions()[0].at.endswith("Z")


def test_readiness_is_what_the_gateway_said_last(stocked: Ledger) -> None:
    here = ("site", A.id, "gateway-1")
    assert not stocked.is_warm(*here) and stocked.failure(*here) is None
    stocked.report_failed(*here, "no memory")
    assert not stocked.is_warm(*here) and stocked.failure(*here) == "no memory"
    stocked.report_warm(*here)
    assert stocked.is_warm(*here) and stocked.failure(*here) is None
    stocked.report_failed(*here, "died")
    assert not stocked.is_warm(*here) and stocked.failure(*here) == "died"
    stocked.report_gone(*here)
    stocked.report_gone(*here)
    assert not stocked.is_warm(*here) and stocked.failure(*here) is None
    for other in (("two", A.id, "gateway-1"), ("site", B.id, "gateway-1"), ("site", A.id, "gateway-2")):
        assert not stocked.is_warm(*other) and stocked.failure(*other) is None


def test_what_is_written_is_there_when_opened_again(tmp_path: Path) -> None:
    first = SqliteLedger(tmp_path / "ledger.db")
    first.add_release(A)
    move(first, 0, A.id)
    second = SqliteLedger(tmp_path / "ledger.db")
    assert second.pointers("site") == Pointers(1, A.id)
    move(second, 1, None)
    assert first.pointers("site") == Pointers(2)
    first.close()
    first.close()
    second.close()


def test_threads_race_and_every_move_counts_once(stocked: Ledger) -> None:
    won: list[int] = []

    def mover() -> None:
        for _ in range(20):
            try:
                won.append(move(stocked, stocked.pointers("site").generation, A.id).generation)
            except Busy:
                continue

    threads = [threading.Thread(target=mover) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, len(won) + 1)) and stocked.pointers("site").generation == len(won)


class Moves(RuleBasedStateMachine):
    """Moves against a list: the ledger's history is the list, whatever was tried in between."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, list[Pointers]] = {"one": [], "two": []}
        self.releases: list[str] = []

    @initialize()
    def open(self) -> None:
        # A nameless private database: the same code without the disk.
        self.ledger = SqliteLedger(Path(":memory:"))

    @rule(target=known, name=st.text(max_size=3))
    def release(self, name: str) -> str:
        release = make_release(name)
        self.ledger.add_release(release)
        self.releases.append(release.id)
        return release.id

    @rule(
        endpoint=st.sampled_from(["one", "two"]),
        champion=st.none() | known,
        challenger=st.none() | known,
        offset=st.sampled_from([0, 0, 0, -1, 1]),
    )
    def move(self, endpoint: str, champion: str | None, challenger: str | None, offset: int) -> None:
        line = self.model[endpoint]
        previous = line[-1].champion if line else None
        expected = len(line) + offset
        try:
            got = self.ledger.move(endpoint, expected, Pointers(7, champion, challenger, previous), "w", "y", None)
        except Busy:
            assert offset != 0
        else:
            assert offset == 0
            line.append(Pointers(len(line) + 1, champion, challenger, previous))
            assert got == line[-1]

    @rule(endpoint=st.sampled_from(["one", "two"]))
    def stranger(self, endpoint: str) -> None:
        with pytest.raises(NotFound):
            self.ledger.move(endpoint, len(self.model[endpoint]), Pointers(0, "nobody"), "w", "y", None)

    @rule(number=st.integers(0, 3))
    def named_by_prefix(self, number: int) -> None:
        if number < len(self.releases):
            assert self.ledger.release(self.releases[number][:16]).id == self.releases[number]

    @invariant()
    def agree(self) -> None:
        for endpoint, line in getattr(self, "model", {}).items():
            assert self.ledger.pointers(endpoint) == (line[-1] if line else Pointers())
            assert [m.pointers for m in reversed(self.ledger.history(endpoint))] == line

    def teardown(self) -> None:
        self.ledger.close()


TestMoves = Moves.TestCase
TestMoves.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


# What SQLite has to withstand.

MOVER = """
import sys
from pathlib import Path
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.ports.records import Pointers
ledger = SqliteLedger(Path(sys.argv[1]))
while True:
    at = ledger.pointers("site").generation
    print(ledger.move("site", at, Pointers(0, sys.argv[2]), "w", "y" * 2000, None).generation, flush=True)
"""


def test_a_mover_killed_in_the_middle_loses_nothing_it_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    ledger.add_release(A)
    last = 0
    for lines in (1, 7, 23):
        process = subprocess.Popen([sys.executable, "-c", MOVER, str(path), A.id], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        now = ledger.pointers("site").generation
        assert now in ({said[-1], said[-1] + 1} if said else range(last + lines, last + lines + 2))
        generations = [m.pointers.generation for m in ledger.history("site")]
        assert generations == list(range(now, 0, -1))
        last = now
    assert move(ledger, last, A.id).generation == last + 1


RACER = """
import sys
from pathlib import Path
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.errors import Busy
from modelyard.ports.records import Pointers
print("ready", flush=True)
sys.stdin.readline()
ledger = SqliteLedger(Path(sys.argv[1]))  # also races to make the file
for line in sys.stdin:
    try:
        print(ledger.move("site", int(line), Pointers(), "w", "y", None).generation, flush=True)
    except Busy:
        print("busy", flush=True)
"""


def test_two_processes_race_and_exactly_one_wins(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path / "ledger.db")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    def say(word: object) -> None:
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(f"{word}\n")
            racer.stdin.flush()

    def hear() -> list[str]:
        return sorted(racer.stdout.readline().strip() for racer in racers if racer.stdout is not None)

    assert hear() == ["ready", "ready"]
    say("go")
    for generation in range(15):
        say(generation)
        assert hear() == [str(generation + 1), "busy"]
    for racer in racers:
        racer.communicate()
        assert racer.returncode == 0


def test_history_cannot_be_rewritten_even_by_hand(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.add_release(A)
    move(ledger, 0, A.id)
    hand = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    for statement in (
        "DELETE FROM moves",
        "UPDATE moves SET who = 'somebody else'",
        "INSERT OR REPLACE INTO moves VALUES (1, 'site', 2, NULL, NULL, NULL, '', '', NULL, '', '[]')",
        "INSERT OR REPLACE INTO moves VALUES (9, 'site', 1, NULL, NULL, NULL, '', '', NULL, '', '[]')",
        "INSERT INTO moves VALUES (9, 'site', 3, NULL, NULL, NULL, '', '', NULL, '', '[]')",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            hand.execute(statement)
    hand.close()
    assert [m.who for m in ledger.history()] == ["me"]


def test_a_ledger_of_a_newer_modelyard_is_refused_in_one_line(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "ledger.db").close()
    hand = sqlite3.connect(tmp_path / "ledger.db")
    hand.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    hand.close()
    with pytest.raises(UserError, match="newer modelyard") as caught:
        SqliteLedger(tmp_path / "ledger.db")
    assert "\n" not in str(caught.value)


def test_a_ledger_of_an_older_modelyard_is_brought_forward(tmp_path: Path) -> None:
    hand = sqlite3.connect(tmp_path / "ledger.db")
    for statement in statements(STEPS[0]):
        hand.execute(statement)
    row = (A.id, json.dumps(A.manifest.to_json()), "passed", A.created, A.code)
    hand.execute("INSERT INTO releases (id, manifest, state, created, code) VALUES (?,?,?,?,?)", row)
    hand.execute("INSERT INTO moves VALUES (1, 'site', 1, ?, NULL, NULL, 'me', 'because', NULL, '')", (A.id,))
    hand.execute("PRAGMA user_version = 1")
    hand.commit()
    hand.close()
    ledger = SqliteLedger(tmp_path / "ledger.db")
    assert ledger.pointers("site") == Pointers(1, A.id)
    assert move(ledger, 1, A.id) == Pointers(2, A.id)


def test_a_file_that_is_no_ledger_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is not a database" * 500)
    with pytest.raises(Damaged):
        SqliteLedger(tmp_path / "ledger.db")


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        SqliteLedger(tmp_path / "file" / "ledger.db")
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(StorageError):
        SqliteLedger(tmp_path / "ledger.db")


def test_a_ledger_kept_locked_is_busy_and_stays_readable(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db", patience=0.05)
    ledger.add_release(A)
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="locked"):
        move(ledger, 0, A.id)
    assert ledger.pointers("site") == Pointers()
    holder.execute("ROLLBACK")
    holder.close()
    move(ledger, 0, A.id)


FULL = """
import resource, signal, sys
from pathlib import Path
from modelyard.adapters.ledger_sqlite import SqliteLedger
from modelyard.errors import StorageError
from modelyard.ports.records import Pointers
ledger = SqliteLedger(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    for generation in range(10_000):
        ledger.move("site", generation, Pointers(), "w", "y" * 5000, None)
except StorageError as error:
    print(generation, ledger.pointers("site").generation, str(error).count(chr(10)), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(ledger.move("site", generation, Pointers(), "w", "y", None).generation)
"""


def test_a_full_disk_is_a_storage_error_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "ledger.db")], capture_output=True, text=True, check=True
    )
    reached, pointed, newlines, after = map(int, done.stdout.split())
    assert reached == pointed > 0 and newlines == 0 and after == reached + 1
    history = SqliteLedger(tmp_path / "ledger.db").history()
    assert [m.pointers.generation for m in history] == list(range(after, 0, -1))


def test_a_closed_ledger_says_so_in_our_words(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.close()
    with pytest.raises(AdapterError):
        ledger.pointers("site")


def test_opening_a_ledger_imports_nothing_heavy() -> None:
    code = "import sys; import modelyard.adapters.ledger_sqlite; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pyarrow", "numpy", "pandas", "mlflow", "deltalake", "pydantic", "sqlalchemy", "asyncio"}
