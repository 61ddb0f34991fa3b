"""The project file as typed policies: every key, its type, its default and what it means.

name: handbook               the endpoint, the registered model and the OpenAI `model`
workload: chatbot
documents: documents         the folder of the user's data
exam: evaluation.jsonl
chatbot: {embedder, index, chat, retrieval, answer, history_turns, reranker, glossary, access, ocr, ocr_languages,
limits}
model: {uri, label, recorded, task, positive, score, id, cluster, slices, ignore}
gate: {floors, margins, min_cases, max_unscored, min_human, confidence, at_once, admit_unproven}
ingest: {max_file, max_removals}
settings: {...}              of a workload of your own (`workload: module:Class`)
guards: {length: {request, answer}, patterns: [{name, deny, where, reason}]}
serve: {host, port, token, groups, workers, threads, queue, memory_limit, timeout, drain, notice, max_body,
max_chat_body, max_bodies, max_depth, metrics, traces, prices}
rollout: {policy, shadow, steps, alpha, margins, tests, min_units, settle, max_age, at_max_age, look_every, linger}
mlflow: {tracking_uri}
targets: {test: {...}, staging: {...}, prod: {...}}      the same keys again, overriding
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    field_validator,
)

from modelyard.project.access import PUBLIC, read_folder, read_groups, rules_of
from modelyard.project.guards import Guards
from modelyard.project.secrets import Secret, masked
from modelyard.units import parse_duration, parse_size

TARGETS = ("test", "staging", "prod")
STRICT = ("prod", "production")
"""Targets that strangers meet, however the name is capitalised."""
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,62}\Z")
NAMED = "letters, digits, - and _ are allowed, at most 63, beginning with a letter"
_WORKLOAD = re.compile(r"([\w-]+|\w+([.]\w+)*:\w+)\Z")


def _secret(value: Any) -> Any:
    return Secret(value) if isinstance(value, str) else value


def _groups(value: Any) -> Any:
    found = read_groups(value)
    return PUBLIC if found is None else list(found)


def _rules(value: Any) -> Any:
    return {"rules": value} if isinstance(value, list) else value


def _http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("a URL that begins with http:// or https:// is expected")
    return value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Http = Annotated[str, AfterValidator(_http)]
Uri = Annotated[str, PlainSerializer(masked)]
SecretField = Annotated[Secret, BeforeValidator(_secret), PlainSerializer(str)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
Moment = Annotated[float, BeforeValidator(_duration), Field(ge=0)]
GroupsField = Annotated[list[str] | str, BeforeValidator(_groups)]
Share = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A mapping of the project file. Unknown keys are errors, types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Chat(Section):
    """An OpenAI-compatible chat model. Its name and parameters enter a release; the URL and the key never do."""

    url: Http = Field(description="base URL up to and including /v1, or the full URL of a chat completions route")
    model: str
    key: SecretField | None = None
    headers: dict[str, SecretField] = {}
    max_tokens: int = Field(400, gt=0, le=32_000)
    timeout: Seconds = 60.0
    retries: int = Field(2, ge=0, le=10)
    budget_tokens: int | None = Field(None, gt=0, description="tokens one process may spend before it refuses")


class RemoteEmbedder(Section):
    """An OpenAI-compatible embedding model. Its name and parameters enter a release; the URL and the key never do."""

    kind: Literal["openai"]
    url: Http = Field(description="base URL up to and including /v1, or the full URL of an embeddings route")
    model: str
    dimension: int = Field(gt=0, le=16_384, description="length of its vectors; another one is an error")
    key: SecretField | None = None
    headers: dict[str, SecretField] = {}
    shorten: bool = Field(False, description="ask for vectors of that length, of a model that can")
    encoding: Literal["float", "base64"] = Field("float", description="how vectors travel")
    max_characters: int = Field(24_000, ge=1_000, description="of a text; what is over is not sent")
    batch: int = Field(64, ge=1, le=2_048, description="texts a request")
    parallel: int = Field(4, ge=1, le=64, description="requests at a time")
    timeout: Seconds = 60.0
    retries: int = Field(5, ge=0, le=20)


def _which(value: Any) -> str:
    return "(name)" if isinstance(value, str) else "(section)"


EmbedderField = Annotated[
    Annotated[str, Tag("(name)")] | Annotated[RemoteEmbedder, Tag("(section)")], Discriminator(_which)
]


class Reranker(Section):
    """A model behind a /rerank route. Its name and parameters enter a release; the URL and the key never do."""

    url: Http = Field(description="base URL, to which /rerank is added, or the full URL of the route")
    model: str
    protocol: Literal["cohere", "tei"] = Field("cohere", description="how the question is put; either answer is read")
    pages: int = Field(30, ge=2, le=1_000, description="of the first pages, how many it puts in order")
    key: SecretField | None = None
    headers: dict[str, SecretField] = {}
    max_characters: int = Field(4_000, ge=200, description="of a passage; what is over is not sent")
    timeout: Seconds = 10.0
    retries: int = Field(1, ge=0, le=10)


class Retrieval(Section):
    candidates: int = Field(200, ge=1, le=10_000, description="pages each arm of the search proposes")
    passages: int = Field(10, ge=1, le=100, description="pages the answer is looked for on")
    exact_up_to: int = Field(
        250_000, ge=0, description="passages up to which every vector is compared; beyond, those nearest by their signs"
    )


class Answer(Section):
    max_words: int = Field(60, ge=5, le=400)
    threshold: Share | None = Field(
        None, description="evidence under which a question is refused; null: the built-in one"
    )


class Limits(Section):
    """What one document may cost to read. Past these it is quarantined."""

    seconds: Seconds = 60.0
    memory: Size = 500 * 10**6
    pages: int = Field(5_000, gt=0)


class AccessRule(Section):
    """Who may see the documents below a folder, or the one document of that path."""

    folder: str
    groups: GroupsField

    @field_validator("folder")
    @classmethod
    def _folder(cls, value: str) -> str:
        read_folder(value)
        return value


class Access(Section):
    """Who may see which document, where no file beside the documents says otherwise. See docs/access.md."""

    default: GroupsField = Field(PUBLIC, description="of documents that nothing else is said of: public, or groups")
    rules: list[AccessRule] = Field([], description="the rule of the longest folder decides")

    @field_validator("rules")
    @classmethod
    def _once(cls, value: list[AccessRule]) -> list[AccessRule]:
        rules_of({"rules": [rule.model_dump() for rule in value]})
        return value


class Chatbot(Section):
    embedder: EmbedderField = "minilm"
    index: str = "segments"
    chat: Chat | None = None
    retrieval: Retrieval = Retrieval()
    reranker: Reranker | None = None
    answer: Answer = Answer()
    history_turns: int = Field(6, ge=0, le=50)
    glossary: dict[str, list[str]] = Field(
        {}, description="of the users' field: what people say -> what the documents say"
    )
    access: Annotated[Access, BeforeValidator(_rules)] = Access()
    ocr: Literal["auto", "off"] = Field(
        "auto", description="read pages that are pictures, where Tesseract is installed"
    )
    ocr_languages: list[str] = Field(["eng"], min_length=1, description="as Tesseract names them: eng, deu, chi_sim")
    limits: Limits = Limits()

    @field_validator("ocr", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        # YAML takes a bare `off` for false.
        return "off" if value is False else value


class Echo(Section):
    prefix: str = ""


class Model(Section):
    """The MLflow model in the folder `documents`, and what the columns of its exam are. Columns that are not named here
    are features."""

    uri: Uri | None = Field(None, description="where the folder was fetched from; nothing is fetched by a run")
    label: str | None = Field(None, description="the exam's column of what turned out true; null: label, or target")
    recorded: str | None = Field(None, description="instead: its column of recorded answers, to be given again")
    task: Literal["auto", "binary", "multiclass", "regression"] = Field("auto", description="auto: by the labels")
    positive: str | int | bool | None = Field(None, description="the label that a score speaks for; null: the greater")
    score: str | None = Field(None, description="the field of an answer to judge, where answers have several")
    id: str | None = Field(None, description="null: id, where there is such a column, else the line")
    cluster: str | None = Field(None, description="rows of one customer, say, are no independent cases")
    slices: list[str] = Field([], description="columns by whose values figures are shown apart")
    ignore: list[str] = Field([], description="columns that are neither a feature nor any of these")


class Gate(Section):
    """When a release may be deployed. A floor is a least value; a margin is how much worse than the champion's a
    figure may be, with confidence, before it counts as a regression. What is not given here the workload gives."""

    floors: dict[str, float] = Field({}, description="over the workload's own: metric -> least value")
    margins: dict[str, Share] = Field({}, description="over the workload's own: metric -> margin")
    min_cases: dict[str, int] = Field({}, description="over the workload's own: slice -> least scored cases")
    max_unscored: Share = 0.0
    min_human: int = Field(0, ge=0, description="least scored cases that a person wrote")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    at_once: int = Field(4, ge=1, le=64, description="cases of the exam asked at a time, at most 1.5 for each core")
    admit_unproven: bool = Field(
        True, description="let an abstained release in where the champion is absent or unproven"
    )


class Recording(Section):
    """How requests and answers are written down. See docs/record.md."""

    durability: Literal["disk", "process"] = Field(
        "disk", description="what a row survives before the model is asked: a lost machine, or a killed process only"
    )
    limit: Size = Field(1 << 30, description="what may wait for the tables on disk")
    when_full: Literal["refuse", "unlogged"] = Field(
        "refuse", description="what cannot be recorded: refused with 503, or answered, unrecorded and counted"
    )
    redaction: Literal["none", "drop", "patterns"] = Field(
        "none", description="what is kept of bodies: all, nothing, or all but what a pattern finds"
    )
    patterns: list[str] = Field([], description="regular expressions; what they find is masked before it is written")
    max_payload: Size = Field(1 << 20, description="a longer body is left out, and a code says so")
    fold_every: Seconds | None = Field(
        60.0,
        description="how often what is recorded is put into the tables; null: whoever runs `modelyard.fold` does it",
    )


class Serve(Section):
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    token: SecretField | None = None
    groups: list[str] = Field([], description="those of who has the token: they may see what is for one of them")
    workers: int = Field(1, ge=1, le=64, description="processes for each release that is in use")
    threads: int = Field(8, ge=1, le=256, description="requests that one of them answers at a time")
    queue: int = Field(1024, ge=0, le=100_000, description="requests of a release that may wait beyond those")
    memory_limit: Size | None = Field(
        None, description="of all workers of an endpoint; over it the previous release is stopped, rollback starts it"
    )
    record: Recording = Recording()
    timeout: Seconds = 60.0
    drain: Seconds = Field(30.0, description="for requests under way when it is stopped; then they end with an error")
    notice: Moment = Field(
        0.0, description="how long /ready says no, when it is stopped, before connections are refused"
    )
    max_body: Size = Field(16 * 10**6, description="bytes of a scoring request")
    max_chat_body: Size = Field(4 * 10**6, description="bytes of a chat request")
    max_bodies: Size = Field(256 * 10**6, description="bytes of the bodies of all requests under way together")
    max_depth: int = Field(64, ge=8, le=500, description="how deep lists and objects of a body may lie in one another")
    metrics: Literal["operate", "query", "open"] = Field(
        "operate", description="who may read /metrics: tokens of that scope, or everybody"
    )
    traces: Share = Field(0.0, description="of the answers, how many MLflow gets as traces")
    prices: dict[str, Price] = Field({}, description="of a million of each count of `usage`: {prompt_tokens: 0.15}")

    @field_validator("groups")
    @classmethod
    def _named(cls, value: list[str]) -> list[str]:
        return list(read_groups(value) or ())


class RolloutTest(Section):
    """When a unit (a conversation, an entity) counts as failed: by a value of its answers, beside the champion's."""

    value: str = Field(description="errors, refused, latency, cost, feedback, or a signal of the workload")
    side: Literal["any", "high", "low"] = Field(
        "any", description="1 in any answer; or its mean past a quantile of the champion's units"
    )
    quantile: float = Field(0.9, ge=0.5, lt=1, description="for high and low")
    margin: Share = Field(0.05, description="most, in shares of units, by which the endpoint may become worse")


class Rollout(Section):
    """How a new release gets its traffic where a gateway serves. See docs/rollouts.md."""

    policy: Literal["direct", "canary"] = Field("direct", description="how `run` and a plain promote go about it")
    shadow: bool = Field(True, description="first let it answer copies of requests, which nobody is shown")
    steps: list[int] = Field([10, 25, 50, 100], min_length=1, description="percent of what is new; the last is 100")
    alpha: float = Field(
        0.01, gt=0, le=0.2, description="bound on sending back what is no worse, and on promoting what is"
    )
    margins: dict[str, Share] = Field({}, description="over the built-in tests' own: test -> margin")
    tests: dict[str, RolloutTest | None] = Field({}, description="more tests, or null for a built-in one to leave out")
    min_units: int = Field(30, ge=1, description="least units of the challenger that settle at a step")
    settle: Seconds = Field(60.0, description="after its first request a unit's outcome counts for a step")
    max_age: Seconds = 7 * 86400.0
    at_max_age: Literal["hold", "revert"] = "hold"
    look_every: Seconds = 10.0
    linger: Seconds = Field(3600.0, description="how long conversations of before stay where they were, once promoted")

    @field_validator("steps")
    @classmethod
    def _rising(cls, value: list[int]) -> list[int]:
        if value[-1] != 100 or sorted(set(value)) != value or value[0] < 1:
            raise ValueError("whole percent that rise and end with 100 are expected")
        return value


class Mlflow(Section):
    tracking_uri: Uri | None = Field(
        None, repr=False, description="or env:NAME, file:PATH where it is; null: a SQLite file of the target's own"
    )


class Ingest(Section):
    max_file: Size = Field(200 * 10**6, description="a larger file is not read: it is quarantined")
    max_removals: Share = Field(0.2, description="a run that loses more of the documents needs --allow-removals")


class Project(Section):
    """A project, with the overrides of one target applied."""

    name: str
    workload: str = "chatbot"
    documents: str = "documents"
    exam: str = "evaluation.jsonl"
    chatbot: Chatbot = Chatbot()
    echo: Echo = Echo()
    model: Model = Model()
    settings: dict[str, Any] = {}
    ingest: Ingest = Ingest()
    gate: Gate = Gate()
    guards: Guards = Guards()
    serve: Serve = Serve()
    rollout: Rollout = Rollout()
    mlflow: Mlflow = Mlflow()

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.match(value):
            raise ValueError(NAMED)
        return value

    @field_validator("workload")
    @classmethod
    def _workload(cls, value: str) -> str:
        if not _WORKLOAD.match(value):
            raise ValueError("the name of a kind of model is expected, or module:Class of your own")
        return value


def target_defaults(target: str) -> dict[str, Any]:
    """What the target's defaults differ in, before the project file says anything."""
    # Strangers meet it: nothing gets in on generated questions alone.
    return {"gate": {"min_human": 30, "admit_unproven": False}} if target.lower() in STRICT else {}
