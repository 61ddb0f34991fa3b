"""Files that are written once: durable before they are visible, checked when they are read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelyard import ids
from modelyard.errors import Damaged, StorageError

_ALIGN = 64


def write_bytes(path: Path, data: bytes | memoryview) -> dict[str, Any]:
    """Write a file, durably and read-only; returns its entry in a manifest: {bytes, sha256}. Raises OSError."""
    with open(path, "xb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    # Releases hold hard links to this file: an editor must not be able to change it in all of them.
    path.chmod(0o444)
    return {"bytes": len(data), "sha256": ids.digest_bytes(bytes(data) if isinstance(data, memoryview) else data)}


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Write named arrays into one file, each little-endian and aligned to 64 bytes. Raises OSError.

    Returns the manifest entry: {bytes, sha256, arrays: {name: {type, shape, offset}}}.
    """
    out = bytearray()
    layout: dict[str, Any] = {}
    for name, array in arrays.items():
        out += bytes(-len(out) % _ALIGN)
        kind = array.dtype.newbyteorder("<")
        layout[name] = {"type": kind.str, "shape": list(array.shape), "offset": len(out)}
        out += np.ascontiguousarray(array, kind).data.cast("B") if array.size else b""
    return write_bytes(path, bytes(out)) | {"arrays": layout}


def read_arrays(path: Path, entry: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of `write_arrays`, mapped into memory, read-only. Raises Damaged."""
    data = map_file(path, entry)
    try:
        return {
            name: np.frombuffer(data, a["type"], count=int(np.prod(a["shape"])), offset=a["offset"]).reshape(a["shape"])
            for name, a in entry["arrays"].items()
        }
    except (KeyError, ValueError, TypeError) as error:
        raise Damaged(f"{path}: does not hold the arrays its manifest names ({error})") from error


def map_file(path: Path, entry: Mapping[str, Any]) -> memoryview:
    """A file mapped into memory; its size must be that of its manifest entry. Raises Damaged."""
    try:
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size != entry["bytes"]:
                raise Damaged(f"{path}: has {size} bytes, and {entry['bytes']} were written")
            return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror or error})") from error


def read_table(path: Path, entry: Mapping[str, Any]) -> pa.RecordBatch:
    """The one record batch of an Arrow file, mapped into memory. Raises Damaged."""
    data = map_file(path, entry)
    try:
        return pa.ipc.open_file(pa.py_buffer(data)).get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"{path}: is not the Arrow file that was written ({error})") from error


def read_json(path: Path, sha256: str | None = None) -> Any:
    """Canonical JSON, with its digest checked where one is given. Raises Damaged; FileNotFoundError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror or error})") from error
    if sha256 is not None and ids.digest_bytes(data) != sha256:
        raise Damaged(f"{path}: is not what was written (its digest differs)")
    try:
        return json.loads(data)
    except ValueError as error:
        raise Damaged(f"{path}: is not what was written ({error})") from error


def verify(path: Path, entry: Mapping[str, Any]) -> None:
    """Read the whole file and compare its digest. Raises Damaged."""
    try:
        found = ids.digest_file(path)
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror or error})") from error
    if found != entry["sha256"]:
        raise Damaged(f"{path}: is not what was written (its digest differs)")


@contextlib.contextmanager
def storing(root: Path) -> Iterator[None]:
    """Turn what the operating system says about a full or closed disk into StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{root}: cannot be written ({_reason(error)})") from error


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return error.strerror or str(error)


def prepare(root: Path) -> None:
    """Make the folders of a store. Raises OSError."""
    for name in ("segments", "snapshots", "partial"):
        (root / name).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def held(root: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the store: shared with other writers, or `alone` to delete. A killed process lets go by itself.

    Whoever finds nobody else there sweeps away what killed writers left half done. Raises OSError.
    """
    with open(root / ".lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sweep(root)
        except BlockingIOError:
            pass
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _sweep(root: Path) -> None:
    for left in (root / "partial").iterdir():
        shutil.rmtree(left)


@contextlib.contextmanager
def partial(root: Path) -> Iterator[Path]:
    """A folder to write in, on the same file system as the store; gone afterwards unless it was published."""
    folder = Path(tempfile.mkdtemp(dir=root / "partial"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> bool:
    """Make a finished folder visible under its name, all of it or nothing; False where it is there already."""
    sync(folder)
    folder.chmod(0o755)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    sync(target.parent)
    return True


def retire(folder: Path, root: Path) -> None:
    """Remove a folder so that nobody ever sees a part of it. Raises OSError."""
    gone = Path(tempfile.mkdtemp(dir=root / "partial")) / "gone"
    folder.rename(gone)
    shutil.rmtree(gone.parent)


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no hard links. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        shutil.copyfile(source, target)
        target.chmod(0o444)
