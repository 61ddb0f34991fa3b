"""What stands behind each port, by name. A file is imported only when its name is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from modelyard.errors import MissingExtra, ProjectError

ADAPTERS: Mapping[str, Mapping[str, tuple[str, str | None]]] = {
    "embedder": {
        "minilm": ("modelyard.adapters.embed_minilm:MiniLM", None),
        "hash": ("modelyard.adapters.embed_hash:HashEmbedder", None),
        "openai": ("modelyard.adapters.embed_openai:OpenAIEmbedder", None),
    },
    "index": {
        "segments": ("modelyard.adapters.index_segments:SegmentIndex", None),
        "chroma": ("modelyard.adapters.index_chroma:ChromaIndex", "chroma"),
    },
    "searcher": {
        "segments": ("modelyard.adapters.index_segments:open_exported", None),
        "chroma": ("modelyard.adapters.index_chroma:open_exported", "chroma"),
    },
    "chat": {"openai": ("modelyard.adapters.chat_openai:OpenAIChat", None)},
    "model": {
        "lightgbm": ("modelyard.adapters.model_lightgbm:LightgbmModel", None),
        "onnx": ("modelyard.adapters.model_onnx:OnnxModel", None),
        "pyfunc": ("modelyard.adapters.model_pyfunc:PyfuncModel", None),
        "sklearn": ("modelyard.adapters.model_sklearn:SklearnModel", None),
        "xgboost": ("modelyard.adapters.model_xgboost:XgboostModel", None),
    },
    "model_folder": {"mlflow": ("modelyard.adapters.model_folder:describe", None)},
    "model_source": {"mlflow": ("modelyard.adapters.model_pyfunc:fetch", None)},
    "reader": {
        "minilm": ("modelyard.adapters.read_minilm:MiniLMReader", None),
        "smollm2": ("modelyard.adapters.read_smollm:SmolLMReader", None),
    },
    "reranker": {"http": ("modelyard.adapters.rerank_http:HttpReranker", None)},
    "tables": {"delta": ("modelyard.adapters.tables_delta:DeltaTables", None)},
    "engine": {"local": ("modelyard.adapters.engine_local:LocalEngine", None)},
    "registry": {"mlflow": ("modelyard.adapters.registry_mlflow:MlflowRegistry", None)},
    "traces": {"mlflow": ("modelyard.adapters.traces_mlflow:MlflowTraces", None)},
    "ledger": {"sqlite": ("modelyard.adapters.ledger_sqlite:SqliteLedger", None)},
    "rollouts": {"sqlite": ("modelyard.adapters.rollouts_sqlite:SqliteRollouts", None)},
    "tokens": {"sqlite": ("modelyard.adapters.tokens_sqlite:SqliteTokens", None)},
    "endpoints": {"sqlite": ("modelyard.adapters.ledger_endpoints:SqliteEndpoints", None)},
}
"""What stands behind each port: name -> dotted path, and the extra that brings its package. Imported when asked for."""

GUARDS: Mapping[str, str] = {
    "length": "modelyard.adapters.guard_length:LengthGuard",
    "pattern": "modelyard.adapters.guard_pattern:PatternGuard",
}
"""Guards by kind, as they stand in a release. The first policy is to have none."""


def adapter(port: str, name: str) -> Any:
    """The class or function behind `port` called `name`. Raises ProjectError for an unknown name, MissingExtra."""
    known = ADAPTERS[port]
    if name not in known:
        raise ProjectError(f"{port}: {name!r} is not known (known: {', '.join(sorted(known))})")
    path, extra = known[name]
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as e:
        if extra is None or (e.name or "").startswith("modelyard"):
            raise
        raise MissingExtra(f"{port} {name!r} needs {e.name}: pip install 'modelyard[{extra}]'") from None
