"""What lies between two releases: documents, members, lines of prompts, settings, and answers."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from modelyard.errors import NotFound
from modelyard.ids import short
from modelyard.lifecycle import artifact
from modelyard.lifecycle.evaluate import ROWS, said
from modelyard.lifecycle.world import World
from modelyard.ports.records import Manifest, Release, Snapshot
from modelyard.project.load import leaves


def diff(world: World, old: Release, new: Release) -> dict[str, Any]:
    """{documents: {added, removed, changed}, access, members, lines, settings, answers}. Raises NotFound where the
    files of one are gone."""
    folders = {}
    for release in (old, new):
        folders[release.id] = world.layout.releases / release.id
        if not folders[release.id].is_dir():
            raise NotFound(f"the files of release {short(release.id)} are gone from {world.layout.releases}")
    a, b = artifact.read_snapshot(folders[old.id]), artifact.read_snapshot(folders[new.id])
    texts = (
        artifact.text_lines(folders[old.id], old.manifest),
        artifact.text_lines(folders[new.id], new.manifest),
    )
    return {
        "old": old.id,
        "new": new.id,
        "documents": between(dict(a.entries), dict(b.entries)),
        "access": _access(a, b),
        "members": between(old.manifest.members, new.manifest.members),
        "lines": _lines(*texts),
        "settings": _settings(old.manifest, new.manifest),
        "answers": _answers(world, old.id, new.id),
    }


def between(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, list[str]]:
    """Names added, removed, and those whose digest changed.

    >>> between({"a": "1", "b": "1"}, {"b": "2", "c": "1"})
    {'added': ['c'], 'removed': ['a'], 'changed': ['b']}
    """
    return {
        "added": sorted(set(new) - set(old)),
        "removed": sorted(set(old) - set(new)),
        "changed": sorted(name for name in set(old) & set(new) if old[name] != new[name]),
    }


def _access(old: Snapshot, new: Snapshot) -> dict[str, dict[str, list[str] | None]]:
    """Documents of both that other groups may see; null is everybody."""
    a, b = dict(old.access), dict(new.access)
    both = {name for name, _ in old.entries} & {name for name, _ in new.entries}
    changed = sorted(name for name in both if a.get(name) != b.get(name))
    return {name: {"old": _groups(a.get(name)), "new": _groups(b.get(name))} for name in changed}


def _groups(groups: tuple[str, ...] | None) -> list[str] | None:
    return None if groups is None else list(groups)


def _lines(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> dict[str, list[str]]:
    out = {}
    for name in sorted(set(old) | set(new)):
        lines = list(difflib.unified_diff(old.get(name, []), new.get(name, []), lineterm="", n=1))[2:]
        if lines:
            out[name] = lines
    return out


def _settings(old: Manifest, new: Manifest) -> dict[str, dict[str, Any]]:
    a = dict(leaves({**old.settings, "workload": old.workload, "guards": list(old.guards)}))
    b = dict(leaves({**new.settings, "workload": new.workload, "guards": list(new.guards)}))
    return {k: {"old": a.get(k), "new": b.get(k)} for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)}


def _answers(world: World, old: str, new: str) -> dict[str, Any]:
    """Cases both sat (of whatever exam, the latest sitting of each) whose answer changed."""
    tables = world.heavy.tables
    if ROWS.name not in tables.names():
        return {"compared": 0, "changed": []}
    columns = ["release", "case_id", "output", "at"]
    rows = tables.read(ROWS.name, columns, {"release": [old, new]}).to_pylist()
    outputs: dict[str, dict[str, Any]] = {old: {}, new: {}}
    for row in sorted(rows, key=lambda r: r["at"]):
        outputs[row["release"]][row["case_id"]] = json.loads(row["output"])
    both = sorted(set(outputs[old]) & set(outputs[new]))
    changed = []
    for case in both:
        a, b = outputs[old][case], outputs[new][case]
        if said(a) != said(b):
            changed.append({"case": case, "question": b.get("question"), "old": _shown(a), "new": _shown(b)})
    return {"compared": len(both), "changed": changed}


def _shown(output: dict[str, Any]) -> Any:
    return output["answer"] if "answer" in output else json.dumps(output, ensure_ascii=False)
