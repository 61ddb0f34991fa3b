"""Releases of MLflow models in a town, and MLflow's own server, unmodified and without a socket."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import mlflow
from mlflow.pyfunc import scoring_server
from tests.model.shop import folder
from town import Town

from modelyard.lifecycle.artifact import members, seal, workbench, write_snapshot
from modelyard.ports.records import Manifest, Release, Snapshot
from modelyard.workloads.model.workload import ABOUT, FOLDER, ModelWorkload


def put(town: Town, name: str, runtime: str) -> str:
    """A release of the model called `name` in the shop, as `modelyard run` builds it."""
    return put_folder(town, folder(name), runtime)


def put_folder(town: Town, path: Path, runtime: str) -> str:
    """A release of the MLflow model that lies in `path`."""
    bench = workbench(town.layout.releases)
    shutil.copytree(path, bench / FOLDER)
    (bench / ABOUT).write_text(json.dumps({"runtime": runtime, "why": ""}))
    write_snapshot(bench, Snapshot((), ""))
    manifest = Manifest("model", ModelWorkload.answer_version, members(bench), "0" * 64, {}, ())
    seal(bench, manifest, town.layout.releases, town.layout.objects)
    town.ledger.add_release(Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z"))
    return manifest.id


@functools.cache
def _app(path: Path) -> Any:
    return scoring_server.init(mlflow.pyfunc.load_model(str(path)))


def mlflows(name: str, method: str, path: str, body: bytes = b"", content_type: str | None = None) -> httpx.Response:
    """What `mlflow models serve` replies for the model. A crash of its server is a 500, as uvicorn makes one."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(_app(folder(name)), raise_app_exceptions=False)
        headers = {"content-type": content_type} if content_type is not None else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://mlflow") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(ask())
