"""The store of segments and snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard import ids
from modelyard.adapters.index_segments import disk, plan, segment
from modelyard.adapters.index_segments.plan import Cover
from modelyard.adapters.index_segments.search import (
    CAPABILITIES,
    EXPORTED,
    SegmentSearcher,
    open_snapshot,
    read_snapshot,
    snapshot_folder,
    snapshot_name,
)
from modelyard.adapters.index_segments.segment import FORMAT, Part, Segment
from modelyard.errors import Damaged, NotFound, RequestError
from modelyard.ports.index import Written

Fetch = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
Progress = Callable[[int, int], None]


class SegmentIndex:
    """See ports.index.Index. Several processes may write to one store at once; a chunk id names one row for ever."""

    capabilities = CAPABILITIES

    def __init__(self, root: Path) -> None:
        """`root` is made on the first write."""
        self._root = root

    def write(
        self, snapshot: str, visible: Sequence[str], fetch: Fetch, *, progress: Progress | None = None
    ) -> Written:
        """See the port. Also raises RequestError when the snapshot exists with other chunks, or rows cannot be used."""
        folder = self._root / "snapshots" / snapshot_folder(snapshot)
        wanted = pa.array(sorted(set(visible)), pa.string())
        identity = ids.digest(wanted.to_pylist())
        incoming = _Incoming()
        with disk.storing(self._root):
            disk.prepare(self._root)
        while True:
            # Fetching may take minutes and holds nothing; what is there is looked up again afterwards.
            with disk.storing(self._root), disk.held(self._root):
                try:
                    head = read_snapshot(folder)
                except FileNotFoundError:
                    pass
                else:
                    if head["chunks"] != identity:
                        raise RequestError(f"snapshot {snapshot} exists, with other chunks: a snapshot never changes")
                    return Written(head["visible"], 0)
                segments = self._segments()
                cover = _cover(segments, wanted)
                lacking = incoming.lacking(wanted.take(pa.array(cover.missing)))
                if not lacking:
                    added = self._publish(
                        snapshot, folder, identity, segments, cover, incoming.part(wanted, cover.missing)
                    )
                    return Written(len(wanted), added)
            incoming.take(lacking, fetch(lacking), progress)

    def snapshots(self) -> Sequence[str]:
        """See the port."""
        try:
            return sorted(snapshot_name(folder.name) for folder in (self._root / "snapshots").iterdir())
        except FileNotFoundError:
            return []

    def open(self, snapshot: str, *, verify: bool = False) -> SegmentSearcher:
        """See the port. Sizes of files are always checked; `verify` reads all of them and checks their digests."""
        try:
            return open_snapshot(
                self._root / "snapshots" / snapshot_folder(snapshot), self._root / "segments", verify=verify
            )
        except FileNotFoundError as error:
            raise NotFound(f"there is no snapshot {snapshot} in {self._root}") from error

    def export(self, snapshot: str, folder: Path) -> Mapping[str, str]:
        """See the port; `open_exported(folder)` opens it. Raises NotFound, Damaged, StorageError."""
        source = self._root / "snapshots" / snapshot_folder(snapshot)
        names: dict[str, str] = {}
        with disk.storing(folder), disk.held(self._root):
            try:
                head = read_snapshot(source)
            except FileNotFoundError as error:
                raise NotFound(f"there is no snapshot {snapshot} in {self._root}") from error
            for name in ("snapshot.json", "visible.bits"):
                disk.link(source / name, folder / EXPORTED / name)
                names[f"{EXPORTED}/{name}"] = ids.digest_file(source / name)
            for entry in head["segments"]:
                opened = Segment(self._root / "segments" / entry["digest"])
                for name, sha256 in opened.files().items():
                    place = f"{EXPORTED}/segments/{opened.digest}/{name}"
                    disk.link(opened.folder / name, folder / place)
                    names[place] = sha256
        return names

    def collect(self, keep: frozenset[str]) -> None:
        """See the port. Waits for writers, who hold the store only while they put files down."""
        if not self._root.exists():
            return
        with disk.storing(self._root):
            disk.prepare(self._root)
            with disk.held(self._root, alone=True):
                live = set()
                for folder in sorted((self._root / "snapshots").iterdir()):
                    if snapshot_name(folder.name) in keep:
                        live |= {entry["digest"] for entry in read_snapshot(folder)["segments"]}
                    else:
                        disk.retire(folder, self._root)
                for folder in (self._root / "segments").iterdir():
                    if folder.name not in live:
                        disk.retire(folder, self._root)

    def _segments(self) -> list[Segment]:
        return [Segment(folder) for folder in sorted((self._root / "segments").iterdir())]

    def _publish(
        self, snapshot: str, folder: Path, identity: str, segments: Sequence[Segment], cover: Cover, new: Part | None
    ) -> int:
        """Write what is new, together with what is merged, and then the snapshot; returns how many rows were new."""
        added = 0 if new is None else int(new.keep.sum())
        again = set(plan.merge([(len(segments[s]), int(shown.sum())) for s, shown in cover.chosen], added))
        shelves = [(segments[s].digest, shown) for i, (s, shown) in enumerate(cover.chosen) if i not in again]
        parts = [segments[s].part(shown) for i, (s, shown) in enumerate(cover.chosen) if i in again]
        parts += [] if new is None else [new]
        dimensions = {p.packed.shape[1] for p in parts} | {
            segments[s].dimension for i, (s, _) in enumerate(cover.chosen) if i not in again
        }
        if len(dimensions) > 1:
            raise RequestError(
                f"one snapshot cannot hold embeddings of {' and '.join(map(str, sorted(dimensions)))} dimensions"
            )
        if parts:
            digest = segment.write(parts, self._root)
            shelves.append((digest, np.ones(sum(int(p.keep.sum()) for p in parts), np.bool_)))
        shelves.sort(key=lambda shelf: shelf[0])
        with disk.partial(self._root) as draft:
            bits = b"".join(np.packbits(shown, bitorder="little").tobytes() for _, shown in shelves)
            head = {
                "format": FORMAT,
                "snapshot": snapshot,
                "chunks": identity,
                "visible": sum(int(shown.sum()) for _, shown in shelves),
                "visible_bits": disk.write_bytes(draft / "visible.bits", bits),
                "segments": [{"digest": digest, "visible": int(shown.sum())} for digest, shown in shelves],
            }
            disk.write_bytes(draft / "snapshot.json", ids.canonical(head))
            disk.publish(draft, folder)
        return added


class _Incoming:
    """Rows that were fetched and are not yet in a segment; embeddings are packed as they arrive."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._packed: list[NDArray[np.int8]] = []
        self._inverse: list[NDArray[np.float32]] = []
        self._seen: set[str] = set()

    def lacking(self, missing: pa.Array) -> list[str]:
        """Ids that have neither a segment nor been fetched."""
        return [chunk for chunk in missing.to_pylist() if chunk not in self._seen]

    def take(self, asked: Sequence[str], batches: Iterable[pa.RecordBatch], progress: Progress | None) -> None:
        """Take in what was asked for. Raises Damaged when rows stay away, RequestError for rows nobody asked for."""
        open_ids = set(asked)
        for batch in batches:
            rows, packed, inverse = segment.received(batch)
            arrived: list[str] = rows.column("chunk_id").to_pylist()
            for chunk in arrived:
                if chunk not in open_ids:
                    raise RequestError(f"the index was given the chunk {chunk!r} twice, or without asking for it")
                open_ids.discard(chunk)
            if arrived:
                self._batches.append(rows)
                self._packed.append(packed)
                self._inverse.append(inverse)
                self._seen.update(arrived)
            if progress is not None:
                progress(len(asked) - len(open_ids), len(asked))
        if open_ids:
            raise Damaged(f"{len(open_ids)} of {len(asked)} chunks have no rows, among them {min(open_ids)!r}")

    def part(self, wanted: pa.Array, missing: NDArray[np.int64]) -> Part | None:
        """Those fetched rows that are still missing, analysed; None when there are none."""
        if not len(missing):
            return None
        if len({packed.shape[1] for packed in self._packed}) > 1:
            raise RequestError("rows for the index have embeddings of different dimensions")
        table = pa.Table.from_batches(self._batches)
        keep = pc.is_in(table.column("chunk_id"), value_set=wanted.take(pa.array(missing))).to_numpy()
        kept = table.filter(pa.array(keep)).combine_chunks()
        return segment.fresh(kept.to_batches(), np.concatenate(self._packed)[keep], np.concatenate(self._inverse)[keep])


def _cover(segments: Sequence[Segment], wanted: pa.Array) -> Cover:
    held = pa.chunked_array([opened.chunk_ids for opened in segments], pa.string())
    at = pc.fill_null(pc.index_in(held, value_set=wanted), -1).to_numpy().astype(np.int64)
    return plan.cover(
        np.split(at, np.cumsum([len(opened) for opened in segments])[:-1]) if segments else [], len(wanted)
    )
