"""Who gets which worker, whatever comes and goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.line import Line
from modelyard.serving.wire import Frame


@dataclass(eq=False)
class Asking:
    number: int
    suspect: bool = False
    turned_away: bool = False

    def hear(self, frame: Frame | Exception | None) -> None:
        """Nothing is said here."""

    def moved(self) -> None:
        self.turned_away = True


@dataclass(eq=False)
class Taking:
    doing: list[Asking] = field(default_factory=list)
    alone: bool = False

    @property
    def load(self) -> int:
        return len(self.doing)


@dataclass
class Scene:
    """A line before some workers, and the order in which requests were begun."""

    threads: int
    workers: list[Taking]
    line: Line[Asking] = field(init=False)
    begun: list[Asking] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.line = Line(self.threads)

    def dispatch(self) -> None:
        while (found := self.line.next(self.workers)) is not None:
            asking, worker = found
            worker.doing.append(asking)
            self.begun.append(asking)
            self.check()

    def check(self) -> None:
        for worker in self.workers:
            assert worker.load <= self.threads
            assert worker.load == 1 or not any(asking.suspect for asking in worker.doing)

    def finish(self, which: int) -> None:
        busy = [worker for worker in self.workers if worker.doing]
        if busy:
            busy[which % len(busy)].doing.pop(0)
        self.dispatch()


events = st.lists(st.one_of(st.just("ask"), st.just("suspect"), st.just("again"), st.integers(0, 5)), max_size=60)


@given(st.integers(1, 3), st.integers(1, 3), events)
def test_a_suspect_is_alone_nobody_waits_in_vain_and_order_is_kept(
    threads: int, count: int, steps: list[object]
) -> None:
    scene, asked = Scene(threads, [Taking() for _ in range(count)]), 0
    for step in steps:
        if isinstance(step, int):
            scene.finish(step)
        else:
            scene.line.join(Asking(asked, suspect=step == "suspect"), first=step == "again")
            asked += 1
            scene.dispatch()
        scene.check()
        assert not len(scene.line) or any(worker.load for worker in scene.workers)
    for _ in range(4 * len(steps) + 4):
        scene.finish(0)
    assert len(scene.line) == 0 and len(scene.begun) == asked  # each once, and none left
    if "again" not in steps:
        for kind in (False, True):
            numbers = [a.number for a in scene.begun if a.suspect is kind]
            assert numbers == sorted(numbers)


def test_the_least_loaded_is_taken_and_a_full_one_is_not() -> None:
    scene = Scene(2, [Taking(), Taking()])
    for number in range(5):
        scene.line.join(Asking(number), first=False)
    scene.dispatch()
    assert [worker.load for worker in scene.workers] == [2, 2] and len(scene.line) == 1
    scene.finish(1)
    assert [a.number for a in scene.workers[1].doing] == [3, 4] and not len(scene.line)


def test_while_a_suspect_waits_for_one_worker_the_others_go_on() -> None:
    scene = Scene(2, [Taking(), Taking()])
    for number in range(3):
        scene.line.join(Asking(number), first=False)
    scene.dispatch()
    scene.line.join(Asking(3, suspect=True), first=True)
    scene.line.join(Asking(4), first=False)
    scene.dispatch()  # one of the workers has a thread free, and is left to become idle
    assert len(scene.line) == 2
    scene.finish(1)
    assert [a.number for a in scene.begun] == [0, 1, 2, 3]
    scene.finish(0)
    assert [a.number for a in scene.begun] == [0, 1, 2, 3, 4]


def test_who_leaves_or_is_turned_away_waits_no_more() -> None:
    line: Line[Asking] = Line(1)
    askings = [Asking(0), Asking(1, suspect=True), Asking(2)]
    for asking in askings:
        line.join(asking, first=False)
    line.leave(askings[0])
    line.leave(askings[0])
    assert line.clear() == [askings[1], askings[2]] and not len(line)
    assert line.next([Taking()]) is None
