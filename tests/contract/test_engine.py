"""What every engine promises, and what processes on this machine in particular have to withstand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.adapters.engine_local import LocalEngine
from modelyard.errors import NotFound, Unavailable
from modelyard.ports.engine import Engine

STAGES = '''
"""Stages as a workload has them: functions of a module that workers can import."""

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa

from modelyard.errors import NotFound


def same(batches):
    yield from batches


def doubled(batches, times=2):
    for batch in batches:
        for _ in range(times):
            yield batch


def uneven(batches):
    for batch in batches:
        if batch.column(0)[0].as_py() % 3 == 0:
            time.sleep(0.02)
        yield batch


def where(batches, wait=0.0):
    for batch in batches:
        time.sleep(wait)
        yield pa.record_batch([[os.getpid()] * batch.num_rows], names=["pid"])


def noisy(batches):
    print("stage begins", sys.stdin.read())
    os.write(1, b"straight to the descriptor")
    yield from batches


def last(batches):
    """Gives a batch only when it has seen the next one."""
    held = None
    for batch in batches:
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield held


def nothing(batches):
    for _ in batches:
        pass
    return
    yield


def missing(batches):
    for batch in batches:
        if batch.column(0)[0].as_py() == 3:
            raise NotFound("row 3 is not there")
        yield batch


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("an error that pickle cannot make again")


def odd(batches):
    for batch in batches:
        raise Odd(1, 2)
    yield


def suicidal(batches):
    for batch in batches:
        if batch.column(0)[0].as_py() == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def with_child(batches, folder, deaf=False):
    """Starts a process in a session of its own, as a parser's sandbox does, and hangs."""
    if deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        for number, batch in enumerate(batches):
            with open(os.path.join(folder, f"{os.getpid()}-{child.pid}"), "w"):
                pass
            while len(os.listdir(folder)) < 2:
                time.sleep(0.01)
            yield batch
            if number or deaf:
                time.sleep(600)
    finally:
        child.kill()
        child.wait()
'''


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "stages_for_engines.py").write_text(STAGES)
    monkeypatch.syspath_prepend(tmp_path / "code")
    module: ModuleType = __import__("stages_for_engines")
    yield module
    del sys.modules["stages_for_engines"]


ENGINES: dict[str, Callable[[], Engine]] = {
    "here": lambda: LocalEngine(1),
    "two processes": lambda: LocalEngine(2, alone=0),
    "here, then two processes": lambda: LocalEngine(2, alone=0.005),
}


@pytest.fixture(params=sorted(ENGINES), scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = ENGINES[request.param]()
    yield made
    made.close()


def batch(*values: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.int64())], names=["x"])


def numbers(batches: Iterator[pa.RecordBatch]) -> list[int]:
    return [value for each in batches for value in each.column(0).to_pylist()]


def test_nothing_in_nothing_out(engine: Engine, stages: Any) -> None:
    assert list(engine.run(stages.same, [])) == []
    assert list(engine.run(stages.nothing, [batch(1), batch(2), batch(3)])) == []


def test_results_come_in_the_order_of_the_batches(engine: Engine, stages: Any) -> None:
    values = list(range(30))
    assert numbers(engine.run(stages.uneven, (batch(v, -v) for v in values))) == [
        s * v for v in values for s in (1, -1)
    ]
    assert numbers(engine.run(partial(stages.doubled, times=3), map(batch, values))) == [
        v for v in values for _ in "abc"
    ]
    assert numbers(engine.run(stages.same, [batch(), batch(1), batch(), batch(2), batch()])) == [1, 2]


def test_what_a_stage_gives_at_the_end_is_not_lost(engine: Engine, stages: Any) -> None:
    assert sorted(numbers(engine.run(stages.last, map(batch, range(9))))) == list(range(9))


ROWS = st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=4)


def test_batches_arrive_as_they_were_sent(engine: Engine, stages: Any) -> None:
    @given(st.lists(ROWS, max_size=5))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(given_rows: list[list[str | None]]) -> None:
        schema = pa.schema(
            [
                pa.field("s", pa.string(), metadata={"unit": "words"}),
                pa.field("list", pa.list_(pa.struct([pa.field("b", pa.binary())]))),
                pa.field("coded", pa.dictionary(pa.int8(), pa.string())),
            ]
        )
        sent = []
        for values in given_rows:
            lists = pa.array([[{"b": (v or "").encode()}] * 2 for v in values], schema.field("list").type)
            coded = pa.array(values, pa.string()).dictionary_encode().cast(schema.field("coded").type)
            sent.append(pa.record_batch([pa.array(values, pa.string()), lists, coded], schema=schema))
            sent.append(sent[-1].slice(len(values) // 2))
        got = list(engine.run(stages.same, iter(sent)))
        assert [g.to_pydict() for g in got] == [s.to_pydict() for s in sent]
        assert all(g.schema.equals(schema, check_metadata=True) for g in got)

    check()


def test_large_batches_pass_both_ways(engine: Engine, stages: Any) -> None:
    large = pa.record_batch([pa.array(range(400_000), pa.int64())], names=["x"])
    got = list(engine.run(stages.doubled, [large, large.slice(7), large]))
    assert [g.num_rows for g in got] == [400_000, 400_000, 399_993, 399_993, 400_000, 400_000]
    assert all(g.column(0)[-1].as_py() == 399_999 for g in got)


def test_batches_are_read_lazily(engine: Engine, stages: Any) -> None:
    read = 0

    def source() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for value in range(10_000):
            read += 1
            yield batch(value)

    results = engine.run(stages.same, source())
    assert read == 0
    for _ in range(5):
        next(results)
    assert read < 50
    results.close()  # type: ignore[attr-defined]


def test_an_error_keeps_its_type_and_message(engine: Engine, stages: Any) -> None:
    seen: list[int] = []
    with pytest.raises(NotFound) as caught:
        for result in engine.run(stages.missing, map(batch, range(100))):
            seen += result.column(0).to_pylist()
    assert str(caught.value) == "row 3 is not there"
    assert seen == list(range(len(seen))) and len(seen) <= 3
    with pytest.raises(Exception, match="an error that pickle cannot make again"):
        list(engine.run(stages.odd, map(batch, range(5))))
    assert numbers(engine.run(stages.same, map(batch, range(9)))) == list(range(9))


def test_an_error_of_the_source_passes(engine: Engine, stages: Any) -> None:
    def source() -> Iterator[pa.RecordBatch]:
        yield from map(batch, range(4))
        raise OSError("the share is gone")

    with pytest.raises(OSError, match="the share is gone"):
        list(engine.run(stages.same, source()))


def test_an_engine_may_be_used_by_several_threads(engine: Engine, stages: Any) -> None:
    got: dict[int, list[int]] = {}

    def work(number: int) -> None:
        got[number] = numbers(engine.run(stages.uneven, (batch(number * 100 + i) for i in range(12))))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: [number * 100 + i for i in range(12)] for number in range(3)}


# What processes on this machine have to withstand.


def pids(folder: Path) -> set[int]:
    return {int(pid) for file in folder.iterdir() for pid in file.name.split("-")}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # A zombie that nobody waits for (its parent was killed) runs no more.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(found: set[int]) -> bool:
    end = time.monotonic() + 15
    while time.monotonic() < end and any(map(alive, found)):
        time.sleep(0.02)
    return not any(map(alive, found))


def test_work_is_done_elsewhere_and_workers_are_used_again(stages: Any) -> None:
    engine = LocalEngine(2, alone=0)
    first = set(numbers(engine.run(stages.where, map(batch, range(20)))))
    second = set(numbers(engine.run(stages.where, map(batch, range(20)))))
    assert os.getpid() not in first | second and len(first | second) == 2
    assert set(numbers(engine.run(stages.where, [batch(1)]))) == {os.getpid()}  # not worth the journey
    engine.close()
    assert gone(first | second)
    assert numbers(engine.run(stages.same, map(batch, range(4)))) == [0, 1, 2, 3]
    engine.close()


def test_small_jobs_are_done_here_and_long_ones_move(stages: Any) -> None:
    engine = LocalEngine(2, alone=0.05)
    assert set(numbers(engine.run(stages.where, map(batch, range(4))))) == {os.getpid()}
    many = numbers(engine.run(partial(stages.where, wait=0.01), map(batch, range(40))))
    assert many[0] == os.getpid() != many[-1] and len(set(many)) == 3
    # It is remembered that this stage takes long, and that the other does not.
    assert os.getpid() not in numbers(engine.run(partial(stages.where, wait=0.01), map(batch, range(4))))
    assert set(numbers(engine.run(stages.where, map(batch, range(4))))) == {os.getpid()}
    engine.close()


def test_workers_end_with_the_engine(stages: Any) -> None:
    engine = LocalEngine(2, alone=0)
    found = set(numbers(engine.run(stages.where, map(batch, range(4)))))
    del engine
    assert gone(found)


def test_a_worker_that_died_in_its_sleep_is_replaced(stages: Any) -> None:
    engine = LocalEngine(2, alone=0)
    for pid in set(numbers(engine.run(stages.where, map(batch, range(4))))):
        os.kill(pid, signal.SIGKILL)
        assert gone({pid})
    assert numbers(engine.run(stages.same, map(batch, range(4)))) == [0, 1, 2, 3]
    engine.close()


def test_what_a_stage_prints_does_not_disturb(stages: Any) -> None:
    engine = LocalEngine(2, alone=0)
    assert numbers(engine.run(stages.noisy, map(batch, range(4)))) == [0, 1, 2, 3]
    engine.close()


def test_a_worker_killed_in_the_middle_is_told(stages: Any) -> None:
    with pytest.raises(Unavailable, match="SIGKILL"):
        list(LocalEngine(2, alone=0).run(stages.suicidal, map(batch, range(10))))


@pytest.mark.parametrize("deaf", [False, True], ids=["asked", "killed"])
def test_closing_stops_workers_and_what_they_started(stages: Any, tmp_path: Path, deaf: bool) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    results = LocalEngine(2, alone=0).run(
        partial(stages.with_child, folder=str(folder), deaf=deaf), map(batch, range(50))
    )
    assert numbers(iter([next(results)])) == [0]
    found = pids(folder)
    assert len(found) >= 4
    results.close()  # type: ignore[attr-defined]
    assert gone(found | pids(folder))


MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background was started without
sys.path.insert(0, sys.argv[1])
import pyarrow as pa
import stages_for_engines as stages
from functools import partial
from modelyard.adapters.engine_local import LocalEngine
source = (pa.record_batch([[i]], names=["x"]) for i in range(50))
for each in LocalEngine(2, alone=0).run(partial(stages.with_child, folder=sys.argv[2]), source):
    print(each.column(0)[0], flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_a_process_that_ends_leaves_nothing_behind(stages: Any, tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    command = [sys.executable, "-c", MAIN, str(tmp_path / "code"), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    found = pids(folder)
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0 and ("KeyboardInterrupt" in errors or how == signal.SIGKILL)
    assert len(found) >= 4 and gone(found | pids(folder))


UNGUARDED = """
import pyarrow as pa
from modelyard.adapters.engine_local import LocalEngine

def stage(batches):
    for batch in batches:
        yield pa.record_batch([[2 * v for v in batch.column(0).to_pylist()]], names=["x"])

source = (pa.record_batch([[i]], names=["x"]) for i in range(4))
print([batch.column(0)[0].as_py() for batch in LocalEngine(2, alone=0).run(stage, source)])
"""


def test_a_script_needs_no_main_guard_and_may_hold_its_stage(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 2, 4, 6]\n"


def test_no_process_is_no_engine() -> None:
    with pytest.raises(ValueError):
        LocalEngine(0)
