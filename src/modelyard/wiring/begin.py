"""A new project: its folder and modelyard.yml, so that it runs as it is."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.errors import ModelyardError, ProjectError, StorageError
from modelyard.project.load import FILE, load
from modelyard.project.model import NAME, NAMED
from modelyard.wiring.catalogue import adapter
from modelyard.workloads import CATALOGUE
from modelyard.workloads import workload as find_workload

if TYPE_CHECKING:
    from modelyard.ports.model import Described

_URI = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_FETCHED = "model"
_LABELS = ("label", "target", "recorded")


@dataclass(frozen=True)
class Given:
    """What a person said of the new project."""

    workload: str
    documents: Path | None = None
    name: str | None = None
    model: str | None = None
    exam: Path | None = None
    label: str | None = None


def begin(folder: Path, given: Given, on_note: Callable[[str], None]) -> Path:
    """Make the project. Raises ProjectError, StorageError; nothing is left of one that is no good."""
    root = folder.absolute()
    if (root / FILE).exists():
        raise ProjectError(f"{root / FILE} is there already: this is a project")
    if given.name is not None and not NAME.match(given.name):
        raise ProjectError(f"{given.name!r} is no good name: {NAMED}")
    if given.workload not in CATALOGUE and ":" not in given.workload:
        find_workload(given.workload)  # names the nearest
    if given.model is not None and given.documents is not None:
        raise ProjectError("a project has documents or a model, not both")
    title = given.name or re.sub(r"[^a-zA-Z0-9_-]+", "-", root.name).strip("-_") or "project"
    title = title[:63] if NAME.match(title[:63]) else f"p-{title}"[:63]
    if given.exam is not None and not given.exam.expanduser().is_file():
        raise ProjectError(f"the exam {given.exam} is not there")
    exam = "evaluation.jsonl" if given.exam is None else str(given.exam.expanduser().absolute())
    try:
        root.mkdir(parents=True, exist_ok=True)
        where, more = _sources(root, given, on_note)
        if given.exam is None:
            (root / exam).touch()
        if not (root / ".gitignore").exists():
            (root / ".gitignore").write_text(".modelyard/\n", encoding="utf-8")
        text = _written(_TEMPLATE if given.model is None else _OF_A_MODEL, title, given.workload, where, exam, more)
        (root / FILE).write_bytes(text)
    except OSError as e:
        raise StorageError(f"{e.filename or root} cannot be written: {e.strerror}") from None
    try:
        load(root)
    except ProjectError:
        (root / FILE).unlink()
        raise
    return root


def _sources(root: Path, given: Given, on_note: Callable[[str], None]) -> tuple[str, str]:
    """The folder of the user's data, as it is written, and the lines that say more of it."""
    if given.model is not None:
        return _model(root, given.model, given, on_note)
    if given.documents is None:
        (root / "documents").mkdir(exist_ok=True)
        return "documents", ""
    found = given.documents.expanduser().absolute()
    if not found.is_dir():
        raise ProjectError(f"the documents folder {found} is not there")
    return str(found), ""


def _model(root: Path, source: str, given: Given, on_note: Callable[[str], None]) -> tuple[str, str]:
    fetched = _URI.match(source) is not None
    if fetched:
        if any((root / _FETCHED).glob("*")):
            raise ProjectError(f"{root / _FETCHED} is there already: the model would be fetched into it")
        place = Path(adapter("model_source", "mlflow")(source, root / _FETCHED))
        where = place.relative_to(root).as_posix() if place.is_relative_to(root) else str(place)
    else:
        place = Path(source).expanduser().absolute()
        where = str(place)
    about: Described = adapter("model_folder", "mlflow")(place)
    if about.executes:
        on_note(
            f"loading this model runs code that lies in it ({', '.join(about.executes[:3])}): only take one you trust"
        )
    if about.signature is None:
        on_note("the model has no signature: what is sent to it is not checked, and mlflow.pyfunc serves it")
    section: dict[str, Any] = {"uri": source} if fetched else {}
    label = given.label or (_label(given.exam.expanduser(), about) if given.exam is not None else None)
    if label is not None:
        section["label" if label != "recorded" else "recorded"] = label
    if given.exam is None:
        on_note("no exam is given: its example is asked for, which proves nothing of its quality (docs/model.md)")
    return where, _section(section)


def _label(exam: Path, about: Described) -> str | None:
    """The exam's column to be predicted: what is called so, or the only one that is none of the model's."""
    table = importlib.import_module("modelyard.lifecycle.exam")
    try:
        rows = table.read_exam(exam).rows
    except ModelyardError as error:
        raise ProjectError(str(error)) from None
    if not rows:
        raise ProjectError(f"the exam {exam} has no rows")
    names = [str(name) for name in rows[0]]
    for name in _LABELS:
        if name in names:
            return name
    known = {column.name for column in about.signature.columns} if about.signature is not None else set()
    others = [name for name in names if name not in known and name != "id"]
    if len(others) == 1 and known:
        return others[0]
    raise ProjectError(f"which column of {exam.name} is to be predicted? --label NAME ({', '.join(others[:8])})")


def _section(values: Mapping[str, Any]) -> str:
    lines = "".join(f"  {key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
    return f"model:\n{lines}" if lines else ""


def _written(template: str, name: str, workload: str, documents: str, exam: str, more: str) -> bytes:
    # Quoted: YAML would take a folder called no, null or 1e3 for something else than text.
    keys = {"name": name, "workload": workload, "documents": documents, "exam": exam}
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in keys.items()}
    try:
        return template.format(**quoted, more=more).encode()
    except UnicodeEncodeError:
        raise ProjectError(f"{documents!r} is not a name that can be written as UTF-8 text") from None


_TEMPLATE = """\
# What each key means: `modelyard config show --origin`. Secrets by reference only: env:NAME or file:PATH.
name: {name}
workload: {workload}
documents: {documents}
exam: {exam}    # one {{"id", "question", "answers", "evidence": [{{"document", "page"}}], ...}} a line
{more}
targets:
  test: {{}}
  staging: {{}}
  prod: {{}}
"""

_OF_A_MODEL = """\
# What each key means: `modelyard config show --origin`. Secrets by reference only: env:NAME or file:PATH.
name: {name}
workload: {workload}
documents: {documents}    # the folder of the MLflow model
exam: {exam}    # a row a case: the model's columns, and the one to be predicted
{more}ingest: {{max_removals: 1.0, max_file: 1000 GB}}    # another model may have fewer files, and larger ones

targets:
  test: {{}}
  staging: {{}}
  prod: {{}}
"""
