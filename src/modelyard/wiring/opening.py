"""Opening a release: verify, load, guard. Worker, `mlflow.pyfunc`, exam and `ask` all come through here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.clock import SystemClock
from modelyard.errors import NotFound, ProjectError, UserError
from modelyard.ids import short
from modelyard.lifecycle.artifact import verify
from modelyard.ports.guard import Guard
from modelyard.ports.progress import Silent
from modelyard.ports.records import Manifest
from modelyard.ports.workload import Context, Workload
from modelyard.project.load import Loaded, load
from modelyard.serving.guarded import guarded
from modelyard.serving.opened import OpenedRelease
from modelyard.wiring.catalogue import GUARDS
from modelyard.wiring.own_code import CODE
from modelyard.wiring.own_code import load as load_own
from modelyard.wiring.ports import ReleasePorts
from modelyard.workloads import workload as find_workload


def open_release(folder: Path, *, project: Path | None = None, target: str | None = None) -> OpenedRelease:
    """Verify, load and guard the release in `folder`. `project` and `target` are where it is served from, if anywhere.

    Raises Damaged for a member that is missing or altered, UserError for answers of another version, NotFound.
    """
    manifest = verify(folder)
    loaded = _served_from(project, target or "test", manifest) if project is not None else None
    if (folder / CODE).is_dir():
        workload = load_own(manifest.workload, folder / CODE, manifest.id)
    else:
        workload = open_workload(manifest.workload, project)
    if workload.answer_version != manifest.answer_version:
        raise UserError(
            f"release {short(manifest.id)} answers by version {manifest.answer_version} of {manifest.workload}, this "
            f"modelyard by version {workload.answer_version}: `modelyard run --from build` brings it forward"
        )
    ctx = Context(manifest.settings, ReleasePorts(manifest.settings, loaded), SystemClock(), Silent())
    predictor = workload.load(ctx, folder)
    return OpenedRelease(manifest.id, folder, manifest, workload, guarded(predictor, _guards(manifest.guards)))


def _served_from(project: Path, target: str, manifest: Manifest) -> Loaded | None:
    """The project as the target sees it. What serves must start again whatever became of the project file since: only a
    remote model has its URL and key there."""
    try:
        return load(project, target)
    except (ProjectError, NotFound) as e:
        if manifest.settings.get("chat") is not None or not isinstance(manifest.settings.get("embedder", ""), str):
            raise
        sys.stderr.write(f"modelyard: {e}; release {short(manifest.id)} needs nothing of it to answer, and goes on\n")
        return None


def _guards(policy: tuple[Mapping[str, Any], ...]) -> tuple[Guard, ...]:
    out = []
    for guard in policy:
        settings = dict(guard)
        kind = settings.pop("kind")
        if kind not in GUARDS:
            raise UserError(f"the guard {kind!r} is not known to this modelyard: a newer one made the release")
        module, _, attribute = GUARDS[kind].partition(":")
        out.append(getattr(importlib.import_module(module), attribute)(**settings))
    return tuple(out)


def open_workload(name: str, project: Path | None) -> Workload:
    """The workload called `name`; one of the user's own lies in the project's folder. Raises ProjectError."""
    if project is not None and str(project) not in sys.path:
        sys.path.insert(0, str(project))
    return find_workload(name)
