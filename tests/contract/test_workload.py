"""What is true of any workload. A new one is a line in SUBJECTS."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.model import shop as models

from modelyard.adapters.embed_hash import HashEmbedder
from modelyard.adapters.engine_local import LocalEngine
from modelyard.adapters.index_segments import SegmentIndex, open_exported
from modelyard.adapters.model_folder import describe
from modelyard.adapters.read_minilm import MiniLMReader, packaged
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.clock import FakeClock, SystemClock
from modelyard.errors import Cancelled, DeadlineExceeded, ProjectError, RequestError, UserError
from modelyard.ids import canonical, digest_file
from modelyard.ports.embedder import Embedder
from modelyard.ports.index import Searcher
from modelyard.ports.model import Described, Model
from modelyard.ports.progress import Silent
from modelyard.ports.reader import Readers
from modelyard.ports.records import Changes, Snapshot, Source
from modelyard.ports.workload import (
    Call,
    CanPicture,
    CanSearch,
    Context,
    Delta,
    Exam,
    HasCorpus,
    Predictor,
    Request,
    Response,
    Workload,
)
from modelyard.wiring.catalogue import adapter
from modelyard.workloads import CATALOGUE, workload

FILES = {
    "travel.md": "# Travel rules\n\n## Hotels\n\nA hotel may cost 145 euros per night. Breakfast is included.\n\n"
    "## Trains\n\nTrains are booked in second class. First class needs the consent of the manager.\n",
    "office.txt": "The office in Groningen opens at seven in the morning. Visitors sign the book at the gate.\n",
}


class TestPorts:
    """The world of a workload: memory, one process, no network."""

    __test__ = False

    def __init__(self, store: Path) -> None:
        self.tables, self.engine, self.index = MemoryTables(), LocalEngine(1), SegmentIndex(store)

    def embedder(self, folder: Path | None = None) -> Embedder:
        return HashEmbedder()

    def readers(self, folder: Path | None = None) -> Readers:
        return Readers(*(MiniLMReader(folder / name if folder else packaged()) for name in Readers._fields))

    def chat(self) -> None:
        return None

    def source(self, sha256: str) -> bytes | None:
        return None

    def searcher(self, folder: Path) -> Searcher:
        return open_exported(folder)

    def describe_model(self, folder: Path) -> Described:
        return describe(folder)

    def model(self, folder: Path, runtime: str) -> Model:
        model: Model = adapter("model", runtime)(folder)
        return model


@dataclass
class Subject:
    """A workload in a world of its own, with what its requests and exams look like."""

    workload: Workload
    settings: Mapping[str, Any]
    request: Request
    exam: tuple[Mapping[str, Any], ...]
    folder: Path
    files: Mapping[str, str | bytes] = field(default_factory=lambda: FILES)
    ctx: Context = field(init=False)

    def __post_init__(self) -> None:
        ports = TestPorts(self.folder / "index")
        self.ctx = Context(self.settings, ports, SystemClock(), Silent(), sources=self.folder / "data")
        (self.folder / "data").mkdir()
        self.give(self.files)

    def give(self, files: Mapping[str, str | bytes]) -> None:
        """Put these files into the data folder, and ingest them."""
        sources = []
        for name, text in files.items():
            path = self.folder / "data" / name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            found = path.stat()
            sources.append(Source(name, digest_file(path), found.st_size, found.st_mtime_ns))
        self.workload.ingest(self.ctx, Changes(tuple(sources), ()))

    def build(self, name: str) -> Path:
        out = self.folder / name
        out.mkdir()
        self.workload.build(self.ctx, self.workload.snapshot(self.ctx), out)
        return out

    def load(self, folder: Path) -> Predictor:
        settings = json.loads(canonical(self.workload.settings(self.ctx)))
        return self.workload.load(replace(self.ctx, settings=settings, sources=None), folder)


def _messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def _echo(folder: Path) -> Subject:
    exam = ({"id": "e1", "question": "Hello", "answers": ["Say: Hello"]},)
    return Subject(workload("echo"), {"prefix": "Say: "}, _messages("Hello there"), exam, folder)


def _chatbot(folder: Path) -> Subject:
    settings = {
        "embedder": "hash",
        "index": "segments",
        "chat": None,
        "retrieval": {"candidates": 100, "passages": 8},
        "answer": {"max_words": 60, "threshold": None},
        "history_turns": 6,
        "limits": {"max_file": 10**8, "seconds": 60.0, "memory": 10**9, "pages": 1000},
    }
    question = "How much may a hotel cost per night?"
    evidence = [{"document": "travel.md", "page": 2}]
    exam = (
        {"id": "h1", "question": question, "answers": ["145 euros"], "evidence": evidence, "tags": ["money"]},
        {"id": "u1", "question": "Who may bring a dog to Lisbon?", "unanswerable": True},
    )
    return Subject(workload("chatbot"), settings, _messages(question), exam, folder)


def _model(folder: Path) -> Subject:
    files = {path.name: path.read_bytes() for path in models.folder("linear").iterdir()}
    names, values = models.NUMBERS, [0.5] * len(models.NUMBERS)
    rows = ({"id": str(i), **dict.fromkeys(names, i - 1.0), "label": i % 2} for i in range(4))
    request = {"dataframe_split": {"columns": names, "data": [values]}}
    return Subject(workload("model"), {"label": "label"}, request, tuple(rows), folder, files)


SUBJECTS: Mapping[str, Callable[[Path], Subject]] = {"chatbot": _chatbot, "echo": _echo, "model": _model}


@pytest.fixture(params=sorted(SUBJECTS))
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return SUBJECTS[request.param](tmp_path)


@pytest.fixture
def predictor(subject: Subject) -> Iterator[Predictor]:
    opened = subject.load(subject.build("release"))
    yield opened
    opened.close()


def call(**more: Any) -> Call:
    return Call(SystemClock(), "k1", **more)


def ask(predictor: Predictor, request: Request) -> Response:
    last = list(predictor.predict(request, call()))[-1]
    assert isinstance(last, Response)
    return last


def members(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digest_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_workload_of_the_catalogue_is_tested_here() -> None:
    assert set(SUBJECTS) == set(CATALOGUE)


def test_an_unknown_workload_names_the_nearest() -> None:
    with pytest.raises(ProjectError, match="did you mean 'chatbot'"):
        workload("chatbto")
    with pytest.raises(ProjectError, match="no module 'nowhere'"):
        workload("nowhere.at_all:Thing")


def test_it_says_what_it_is(subject: Subject) -> None:
    made = subject.workload
    assert CATALOGUE[made.name]
    assert made.answer_version >= 1
    assert made.accepts
    assert made.metrics and all(name == metric.name for name, metric in made.metrics.items())
    assert set(made.floors) | set(made.margins) <= set(made.metrics)


def test_settings_have_an_identity_and_hold_no_address_and_no_secret(subject: Subject) -> None:
    chat = {"model": "small", "max_tokens": 100, "temperature": 0.2, "url": "https://chat.example/v1", "key": "sk-1"}
    ctx = replace(subject.ctx, settings={**subject.settings, "chat": chat, "share": 0.5})
    if "chat" not in subject.settings:
        ctx = subject.ctx
    frozen = canonical(subject.workload.settings(ctx)).decode()
    assert "://" not in frozen and "sk-1" not in frozen


def test_a_snapshot_is_of_content_whatever_the_order(subject: Subject) -> None:
    first = subject.workload.snapshot(subject.ctx)
    assert {name for name, _ in first.entries} == set(subject.files)
    assert Snapshot(first.entries[::-1], first.prepared).root == first.root
    assert subject.workload.snapshot(subject.ctx).root == first.root
    subject.give({"office.txt": FILES["office.txt"] + "It closes at six in the evening.\n"})
    assert subject.workload.snapshot(subject.ctx).root != first.root


def test_a_build_is_deterministic(subject: Subject) -> None:
    assert members(subject.build("one")) == members(subject.build("two")) != {}


def test_a_loaded_release_answers(subject: Subject, predictor: Predictor) -> None:
    events = list(predictor.predict(subject.request, call()))
    *deltas, last = events
    assert isinstance(last, Response) and last.text
    assert all(isinstance(delta, Delta) for delta in deltas)
    if deltas:
        assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == last.text
    json.dumps(dict(last.output))
    assert all(isinstance(count, int) and count >= 0 for count in last.usage.values())


def test_signals_of_an_answer_are_numbers_by_name(subject: Subject, predictor: Predictor) -> None:
    *_, response = predictor.predict(subject.request, call())
    assert isinstance(response, Response)
    found = subject.workload.signals(subject.request, response)
    assert all(name.isidentifier() and math.isfinite(value) for name, value in found.items())
    assert found == subject.workload.signals(subject.request, response)


def test_the_same_request_has_the_same_answer(subject: Subject, predictor: Predictor) -> None:
    again = subject.load(subject.build("again"))
    assert ask(predictor, subject.request) == ask(predictor, subject.request) == ask(again, subject.request)


def test_a_release_does_not_see_what_came_later(subject: Subject, predictor: Predictor) -> None:
    before = ask(predictor, subject.request)
    subject.give(
        {"travel.md": "# Travel rules\n\n## Hotels\n\nA hotel may cost 999 euros per night. Sleep well there.\n"}
    )
    subject.build("later")
    assert ask(predictor, subject.request) == before


def test_many_threads_get_their_own_answers(subject: Subject, predictor: Predictor) -> None:
    expected = ask(predictor, subject.request)
    start = threading.Barrier(8)

    def one(_: int) -> Response:
        start.wait()
        return ask(predictor, subject.request)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [expected] * 8


def test_a_caller_who_went_away_is_not_answered(subject: Subject, predictor: Predictor) -> None:
    with pytest.raises(Cancelled):
        list(predictor.predict(subject.request, call(cancelled=lambda: True)))


def test_a_deadline_ends_an_answer(subject: Subject, predictor: Predictor) -> None:
    clock = FakeClock()
    with pytest.raises(DeadlineExceeded):
        list(predictor.predict(subject.request, Call(clock, "k1", deadline=clock.monotonic())))


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": []},
        {"messages": "Hello"},
        {"messages": ["Hello"]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": "  \n"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "assistant", "content": "I speak first."}]},
    ],
    ids=str,
)
def test_a_bad_request_is_refused_in_one_line(predictor: Predictor, request_: Request) -> None:
    with pytest.raises(RequestError) as raised:
        list(predictor.predict(request_, call()))
    assert "\n" not in str(raised.value)


def test_cases_are_scored_in_the_same_columns(subject: Subject, predictor: Predictor) -> None:
    cases = list(subject.workload.cases(subject.ctx, Exam("human", subject.exam)))
    assert [case.id for case in cases] == [row["id"] for row in subject.exam]
    rows = [subject.workload.score(case, ask(predictor, case.request)) for case in cases]
    assert all(row.unscored is None and row.case == case.id for row, case in zip(rows, cases, strict=True))
    assert len({frozenset(row.values) for row in rows}) == 1
    assert all(row.cluster and row.origin == "human" for row in rows)
    assert all(set(subject.workload.accepts) & set(case.request) for case in cases)


def test_a_wrong_exam_row_is_named_by_its_line(subject: Subject) -> None:
    with pytest.raises(UserError, match="line 2"):
        list(subject.workload.cases(subject.ctx, Exam("human", (subject.exam[0], {"id": "x"}))))


def test_a_proposed_exam_can_be_sat_and_is_always_the_same(subject: Subject) -> None:
    snapshot = subject.workload.snapshot(subject.ctx)
    rows = list(subject.workload.propose_cases(subject.ctx, snapshot))
    assert rows == list(subject.workload.propose_cases(subject.ctx, snapshot))
    cases = list(subject.workload.cases(subject.ctx, Exam("generated", tuple(rows))))
    assert len({case.id for case in cases}) == len(rows)


def test_search_and_pictures_where_there_are_any(subject: Subject, predictor: Predictor) -> None:
    if isinstance(predictor, CanSearch):
        found = predictor.search("hotel", 3)
        assert 0 < len(found) <= 3
        assert all({"document", "page", "score", "text"} <= set(hit) for hit in found)
    if isinstance(predictor, CanPicture):
        assert predictor.page_picture("travel.md", 2, "145 euros").startswith(b"\x89PNG")
        for document, page in (("travel.md", 99), ("nothing.md", 1)):
            with pytest.raises(UserError) as raised:
                predictor.page_picture(document, page, "")
            assert raised.value.status == 404


def test_what_became_of_each_document(subject: Subject) -> None:
    if isinstance(subject.workload, HasCorpus):
        rows = subject.workload.corpus_status(subject.ctx)
        assert [row["document"] for row in rows] == sorted(FILES)
        assert all({"state", "pages", "chunks", "words", "reason"} <= set(row) for row in rows)
