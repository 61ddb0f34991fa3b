"""Stages in processes of this machine: fresh interpreters, never forks, as the parent has threads and library state.

Every worker runs the stage once, over the batches it asks for; batches travel as Arrow IPC streams. Workers wait a few
seconds for the next run, and end with the process that started them, however it ends.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from modelyard.adapters.engine_wire import ASK, BATCH, DONE, END, ERROR, JOB, ROWS, pack, receive, send, unpack
from modelyard.adapters.engine_worker import IDLE_SECONDS
from modelyard.cores import cores
from modelyard.errors import Unavailable
from modelyard.ports.engine import Stage

MOST = 4
"""Processes unless told otherwise: each holds an interpreter, Arrow, what its stage imports, and what that starts."""
AHEAD = 4
"""Batches per process that may be read before the first of them is given out."""
GRACE_SECONDS = 3.0
"""What a stopped worker has to close what it opened, before it is killed with all that it started."""

_WORKER = "modelyard.adapters.engine_worker"


class LocalEngine:
    """Runs stages in up to `processes` workers (None: one for every two CPUs, at most 4; 1: in this process alone).

    Half of the CPUs, as whoever asks for the results has more to do with them: passages are embedded here while the
    next documents are read there, and a worker with its parser takes some 190 MB.
    The first `alone` seconds of work of a stage are done in this process: small jobs are over before a worker has
    started. A stage that is defined in `__main__` stays here. Safe between threads. A worker that is killed, by the
    system for want of memory say, makes the run raise Unavailable.
    """

    def __init__(self, processes: int | None = None, alone: float = 2.0) -> None:
        if processes is not None and processes < 1:
            raise ValueError(f"{processes} processes cannot run anything")
        self._here = (processes or cores()) == 1
        self._processes, self._alone = processes or min(max(1, cores() // 2), MOST), alone
        self._left: dict[bytes, float] = {}  # of those seconds, by stage
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _stop, self._idle)

    def run(self, stage: Stage, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """See the port. The work begins when the first result is asked for."""
        source = iter(batches)
        if self._here or _module(stage) == "__main__":
            yield from stage(source)
            return
        packed = pickle.dumps(stage)
        here = _Here(source, self._left.get(packed, self._alone))
        if here.left > 0:
            try:
                yield from here.results(stage)
            finally:
                self._left[packed] = here.left
        first = list(islice(source, max(2, self._processes)))
        if len(first) < 2:
            yield from stage(iter(first)) if first else ()
            return
        yield from self._elsewhere(pickle.dumps((_paths(), packed)), first, source)

    def _elsewhere(
        self, job: bytes, first: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        workers = self._take(min(len(first), self._processes))
        finished = False
        try:
            yield from _Run(workers, job, _chained(first, rest)).results()
            finished = True
        finally:
            if finished:
                with self._lock:
                    self._idle += [worker.rest() for worker in workers]
            else:
                _stop(workers)

    def close(self) -> None:
        """End the workers that wait. The engine may be used again."""
        with self._lock:
            idle, self._idle[:] = list(self._idle), []
        _stop(idle)

    def _take(self, count: int) -> list[_Worker]:
        with self._lock:
            fit = [worker for worker in self._idle if worker.is_fit()]
            worn = [worker for worker in self._idle if worker not in fit]
            self._idle[:] = fit[count:]
        _stop(worn)
        return fit[:count] + [_Worker() for _ in range(count - len(fit))]


class _Here:
    """A run in this process that stops taking batches when `left` seconds of the stage's own time are used up."""

    def __init__(self, source: Iterator[pa.RecordBatch], left: float) -> None:
        self._source, self.left = source, left
        self._reading = 0.0

    def results(self, stage: Stage) -> Iterator[pa.RecordBatch]:
        results = iter(stage(self._batches()))
        try:
            while True:
                began, self._reading = time.perf_counter(), 0.0
                result = next(results, None)
                self.left -= time.perf_counter() - began - self._reading
                if result is None:
                    return
                yield result
        finally:
            # What the stage holds open goes with the run, not when it happens to be collected.
            if (close := getattr(results, "close", None)) is not None:
                close()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        while self.left > 0:
            began = time.perf_counter()
            batch = next(self._source, None)
            self._reading += time.perf_counter() - began
            if batch is None:
                return
            yield batch


class _Worker:
    """One process, and what is known of what it is doing."""

    def __init__(self) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(_paths())
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, "1")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
            # Ctrl-C at the terminal is for the parent alone; it ends its workers in order.
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.inlet, self.outlet = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.has_rested, self._rests_since = False, 0.0

    def rest(self) -> _Worker:
        self.has_rested, self._rests_since = True, time.monotonic()
        return self

    def is_fit(self) -> bool:
        # One that has waited for long may be about to end by itself.
        return self.process.poll() is None and time.monotonic() - self._rests_since < IDLE_SECONDS / 2


class _Run:
    """One run over some workers: gives out batches in order, and puts results in the order of their batches."""

    def __init__(self, workers: list[_Worker], job: bytes, source: Iterator[pa.RecordBatch]) -> None:
        """`workers` is changed in place where one has to be replaced."""
        self._job, self._source, self._workers = job, source, workers
        self._window = AHEAD * len(workers)
        self._given, self._shown = 0, 0
        self._at: dict[_Worker, int | None] = {}  # the batch a worker is at
        self._results: dict[int, deque[pa.RecordBatch]] = {}
        self._complete: set[int] = set()
        self._late: deque[pa.RecordBatch] = deque()  # what stages give after their last batch
        self._asking: deque[_Worker] = deque()
        self._dry = False

    def results(self) -> Iterator[pa.RecordBatch]:
        with selectors.DefaultSelector() as selector:
            for worker in list(self._workers):
                self._begin(worker, selector)
            while self._at:
                self._give_out()
                for key, _ in selector.select():
                    self._hear(key.data, selector)
                yield from self._in_order()
        yield from self._in_order()
        yield from self._late

    def _begin(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        try:
            send(worker.inlet, JOB, self._job)
        except OSError:
            worker = self._replace(worker)
            send(worker.inlet, JOB, self._job)
        self._at[worker] = None
        selector.register(worker.outlet, selectors.EVENT_READ, worker)

    def _replace(self, worker: _Worker) -> _Worker:
        """Another in place of one that died while it waited for work; one that was at work is not replaced."""
        if not worker.has_rested:
            self._died(worker)
        fresh = _Worker()
        self._workers[self._workers.index(worker)] = fresh
        _stop([worker])
        return fresh

    def _give_out(self) -> None:
        while self._asking and self._given - self._shown < self._window:
            batch = None if self._dry else next(self._source, None)
            self._dry = batch is None
            worker = self._asking.popleft()
            try:
                if batch is None:
                    send(worker.inlet, END)
                    continue
                self._at[worker] = self._given
                self._results[self._given] = deque()
                self._given += 1
                send(worker.inlet, BATCH, pack(batch))
            except OSError:
                self._died(worker)

    def _hear(self, worker: _Worker, selector: selectors.BaseSelector) -> None:
        try:
            kind, payload = receive(worker.outlet)
        except (EOFError, OSError):
            selector.unregister(worker.outlet)
            del self._at[worker]
            self._begin(self._replace(worker), selector)
            return
        worker.has_rested = False
        at = self._at[worker]
        if kind == ROWS:
            (self._late if at is None else self._results[at]).append(unpack(payload))
        elif kind == ERROR:
            error, story = pickle.loads(bytes(payload))
            error.add_note(f"In a worker process:\n{story}")
            raise error
        elif kind in (ASK, DONE):
            if at is not None:
                self._complete.add(at)
                self._at[worker] = None
            if kind == ASK:
                self._asking.append(worker)
            else:
                selector.unregister(worker.outlet)
                del self._at[worker]

    def _in_order(self) -> Iterator[pa.RecordBatch]:
        while self._shown in self._results:
            ready = self._results[self._shown]
            while ready:
                yield ready.popleft()
            if self._shown not in self._complete:
                return
            self._complete.discard(self._shown)
            del self._results[self._shown]
            self._shown += 1

    def _died(self, worker: _Worker) -> NoReturn:
        code = worker.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        raise Unavailable(f"a worker process ended in the middle of its work ({how}): is the memory enough?")


def _stop(workers: list[_Worker]) -> None:
    """End workers now: asked first, so that they close what they opened, then killed with all that they started."""
    stopping, workers[:] = list(workers), []
    for worker in stopping:
        for pipe in (worker.process.stdin, worker.process.stdout):
            if pipe is not None:
                pipe.close()
        if worker.process.poll() is None:
            worker.process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for worker in stopping:
        try:
            worker.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            for process in [*_descendants(worker.process.pid), worker.process.pid]:
                _kill(process)
            worker.process.wait()


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    """Processes that `process` started, and those that these started; they may be in sessions of their own."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    line = deque([process])
    while line:
        for child in children.get(line.popleft(), []):
            found.append(child)
            line.append(child)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    if Path("/proc/self/stat").exists():
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name, in brackets, may hold anything.
                yield int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    else:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            child, parent = line.split()
            yield int(child), int(parent)


def _chained(first: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    # Given away one by one: a batch must not be held here for as long as the run takes.
    waiting = deque(first)
    first.clear()
    while waiting:
        yield waiting.popleft()
    yield from rest


def _module(stage: object) -> str:
    inner = getattr(stage, "func", stage)  # of a functools.partial
    return str(getattr(inner, "__module__", ""))


def _paths() -> list[str]:
    """Where this process finds modules; a worker looks in the same places."""
    return [path or str(Path.cwd()) for path in sys.path]
