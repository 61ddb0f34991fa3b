"""The workload `model`: an MLflow model, as it was saved, is what a release is built of."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from modelyard.clock import SystemClock
from modelyard.errors import ModelyardError, UserError
from modelyard.ids import digest_file
from modelyard.ports.model import Described
from modelyard.ports.records import Changes, Snapshot
from modelyard.ports.workload import Call, Case, Context, Exam, Metric, Predictor, Response, Row
from modelyard.workloads.base import BaseWorkload
from modelyard.workloads.model import exam
from modelyard.workloads.model.bodies import FORMS, decode, recognise, table
from modelyard.workloads.model.choose import PYFUNC, choose, example
from modelyard.workloads.model.metrics import METRICS
from modelyard.workloads.model.predictor import ModelPredictor

FOLDER, ABOUT = "model", "model.json"
_EXAMPLES = 50


class ModelWorkload(BaseWorkload):
    """`documents` is the folder of an MLflow model. The settings say what the exam's columns are; none of them changes
    an answer."""

    name = "model"
    accepts = frozenset((*FORMS, "messages"))
    metrics: Mapping[str, Metric] = METRICS
    floors: Mapping[str, float] = {"quality": 0.0}
    margins: Mapping[str, float] = {"quality": 0.05}
    min_cases: Mapping[str, int] = {exam.JUDGED: 30}

    def settings(self, ctx: Context) -> Mapping[str, Any]:
        """None: a release answers as the model does."""
        return {}

    def ingest(self, ctx: Context, changes: Changes) -> None:
        """Nothing is kept; the folder must hold a model. Says so where loading it will run code that lies in it."""
        about = self._about(ctx)
        if about.executes:
            ctx.progress.say(warning(about))

    def build(self, ctx: Context, snapshot: Snapshot, out_dir: Path) -> None:
        """The model's files as they are, and which runtime serves them. Raises UserError for a model that does not
        answer its own example, MissingExtra for a package it needs."""
        sources, about = _sources(ctx), self._about(ctx)
        home = out_dir / FOLDER
        for name, sha256 in snapshot.entries:
            ctx.check()
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sources / name, home / name)
            if digest_file(home / name) != sha256:
                raise UserError(f"{sources / name} was written to while it was copied: run again when it is done")
        if other := versions(about.requirements):
            ctx.progress.say(f"the model was saved with other versions than are here: {', '.join(other[:5])}")
        choice = choose(about, home, partial(ctx.ports.model, home))
        if choice.why:
            ctx.progress.say(f"served by mlflow.pyfunc: {choice.why}")
        (out_dir / ABOUT).write_text(json.dumps({"runtime": choice.runtime, "why": choice.why}), encoding="utf-8")

    def load(self, ctx: Context, artifact_dir: Path) -> Predictor:
        """Runs the code of a pickled model. Digests were checked before."""
        about = json.loads((artifact_dir / ABOUT).read_bytes())
        return ModelPredictor(ctx.ports.model(artifact_dir / FOLDER, str(about["runtime"])))

    def cases(self, ctx: Context, exam_: Exam) -> Iterator[Case]:
        """Rows are features and a label, or an answer that was recorded."""
        return exam.cases(ctx.settings, self._about(ctx).signature, exam_)

    def score(self, case: Case, response: Response) -> Row:
        return exam.score(case, response)

    def propose_cases(self, ctx: Context, snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
        """The rows of the model's example, with the answers that mlflow.pyfunc gives: they show that a release answers
        as MLflow does, and how many answers another model changes. They say nothing of quality, and prove nothing to
        the gate."""
        sources, about = _sources(ctx), self._about(ctx)
        if (body := example(about, sources)) is None:
            return
        reference = ModelPredictor(ctx.ports.model(sources, PYFUNC))
        try:
            for number, request in enumerate(_one_by_one(decode(body))):
                call = Call(SystemClock(), f"example-{number}", effects="exam")
                try:
                    (response,) = reference.predict(request, call)
                except ModelyardError:
                    continue
                assert isinstance(response, Response)
                recorded = response.output.get("predictions", response.output)
                yield {"id": f"example-{number}", "request": request, "recorded": recorded}
        finally:
            reference.close()

    def _about(self, ctx: Context) -> Described:
        return ctx.ports.describe_model(_sources(ctx))


def _sources(ctx: Context) -> Path:
    if ctx.sources is None:
        raise RuntimeError("a loaded release has no sources")
    return ctx.sources


def warning(about: Described) -> str:
    """What there is to say of a model whose loading runs code of whoever made it."""
    return f"loading this model runs code that lies in it ({', '.join(about.executes[:3])}): only take one you trust"


def versions(requirements: tuple[str, ...]) -> list[str]:
    """Packages that the model pins and that are here in another version: "scikit-learn 1.5.0 (here 1.7.2)"."""
    found = []
    for requirement in requirements:
        name, pinned, version = requirement.partition("==")
        with contextlib.suppress(PackageNotFoundError):
            here = installed(name.strip()) if pinned else ""
            if pinned and here != version.strip():
                found.append(f"{name.strip()} {version.strip()} (here {here})")
    return found


def _one_by_one(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A request of many rows as requests of one; as it is where it has no rows."""
    try:
        body = recognise(request)
        rows = table(body, 0) if body.form != "messages" else None
    except UserError:
        rows = None
    if rows is None or rows.names is None:
        yield request
        return
    for row in rows.data[:_EXAMPLES]:
        yield {"dataframe_split": {"columns": rows.names, "data": [row]}}
