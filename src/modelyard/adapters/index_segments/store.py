"""The store of segments and snapshots."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard import ids
from modelyard.adapters.index_segments import disk, plan, segment, snapshot
from modelyard.adapters.index_segments.plan import Cover
from modelyard.adapters.index_segments.postings import plain
from modelyard.adapters.index_segments.search import CAPABILITIES, EXACT_UP_TO, EXPORTED, SegmentSearcher, open_snapshot
from modelyard.adapters.index_segments.segment import Part, Segment
from modelyard.adapters.index_segments.snapshot import Snapshot
from modelyard.calc.text import ANALYSER
from modelyard.errors import Damaged, NotFound, RequestError
from modelyard.ports.index import Written

Fetch = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
Progress = Callable[[int, int], None]


class SegmentIndex:
    """See ports.index.Index. Several processes may write to one store at once; a chunk id names one row for ever."""

    capabilities = CAPABILITIES

    def __init__(self, root: Path, *, exact_up_to: int = EXACT_UP_TO) -> None:
        """`root` is made on the first write. `exact_up_to`: see `SegmentSearcher.dense`."""
        self._root = root
        self._exact_up_to = exact_up_to

    def write(
        self, snapshot: str, visible: Sequence[str], fetch: Fetch, *, progress: Progress | None = None
    ) -> Written:
        """See the port. Also raises RequestError when the snapshot exists with other chunks, or rows cannot be used.

        Rows wait in memory, at most about 5 kB each, until `plan.BIG` have come: then they are put down, and a write
        that is cut short finds them again. What the snapshot stands on is read
        and its digests compared, and what is damaged leaves the store: its rows are asked for like new ones.
        """
        wanted = pa.array(list(visible), pa.string()).unique()
        wanted = wanted.take(pc.sort_indices(wanted))
        chunks = ids.digest_bytes(*(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in plain(wanted)))
        incoming, repair = _Incoming(self._root), _Repair(self._root)
        with disk.storing(self._root):
            disk.prepare(self._root)
        while True:
            # Fetching may take minutes and holds nothing; what is there is looked up again afterwards.
            with disk.storing(self._root), disk.held(self._root):
                there = self._written(snapshot, chunks, repair)
                if there is not None:
                    return Written(there, 0)
                segments = repair.whole(disk.folders(self._root / "segments"))
                cover = _cover(segments, wanted)
                if not all(repair.sound(segments[s].folder) for s, _ in cover.chosen):
                    continue
                lacking = incoming.lacking(wanted.take(pa.array(cover.missing)))
                if not lacking:
                    new = incoming.part(wanted.take(pa.array(cover.missing)))
                    shown = self._build([(segments[s], rows) for s, rows in cover.chosen], new)
                    if self._publish(Snapshot(snapshot, chunks, shown)):
                        return Written(len(wanted), incoming.taken, repair.dropped)
                    continue  # another process was faster
            incoming.take(lacking, fetch(lacking), progress)

    def snapshots(self) -> Sequence[str]:
        """See the port."""
        try:
            return sorted(snapshot.name_of(folder.name) for folder in disk.folders(self._root / "snapshots"))
        except FileNotFoundError:
            return []

    def open(self, snapshot: str, *, verify: bool = False) -> SegmentSearcher:
        """See the port. Sizes of files are always checked; `verify` reads all of them and checks their digests."""
        folder = self._folder(snapshot)
        try:
            return open_snapshot(folder, self._root / "segments", verify=verify, exact_up_to=self._exact_up_to)
        except FileNotFoundError as error:
            raise self._unknown(snapshot) from error
        except Damaged:
            if not folder.exists():  # it was collected while we read
                raise self._unknown(snapshot) from None
            raise

    def export(self, snapshot: str, folder: Path) -> Mapping[str, str]:
        """See the port; `open_exported(folder)` opens it. Raises NotFound, Damaged, StorageError."""
        source = self._folder(snapshot)
        if not source.exists():
            raise self._unknown(snapshot)
        with disk.storing(folder), disk.held(self._root):
            return self._link(source, folder)

    def collect(self, keep: frozenset[str]) -> None:
        """See the port. Waits for writers, who hold the store only while they put files down.

        A segment stays as long as a kept snapshot shows any of its rows; `write` leaves behind those that show less
        than half. Raises Damaged, before anything is removed, when a kept snapshot cannot be read; StorageError.
        """
        if not self._root.exists():
            return
        with disk.storing(self._root):
            disk.prepare(self._root)
            with disk.held(self._root, alone=True):
                folders = disk.folders(self._root / "snapshots")
                kept = [folder for folder in folders if snapshot.name_of(folder.name) in keep]
                live = {digest for folder in kept for digest, _ in snapshot.read(folder).shown}
                segments = [folder for folder in disk.folders(self._root / "segments") if folder.name not in live]
                for folder in [f for f in folders if f not in kept] + segments:
                    disk.retire(folder, self._root)

    def _folder(self, name: str) -> Path:
        return self._root / "snapshots" / snapshot.folder_of(name)

    def _unknown(self, name: str) -> NotFound:
        return NotFound(f"there is no snapshot {name} in {self._root}")

    def _written(self, name: str, chunks: str, repair: _Repair) -> int | None:
        """How many chunks a snapshot shows that is there already, and whole."""
        try:
            there = snapshot.read(self._folder(name))
        except FileNotFoundError:
            return None
        except Damaged:
            repair.drop(self._folder(name))
            return None
        if there.chunks != chunks:
            raise RequestError(f"snapshot {name} exists, with other chunks: a snapshot never changes")
        if all(repair.sound(self._root / "segments" / digest) for digest, _ in there.shown):
            return len(there)
        repair.drop(self._folder(name))
        return None

    def _build(
        self, chosen: Sequence[tuple[Segment, NDArray[np.bool_]]], new: Part | None
    ) -> list[tuple[str, NDArray[np.bool_]]]:
        """Write what is new, together with what is merged; returns the segments of the snapshot and what they show."""
        dimensions = {opened.dimension for opened, _ in chosen} | ({new.packed.shape[1]} if new else set())
        if len(dimensions) > 1:
            raise RequestError(
                f"one snapshot cannot hold embeddings of {' and '.join(map(str, sorted(dimensions)))} dimensions"
            )
        sizes = [(len(opened), int(shown.sum())) for opened, shown in chosen]
        again = {i for i, (opened, _) in enumerate(chosen) if opened.analyser != ANALYSER}
        again |= set(plan.merge(sizes, len(new.keep) if new else 0))
        shelves = [(opened.digest, shown) for i, (opened, shown) in enumerate(chosen) if i not in again]
        # Segments become parts only now, a few at a time: that is when they take memory.
        makers: list[Callable[[], Part]] = [
            partial(opened.part, shown) for i, (opened, shown) in enumerate(chosen) if i in again
        ]
        counts = [int(shown.sum()) for i, (_, shown) in enumerate(chosen) if i in again]
        if new:
            makers.append(lambda: new)
            counts.append(len(new.keep))
        for group in plan.groups(counts):
            digest = segment.write([makers[i]() for i in group], self._root)
            shelves.append((digest, np.ones(sum(counts[i] for i in group), np.bool_)))
        return sorted(shelves, key=lambda shelf: shelf[0])

    def _publish(self, made: Snapshot) -> bool:
        with disk.partial(self._root) as draft:
            snapshot.write(draft, made)
            return disk.publish(draft, self._folder(made.name))

    def _link(self, source: Path, folder: Path) -> dict[str, str]:
        names = {f"{EXPORTED}/{snapshot.FILE}": ids.digest_file(source / snapshot.FILE)}
        disk.link(source / snapshot.FILE, folder / EXPORTED / snapshot.FILE)
        for digest, _ in snapshot.read(source).shown:
            opened = Segment(self._root / "segments" / digest)
            for name, sha256 in opened.files().items():
                place = f"{EXPORTED}/segments/{digest}/{name}"
                disk.link(opened.folder / name, folder / place)
                names[place] = sha256
        return names


class _Repair:
    """What a write takes out of the store because its bytes are not what was written. `dropped`: how much so far."""

    def __init__(self, root: Path) -> None:
        self._root, self._sound = root, set[Path]()
        self.dropped = 0

    def whole(self, folders: Iterable[Path]) -> list[Segment]:
        """The segments that this version can read and that have all their files; rows of others are fetched again."""
        found = []
        for folder in folders:
            try:
                found.append(Segment(folder))
            except NotFound:
                continue
            except Damaged:
                self.drop(folder)
        return found

    def sound(self, folder: Path) -> bool:
        """Whether every byte of a segment is what was written; else it is dropped."""
        if folder not in self._sound:
            try:
                Segment(folder, verify=True)
            except NotFound:
                pass  # of another format: nothing is known to be wrong with it
            except Damaged:
                self.drop(folder)
                return False
            self._sound.add(folder)
        return True

    def drop(self, folder: Path) -> None:
        # Another process may be faster. Who has it open keeps it.
        with contextlib.suppress(FileNotFoundError):
            disk.retire(folder, self._root)
        self.dropped += 1


class _Incoming:
    """Rows that were fetched and are not yet in a segment; embeddings are packed as they arrive. `taken`: how many."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.taken = 0
        self._clear()

    def _clear(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._packed: list[NDArray[np.int8]] = []
        self._inverse: list[NDArray[np.float32]] = []
        self._seen: set[str] = set()

    def lacking(self, missing: pa.Array) -> list[str]:
        """Ids that have not been fetched yet."""
        return [chunk for chunk in missing.to_pylist() if chunk not in self._seen]

    def take(self, asked: Sequence[str], batches: Iterable[pa.RecordBatch], progress: Progress | None) -> None:
        """Take in what was asked for. Raises Damaged when rows stay away, RequestError for rows nobody asked for."""
        waiting = set(asked)
        for batch in batches:
            rows, packed, inverse = segment.received(batch)
            for chunk in rows.column("chunk_id").to_pylist():
                if chunk not in waiting:
                    raise RequestError(f"the index was given the chunk {chunk!r} twice, or without asking for it")
                waiting.discard(chunk)
                self._seen.add(chunk)
            if len(rows):
                if self._packed and self._packed[0].shape[1] != packed.shape[1]:
                    raise RequestError("rows for the index have embeddings of different dimensions")
                self._batches.append(rows)
                self._packed.append(packed)
                self._inverse.append(inverse)
                self.taken += len(rows)
            if progress is not None:
                progress(len(asked) - len(waiting), len(asked))
            if len(self._seen) >= plan.BIG:
                self._put_down()
        if waiting:
            raise Damaged(f"{len(waiting)} of {len(asked)} chunks have no rows, among them {min(waiting)!r}")

    def part(self, missing: pa.Array) -> Part | None:
        """The fetched rows that are still missing, analysed; None when there are none."""
        if not len(missing):
            return None
        table = pa.Table.from_batches(self._batches)
        packed, inverse = np.concatenate(self._packed), np.concatenate(self._inverse)
        keep = pc.is_in(table.column("chunk_id"), value_set=missing).to_numpy()
        if not keep.all():  # another process was faster with some
            table, packed, inverse = table.filter(pa.array(keep)), packed[keep], inverse[keep]
        return segment.fresh(table, packed, inverse)

    def _put_down(self) -> None:
        """Make a segment of what is there. No snapshot shows it yet; should it be collected, its rows are asked for
        again."""
        every = pa.array(sorted(self._seen), pa.string())
        with disk.storing(self._root), disk.held(self._root):
            new = self.part(every)
            if new is not None:
                segment.write([new], self._root)
        self._clear()


def _cover(segments: Sequence[Segment], wanted: pa.Array) -> Cover:
    held = pa.chunked_array([opened.chunk_ids for opened in segments], pa.string())
    at = pc.fill_null(pc.index_in(held, value_set=wanted), -1).to_numpy().astype(np.int64)
    found = np.split(at, np.cumsum([len(opened) for opened in segments])[:-1]) if segments else []
    return plan.cover(found, len(wanted))
