"""An endpoint as Databricks Model Serving describes one: names of fields, states, times in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from modelyard.gateway.control_desk import View
from modelyard.ids import short
from modelyard.ports.endpoints import Served
from modelyard.serving.endpoint import Endpoint

USUAL = {"workload_size": "Small", "workload_type": "CPU", "scale_to_zero_enabled": False}


def detailed(view: View, served: Endpoint | None) -> dict[str, Any]:
    """What GET of one endpoint says. `served` is it as this gateway serves it, where it does already."""
    out = summary(view, served)
    out.pop("config", None)
    row = view.row
    if view.served:
        out["config"] = {**_config(view, view.served, served), "config_version": view.pointers.generation}
    update = row.update if view.updating else view.failed
    if update is not None:
        start = {"start_time": _milliseconds(update.started), "config_version": view.pointers.generation + 1}
        out["pending_config"] = {**_config(view, update.served, served, update.reason), **start}
    return {**out, "permission_level": "CAN_MANAGE", "route_optimized": False}


def summary(view: View, served: Endpoint | None) -> dict[str, Any]:
    """What the list of endpoints says of one."""
    row = view.row
    out: dict[str, Any] = {
        "name": row.name,
        "id": row.id,
        "creator": row.who,
        "creation_timestamp": _milliseconds(row.created),
        "last_updated_timestamp": _milliseconds(row.changed),
        "state": {"ready": _ready(served), "config_update": _updating(view, served)},
        "tags": [{"key": key, "value": value} for key, value in row.tags],
        "description": "",
        **row.extras,
    }
    if view.served:
        out["config"] = {
            "served_entities": [_spec(one, "entity_name", "entity_version") for one in view.served],
            "served_models": [_spec(one, "model_name", "model_version") for one in view.served],
        }
    if served is not None and "messages" in served.accepts():
        out["task"] = "llm/v1/chat"
    return out


def deployment(release: str, served: Endpoint | None, failed: str = "") -> dict[str, str]:
    """State of a release's workers. `failed` is why they did not start when they were last wanted."""
    pool = served.fleet.pool(release) if served is not None else None
    if pool is not None and pool.workers:
        up = len(pool.workers)
        return _state("READY", f"{up} worker{'s' * (up > 1)} ready, the last one after {pool.start_seconds or 0:.1f} s")
    if failed or (pool is not None and pool.out):
        return _state("FAILED", failed or f"release {short(release)} does not start: {pool and pool.reason}")
    if pool is not None and pool.reason is not None:
        return _state("RECOVERING", pool.reason)
    return _state("CREATING", "its workers start")


def _ready(served: Endpoint | None) -> str:
    return "READY" if served is not None and served.fleet.standing().ready else "NOT_READY"


def _updating(view: View, served: Endpoint | None) -> str:
    # Not before requests meet it: whoever waits for an update asks right after it.
    if view.updating or served is None or served.generation < view.pointers.generation:
        return "IN_PROGRESS"
    return "UPDATE_FAILED" if view.failed is not None else "NOT_UPDATING"


def _config(view: View, entities: Sequence[Served], served: Endpoint | None, failed: str = "") -> dict[str, Any]:
    row = view.row
    since = {"creator": row.who, "creation_timestamp": _milliseconds(row.changed)}
    out: dict[str, Any] = {"served_entities": [], "served_models": []}
    for one in entities:
        state = deployment(one.release, served, failed if one.release not in dict(view.pointers.split) else "")
        more = {**USUAL, **one.extras, **since, "state": state}
        out["served_entities"].append({**_spec(one, "entity_name", "entity_version"), **more})
        out["served_models"].append({**_spec(one, "model_name", "model_version"), **more})
    out["traffic_config"] = {
        "routes": [
            {"served_model_name": one.name, "served_entity_name": one.name, "traffic_percentage": one.percent}
            for one in entities
        ]
    }
    return out


def _spec(one: Served, name: str, version: str) -> dict[str, str]:
    return {"name": one.name, name: one.model, version: one.version}


def _state(kind: str, said: str) -> dict[str, str]:
    return {"deployment": f"DEPLOYMENT_{kind}", "deployment_state_message": said}


def _milliseconds(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)
