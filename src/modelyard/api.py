"""`import modelyard`: what notebooks use and the command line calls.

project = modelyard.open("handbook", target="staging")
project.run()
project.ask("How many days of leave after five years?")["answer"]
project.rollback()
"""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.clock import stamp
from modelyard.errors import NotFound, RequestError, UserError
from modelyard.ids import short
from modelyard.lifecycle import artifact, canary
from modelyard.lifecycle import release as pointer
from modelyard.lifecycle.describe import aliases_of, describe
from modelyard.lifecycle.hold import hold
from modelyard.lifecycle.unchanged import Options, Outcome, look, unchanged
from modelyard.ports.progress import Progress
from modelyard.ports.records import Decision, Move, Release, Rollout
from modelyard.serving.route import alive, ask_gateway, rollout_at_gateway, search_gateway
from modelyard.wiring import open_endpoints, open_ledger, open_rollouts, open_tokens, open_world

if TYPE_CHECKING:
    from modelyard.lifecycle.drill import Drilled
    from modelyard.lifecycle.world import World
    from modelyard.serving.opened import OpenedRelease

_HEAVY = {
    "answer": "modelyard.serving.answer",
    "begin": "modelyard.wiring.begin",
    "build": "modelyard.lifecycle.build",
    "diff": "modelyard.lifecycle.diff",
    "drill": "modelyard.lifecycle.drill",
    "evaluate": "modelyard.lifecycle.evaluate",
    "exam": "modelyard.lifecycle.exam",
    "explain": "modelyard.lifecycle.explain",
    "inference": "modelyard.lifecycle.inference_schemas",
    "run": "modelyard.lifecycle.run",
    "server": "modelyard.gateway.server",
    "workload": "modelyard.ports.workload",
}


def _heavy(name: str) -> Any:
    """A module that imports numpy and Arrow: not for those who only move a pointer."""
    return importlib.import_module(_HEAVY[name])


def open(path: str | Path = ".", *, target: str = "test", progress: Progress | None = None) -> Project:
    """The project at or above `path`, as `target` sees it. Raises NotFound, ProjectError."""
    return Project(open_world(Path(path), target, progress=progress))


class Project:
    """One target of a project. Methods raise the errors of `modelyard.errors`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._opened: OpenedRelease | None = None

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self.world.endpoint

    def run(
        self,
        *,
        only: str | None = None,
        start: str | None = None,
        allow_removals: bool = False,
        wait: float = 0.0,
    ) -> Outcome:
        """Prepare, build, evaluate, gate, deploy; what is unchanged is skipped. `wait`: seconds to wait for another
        run on this target. Raises UserError, GateFailed, GateAbstained, Busy."""
        options = Options(only, start, allow_removals, wait)
        world = self.world
        with hold(world.layout.run_lock, f"`modelyard run -t {world.loaded.target}`", world.clock, wait):
            found = look(world)
            outcome = unchanged(world, options, found)
            if outcome is None:
                outcome = _heavy("run").run(world, options, found)
            return outcome

    def ask(
        self, question: str, history: Sequence[Mapping[str, str]] = (), *, groups: Collection[str] = ()
    ) -> dict[str, Any]:
        """One answer of the champion: its output ({answer, refused, citations, ...}) with `release` and `latency_ms`.
        `groups`: asked as a caller of these would; without any, from what everybody may see.

        Through the gateway where one serves this target and no groups are named; else the release is loaded here, and
        kept until `close`.
        Raises NotFound where nothing is deployed, RequestError.
        """
        request = {"messages": [*history, {"role": "user", "content": question}]}
        start = self.world.clock.monotonic()
        # A gateway takes nobody's word for a group: who may open the release's files asks them instead.
        gateway = alive(self.world.layout) if not groups else None
        if gateway is not None:
            output = dict(ask_gateway(gateway, request))
        else:
            opened = self._champion()
            call = _heavy("workload").Call(self.world.clock, key=uuid.uuid4().hex, groups=frozenset(groups))
            output = {**_heavy("answer").answer(opened, request, call).output, "release": opened.id}
        output["latency_ms"] = round((self.world.clock.monotonic() - start) * 1000, 1)
        return output

    def search(self, query: str, k: int = 10, *, groups: Collection[str] = ()) -> list[dict[str, Any]]:
        """What retrieval alone finds: [{document, page, score, text}], best first. Of the champion, or of the newest
        release where nothing is deployed; of what a caller of `groups` may see. Raises RequestError where this kind of
        model has no search."""
        if k < 1:
            raise RequestError(f"k is {k}: at least 1 is expected")
        gateway = alive(self.world.layout) if not groups else None
        if gateway is not None:
            return [dict(hit) for hit in search_gateway(gateway, query, k)]
        opened = self._champion(newest=True)
        if not isinstance(opened.predictor, _heavy("workload").CanSearch):
            raise RequestError(f"{self.name} carries a {opened.manifest.workload}, which has nothing to search")
        return [dict(hit) for hit in opened.predictor.search(query, k, frozenset(groups))]

    def serve(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        on_listening: Callable[[str], None] = lambda url: None,
        on_ready: Callable[[str], None] = lambda url: None,
    ) -> int:
        """Serve the champion until SIGINT or SIGTERM. Raises RefusedByPolicy for an address other than loopback
        without a token, Busy where the port is taken or another gateway serves this target."""
        layout = self.world.layout
        served: int = _heavy("server").serve(
            _heavy("server").configured(
                self.world.loaded,
                ledger=lambda: open_ledger(layout),
                rollouts=lambda: open_rollouts(layout),
                tokens=lambda: open_tokens(layout),
                endpoints=lambda: open_endpoints(layout),
                back=self._back,
                host=host,
                port=port,
                on_listening=on_listening,
                on_ready=on_ready,
            )
        )
        return served

    def _back(self, who: str, endpoint: str, to: str | None, why: str) -> pointer.Moved:
        """`rollback` of an endpoint by somebody else, in a thread: with a ledger of its own."""
        with closing(open_ledger(self.world.layout)) as ledger:
            return canary.take_back(replace(self.world.at(endpoint), ledger=ledger, who=who), to, why)

    def _at(self, endpoint: str | None) -> World:
        """The world of an endpoint: of the project's own, or of one beside it. Raises NotFound."""
        if endpoint in (None, self.name):
            return self.world
        with closing(open_endpoints(self.world.layout)) as endpoints:
            if endpoint is None or endpoints.find(endpoint) is None:
                raise NotFound(f"there is no endpoint {endpoint!r} in {self.world.loaded.target}")
        return self.world.at(endpoint)

    def releases(self) -> list[dict[str, Any]]:
        """[{id, version, created, state, aliases}], newest first."""
        aliases = aliases_of(self.world)
        return [
            {
                "id": r.id,
                "version": r.version,
                "created": r.created,
                "state": r.state,
                "aliases": aliases.get(r.id, []),
            }
            for r in self.world.ledger.releases()
        ]

    def release(self, name: str, *, endpoint: str | None = None) -> Release:
        """By id, unique prefix, `v7`, or one of the aliases champion, challenger, previous, which are those of the
        endpoint. Raises NotFound."""
        if name in pointer.ALIASES:
            here = self._at(endpoint).endpoint
            found = getattr(self.world.ledger.pointers(here), name)
            if found is None:
                raise NotFound(f"{here} has no {name}")
            name = found
        return self.world.ledger.release(name)

    def describe(self, name: str) -> dict[str, Any]:
        """Everything known of a release: manifest, state, documents, the gate's last judgement, where it loads from."""
        return describe(self.world, self.release(name))

    # moves: `endpoint` is one that was created over the control plane; without it, the project's own

    def promote(self, name: str, why: str = "", *, endpoint: str | None = None) -> pointer.Moved:
        """Make a release the champion. Raises GateFailed, GateAbstained, RefusedByPolicy, NotFound, Unavailable."""
        world, release = self._at(endpoint), self.release(name, endpoint=endpoint)
        return pointer.promote(world, release.id, by_person=True, why=why or "promoted by hand")

    def canary(self, name: str, why: str = "", *, endpoint: str | None = None) -> Rollout | pointer.Moved:
        """Send a release on its way to be champion, by the policy of `rollout` in the project file. Where no gateway
        serves, or nothing is deployed yet, it is promoted. Raises as `promote` does."""
        world, release = self._at(endpoint), self.release(name, endpoint=endpoint)
        return canary.start(world, release.id, by_person=True, why=why or "canary started by hand")

    def rollouts(self, *, endpoint: str | None = None) -> list[Rollout]:
        """Every rollout of the endpoint, newest first. Raises NotFound."""
        world = self._at(endpoint)
        with closing(world.rollouts()) as rollouts:
            return list(rollouts.all(world.endpoint))

    def under_way(self, *, endpoint: str | None = None) -> dict[str, Any] | None:
        """The rollout that the gateway which serves this target has in mind, with what it waits for: reasons, and the
        figures of each test. None where there is none, or no gateway. Raises NotFound."""
        name, gateway = self._at(endpoint).endpoint, alive(self.world.layout)
        return rollout_at_gateway(gateway, name) if gateway is not None else None

    def last_word(self, rollout: Rollout) -> Mapping[str, Any] | None:
        """{at, verdict, reasons} of what was last decided of a rollout; None where nothing was, or it is over."""
        layout = self.world.layout
        folder = layout.trials if rollout.endpoint == self.name else layout.trials_of(rollout.endpoint)
        return canary.last_word(folder / rollout.id) if rollout.live else None

    def rollback(self, to: str | None = None, why: str = "", *, endpoint: str | None = None) -> pointer.Moved:
        """Back to the previous champion, or to one that was champion before; where a challenger is on its way, back to
        the champion. Raises NotFound, RefusedByPolicy."""
        world = self._at(endpoint)
        target = self.release(to, endpoint=endpoint).id if to is not None else None
        return canary.take_back(world, target, why or "rolled back by hand")

    def drill(self, to: str | None = None, *, endpoint: str | None = None) -> Drilled:
        """Whether a rollback would work now, found out without changing what is served. Raises NotFound,
        Unavailable."""
        world = self._at(endpoint)
        target = self.release(to, endpoint=endpoint).id if to is not None else None
        found: Drilled = _heavy("drill").drill(world, target)
        return found

    def follow(self) -> None:
        """Bring the registry's aliases in line with the ledger: what `promote` and `rollback` leave for afterwards."""
        pointer.project_aliases(self.world)

    def history(self, *, endpoint: str | None = None) -> list[Move]:
        """Moves of the pointer, newest first. Raises NotFound."""
        return list(self.world.ledger.history(self._at(endpoint).endpoint))

    def diff(self, old: str, new: str) -> dict[str, Any]:
        """Which documents, members, prompt lines, settings changed, and which questions changed answer."""
        found: dict[str, Any] = _heavy("diff").diff(self.world, self.release(old), self.release(new))
        return found

    def export(self, name: str, path: str | Path) -> Path:
        """Write a release to one file. Raises Damaged, StorageError."""
        release = self.release(name)
        artifact.export(self.world.layout.releases / release.id, Path(path))
        return Path(path)

    def import_(self, path: str | Path) -> Release:
        """Take in an exported release, under the id it has. It is not deployed, and was not judged here. Raises
        UserError for what is no exported release, NotFound, Damaged."""
        world = self.world
        if Path(path).is_dir():
            raise UserError(f"{path} is a folder: the one file that `modelyard release export` wrote is expected")
        manifest = artifact.unpack(Path(path), world.layout.releases, world.layout.objects)
        world.ledger.add_release(Release(manifest.id, manifest, "built", stamp(world.clock.now())))
        return world.ledger.release(manifest.id)

    def evaluate(
        self, name: str | None = None, *, rebind: Sequence[str] = (), wait: float = 0.0
    ) -> tuple[Mapping[str, Any], Decision]:
        """Let a release (default: the champion, else the newest) sit the exam, judge it, write both down. The evidence
        and the gate's decision. `rebind`: ids of cases that were set aside, and that a person found to hold for what
        stands there now. `wait`: seconds to wait for another run on this target. Raises UserError for an exam that is
        wrong, NotFound, Busy."""
        world = self.world
        if name is None:
            release = self._standing()
        else:
            release = self.release(name)
        with (
            hold(world.layout.run_lock, "`modelyard evaluate`", world.clock, wait),
            world.heavy.registry.run(f"evaluate {world.loaded.target}") as record,
        ):
            if rebind:
                _heavy("exam").rebind(world, rebind)
            release = _heavy("build").register(world, release, record)
            evidence, decision = _heavy("run").judge(world, release, record, {}, Options(start="evaluate"))
        return evidence, decision

    def sitting(self, name: str) -> list[dict[str, Any]]:
        """A release's latest rows in the exam: [{case, origin, slices, request, output, values, unscored, latency_ms}].

        Raises NotFound for a release that sat none.
        """
        found: list[dict[str, Any]] = _heavy("evaluate").rows(self.world, self.release(name))
        return found

    def explain(self, name: str) -> dict[str, Any]:
        """A decision, why it was made, and whether making it again from its stored inputs gives the same."""
        found: dict[str, Any] = _heavy("explain").explain(self.world.ledger.decision(name))
        return found

    def documents(self) -> list[dict[str, Any]]:
        """What became of each document: [{document, state, pages, chunks, words, ...}]."""
        workload = self.world.heavy.workload
        if not isinstance(workload, _heavy("workload").HasCorpus):
            raise RequestError(f"{self.name} carries a {workload.name}, which keeps no documents")
        return [dict(row) for row in workload.corpus_status(self.world.heavy.context)]

    def export_inference(self, path: str | Path, schema: str = "ai-gateway") -> int:
        """Write what was asked and answered to a Parquet file, in one of the schemas that Databricks has published:
        ai-gateway, legacy, model-services; how many rows. Raises NotFound, StorageError."""
        tables = self.world.heavy.context.ports.tables
        written: int = _heavy("inference").export(tables, schema, self.name, Path(path))
        return written

    def quarantine(self) -> list[dict[str, Any]]:
        """What could not be read, and why: [{document, reason}]. A document that was read but for some of its pages is
        there too: its reason names these."""
        return [
            {"document": row["document"], "reason": row["reason"]}
            for row in self.documents()
            if row["state"] == "quarantined" or row["reason"]
        ]

    def _standing(self) -> Release:
        """The champion, else the newest release. Raises NotFound where there is none."""
        champion = self.world.ledger.pointers(self.name).champion
        if champion is not None:
            return self.world.ledger.release(champion)
        releases = self.world.ledger.releases()
        if not releases:
            raise NotFound(f"{self.name} has no release in {self.world.loaded.target}: `modelyard run` makes one")
        return releases[0]

    def _champion(self, newest: bool = False) -> OpenedRelease:
        release = self._standing()
        if not newest and self.world.ledger.pointers(self.name).champion is None:
            raise NotFound(f"nothing is deployed in {self.world.loaded.target}: `modelyard run`, or release promote")
        if self._opened is None or self._opened.id != release.id:
            self.close()
            folder = self.world.layout.releases / release.id
            if not folder.is_dir():
                raise NotFound(f"the files of release {short(release.id)} are gone from {folder.parent}")
            self._opened = self.world.heavy.open_release(folder)
        return self._opened


def init(
    folder: str | Path,
    *,
    documents: str | Path | None = None,
    workload: str | None = None,
    name: str | None = None,
    model: str | None = None,
    exam: str | Path | None = None,
    label: str | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Path:
    """Make a project: modelyard.yml, a documents folder (or the one given), an empty exam. It runs as it is.

    `model`: the folder of an MLflow model, or a URI it is fetched from into the project (models:/NAME/VERSION,
    runs:/...); the workload is then `model`. `exam`: a file that is there already; of a model a table (.csv, .parquet,
    .jsonl) whose column `label` is to be predicted. `on_note` gets what there is to say of them.
    Raises ProjectError where there is a project already, or the name, folder, workload, model or exam is no good.
    """
    given = _heavy("begin").Given(
        documents=Path(documents) if documents is not None else None,
        workload=workload or ("chatbot" if model is None else "model"),
        name=name,
        model=model,
        exam=Path(exam) if exam is not None else None,
        label=label,
    )
    root: Path = _heavy("begin").begin(Path(folder), given, on_note)
    return root
