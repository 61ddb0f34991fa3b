"""Everything known of a release, as JSON."""

from __future__ import annotations

from typing import Any

from modelyard.lifecycle import artifact
from modelyard.lifecycle.release import ALIASES, stored_verdict
from modelyard.lifecycle.world import World
from modelyard.ports.records import Release
from modelyard.project.secrets import masked


def describe(world: World, release: Release) -> dict[str, Any]:
    """Manifest, state, documents, the gate's last judgement, where it loads from."""
    folder = world.layout.releases / release.id
    verdict = stored_verdict(world, release.id)
    present = (folder / artifact.MANIFEST).is_file()
    return {
        "id": release.id,
        "version": release.version,
        "created": release.created,
        "state": release.state,
        "aliases": aliases_of(world).get(release.id, []),
        "manifest": release.manifest.to_json(),
        "documents": len(artifact.read_snapshot(folder).entries) if present else None,
        "bytes": sum((folder / m).stat().st_size for m in release.manifest.members) if present else None,
        "code": release.code,
        "folder": str(folder) if present else None,
        "decision": verdict.id if verdict else None,
        "verdict": verdict.verdict if verdict else None,
        "metrics": dict(verdict.inputs["evidence"]["metrics"]) if verdict else {},
        "mlflow": {
            "tracking_uri": masked(world.heavy.registry_uri),
            "model_uri": f"models:/{world.endpoint}/{release.version}" if release.version is not None else None,
        },
    }


def aliases_of(world: World) -> dict[str, list[str]]:
    """{release: what the endpoint calls it}."""
    pointers = world.ledger.pointers(world.endpoint)
    out: dict[str, list[str]] = {}
    for alias in ALIASES:
        if (identity := getattr(pointers, alias)) is not None:
            out.setdefault(identity, []).append(alias)
    return out
