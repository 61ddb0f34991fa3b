"""A release on disk: manifest.json and members, each named by its digest; hard links to one copy of each.

Sealing, verifying, exporting and importing. Standard library only: the pointer path and every loader pass here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from modelyard.errors import Damaged, NotFound, StorageError, UserError
from modelyard.ids import canonical, digest_file, short
from modelyard.ports.records import FORMAT, Manifest, Snapshot

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
MANIFEST = "manifest.json"
SNAPSHOT = "snapshot.json"
_MENDS = "; `modelyard run` builds the release of today's documents again"


@contextlib.contextmanager
def storing(where: Path) -> Iterator[None]:
    """What the operating system says of a full or read-only disk, as one clear line."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"the disk is full ({where}): free some space and run again, nothing is lost") from None
        if e.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StorageError(f"{e.filename or where} cannot be written: {e.strerror}") from None
        raise


def workbench(releases: Path) -> Path:
    """A new empty folder to build a release in. Those of processes that were killed are cleared."""
    with storing(releases):
        releases.mkdir(parents=True, exist_ok=True)
        for leftover in releases.glob(".building-*"):
            if not _alive(leftover.name.split("-")[1]):
                shutil.rmtree(leftover, ignore_errors=True)
        bench = releases / f".building-{os.getpid()}-{uuid.uuid4().hex}"
        bench.mkdir()
        return bench


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """The list of sources a release was built from, as a member of it."""
    body: dict[str, Any] = {"prepared": snapshot.prepared, "entries": [list(e) for e in sorted(snapshot.entries)]}
    if snapshot.access:
        body["access"] = [[path, list(groups)] for path, groups in sorted(snapshot.access)]
    (folder / SNAPSHOT).write_bytes(canonical(body))


def read_snapshot(folder: Path) -> Snapshot:
    """Raises Damaged."""
    value = _json(folder / SNAPSHOT)
    access = tuple((path, tuple(groups)) for path, groups in value.get("access", ()))
    return Snapshot(tuple((path, sha256) for path, sha256 in value["entries"]), value["prepared"], access)


def members(folder: Path) -> dict[str, str]:
    """{name with forward slashes: SHA-256} of every file under `folder`, the manifest left out."""
    return {
        path.relative_to(folder).as_posix(): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def seal(bench: Path, manifest: Manifest, releases: Path, objects: Path) -> Path:
    """Make the built folder `bench` the release of `manifest`: each member becomes a hard link to the one copy in
    `objects`, all is on disk before the folder gets its name, and then it is never written again.

    Returns releases/<id>. Raises StorageError.
    """
    home = releases / manifest.id
    with storing(bench):
        if home.exists():
            if intact(home, manifest.id):
                shutil.rmtree(bench)
                return home
            # What is damaged makes way; nothing that reads it now loses the files it has open.
            home.rename(home.with_name(f".building-0-{uuid.uuid4().hex}"))
        for name, digest in manifest.members.items():
            _share(bench / name, objects / digest[:2] / digest)
        (bench / MANIFEST).write_bytes(canonical(manifest.to_json()))
        for path in bench.rglob("*"):
            _sync(path)
        _sync(bench)
        try:
            bench.rename(home)
        except OSError as e:
            if e.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            shutil.rmtree(bench)
        _sync(releases)
    return home


def _share(path: Path, shared: Path) -> None:
    if shared.exists() and path.samefile(shared):
        return
    shared.parent.mkdir(parents=True, exist_ok=True)
    if shared.exists() and digest_file(shared) != shared.name:
        # Torn by a power cut, or altered: the copy at hand is good, its digest was just taken.
        shared.unlink()
    if not shared.exists():
        path.chmod(0o444)
        with contextlib.suppress(FileExistsError):
            link(path, shared)
        return
    spare = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    link(shared, spare)
    spare.replace(path)


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none. Raises FileExistsError."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as e:
        if e.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        spare = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        shutil.copyfile(source, spare)
        spare.replace(target)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_manifest(folder: Path) -> Manifest:
    """Raises NotFound, Damaged, and UserError for an artifact of a newer format."""
    if not (folder / MANIFEST).is_file():
        raise NotFound(f"{folder} holds no release: there is no {MANIFEST}")
    value = _json(folder / MANIFEST)
    try:
        if value["format"] > FORMAT:
            raise UserError(f"{folder} is of artifact format {value['format']}: a newer modelyard made it")
        manifest = Manifest.from_json(value)
        canonical(manifest.to_json())
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Damaged(f"{folder / MANIFEST} is not a manifest: {e!r}") from None
    for name, sha256 in manifest.members.items():
        if PurePosixPath(name).is_absolute() or name != os.path.normpath(name) or name.startswith("..") or name == ".":
            raise Damaged(f"{folder / MANIFEST} names a member {name!r}, which has no place in a release")
        if not _SHA256.match(str(sha256)):
            raise Damaged(f"{folder / MANIFEST} gives no digest of its member {name}")
    if SNAPSHOT not in manifest.members:
        raise Damaged(f"{folder / MANIFEST} names no {SNAPSHOT}")
    return manifest


def complete(folder: Path) -> bool:
    """Whether the release in `folder` has all its files. Their bytes are only looked at where one was written to after
    the release was sealed, so that a run with nothing to do stays cheap."""
    try:
        sealed = (folder / MANIFEST).stat().st_mtime_ns
        times = [(folder / name).stat().st_mtime_ns for name in read_manifest(folder).members]
    except (OSError, NotFound, Damaged, UserError):
        return False
    return max(times, default=0) <= sealed or intact(folder, folder.name)


def intact(folder: Path, release: str) -> bool:
    """Whether the release in `folder` is what its id says, to the byte."""
    try:
        verify(folder, release)
    except (NotFound, Damaged, UserError):
        return False
    return True


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as e:
        raise Damaged(f"{path} cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise Damaged(f"{path} is not JSON: {e}") from None


def verify(folder: Path, expected: str | None = None) -> Manifest:
    """Check that every member is there and is what the manifest says, and that the manifest is that of `expected`.

    Raises Damaged naming the first member that is missing or altered.
    """
    manifest = read_manifest(folder)
    if expected is not None and manifest.id != expected:
        raise Damaged(f"{folder}: the manifest is that of release {short(manifest.id)}, not of {short(expected)}")
    for name, digest in manifest.members.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"release {short(manifest.id)}: its member {name} is missing from {folder}{_MENDS}")
        if digest_file(path) != digest:
            raise Damaged(
                f"release {short(manifest.id)}: its member {name} is not what its digest says ({folder}){_MENDS}"
            )
    return manifest


def export(folder: Path, target: Path) -> None:
    """Write the release in `folder` to the tar file `target`: the same bytes for the same release. Verified first."""
    manifest = verify(folder)
    spare = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(spare, "w", format=tarfile.PAX_FORMAT) as tar:
                for name in [MANIFEST, *sorted(manifest.members)]:
                    info = tarfile.TarInfo(name)
                    info.size, info.mode = (folder / name).stat().st_size, 0o644
                    with (folder / name).open("rb") as f:
                        tar.addfile(info, f)
            _sync(spare)
            spare.replace(target)
        finally:
            spare.unlink(missing_ok=True)


def unpack(source: Path, releases: Path, objects: Path) -> Manifest:
    """Take in what `export` wrote: the same id, the same members, checked. Raises UserError for anything else."""
    if not source.is_file():
        raise NotFound(f"{source} is not there")
    bench = workbench(releases)
    try:
        with storing(releases):
            try:
                with tarfile.open(source, "r:") as tar:
                    for info in tar:
                        if not info.isfile() or info.name.startswith(("/", "..")) or ".." in Path(info.name).parts:
                            raise UserError(f"{source}: {info.name!r} has no place in a release")
                        tar.extract(info, bench, filter="data")
            except tarfile.TarError as e:
                raise UserError(f"{source} is not an exported release: {e}") from None
        manifest = verify(bench)
        extra = set(members(bench)) - set(manifest.members)
        if extra:
            raise UserError(f"{source}: holds {sorted(extra)[0]!r}, which its manifest does not name")
        (bench / MANIFEST).unlink()
        seal(bench, manifest, releases, objects)
        return manifest
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def text_lines(folder: Path, manifest: Manifest) -> Mapping[str, list[str]]:
    """The members that are text for people (.txt, .md), by line: what a diff can show."""
    return {
        name: (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        for name in manifest.members
        if name.endswith((".txt", ".md")) and (folder / name).stat().st_size < 1_000_000
    }
