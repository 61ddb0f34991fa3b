"""Chroma, embedded, behind the index port. Dense search only.

One collection holds every snapshot: a record is one stay of a chunk in the index, with the first snapshot that shows
it (`valid_from`) and the first that does not any more (`valid_to`), as sequence numbers. A snapshot is opened by
filtering on these, so that what comes later never changes it. Numbers are given once and never again: what a killed
writer left behind belongs to a number that no snapshot has.

Chroma's files belong to one process at a time: a client that another process has overtaken searches wrongly, and
worse, writes its old graph over the new one (chroma-core/chroma issues 3792 and 6975). So every call takes a turn, by a
file lock, and a process whose turn was not the last opens Chroma anew. One process alone pays nothing for that.

    chroma/         Chroma's own files
    turn            the process that called Chroma last
    state.json      {next, dimension, snapshots: {name: {number, chunks, visible}}}, replaced as a whole
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import chromadb
import numpy as np
import pyarrow as pa
from chromadb.config import Settings
from chromadb.errors import ChromaError, InvalidDimensionException
from numpy.typing import NDArray

from modelyard import ids
from modelyard.errors import AdapterError, Damaged, NotFound, RequestError, StorageError
from modelyard.ports.index import ROWS, Hit, Passage, Where, Written

CAPABILITIES = frozenset({"dense"})
EXPORTED = "index/chroma.json"
_STATE = "state.json"
_OPEN = 1 << 53  # valid_to of a record that the newest snapshot shows
_BATCH = 2000
# Approximate search is made exact enough: a wide beam, more candidates than asked for, and exact scores for these.
_SPACE: Any = {"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": 1000, "max_neighbors": 32}}
_SPARE = 64


@dataclass
class _State:
    next: int = 1
    dimension: int | None = None
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)


class _Chroma:
    """The collection of one store, for all its indexes and searchers in this process."""

    _open: ClassVar[weakref.WeakValueDictionary[Path, _Chroma]] = weakref.WeakValueDictionary()
    _opening: ClassVar[threading.Lock] = threading.Lock()
    _process: ClassVar[bytes] = uuid.uuid4().hex.encode()

    def __init__(self, root: Path) -> None:
        self.root = root
        self._alone = threading.Lock()
        self._client: Any = None
        self._collection: Any = None

    @classmethod
    def at(cls, root: Path) -> _Chroma:
        with cls._opening:
            found = cls._open.get(root.absolute())
            if found is None:
                found = cls._open[root.absolute()] = cls(root)
            return found

    @contextlib.contextmanager
    def turn(self) -> Iterator[Any]:
        """The collection, with nobody else in it. Chroma's errors come out as ours."""
        with self._alone, contextlib.ExitStack() as stack:
            with _storing(self.root):
                last = stack.enter_context((self.root / "turn").open("a+b"))
                fcntl.flock(last, fcntl.LOCK_EX)
                last.seek(0)
                mine = last.read() == self._process
            with _translated(self.root):
                if self._client is None or not mine:
                    self.close()
                    settings = Settings(anonymized_telemetry=False)
                    self._client = chromadb.PersistentClient(str(self.root / "chroma"), settings=settings)
                    self._collection = self._client.get_or_create_collection(
                        "chunks", configuration=_SPACE, embedding_function=None
                    )
                    with _storing(self.root):
                        last.truncate(0)
                        last.write(self._process)
                        last.flush()
                yield self._collection

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    __del__ = close


class ChromaSearcher:
    """See ports.index.Searcher. Calls come one at a time."""

    capabilities = CAPABILITIES

    def __init__(self, chroma: _Chroma, snapshot: str, entry: Mapping[str, Any], dimension: int | None) -> None:
        self.snapshot = snapshot
        self._chroma = chroma
        self._size: int = entry["visible"]
        self._dimension = dimension
        self._entry, self._part = entry, False
        self._shown: list[Any] = [{"valid_from": {"$lte": entry["number"]}}, {"valid_to": {"$gt": entry["number"]}}]

    def restricted(self, documents: frozenset[str]) -> ChromaSearcher:
        """See the port. It looks at all its rows: which of some rows the graph finds depends on the others."""
        made = ChromaSearcher(self._chroma, self.snapshot, self._entry, self._dimension)
        made._part, made._shown = True, [*self._shown, {"document": {"$in": sorted(documents) or [""]}}]
        made._size = len(made._get(None)["ids"])
        return made

    def __len__(self) -> int:
        return self._size

    def dense(self, vector: NDArray[np.float32], k: int, where: Where = Where()) -> Sequence[Hit]:
        """See the port."""
        if vector.ndim != 1 or (self._dimension is not None and len(vector) != self._dimension):
            raise RequestError(f"the question's vector has the shape {vector.shape}, the index has [{self._dimension}]")
        if not np.isfinite(vector).all():
            raise RequestError("the question's vector has values that are not numbers")
        if k <= 0 or not self._size or where.documents == frozenset():
            return []
        if where.documents is not None or self._part or self._size <= 2 * k + _SPARE:
            hits = self._scored(self._get(where.documents, "embeddings"), vector)[:k]
            return hits if where.documents is not None else self._enough(hits, k)
        with self._chroma.turn() as collection:
            asked, wanted = vector.astype(np.float32)[None], ["embeddings", "metadatas", "documents"]
            found = collection.query(asked, n_results=2 * k + _SPARE, where={"$and": self._shown}, include=wanted)
        hits = self._scored({name: found[name][0] for name in wanted}, vector)
        if len(hits) < 2 * k + _SPARE or hits[-1].score >= hits[k - 1].score:
            # The graph did not reach enough of them, or ties go on beyond what was fetched: look at all.
            hits = self._scored(self._get(None, "embeddings"), vector)
        return self._enough(hits[:k], k)

    def lexical(self, text: str, k: int, where: Where = Where()) -> Sequence[Hit]:
        """Chroma has no ranked lexical search."""
        raise NotImplementedError("the chroma index searches by meaning only")

    def document_frequency(self, term: str) -> int:
        """Chroma has no ranked lexical search."""
        raise NotImplementedError("the chroma index searches by meaning only")

    def page(self, document: str, page: int) -> Sequence[Passage]:
        """See the port."""
        got = self._get(frozenset({document}), page=page)
        passages = [_passage(meta, text) for meta, text in zip(got["metadatas"], got["documents"], strict=True)]
        return sorted(passages, key=_order)

    def documents(self) -> Mapping[str, int]:
        """See the port."""
        with self._chroma.turn() as collection:
            got = collection.get(where={"$and": self._shown}, include=["metadatas"])
        pages: dict[str, set[int]] = {}
        for meta in got["metadatas"]:
            pages.setdefault(meta["document"], set()).add(meta["page"])
        return {name: len(pages[name]) for name in sorted(pages)}

    def _get(self, documents: frozenset[str] | None, *more: str, page: int | None = None) -> Any:
        conditions = list(self._shown)
        if documents is not None:
            conditions.append({"document": {"$in": sorted(documents)}})
        if page is not None:
            conditions.append({"page": page})
        with self._chroma.turn() as collection:
            return collection.get(where={"$and": conditions}, include=["metadatas", "documents", *more])

    def _enough(self, hits: list[Hit], k: int) -> list[Hit]:
        if len(hits) < min(k, self._size):
            raise Damaged(f"{self._chroma.root / 'chroma'}: has lost passages of the snapshot {self.snapshot}")
        return hits

    def _scored(self, got: Mapping[str, Any], vector: NDArray[np.float32]) -> list[Hit]:
        """Everything in `got`, best first; each row is summed alone, so that it scores alike in any company."""
        asked = vector.astype(np.float64)
        asked = asked / (np.linalg.norm(asked) or 1.0)
        hits = []
        for meta, text, row in zip(got["metadatas"], got["documents"], got["embeddings"], strict=True):
            wide = np.asarray(row, np.float64)
            score = float((wide * asked).sum()) / (float(np.sqrt((wide * wide).sum())) or 1.0)
            hits.append(Hit(_passage(meta, text), score))
        return sorted(hits, key=lambda hit: (-hit.score, _order(hit.passage)))


class ChromaIndex:
    """See ports.index.Index. One writer at a time, others wait; readers wait for single calls only."""

    capabilities = CAPABILITIES

    def __init__(self, root: Path) -> None:
        """`root` is made on the first write."""
        self._root = root
        self._chroma = _Chroma.at(root)

    def write(
        self,
        snapshot: str,
        visible: Sequence[str],
        fetch: Callable[[Sequence[str]], Iterable[pa.RecordBatch]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Written:
        """See the port. Also raises RequestError when the snapshot exists with other chunks, or rows cannot be used."""
        wanted = sorted(set(visible))
        chunks = ids.digest(wanted)
        with self._held():
            state = self._load()
            if snapshot in state.snapshots:
                if state.snapshots[snapshot]["chunks"] != chunks:
                    raise RequestError(f"snapshot {snapshot} exists, with other chunks: a snapshot never changes")
                return Written(state.snapshots[snapshot]["visible"], 0)
            number = state.next
            state.next += 1
            self._save(state)
            with self._chroma.turn() as collection:
                ever = {_chunk(record): record for record in collection.get(include=[])["ids"]}
                shown = {_chunk(r): r for r in collection.get(where={"valid_to": _OPEN}, include=[])["ids"]}
                self._close(collection, [shown[c] for c in sorted(shown.keys() - set(wanted))], number)
                self._return(collection, [ever[c] for c in wanted if c in ever and c not in shown], number)
            new = [chunk for chunk in wanted if chunk not in ever]
            if new:
                state.dimension = _add(self._chroma, number, new, fetch(new), state.dimension, progress)
            state.snapshots[snapshot] = {"number": number, "chunks": chunks, "visible": len(wanted)}
            self._save(state)
            return Written(len(wanted), len(new))

    def snapshots(self) -> Sequence[str]:
        """See the port."""
        return sorted(self._load().snapshots)

    def open(self, snapshot: str) -> ChromaSearcher:
        """See the port."""
        state = self._load()
        if snapshot not in state.snapshots:
            raise NotFound(f"there is no snapshot {snapshot} in {self._root}")
        if not (self._root / "chroma" / "chroma.sqlite3").exists():
            raise Damaged(f"{self._root / 'chroma' / 'chroma.sqlite3'}: is missing")
        return ChromaSearcher(self._chroma, snapshot, state.snapshots[snapshot], state.dimension)

    def export(self, snapshot: str, folder: Path) -> Mapping[str, str]:
        """Write down which store and snapshot to search: the rows stay here. Raises NotFound, StorageError."""
        state = self._load()
        if snapshot not in state.snapshots:
            raise NotFound(f"there is no snapshot {snapshot} in {self._root}")
        chunks = state.snapshots[snapshot]["chunks"]
        entry = {"store": str(self._root.absolute()), "snapshot": snapshot, "chunks": chunks}
        with _storing(folder):
            (folder / EXPORTED).parent.mkdir(parents=True, exist_ok=True)
            (folder / EXPORTED).write_bytes(ids.canonical(entry))
        return {EXPORTED: ids.digest(entry)}

    def collect(self, keep: frozenset[str]) -> None:
        """See the port."""
        if not (self._root / _STATE).exists():
            return
        with self._held():
            state = self._load()
            state.snapshots = {name: entry for name, entry in state.snapshots.items() if name in keep}
            self._save(state)
            numbers = np.array(sorted(entry["number"] for entry in state.snapshots.values()), np.int64)
            with self._chroma.turn() as collection:
                got = collection.get(include=["metadatas"])
                starts = np.array([meta["valid_from"] for meta in got["metadatas"]], np.int64)
                stops = np.array([meta["valid_to"] for meta in got["metadatas"]], np.int64)
                # A stay is over when no kept number lies in valid_from <= number < valid_to.
                unused = np.searchsorted(numbers, starts) == np.searchsorted(numbers, stops)
                for piece in _pieces([got["ids"][i] for i in np.flatnonzero(unused).tolist()]):
                    collection.delete(ids=piece)

    def _close(self, collection: Any, records: Sequence[str], number: int) -> None:
        for piece in _pieces(records):
            collection.update(ids=piece, metadatas=[{"valid_to": number}] * len(piece))

    def _return(self, collection: Any, records: Sequence[str], number: int) -> None:
        """Chunks that were gone and are back begin another stay."""
        for piece in _pieces(records):
            got = collection.get(ids=piece, include=["metadatas", "documents", "embeddings"])
            collection.upsert(
                ids=[f"{_chunk(record)}#{number}" for record in got["ids"]],
                embeddings=got["embeddings"],
                documents=got["documents"],
                metadatas=[meta | {"valid_from": number, "valid_to": _OPEN} for meta in got["metadatas"]],
            )

    def _load(self) -> _State:
        path = self._root / _STATE
        try:
            return _State(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return _State()
        except (OSError, ValueError, TypeError) as error:
            raise Damaged(f"{path}: is not what was written ({error})") from error

    def _save(self, state: _State) -> None:
        with _storing(self._root):
            handle, name = tempfile.mkstemp(dir=self._root, prefix=".state-")
            with os.fdopen(handle, "wb") as file:
                file.write(ids.canonical(asdict(state)))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._root / _STATE)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with _storing(self._root):
                self._root.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self._root / ".lock").open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                for left in self._root.glob(".state-*"):
                    left.unlink()
            yield


def open_exported(folder: Path) -> ChromaSearcher:
    """Open what `ChromaIndex.export` wrote under `folder`. Raises NotFound when the store has no such snapshot any
    more, Damaged when it is another one of that name."""
    path = folder / EXPORTED
    try:
        entry = json.loads(path.read_bytes())
        store = ChromaIndex(Path(entry["store"]))
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: holds no exported index") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged(f"{path}: is not what was written ({error})") from error
    state = store._load()
    if state.snapshots.get(entry["snapshot"], entry)["chunks"] != entry["chunks"]:
        raise Damaged(f"{entry['store']}: its snapshot {entry['snapshot']} shows other chunks than those exported")
    return store.open(entry["snapshot"])


def _add(
    chroma: _Chroma,
    number: int,
    asked: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    dimension: int | None,
    progress: Callable[[int, int], None] | None,
) -> int | None:
    """Take in what was asked for; returns the dimension of the embeddings."""
    waiting = set(asked)
    for batch in batches:
        lacking = [name for name in ROWS.names if name not in batch.schema.names]
        if lacking:
            raise RequestError(f"rows for the index lack the column {lacking[0]!r}")
        for row in batch.to_pylist():
            if row["chunk_id"] not in waiting:
                raise RequestError(f"the index was given the chunk {row['chunk_id']!r} twice, or without asking for it")
            waiting.discard(row["chunk_id"])
            if row["embedding"] is None or not np.isfinite(row["embedding"]).all():
                raise RequestError("rows for the index have embeddings that are missing or not numbers")
            dimension = len(row["embedding"]) if dimension is None else dimension
            if len(row["embedding"]) != dimension:
                raise RequestError("rows for the index have embeddings of different dimensions")
        for rows in _pieces(batch.to_pylist()):
            with chroma.turn() as collection:
                collection.upsert(
                    ids=[f"{row['chunk_id']}#{number}" for row in rows],
                    embeddings=np.array([row.pop("embedding") for row in rows], np.float32),
                    documents=[row.pop("text") or "" for row in rows],
                    metadatas=[
                        {k: "" if v is None else v for k, v in row.items()} | {"valid_from": number, "valid_to": _OPEN}
                        for row in rows
                    ],
                )
        if progress is not None:
            progress(len(asked) - len(waiting), len(asked))
    if waiting:
        raise Damaged(f"{len(waiting)} of {len(asked)} chunks have no rows, among them {min(waiting)!r}")
    return dimension


def _chunk(record: str) -> str:
    return record.rpartition("#")[0]


def _pieces(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])


def _passage(meta: Mapping[str, Any], text: str) -> Passage:
    return Passage(text=text, **{name: meta[name] for name in Passage.__dataclass_fields__ if name != "text"})


def _order(passage: Passage) -> tuple[str, int, int, str]:
    return (passage.document, passage.page, passage.start, passage.chunk_id)


@contextlib.contextmanager
def _storing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{root}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _translated(root: Path) -> Iterator[None]:
    """Turn Chroma's errors into ours."""
    try:
        yield
    except InvalidDimensionException as error:
        raise RequestError(f"chroma: {error}") from error
    except ChromaError as error:
        text = str(error)
        if any(sign in text for sign in ("disk is full", "readonly database", "No space left")):
            raise StorageError(f"{root}: cannot be written: {text}") from error
        if any(sign in text for sign in ("malformed", "not a database", "Error finding id", "hnsw")):
            raise Damaged(f"{root / 'chroma'}: is not what was written: {text}") from error
        raise AdapterError(f"chroma: {text}") from error
