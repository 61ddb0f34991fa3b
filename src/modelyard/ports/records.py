"""Frozen records that everything passes around: snapshots, manifests, releases, moves, decisions, evidence.

They are plain data: each knows its JSON form and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelyard.ids import digest, plain

FORMAT = 1
"""Version of the artifact's layout."""

State = Literal["built", "passed", "failed", "abstained", "unproven", "redacted"]
Verdict = Literal["pass", "fail", "abstain"]


@dataclass(frozen=True)
class Source:
    """A file of the user's data, as it was seen: path relative to the data folder with forward slashes."""

    path: str
    sha256: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Changes:
    """What differs between the data folder and what was ingested. `unreadable` maps a path to the reason.

    A file may hold many documents: `max_removals` is the share of what is ingested that may leave by these changes.
    """

    changed: tuple[Source, ...]
    removed: tuple[str, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    max_removals: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.unreadable)


@dataclass(frozen=True)
class Snapshot:
    """The content a release is built from: (path, SHA-256 of the bytes) of every source, and how it was prepared.

    `prepared` names what changes the rows made of the same bytes (parser, chunker, whether pictures could be read).
    Never embeddings. `access` names the groups that may see a source, sorted; sources that are not in it are for
    everybody.
    """

    entries: tuple[tuple[str, str], ...]
    prepared: str
    access: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def content(self) -> str:
        """SHA-256 over the sorted entries and the prepare settings: alike in every target for the same content, and
        whoever may see it."""
        return digest({"entries": [list(e) for e in sorted(self.entries)], "prepared": self.prepared})

    @property
    def root(self) -> str:
        """What a release is of: the content, and who may see which part of it where that is not everybody."""
        if not self.access:
            return self.content
        return digest({"content": self.content, "access": [[path, list(g)] for path, g in sorted(self.access)]})


@dataclass(frozen=True)
class Manifest:
    """Everything that decides what a release answers. Its canonical JSON is what the release id is the digest of.

    `guards` are {"kind", settings...} each, in the order in which they look.
    """

    workload: str
    answer_version: int
    members: Mapping[str, str]
    snapshot: str
    settings: Mapping[str, Any]
    guards: tuple[Mapping[str, Any], ...] = ()
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "workload": self.workload,
            "answer_version": self.answer_version,
            "members": dict(self.members),
            "snapshot": self.snapshot,
            "settings": dict(self.settings),
            "guards": [dict(guard) for guard in self.guards],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Raises KeyError or TypeError where a field is missing."""
        return cls(
            workload=value["workload"],
            answer_version=int(value["answer_version"]),
            members=dict(value["members"]),
            snapshot=value["snapshot"],
            settings=dict(value["settings"]),
            guards=tuple(value["guards"]),
            format=int(value["format"]),
        )

    @property
    def id(self) -> str:
        """SHA-256 of the canonical manifest: the release."""
        return digest(self.to_json())


@dataclass(frozen=True)
class Release:
    """A row of the ledger: one release in one target. `version` is MLflow's integer there, null until logged."""

    id: str
    manifest: Manifest
    state: State
    created: str
    version: int | None = None
    code: str = ""


@dataclass(frozen=True)
class Pointers:
    """Where an endpoint points. `generation` counts its moves; a move is refused when it has moved meanwhile.

    `traffic` is how new conversations and entities are split: (release, whole percent), which sum to 100. Without it
    the champion takes them all. Raises ValueError for a split that is none.
    """

    generation: int = 0
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    traffic: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.traffic and (
            sum(percent for _, percent in self.traffic) != 100
            or any(not 0 <= percent <= 100 for _, percent in self.traffic)
            or len({release for release, _ in self.traffic}) != len(self.traffic)
        ):
            raise ValueError("traffic is split over different releases in whole percent that sum to 100")

    @property
    def split(self) -> tuple[tuple[str, int], ...]:
        """Who takes how much of what is new, in percent; nothing where nothing is deployed."""
        return self.traffic or (((self.champion, 100),) if self.champion else ())

    def named(self) -> tuple[str, ...]:
        """Every release that is pointed to, each once, the champion first."""
        pointed = (self.champion, self.challenger, self.previous, *(release for release, _ in self.traffic))
        return tuple(dict.fromkeys(release for release in pointed if release is not None))


@dataclass(frozen=True)
class Move:
    """One line of the append-only history of an endpoint."""

    endpoint: str
    pointers: Pointers
    who: str
    why: str
    decision: str | None
    at: str


RolloutState = Literal["running", "promoted", "reverted", "held", "suspended"]
SHADOW = -1
"""The stage before the first step: the challenger answers copies of requests, and its answers are only compared."""


@dataclass(frozen=True)
class Rollout:
    """A challenger on its way to be champion, as a row of the ledger.

    `stage` is SHADOW or the place in the policy's `steps` (percent). `generation` is that of the last move it made: an
    endpoint found at another one was moved by somebody else. `running` looks and steps, `held` only looks, the others
    are over; `reason` says why it is not running any more. `version` counts the row's changes.
    """

    id: str
    endpoint: str
    champion: str
    challenger: str
    policy: Mapping[str, Any]
    stage: int
    state: RolloutState
    started: str
    stage_since: str
    generation: int
    who: str
    reason: str = ""
    version: int = 0

    @property
    def live(self) -> bool:
        """Whether it still decides."""
        return self.state in ("running", "held")

    @property
    def share(self) -> int:
        """Percent of what is new that the challenger gets."""
        return 0 if self.stage == SHADOW else int(self.policy["steps"][self.stage])

    @property
    def next_share(self) -> int:
        """Percent after one step more; 100 is to be champion."""
        return int(self.policy["steps"][self.stage + 1])


@dataclass(frozen=True)
class Decision:
    """A judgement, with everything it was made from: `decide_<kind>(**inputs)` gives it again.

    `reasons` are sentences for people. `id` is the digest of kind, inputs, verdict and reasons, so the same judgement
    of the same inputs is one row.
    """

    kind: str
    verdict: str
    reasons: tuple[str, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""

    @property
    def id(self) -> str:
        body = {"kind": self.kind, "verdict": self.verdict, "reasons": self.reasons, "inputs": self.inputs}
        return digest(plain(body))
