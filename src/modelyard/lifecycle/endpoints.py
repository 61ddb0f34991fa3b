"""A configuration of Databricks Model Serving, and where an endpoint points: one into the other. Pure functions.

A served entity is a release: `entity_name` is the project's registered model, `entity_version` its version there (or
a release's id, or the beginning of one). What a configuration says beside that is given back where nothing depends on
it, and refused where it would promise what is not done here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelyard.errors import Busy, RequestError, UserError
from modelyard.ids import short
from modelyard.ports.endpoints import Served
from modelyard.ports.records import Pointers, Release

MOST_ENTITIES = 10
BY_CONFIG = "serving-endpoints: "
"""What the reason of a move begins with that a configuration makes."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\Z")
_ENTITY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}\Z")
_KEPT: Mapping[str, type] = {
    "workload_size": str,
    "workload_type": str,
    "scale_to_zero_enabled": bool,
    "min_provisioned_concurrency": int,
    "max_provisioned_concurrency": int,
}
"""What is said of an entity and only given back: how large its machines are is not decided here."""
_REFUSED = {
    "environment_vars": "a release has all its settings from its build, and nothing else reaches the model",
    "external_model": "only releases of this project are served",
    "foundation_model": "only releases of this project are served",
    "instance_profile_arn": "workers have the rights of the gateway's user",
    "min_provisioned_throughput": "no throughput is set aside",
    "max_provisioned_throughput": "no throughput is set aside",
    "provisioned_model_units": "no throughput is set aside",
}
_REFUSED_OF_ENDPOINT = {
    "rate_limits": "limits are those of tokens (`modelyard token create`)",
    "route_optimized": "there is one route, and it is short",
    "email_notifications": "nobody would be written to",
    "telemetry_config": "every request is on record already, in the tables of the target",
}
_KEPT_OF_ENDPOINT = ("description", "budget_policy_id")
_GATEWAY_REFUSED = {
    "guardrails": "guards belong to the release (`guards` in modelyard.yml)",
    "rate_limits": "limits are those of tokens (`modelyard token create`)",
    "inference_table_config": "every request is on record already, in the table `inference` of the target",
    "fallback_config": "a release that fails is not papered over with another",
}


class AlreadyThere(UserError):
    """An endpoint of that name exists."""

    code = "resource_already_exists"


class Updating(Busy):
    """A configuration is on its way already."""

    status = 409
    code = "resource_conflict"


@dataclass(frozen=True)
class Entity:
    """A served entity as it was asked for; no release was looked up yet."""

    name: str
    model: str
    version: str
    percent: int
    extras: Mapping[str, Any] = field(default_factory=dict)


def endpoint_name(value: Any) -> str:
    """Raises RequestError."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise RequestError("name: letters, digits, dashes and underscores are expected, 63 at most")
    return value


def endpoint_extras(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a body that creates an endpoint, beside name, configuration and tags. Raises RequestError."""
    _known(body, {"name", "config", "tags", "ai_gateway", *_KEPT_OF_ENDPOINT, *_REFUSED_OF_ENDPOINT}, "the body")
    _none_of(body, _REFUSED_OF_ENDPOINT, "")
    kept: dict[str, Any] = {}
    for name in _KEPT_OF_ENDPOINT:
        if (value := body.get(name)) is not None:
            if not _is_text(value, 4096):
                raise RequestError(f"{name}: a text of one line is expected")
            kept[name] = value
    if body.get("ai_gateway") is not None:
        kept["ai_gateway"] = ai_gateway(body["ai_gateway"])
    return kept


def ai_gateway(value: Any) -> dict[str, Any]:
    """What is kept of an AI gateway's settings: that usage is tracked, which it is. Raises RequestError."""
    if not isinstance(value, Mapping):
        raise RequestError("ai_gateway: an object is expected")
    _known(value, {"usage_tracking_config", *_GATEWAY_REFUSED}, "ai_gateway")
    _none_of(value, _GATEWAY_REFUSED, "ai_gateway.")
    return {name: _switch(part) for name, part in value.items() if isinstance(part, Mapping)}


def tags(value: Any, where: str = "tags") -> tuple[tuple[str, str], ...]:
    """[{key, value}]; None is none. Raises RequestError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise RequestError(f"{where}: a list of objects with key and value is expected")
    found: dict[str, str] = {}
    for tag in value:
        key, said = (tag.get("key"), tag.get("value")) if isinstance(tag, Mapping) else (None, None)
        said = "" if said is None else said
        if not key or not _is_text(key, 128) or not _is_text(said, 256):
            raise RequestError(f"{where}: a key of 1 to 128 characters and a value of 256 at most are expected")
        found[str(key)] = str(said)
    return tuple(found.items())


def entities(config: Any, model: str, current: Sequence[Served]) -> tuple[Entity, ...]:
    """The entities of a configuration with their shares. `model` is the registered model there is; `current` are those
    that are served now, for a configuration that only moves traffic. Raises RequestError."""
    if not isinstance(config, Mapping):
        raise RequestError("config: an object is expected")
    _known(config, {"name", "served_entities", "served_models", "traffic_config", "auto_capture_config"}, "config")
    if _switch(config.get("auto_capture_config"), default=True) not in (None, {"enabled": False}):
        raise RequestError(f"auto_capture_config: {_GATEWAY_REFUSED['inference_table_config']}: leave it out")
    given = [name for name in ("served_entities", "served_models") if config.get(name) not in (None, [])]
    if len(given) > 1:
        raise RequestError("served_entities and served_models say the same: give one of them")
    if not given and not current:
        raise RequestError("served_entities: at least one is expected")
    if given:
        rows = config[given[0]]
        if not isinstance(rows, list) or len(rows) > MOST_ENTITIES:
            raise RequestError(f"{given[0]}: a list of 1 to {MOST_ENTITIES} objects is expected")
        found = [_entity(row, f"{given[0]}[{at}]", given[0] == "served_models", model) for at, row in enumerate(rows)]
    else:
        found = [Entity(one.name, one.model, one.version, one.percent, one.extras) for one in current]
    names = [entity.name for entity in found]
    if len(set(names)) < len(names):
        raise RequestError("served_entities: each needs a name of its own")
    shares = _shares(config.get("traffic_config"), names)
    return tuple(replace(entity, percent=shares[entity.name]) for entity in found)


def resolved(asked: Iterable[Entity], releases: Mapping[str, Release]) -> tuple[Served, ...]:
    """Entities as releases; `releases` by the version that was asked for. Raises RequestError for one that is named
    twice."""
    served = tuple(Served(e.name, releases[e.version].id, e.model, e.version, e.percent, e.extras) for e in asked)
    if len({one.release for one in served}) < len(served):
        raise RequestError("served_entities: two of them are the same release")
    return served


def pointers_for(served: Sequence[Served], before: Pointers) -> Pointers:
    """Where an endpoint points that serves these: the largest share is the champion's, of equal ones that of who is it
    now. Whoever was it before is the previous one."""
    most = max(one.percent for one in served)
    largest = [one.release for one in served if one.percent == most]
    champion = before.champion if before.champion in largest else largest[0]
    previous = before.previous if champion == before.champion else before.champion or before.previous
    traffic = tuple((one.release, one.percent) for one in served) if len(served) > 1 else ()
    return Pointers(before.generation, champion, None, previous if previous != champion else None, traffic)


def warming(before: Pointers, releases: Iterable[str]) -> Pointers:
    """`before`, with these kept up too and no traffic to them. Only where something is champion."""
    more = tuple((release, 0) for release in releases if release not in dict(before.split))
    return replace(before, traffic=(*before.split, *more)) if more else before


def cooled(pointers: Pointers, kept: Iterable[str]) -> Pointers:
    """`pointers` without those that get no traffic and are not to be `kept`."""
    wanted = set(kept)
    traffic = tuple((release, percent) for release, percent in pointers.traffic if percent or release in wanted)
    return replace(pointers, traffic=traffic if len(traffic) > 1 else ())


def served_now(
    pointers: Pointers, configured: Sequence[Served], releases: Mapping[str, Release], model: str
) -> tuple[Served, ...]:
    """What an endpoint serves, as it points: under the names it was configured with, and releases that came by other
    ways under the model's name and their version."""
    known = {one.release: one for one in configured}
    out = []
    for release, percent in pointers.split:
        version = str(releases[release].version or short(release))
        usual = Served(f"{model}-{version}", release, model, version, percent)
        out.append(replace(known.get(release, usual), percent=percent))
    return tuple(out)


def why(served: Sequence[Served]) -> str:
    """A configuration, for the history of moves."""
    return BY_CONFIG + ", ".join(f"{one.name} {one.percent} %" for one in served)


def _entity(row: Any, where: str, legacy: bool, model: str) -> Entity:
    if not isinstance(row, Mapping):
        raise RequestError(f"{where}: an object is expected")
    of, at = ("model_name", "model_version") if legacy else ("entity_name", "entity_version")
    _known(row, {"name", of, at, "burst_scaling_enabled", *_KEPT, *_REFUSED}, where)
    _none_of(row, _REFUSED, f"{where}.")
    if str(row.get("workload_type") or "CPU").upper() != "CPU":
        raise RequestError(f"{where}.workload_type: only CPU is served")
    named, version = row.get(of), row.get(at)
    if not isinstance(named, str) or not _ENTITY_NAME.match(named):
        raise RequestError(f"{where}.{of}: the name of the registered model is expected ({model})")
    if isinstance(version, int) and not isinstance(version, bool):
        version = str(version)
    if not isinstance(version, str) or not re.match(r"[0-9a-f]{1,64}\Z", version):
        raise RequestError(f"{where}.{at}: a version of {model} is expected, or the id of a release")
    name = row.get("name") or f"{named.rpartition('.')[2]}-{version}"
    if not isinstance(name, str) or not _ENTITY_NAME.match(name):
        raise RequestError(f"{where}.name: letters, digits, dots, dashes and underscores are expected")
    for key, kind in _KEPT.items():
        if row.get(key) is not None and (type(row[key]) is not kind or (kind is str and not _is_text(row[key], 40))):
            raise RequestError(f"{where}.{key}: {'true or false' if kind is bool else kind.__name__} is expected")
    return Entity(name, named, version, 0, {key: row[key] for key in _KEPT if row.get(key) is not None})


def _shares(value: Any, names: Sequence[str]) -> dict[str, int]:
    if value is None:
        if len(names) > 1:
            raise RequestError("traffic_config: with more than one served entity it says who gets how much")
        return {names[0]: 100}
    routes = value.get("routes") if isinstance(value, Mapping) else None
    if not isinstance(routes, list) or not routes:
        raise RequestError("traffic_config.routes: a list of served_model_name and traffic_percentage is expected")
    shares = dict.fromkeys(names, 0)
    seen = set()
    for at, route in enumerate(routes):
        where = f"traffic_config.routes[{at}]"
        if not isinstance(route, Mapping):
            raise RequestError(f"{where}: an object is expected")
        name = route.get("served_model_name") or route.get("served_entity_name")
        percent = route.get("traffic_percentage")
        if name not in shares or name in seen:
            raise RequestError(f"{where}: the name of a served entity is expected, each once")
        if not isinstance(percent, int) or isinstance(percent, bool) or not 0 <= percent <= 100:
            raise RequestError(f"{where}.traffic_percentage: a whole number from 0 to 100 is expected")
        shares[name] = percent
        seen.add(name)
    if (total := sum(shares.values())) != 100:
        raise RequestError(f"traffic_config.routes: percentages must sum to 100, and here to {total}")
    return shares


def _known(value: Mapping[str, Any], names: set[str], where: str) -> None:
    if unknown := unknown_in(value, names):
        raise RequestError(f"{where}: unknown {unknown}")


def unknown_in(value: Mapping[str, Any], names: Iterable[str]) -> str:
    """The keys of `value` that are none of `names`, in short, as far as they look like names of fields."""
    found = sorted(key for key in value if key not in set(names))
    return ", ".join(key if key.isidentifier() and len(key) <= 60 else "field" for key in found[:3])


def _is_text(value: Any, most: int) -> bool:
    """Text that can be written down: half of a surrogate pair cannot."""
    return isinstance(value, str) and len(value) <= most and value.isprintable()


def _none_of(value: Mapping[str, Any], refused: Mapping[str, str], where: str) -> None:
    for name, reason in refused.items():
        said = value.get(name)
        if said and _switch(said, default=True) != {"enabled": False}:
            raise RequestError(f"{where}{name}: {reason}: leave it out")


def _switch(value: Any, default: bool = False) -> dict[str, bool] | None:
    """{"enabled": ...} of a part that can be switched on; None for one that is not there. `default` is what a part
    that does not say so counts as."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {"enabled": bool(value.get("enabled", default))}
    return {"enabled": True}
