"""What a snapshot is on disk: one file that names segments, and which of their rows it shows."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelyard.adapters.index_segments import disk
from modelyard.errors import Damaged, NotFound, RequestError

FORMAT = 1
FILE = "snapshot.json"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True)
class Snapshot:
    """`chunks` is the digest of the sorted ids it shows; `shown`: for each segment (digest) its rows [n] that show."""

    name: str
    chunks: str
    shown: Sequence[tuple[str, NDArray[np.bool_]]]

    def __len__(self) -> int:
        return sum(int(rows.sum()) for _, rows in self.shown)


def folder_of(name: str) -> str:
    """The folder name of a snapshot: any text, as a name that every file system takes and keeps apart.

    Raises RequestError when it is empty or too long.
    """
    folder = "".join(c if c in _PLAIN else "".join(f"%{b:02x}" for b in c.encode("utf-8", "replace")) for c in name)
    if not 0 < len(folder) <= 200:
        raise RequestError(f"{name[:40]!r} cannot name a snapshot: it must have 1 to about 200 characters")
    return folder


def name_of(folder: str) -> str:
    """The snapshot that lies in a folder of this name."""
    return urllib.parse.unquote(folder)


def write(folder: Path, snapshot: Snapshot) -> None:
    """Put a snapshot into `folder`. Raises OSError."""
    segments = [
        {
            "digest": digest,
            "rows": len(shown),
            # A snapshot that shows all of a segment says so in a word.
            "shown": "all"
            if shown.all()
            else base64.b64encode(np.packbits(shown, bitorder="little").tobytes()).decode(),
        }
        for digest, shown in snapshot.shown
    ]
    head = {"format": FORMAT, "snapshot": snapshot.name, "chunks": snapshot.chunks, "segments": segments}
    disk.write_sealed(folder / FILE, head)


def read(folder: Path) -> Snapshot:
    """The snapshot in `folder`. Raises FileNotFoundError; Damaged; NotFound when another version wrote it."""
    head = disk.read_sealed(folder / FILE)
    if head.get("format") != FORMAT:
        raise NotFound(f"{folder}: index format {head.get('format')}, this version reads {FORMAT}: build it again")
    try:
        shown = [(s["digest"], _shown(s["shown"], s["rows"])) for s in head["segments"]]
        return Snapshot(head["snapshot"], head["chunks"], shown)
    except (KeyError, ValueError) as error:
        raise Damaged(f"{folder / FILE}: is not a snapshot ({error})") from error


def _shown(text: str, rows: int) -> NDArray[np.bool_]:
    if text == "all":
        return np.ones(rows, np.bool_)
    bits = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(bits, count=rows, bitorder="little").astype(np.bool_)
