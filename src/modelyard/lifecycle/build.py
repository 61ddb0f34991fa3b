"""From a snapshot to a release: members, manifest, id, a row in the ledger, a version in the registry."""

from __future__ import annotations

import shutil

from modelyard.clock import stamp
from modelyard.ids import digest
from modelyard.lifecycle import artifact
from modelyard.lifecycle.world import World
from modelyard.ports.records import Manifest, Release, Snapshot
from modelyard.ports.registry import Run


def build_key(world: World, snapshot: Snapshot) -> str:
    """What a build depends on. The same key gives the same answers, so it is not built again."""
    workload = world.heavy.workload
    settings = dict(workload.settings(world.heavy.context))
    return digest(
        {
            "workload": workload.name,
            "answer_version": workload.answer_version,
            "snapshot": snapshot.root,
            "settings": settings,
            "guards": list(world.loaded.config.guards.policy()),
            "code": world.code,
        }
    )


def build(world: World, snapshot: Snapshot) -> Release:
    """Build the release of `snapshot` and write it down. Interrupted, it leaves nothing that counts."""
    workload, ctx = world.heavy.workload, world.heavy.context
    layout = world.layout
    bench = artifact.workbench(layout.releases)
    try:
        with artifact.storing(layout.releases):
            workload.build(ctx, snapshot, bench)
            artifact.write_snapshot(bench, snapshot)
            for name, path in world.heavy.own_code.items():
                (bench / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, bench / name)
        manifest = Manifest(
            workload=world.loaded.config.workload,
            answer_version=workload.answer_version,
            members=artifact.members(bench),
            snapshot=snapshot.root,
            settings=dict(workload.settings(ctx)),
            guards=world.loaded.config.guards.policy(),
        )
        artifact.seal(bench, manifest, layout.releases, layout.objects)
    finally:
        shutil.rmtree(bench, ignore_errors=True)
    world.ledger.add_release(Release(manifest.id, manifest, "built", stamp(world.clock.now()), code=world.code))
    return world.ledger.release(manifest.id)


def register(world: World, release: Release, run: Run) -> Release:
    """Log the release in the registry, where it is not there yet, and note its version in the ledger. (A registry that
    was lost, or is another since the project was renamed, gets it anew.)"""
    folder = world.layout.releases / release.id
    tags = {"modelyard.target": world.loaded.target, "modelyard.snapshot": release.manifest.snapshot}
    accepts = world.heavy.workload.accepts
    logged = world.heavy.registry.log_release(run, world.endpoint, folder, release.id, tags, accepts)
    if logged.version != release.version:
        world.ledger.set_version(release.id, logged.version)
    return world.ledger.release(release.id)
