"""The ports as a workload sees them: those of a project under way, and those of a loaded release."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.errors import MissingExtra, UserError
from modelyard.ports.reader import Readers
from modelyard.project.load import Loaded
from modelyard.wiring.catalogue import adapter

if TYPE_CHECKING:
    from modelyard.ports.chat import Chat
    from modelyard.ports.embedder import Embedder
    from modelyard.ports.engine import Engine
    from modelyard.ports.index import Index, Searcher
    from modelyard.ports.model import Described, Model
    from modelyard.ports.reader import Reader
    from modelyard.ports.reranker import Reranker
    from modelyard.ports.tables import Tables

_SERVING_TIMEOUT, _SERVING_RETRIES = 10.0, 1


class ProjectPorts:
    """The ports of a project's target, each opened when first asked for."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded, self._settings = loaded, loaded.workload_settings()

    @cached_property
    def tables(self) -> Tables:
        tables: Tables = adapter("tables", "delta")(self._loaded.layout.tables)
        return tables

    @cached_property
    def engine(self) -> Engine:
        engine: Engine = adapter("engine", "local")()
        return engine

    @cached_property
    def index(self) -> Index:
        kind = str(self._settings.get("index", "segments"))
        # Another kind of index keeps a store of its own beside the segments.
        root = self._loaded.layout.index if kind == "segments" else self._loaded.layout.store / f"index-{kind}"
        index: Index = adapter("index", kind)(root)
        return index

    @cached_property
    def _embedder(self) -> Embedder:
        return _embedder(self._settings, None, self._loaded, serving=False)

    def embedder(self, folder: Path | None = None) -> Embedder:
        return self._embedder if folder is None else _embedder(self._settings, folder, self._loaded, serving=False)

    def chat(self) -> Chat | None:
        return _chat(self._settings, self._loaded)

    def readers(self, folder: Path | None = None) -> Readers:
        return _readers(folder)

    def reranker(self) -> Reranker | None:
        return _reranker(self._settings, self._loaded)

    def source(self, sha256: str) -> bytes | None:
        return _source(self._loaded, sha256)

    def searcher(self, folder: Path) -> Searcher:
        return _searcher(self._settings, folder)

    def describe_model(self, folder: Path) -> Described:
        return _described(folder)

    def model(self, folder: Path, runtime: str) -> Model:
        return _model(folder, runtime)


class ReleasePorts:
    """What a loaded release may ask for. `loaded` is the project it is served from, if there is one."""

    def __init__(self, settings: Mapping[str, Any], loaded: Loaded | None) -> None:
        self._settings, self._loaded = settings, loaded

    @property
    def tables(self) -> Tables:
        raise RuntimeError("a loaded release has no tables")

    @property
    def engine(self) -> Engine:
        raise RuntimeError("a loaded release has no engine")

    @property
    def index(self) -> Index:
        raise RuntimeError("a loaded release has a searcher of its own, no index")

    def embedder(self, folder: Path | None = None) -> Embedder:
        return _embedder(self._settings, folder, self._loaded, serving=True)

    def chat(self) -> Chat | None:
        return _chat(self._settings, self._loaded)

    def readers(self, folder: Path | None = None) -> Readers:
        return _readers(folder)

    def reranker(self) -> Reranker | None:
        return _reranker(self._settings, self._loaded)

    def source(self, sha256: str) -> bytes | None:
        return _source(self._loaded, sha256) if self._loaded is not None else None

    def searcher(self, folder: Path) -> Searcher:
        return _searcher(self._settings, folder)

    def describe_model(self, folder: Path) -> Described:
        return _described(folder)

    def model(self, folder: Path, runtime: str) -> Model:
        return _model(folder, runtime)


def _embedder(settings: Mapping[str, Any], folder: Path | None, loaded: Loaded | None, *, serving: bool) -> Embedder:
    wanted = settings.get("embedder", "minilm")
    if isinstance(wanted, Mapping):
        return _remote_embedder(wanted, loaded, serving)
    name = str(wanted)
    made = adapter("embedder", name)
    if name == "hash":
        opened: Embedder = made()
        return opened
    if folder is None:
        folder = importlib.import_module(made.__module__).packaged()
    opened = made(folder)
    return opened


def _remote_embedder(wanted: Mapping[str, Any], loaded: Loaded | None, serving: bool) -> Embedder:
    """The embedding model that the settings name. Who waits for an answer is not kept waiting as long as a build is."""
    configured = getattr(loaded.section, "embedder", None) if loaded else None
    options: dict[str, Any] = {key: wanted[key] for key in ("dimension", "shorten", "max_characters")}
    options |= _remote(
        "embeds questions with",
        "EMBED",
        wanted,
        None if isinstance(configured, str) else configured,
        loaded,
        ("encoding", "batch", "parallel", "timeout", "retries"),
    )
    if serving:
        options["timeout"] = min(options.get("timeout", _SERVING_TIMEOUT), _SERVING_TIMEOUT)
        options["retries"] = min(options.get("retries", _SERVING_RETRIES), _SERVING_RETRIES)
    embedder: Embedder = adapter("embedder", str(wanted["kind"]))(**options)
    return embedder


def _searcher(settings: Mapping[str, Any], folder: Path) -> Searcher:
    kind = str(settings.get("index", "segments"))
    limit = (settings.get("retrieval") or {}).get("exact_up_to")
    # How far a search is exact is a matter of our own index; other stores have their own way.
    options = {"exact_up_to": limit} if kind == "segments" and limit is not None else {}
    searcher: Searcher = adapter("searcher", kind)(folder, **options)
    return searcher


def _chat(settings: Mapping[str, Any], loaded: Loaded | None) -> Chat | None:
    """The chat model that the settings name."""
    wanted = settings.get("chat")
    if wanted is None:
        return None
    configured = getattr(loaded.section, "chat", None) if loaded else None
    own = ("timeout", "retries", "budget_tokens")
    chat: Chat = adapter("chat", "openai")(**_remote("answers with", "CHAT", wanted, configured, loaded, own))
    return chat


def _described(folder: Path) -> Described:
    described: Described = adapter("model_folder", "mlflow")(folder)
    return described


def _model(folder: Path, runtime: str) -> Model:
    """A package that the model needs is none of modelyard's: the model's own requirements say which version."""
    try:
        model: Model = adapter("model", runtime)(folder)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "modelyard"):
            raise
        package = _PACKAGES.get(name, name)
        wanted = next((r for r in _described(folder).requirements if _package(r) == package), package)
        raise MissingExtra(f"the model needs {name}: pip install '{wanted}'") from None
    return model


def _package(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


_PACKAGES = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}
"""Packages whose name is not that of their module."""


def _readers(folder: Path | None) -> Readers:
    def opened(kind: str, name: str) -> Reader:
        made = adapter("reader", kind)
        reader: Reader = made(folder / name if folder else importlib.import_module(made.__module__).packaged())
        return reader

    return Readers(opened("minilm", "quick"), opened("smollm2", "close"))


def _reranker(settings: Mapping[str, Any], loaded: Loaded | None) -> Reranker | None:
    """The reranker that the settings name."""
    wanted = settings.get("reranker")
    if wanted is None:
        return None
    configured = getattr(loaded.section, "reranker", None) if loaded else None
    options: dict[str, Any] = {key: wanted[key] for key in ("protocol", "max_characters") if key in wanted}
    options |= _remote("orders pages by", "RERANK", wanted, configured, loaded, ("timeout", "retries"))
    reranker: Reranker = adapter("reranker", "http")(**options)
    return reranker


def _remote(
    does: str, name: str, wanted: Mapping[str, Any], configured: Any, loaded: Loaded | None, own: Sequence[str]
) -> dict[str, Any]:
    """A remote model's name and where it is: from the project, else from MODELYARD_<name>_URL and _KEY, because a
    release never holds a URL or a key. `own` are the options that the project's section has besides.

    Raises UserError where neither says it.
    """
    if configured is not None and loaded is not None:
        return {key: getattr(configured, key) for key in own} | {
            "name": wanted["model"],
            "url": configured.url,
            "key": configured.key.reveal(loaded.root) if configured.key else None,
            "headers": {header: secret.reveal(loaded.root) for header, secret in configured.headers.items()},
        }
    url, key = f"MODELYARD_{name}_URL", f"MODELYARD_{name}_KEY"
    if not os.environ.get(url):
        raise UserError(
            f"this release {does} the model {wanted['model']!r}: set {url} (and {key}) to where it is served"
        )
    return {"name": wanted["model"], "url": os.environ[url], "key": os.environ.get(key)}


def _source(loaded: Loaded, sha256: str) -> bytes | None:
    tables = adapter("tables", "delta")(loaded.layout.tables)
    if "documents_raw" not in tables.names():
        return None
    rows = tables.read("documents_raw", ["content"], {"sha256": [sha256]})
    found = next((value for value in rows.column("content").to_pylist() if value is not None), None)
    return found
