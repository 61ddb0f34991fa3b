"""The workload protocol: the one thing that differs between a chatbot, a fraud model and any other model.

Release, gate, serving and monitoring know nothing more of a model than what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from modelyard.clock import Clock
from modelyard.errors import Cancelled, DeadlineExceeded
from modelyard.ports.progress import Progress
from modelyard.ports.records import Changes, Snapshot

if TYPE_CHECKING:
    # A gateway and an unchanged run know requests and answers, and need no arrays.
    import numpy as np
    from numpy.typing import NDArray

    from modelyard.ports.chat import Chat
    from modelyard.ports.embedder import Embedder
    from modelyard.ports.engine import Engine
    from modelyard.ports.index import Index, Searcher
    from modelyard.ports.model import Described, Model
    from modelyard.ports.reader import Readers
    from modelyard.ports.reranker import Reranker
    from modelyard.ports.tables import Tables

Request = Mapping[str, Any]
"""What a caller sent, as JSON: {"messages": [{"role", "content"}, ...]} for a chatbot. History travels in it."""


@dataclass(frozen=True)
class Call:
    """The circumstances of one request.

    `deadline` is in seconds of `clock.monotonic()`. `key` is the idempotency key: the same request run again has the
    same key. `effects` names where side effects go ("live", "exam", "shadow"), so an exam or a retry disturbs nothing.
    `groups` are those of the caller, as whoever admitted them says, and never as they say themselves; nobody's is what
    everybody may see, and None (the project's own exam) sees everything.
    """

    clock: Clock
    key: str
    deadline: float | None = None
    cancelled: Callable[[], bool] = lambda: False
    effects: str = "live"
    groups: frozenset[str] | None = frozenset()

    def check(self) -> None:
        """Polled between stages and tokens. Raises Cancelled, DeadlineExceeded."""
        if self.cancelled():
            raise Cancelled("the caller went away")
        if self.deadline is not None and self.clock.monotonic() >= self.deadline:
            raise DeadlineExceeded("the request took longer than its deadline allows")


@dataclass(frozen=True)
class Delta:
    """A piece of the answer's text that is final: verified, and never taken back."""

    text: str


@dataclass(frozen=True)
class Response:
    """The answer. `text` is what a person reads, `output` the whole of it as JSON, `usage` counts (tokens in and out).

    The concatenated Deltas before it, where there are any, equal `text`.
    """

    text: str
    output: Mapping[str, Any]
    usage: Mapping[str, int] = field(default_factory=dict)


Event = Delta | Response


class Predictor(Protocol):
    """A loaded release. Safe to call from several threads."""

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        """Answer. The last event is the Response. Raises RequestError for what cannot be answered, Cancelled,
        DeadlineExceeded, Unavailable (a remote model), and nothing else on purpose."""
        ...

    def close(self) -> None:
        """Give back files and threads."""
        ...


MISSING = "missing"
"""The digest of what a case asks about and what is not there."""


@dataclass(frozen=True)
class Exam:
    """A list of raw case objects, each a JSON object, and where they came from ("human" or "generated"). `lines` are
    their line numbers in the exam file, where there is one."""

    origin: str
    rows: tuple[Mapping[str, Any], ...]
    lines: tuple[int, ...] = ()

    def numbered(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(line, row): what an error about a row names."""
        yield from zip(self.lines or range(1, len(self.rows) + 1), self.rows, strict=True)


@dataclass(frozen=True)
class Case:
    """One question of an exam. `cluster` is the unit of the bootstrap (cases on the same page go together).

    `bound_to` maps what the case asks about to a digest of it, or to MISSING: where that changed, or is not there, the
    case is set aside.
    """

    id: str
    request: Request
    expected: Mapping[str, Any]
    evidence: tuple[Mapping[str, Any], ...] = ()
    slices: tuple[str, ...] = ()
    cluster: str = ""
    bound_to: Mapping[str, str] = field(default_factory=dict)
    origin: str = "human"
    groups: frozenset[str] | None = None
    """The groups it is asked with; None: it sees everything."""


@dataclass(frozen=True)
class Row:
    """What one case measured: raw columns, None where a column does not apply, or `unscored` with the reason."""

    case: str
    values: Mapping[str, float | None]
    unscored: str | None = None
    slices: tuple[str, ...] = ()
    cluster: str = ""
    origin: str = "human"
    output: Mapping[str, Any] = field(default_factory=dict)


Columns: TypeAlias = "Mapping[str, NDArray[np.float64]]"


@dataclass(frozen=True)
class Metric:
    """A set-level figure. `value(columns, weights)`: columns are float arrays of shape [n], NaN where a row has none,
    weights of shape [n] count how often a row is in the (re)sample; NaN where the figure is not defined on it."""

    name: str
    value: Callable[[Columns, NDArray[np.float64]], float]
    higher_is_better: bool = True
    unit: str = ""
    compared: bool = True
    """Whether the gate compares it with the champion's (latency, say, is only shown)."""


class Ports(Protocol):
    """What a workload may ask of the world. While a release is built everything is there; a loaded release has the
    embedder, the chat model and its own searcher, and asking for the rest raises RuntimeError."""

    @property
    def tables(self) -> Tables: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def index(self) -> Index: ...

    def embedder(self, folder: Path | None = None) -> Embedder:
        """The embedder the settings name; from a release's own members in `folder`, else the installed one."""
        ...

    def chat(self) -> Chat | None:
        """The chat model the settings name; None for the extractive answerer."""
        ...

    def readers(self, folder: Path | None = None) -> Readers:
        """The readers of statements, from a release's own members in `folder`, else the installed ones."""
        ...

    def reranker(self) -> Reranker | None:
        """The reranker the settings name; None where pages stay in the order in which they were found."""
        ...

    def source(self, sha256: str) -> bytes | None:
        """The bytes of a source file by digest, for pictures of its pages; None where they are not at hand (an
        exported release)."""
        ...

    def searcher(self, folder: Path) -> Searcher:
        """What `Index.export` put in `folder`, opened for reading."""
        ...

    def describe_model(self, folder: Path) -> Described:
        """What the MLflow model in `folder` says of itself; nothing of it is run. Raises NotFound, Damaged."""
        ...

    def model(self, folder: Path, runtime: str) -> Model:
        """The MLflow model in `folder`, loaded by the library that is named ("pyfunc" runs any). Loading may run code
        that lies in it. Raises Damaged, NotDirect, ModelFailed, MissingExtra naming the package to install."""
        ...


@dataclass(frozen=True)
class Context:
    """A workload's world. `settings` is its section of the project file (or of the manifest, once released)."""

    settings: Mapping[str, Any]
    ports: Ports
    clock: Clock
    progress: Progress
    cancelled: Callable[[], bool] = lambda: False
    sources: Path | None = None
    """The folder of the user's data; None in a loaded release."""

    def check(self) -> None:
        """Polled between batches. Raises Cancelled."""
        if self.cancelled():
            raise Cancelled("interrupted: run the same command again, it goes on where it stopped")


class Workload(Protocol):
    """One kind of model. Defaults for what is optional are in `modelyard.workloads.base.BaseWorkload`."""

    name: str
    answer_version: int
    """Raised when the answers of the golden set change: releases built before are then refused by newer code."""
    accepts: frozenset[str]
    """Keys of a request it understands: {"messages"} for a chatbot."""
    metrics: Mapping[str, Metric]
    floors: Mapping[str, float]
    """Least values a release must reach, {metric: value}; the project file may override them."""
    margins: Mapping[str, float]
    """How much worse than the champion's a metric may be, with confidence, {metric: loss}."""
    min_cases: Mapping[str, int]
    """Least scored cases of a slice for a judgement, {slice: count}."""

    def prepared(self, ctx: Context) -> str:
        """Names what changes the rows that `ingest` makes of the same bytes (parser, chunker, embedder): where it is
        another than last time, `ingest` is called even though no source changed."""
        ...

    def settings(self, ctx: Context) -> Mapping[str, Any]:
        """The settings that change answers, without floats, as they go into the manifest. Never a URL or a secret."""
        ...

    def ingest(self, ctx: Context, changes: Changes) -> None:
        """Sources to tables, and whatever is ingested but was prepared otherwise anew. Idempotent: interrupted and run
        again it leaves nothing double or half."""
        ...

    def snapshot(self, ctx: Context) -> Snapshot:
        """The content manifest of what is ingested now."""
        ...

    def build(self, ctx: Context, snapshot: Snapshot, out_dir: Path) -> None:
        """Write the artifact's members under `out_dir`, nothing else. Same snapshot and settings, same answers."""
        ...

    def load(self, ctx: Context, artifact_dir: Path) -> Predictor:
        """Open members that `build` wrote. Digests were checked before."""
        ...

    def cases(self, ctx: Context, exam: Exam) -> Iterator[Case]:
        """The exam's rows as cases. Raises UserError naming the line that is wrong."""
        ...

    def propose_cases(self, ctx: Context, snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
        """Rows of a generated exam; deterministic for a snapshot. Default: none."""
        ...

    def score(self, case: Case, response: Response) -> Row:
        """Raw columns of one case."""
        ...

    def signals(self, request: Request, response: Response) -> Mapping[str, float]:
        """Numbers of one answer that a monitor or a rollout watches, by name: `abstained`, say. Cheap, and never
        raises. Default: none."""
        ...


@runtime_checkable
class CanSearch(Protocol):
    """Capability of a predictor: what retrieval alone finds."""

    def search(self, query: str, k: int, groups: frozenset[str] | None = frozenset()) -> Sequence[Mapping[str, Any]]:
        """[{document, page, score, text}], best first, of what callers of `groups` may see (see Call)."""
        ...


@runtime_checkable
class CanPicture(Protocol):
    """Capability of a predictor: a PNG of a page, with what is quoted marked."""

    def page_picture(self, document: str, page: int, quote: str, groups: frozenset[str] | None = frozenset()) -> bytes:
        """Raises NotFound for a page outside the release's snapshot, and, in the same words, for one that callers of
        `groups` may not see."""
        ...


@dataclass(frozen=True)
class Invoked:
    """The reply to a body that was handed through: finished bytes and what they are, how many rows were scored, and
    figures about the answer for the record ({name: value})."""

    body: bytes
    content_type: str
    rows: int
    signals: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class CanInvoke(Protocol):
    """Capability of a predictor: it reads bodies of a scoring protocol itself, so that nobody parses them before."""

    def invoke(self, body: bytes, content_type: str, call: Call) -> Invoked:
        """The reply to `body`, whose bytes are as the caller sent them. Raises what `predict` raises; RequestError
        (UnsupportedType for another content type) tells what is wrong with the body and repeats nothing of it,
        ModelFailed is what the model itself did."""
        ...


@dataclass(frozen=True)
class Variable:
    """An input or output of a model by name; the name is empty where it has none. `kind` is MLflow's name of a column's
    type ("double"), or numpy's of a tensor's ("float32"). `shape` of a batch, -1 for any length; (-1,) is a column."""

    name: str
    kind: str
    shape: tuple[int, ...] = (-1,)
    required: bool = True


@dataclass(frozen=True)
class Schema:
    """What a model says of its scoring bodies: what runs it, its inputs (columns of a table, or tensors), its outputs
    where it names them, and whether any number among its inputs may be missing, as far as that is known."""

    runtime: str
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...] = ()
    tensors: bool = False
    missing: bool = False


@runtime_checkable
class HasSchema(Protocol):
    """Capability of a predictor that can be invoked: it says what it takes."""

    @property
    def schema(self) -> Schema | None:
        """None for a model that says nothing of its inputs."""
        ...


@runtime_checkable
class CanWarm(Protocol):
    """Capability of a workload: opens what its steps will need."""

    def warm(self, ctx: Context) -> None:
        """Called by a run that has something to build or to evaluate, in a thread of its own, beside `prepared`,
        `ingest` and `snapshot`. Raises what these steps would."""
        ...


@runtime_checkable
class HasCorpus(Protocol):
    """Capability of a workload: what became of each document."""

    def corpus_status(self, ctx: Context) -> Sequence[Mapping[str, Any]]:
        """[{document, state, pages, chunks, words, reason, groups}], by document; `groups` (who may see it, null for
        everybody) where the workload has them."""
        ...
