"""What changed in the data folder since it was last ingested.

Size, time and inode are compared first, bytes only where these differ.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from modelyard.errors import ProjectError, RefusedByPolicy
from modelyard.ids import digest_file
from modelyard.lifecycle.journal import IN_DOUBT, UNKNOWN, Stat
from modelyard.ports.records import Changes, Source
from modelyard.project.access import is_sidecar

_IGNORED = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
# What Word and its like put beside a document while it is open: some 160 bytes that say by whom.
_LOCK, _LONGEST_LOCK = "~$", 1_000


@dataclass(frozen=True)
class Scan:
    """A look at the data folder: the `paths` there now, `readable` ones known before, and how many of these are `lost`
    (gone, or no longer readable). `touched` are files whose stat changed, with their inodes; `changes` is what of that
    is news to the workload."""

    paths: frozenset[str]
    readable: int
    lost: int
    changes: Changes
    touched: tuple[tuple[Source, int], ...] = ()


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path relative to `folder` with forward slashes, stat) of every file, sorted within a folder.

    Hidden files are left out, but for those that say who may see the others, and so is what Windows and Office programs
    leave in folders (see `is_left_behind`). A link to a folder is not followed (it
    may lead round in a circle): it is given as it is, like one that leads nowhere.
    Raises ProjectError for a folder that is not there or cannot be listed.
    """
    if not folder.is_dir():
        raise ProjectError(f"the documents folder {folder} is not there: `documents:` in modelyard.yml names it")
    yield from _walk(os.fspath(folder), "")


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as e:
        raise ProjectError(f"the folder {folder} cannot be listed: {e.strerror}") from None
    for entry in entries:
        if entry.name.startswith(".") and not is_sidecar(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith("."):
                continue
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
            continue
        try:
            found = entry.stat()
        except OSError:
            # A link that leads nowhere, or in a circle: named by the caller as unreadable.
            found = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            found = entry.stat(follow_symlinks=False)
        if not is_left_behind(entry.name, found.st_size):
            yield f"{prefix}{entry.name}", found


def is_left_behind(name: str, size: int) -> bool:
    """Whether a file of this name and size (bytes) is what a program left beside documents, and is none.

    >>> [is_left_behind(name, 162) for name in ("~$plan.docx", "Thumbs.db", "plan.docx")]
    [True, True, False]
    """
    return name.lower() in _IGNORED or (name.startswith(_LOCK) and size <= _LONGEST_LOCK)


def scan(folder: Path, seen: Mapping[str, tuple[Stat, str]], max_file: int) -> Scan:
    """Compare `folder` with what was `seen`. Files over `max_file` bytes are not read: they are unreadable, with the
    reason. Files that say who may see others are looked at, and are no documents: they are never `changed`, and
    whoever reads them says what is wrong with one."""
    touched: list[tuple[Source, int]] = []
    changed: list[Source] = []
    unreadable: dict[str, str] = {}
    present: set[str] = set()
    lost = 0
    for path, found in walk(folder):
        name = path.encode("utf-8", "backslashreplace").decode()
        present.add(name)
        now = (found.st_size, found.st_mtime_ns, found.st_ino)
        before = seen.get(name)
        if before is not None and before[0] == now:
            continue
        reason, sha256 = _refusal(name != path, found, max_file), ""
        if reason is None:
            try:
                sha256 = digest_file(folder / path)
            except OSError as e:
                reason = f"cannot be read: {(e.strerror or str(e)).lower()}"
        source = Source(name, sha256, found.st_size, found.st_mtime_ns)
        if is_sidecar(name):
            touched.append((source, found.st_ino if reason is None else -1))
            continue
        doubted = before is not None and before[0][2] == IN_DOUBT
        if reason is None:
            touched.append((source, found.st_ino))
            if before is None or doubted or before[1] != sha256:
                changed.append(source)
        elif before is None or doubted or before[1]:
            # No inode, so that it is looked at again in every run: what kept it from being read may pass.
            touched.append((source, -1))
            unreadable[name] = reason
            lost += before is not None and _known(before[1])
    removed = tuple(sorted(set(seen) - present))
    readable = sum(_known(sha256) for path, (_, sha256) in seen.items() if not is_sidecar(path))
    lost += sum(_known(seen[path][1]) for path in removed if not is_sidecar(path))
    return Scan(
        frozenset(path for path in present if not is_sidecar(path)),
        readable,
        lost,
        Changes(tuple(changed), removed, unreadable),
        tuple(touched),
    )


def _known(sha256: str) -> bool:
    """Whether the journal holds a digest: that of a document that was ingested."""
    return sha256 not in ("", UNKNOWN)


def _refusal(odd_name: bool, found: os.stat_result, max_file: int) -> str | None:
    if odd_name:
        return "its name is not valid Unicode: rename it"
    if stat.S_ISLNK(found.st_mode):
        return "a link to a folder, or one that leads nowhere: links to folders are not followed"
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_size > max_file:
        return f"{found.st_size:,} bytes: larger than the limit of {max_file:,} (ingest.max_file)"
    return None


def without(found: Scan, ingested: Iterable[str]) -> Scan:
    """The same look, for a journal that was deleted: what is ingested and not in the folder is gone from it."""
    removed = set(found.changes.removed)
    gone = sorted(name for name in ingested if name not in removed and not _there(name, found.paths))
    if not gone:
        return found
    changes = replace(found.changes, removed=tuple(sorted((*found.changes.removed, *gone))))
    known = len(gone) + sum(1 for source in found.changes.changed)
    return replace(found, readable=max(found.readable, known), lost=found.lost + len(gone), changes=changes)


def _there(name: str, paths: Set[str]) -> bool:
    """Whether an ingested document is in the folder: as a file, or in a file (an archive) of that name above it."""
    while name and name not in paths:
        name = name.rpartition("/")[0]
    return bool(name)


def guard_removals(scan: Scan, share: float, folder: Path) -> None:
    """A share that was not mounted must not empty the corpus. Raises RefusedByPolicy."""
    if scan.lost > scan.readable * share:
        raise RefusedByPolicy(
            f"{scan.lost} of {scan.readable} documents are gone from {folder}: is it mounted? "
            f"If they are meant to be gone, run again with --allow-removals"
        )
