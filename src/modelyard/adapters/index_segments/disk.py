"""Files that are written once: durable before they are visible, checked when they are read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
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


class _Writer:
    """A new file that knows its length and digest."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._file.write(view)
        self._digest.update(view)
        self.size += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def finish(self) -> dict[str, Any]:
        self._file.flush()
        os.fsync(self._file.fileno())
        # Releases hold hard links to this file: an editor must not be able to change it in all of them.
        os.fchmod(self._file.fileno(), 0o444)
        return {"bytes": self.size, "sha256": self._digest.hexdigest()}


def write_bytes(path: Path, data: bytes) -> dict[str, Any]:
    """Write a file, durably and read-only; returns its manifest entry: {bytes, sha256}. Raises OSError."""
    with contextlib.closing(_Writer(path)) as out:
        out.write(data)
        return out.finish()


def write_batch(path: Path, batch: pa.RecordBatch) -> dict[str, Any]:
    """Write an Arrow file of one record batch, as `write_bytes` does. Raises OSError."""
    with contextlib.closing(_Writer(path)) as out:
        with pa.ipc.new_file(pa.PythonFile(out, mode="w"), batch.schema) as writer:
            writer.write_batch(batch)
        return out.finish()


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Write named arrays into one file, as `write_bytes` does, each little-endian and aligned to 64 bytes.

    The manifest entry also has {arrays: {name: {type, shape, offset}}}. Raises OSError.
    """
    layout: dict[str, Any] = {}
    with contextlib.closing(_Writer(path)) as out:
        for name, array in arrays.items():
            out.write(bytes(-out.size % _ALIGN))
            kind = array.dtype.newbyteorder("<")
            layout[name] = {"type": kind.str, "shape": list(array.shape), "offset": out.size}
            if array.size:
                out.write(np.ascontiguousarray(array, kind).data.cast("B"))
        return out.finish() | {"arrays": layout}


def write_sealed(path: Path, value: Any) -> None:
    """Write canonical JSON together with its digest, as `write_bytes` does. Raises OSError."""
    write_bytes(path, ids.canonical({"content": value, "sha256": ids.digest(value)}))


def read_sealed(path: Path) -> Any:
    """What `write_sealed` wrote. Raises Damaged; FileNotFoundError when there is no such file."""
    value = _json(path, _read(path))
    sealed = isinstance(value, dict) and value.keys() == {"content", "sha256"}
    if not sealed or _digest(value["content"]) != value["sha256"]:
        raise Damaged(f"{path}: is not what was written (its digest differs)")
    return value["content"]


def read_json(path: Path, sha256: str) -> Any:
    """JSON whose bytes have this digest. Raises Damaged."""
    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise Damaged(f"{path}: is missing") from error
    if ids.digest_bytes(data) != sha256:
        raise Damaged(f"{path}: is not what was written (its digest differs)")
    return _json(path, data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror or error})") from error


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Damaged(f"{path}: is not what was written ({error})") from error


def _digest(value: Any) -> str:
    try:
        return ids.digest(value)
    except TypeError:
        return ""


def map_file(path: Path, entry: Mapping[str, Any]) -> pa.Buffer:
    """A file mapped into memory; its size must be that of its manifest entry. Raises Damaged."""
    try:
        # Closing gives the file descriptor back and leaves the mapping: a store may have hundreds of files.
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
    except FileNotFoundError as error:
        raise Damaged(f"{path}: is missing") from error
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({os.strerror(error.errno) if error.errno else error})") from error
    if data.size != entry["bytes"]:
        raise Damaged(f"{path}: has {data.size} bytes, and {entry['bytes']} were written")
    return data


def read_arrays(path: Path, entry: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays of `write_arrays`, mapped into memory, read-only. Raises Damaged."""
    data = map_file(path, entry)
    return {
        name: np.frombuffer(data, a["type"], count=int(np.prod(a["shape"])), offset=a["offset"]).reshape(a["shape"])
        if np.prod(a["shape"])
        else np.empty(a["shape"], a["type"])
        for name, a in entry["arrays"].items()
    }


def read_batch(path: Path, entry: Mapping[str, Any]) -> pa.RecordBatch:
    """The record batch of an Arrow file, mapped into memory. Raises Damaged."""
    data = map_file(path, entry)
    try:
        batch = pa.ipc.open_file(data).get_batch(0)
        batch.validate()
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"{path}: is not the Arrow file that was written ({error})") from error
    return batch


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
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(f"{root}: cannot be written: {reason}") from error


def prepare(root: Path) -> None:
    """Make the folders of a store. Raises OSError."""
    for name in ("segments", "snapshots", "partial"):
        (root / name).mkdir(parents=True, exist_ok=True)


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, in order; what a desktop left there (.DS_Store) is not ours. Raises OSError."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


@contextlib.contextmanager
def held(root: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the store: shared with other writers, or `alone` to delete. A killed process lets go by itself.

    Whoever finds nobody else there sweeps away what killed writers left half done. Raises OSError.
    """
    with (root / ".lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        else:
            for left in folders(root / "partial"):
                shutil.rmtree(left)
            if not alone:
                fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def partial(root: Path) -> Iterator[Path]:
    """A folder to write in, on the same file system as the store; gone afterwards unless it was published."""
    folder = Path(tempfile.mkdtemp(dir=root / "partial"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> bool:
    """Make a finished folder visible under its name, all of it or nothing; False where that name is taken."""
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
    gone = Path(tempfile.mkdtemp(dir=root / "partial"))
    folder.rename(gone / folder.name)
    shutil.rmtree(gone)


def sync(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, whatever was there before; where there can be no hard link, copy. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if target.samefile(source):
            return
        target.unlink()
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        shutil.copyfile(source, target)
        target.chmod(0o444)
