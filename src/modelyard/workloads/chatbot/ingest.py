"""Documents to tables, in committed portions: killed at any point, it loses the portion it was at and nothing else.

Of a portion, first its pages are written, then its chunks, and last the row of `documents_raw` that calls the document
ready: a half-done document is one whose tables do not agree with that row, and is done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from modelyard.errors import RefusedByPolicy, UserError
from modelyard.ids import digest, digest_bytes
from modelyard.ports.embedder import Embedder
from modelyard.ports.records import Changes
from modelyard.ports.tables import Tables
from modelyard.ports.workload import Context
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot.corpus import OPENED, QUARANTINED, RAW_TABLE, READY
from modelyard.workloads.chatbot.limits import Limits, looks, ocr_here
from modelyard.workloads.chatbot.parse import SUPPORTED
from modelyard.workloads.chatbot.portions import Portions
from modelyard.workloads.chatbot.reading.unpack import refused
from modelyard.workloads.chatbot.schemas import prepare_version
from modelyard.workloads.chatbot.tally import Tally
from modelyard.workloads.chatbot.unpack import Beneath, Marks, Unpacker, holds_documents, is_archive, up_to_date
from modelyard.workloads.chatbot.vectors import Vectors
from modelyard.workloads.chatbot.writer import Piece, Writer

PORTION_DOCUMENTS = 32
PORTION_BYTES = 64_000_000
"""What of documents is read at once; more often is written than that, see `portions`."""


@dataclass(frozen=True)
class Todo:
    """A document to read. `known` is the digest it was last seen with."""

    document: str
    known: str
    size: int
    modified_ns: int | None = None
    stored: bool = False
    """Whether its bytes are in `documents_raw` and need not be read again."""
    whole: bool = False
    """Whether it is in the tables as it should be, and only what is in it is in doubt."""


@dataclass(frozen=True)
class Plan:
    """What one ingest does: documents to read, documents to drop, files that cannot be read with the reason, and
    documents of which a run that was killed has left pages behind."""

    read: tuple[Todo, ...]
    drop: tuple[str, ...]
    refuse: Mapping[str, str]
    sweep: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.read or self.drop or self.refuse or self.sweep)


def limits_of(settings: Mapping[str, Any]) -> Limits:
    """The bounds on reading one document that the settings give."""
    given = settings.get("limits", {})
    names = {"max_file": "max_bytes", "seconds": "seconds", "memory": "memory_bytes", "pages": "max_pages"}
    return Limits(**{ours: given[name] for name, ours in names.items() if name in given}, ocr=ocr_here(settings))


def ingest(ctx: Context, changes: Changes) -> None:
    """Bring the tables up to `changes`, and whatever else in them is not up to date.

    Raises Cancelled, StorageError; RefusedByPolicy where more documents would leave than `changes` allows, before any
    does: where that is seen without opening an archive, before anything is written.
    """
    embedder, tables, limits = ctx.ports.embedder(), ctx.ports.tables, limits_of(ctx.settings)
    for spec in corpus.specs(embedder.dimension):
        tables.ensure(spec)
    held = corpus.holdings(tables)
    _check_dimension(tables, held, embedder)
    # What was refused is looked at again under other limits, and when more kinds of files can be read.
    refused = f"{prepare_version}+{digest([*(str(value) for value in _fields(limits)), *SUPPORTED])[:8]}"
    marks = Marks(prepare_version, embedder.digest, refused, looks(limits.ocr))
    plan = make_plan(held, changes, marks)
    if not plan:
        return
    leaving = {*plan.drop, *plan.refuse}
    # What is gone from a folder may be in an archive that took its name: that is known when it was opened.
    boxes = [todo for todo in plan.read if holds_documents(todo.document)]
    opening = Beneath(held.current)
    _guard_removals(held, leaving - {name for box in boxes for name in opening.of(box.document)}, changes.max_removals)
    with ExitStack() as shown:
        read = shown.enter_context(ctx.progress.bar("read", None, "pages"))
        tally = Tally(read, {todo.document: todo.size for todo in plan.read})
        passages = shown.enter_context(ctx.progress.bar("embed", None, "passages"))
        vectors = Vectors(tables, embedder, held.keys, passages, ctx)
        writer = Writer(ctx, held, embedder.digest, refused)
        portions = Portions(ctx, limits, tally)
        unpacker = shown.enter_context(Unpacker(held, marks, limits))

        def write(groups: Iterable[list[Piece]]) -> None:
            for portion in portions.of(groups):
                writer.write(portion, vectors)

        mails = [todo for todo in boxes if not (is_archive(todo.document) or todo.whole)]
        plain = [todo for todo in plan.read if not holds_documents(todo.document)]
        write(_groups(ctx, plain, limits))
        opened = {todo.document for todo in boxes} - {todo.document for todo in mails}
        write(_bundles(unpacker.pieces(_told(_groups(ctx, boxes, limits), opened, tally)), tally))
        _guard_removals(held, (leaving | unpacker.gone) - unpacker.found, changes.max_removals)
        writer.refuse(plan.refuse)
        writer.drop(sorted(unpacker.gone - unpacker.found))
        # What files are in goes after them: it says that they are all there.
        write(unpacker.unmoved(_groups(ctx, mails, limits)))
        writer.opened(unpacker.archives)
        # Last, so that a file that was only renamed still finds its vectors under the old name.
        writer.drop(sorted({*plan.drop} - unpacker.found))
        writer.sweep([name for name in plan.sweep if name not in unpacker.found])


def _guard_removals(held: corpus.Holdings, leaving: Set[str], share: float) -> None:
    """A file may hold many documents: an archive that was copied by half must not empty the corpus."""
    known = [row.document for row in held.current.values() if row.sha256 and row.state != OPENED]
    lost = sum(name in leaving for name in known)
    if lost > len(known) * share:
        raise RefusedByPolicy(
            f"{lost} of {len(known)} documents would leave the corpus: is a file or an archive incomplete? "
            f"If they are meant to be gone, run again with --allow-removals"
        )


def _check_dimension(tables: Tables, held: corpus.Holdings, embedder: Embedder) -> None:
    """Tables keep vectors of one length: to change it is a person's decision, as every passage is embedded anew."""
    if all(row.embedder in ("", embedder.digest) for row in held.current.values()):
        return
    some = (batch.column("embedding") for batch in tables.scan(corpus.CHUNKS_TABLE, ["embedding"]) if batch.num_rows)
    first = next(some, None)
    there = embedder.dimension if first is None else len(first[0])
    if there != embedder.dimension:
        raise UserError(
            f"the table `chunks` holds vectors of {there} numbers, and {embedder.name} makes {embedder.dimension}: "
            "delete the folder tables/chunks of this target and run again, and every document is embedded anew"
        )


def _fields(limits: Limits) -> Iterator[Any]:
    return (getattr(limits, name) for name in Limits.__slots__)


def make_plan(held: corpus.Holdings, changes: Changes, marks: Marks) -> Plan:
    """What has to be done to be at `changes`, given what the tables hold."""
    current = held.current
    beneath = Beneath(current)
    read: dict[str, Todo] = {}
    for source in changes.changed:
        row = current.get(source.path)
        # A file that holds others is opened even when it is what it was: a run that was cut short while it was another
        # has written of that what it came to.
        whole = row is not None and row.sha256 == source.sha256 and up_to_date(row, held, marks)
        if not whole or holds_documents(source.path):
            stored = row is not None and row.sha256 == source.sha256 and row.state == READY
            read[source.path] = Todo(source.path, source.sha256, source.size, source.modified_ns, stored, whole)
    inside = {name for box in (*changes.removed, *changes.unreadable, *read) for name in beneath.of(box)}
    leaving = {*changes.removed, *changes.unreadable, *inside}
    for row in current.values():
        told = row.document in leaving or row.document in read
        # A file that could not be opened at all is looked at again when its folder is scanned.
        if told or not row.sha256 or up_to_date(row, held, marks):
            continue
        root = beneath.root(row.document)
        box = current[root] if root is not None else row
        # What the file that it is in gives need not be read here as well.
        if row.state != READY or (box.sha256 and not up_to_date(box, held, marks)):
            row = box
        modified = _nanoseconds(row.modified)
        read[row.document] = Todo(row.document, row.sha256, row.length, modified, row.state == READY)
    # A folder may have taken the name of an archive.
    inside = {name for name in inside if beneath.root(name) not in read} - {source.path for source in changes.changed}
    refuse = {path: reason for path, reason in changes.unreadable.items() if not _is_refused(current.get(path), reason)}
    drop = ({path for path in changes.removed if path in current} | inside) - read.keys()
    left = {name for name in (*held.pages, *held.chunks) if name not in current or current[name].state != READY}
    sweep = left - drop - read.keys() - refuse.keys()
    # New names go first: a file that was renamed, and its old name taken by another, then still finds its vectors.
    order = sorted(read.values(), key=lambda todo: (todo.document in current, todo.document))
    return Plan(tuple(order), tuple(sorted(drop)), refuse, tuple(sorted(sweep)))


def _is_refused(row: corpus.Document | None, reason: str) -> bool:
    return row is not None and (row.state, row.sha256, row.reason) == (QUARANTINED, "", reason)


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000) * 1_000


def _groups(ctx: Context, todos: Sequence[Todo], limits: Limits) -> Iterator[list[Piece]]:
    """Documents with their bytes, few enough to be held at once."""
    group: list[Todo] = []
    for todo in todos:
        size = sum(each.size for each in group) + todo.size
        if group and (size > PORTION_BYTES or len(group) == PORTION_DOCUMENTS):
            yield _with_bytes(ctx, group, limits)
            group = []
        group.append(todo)
    if group:
        yield _with_bytes(ctx, group, limits)


def _told(groups: Iterable[list[Piece]], opened: Set[str], tally: Tally) -> Iterator[Piece]:
    """Files one by one; of those that are only `opened` nothing is left to do when the next is asked for."""
    for box in chain.from_iterable(groups):
        yield box
        tally.done({box.document} & opened)


def _bundles(pieces: Iterable[Piece], tally: Tally) -> Iterator[list[Piece]]:
    """Pieces that have their bytes, few enough to be held at once."""
    bundle: list[Piece] = []
    size = 0
    for piece in pieces:
        length = len(piece.content or b"")
        tally.found(piece.document, length)
        if bundle and (size + length > PORTION_BYTES or len(bundle) == PORTION_DOCUMENTS):
            yield bundle
            bundle, size = [], 0
        bundle.append(piece)
        size += length
    if bundle:
        yield bundle


def _with_bytes(ctx: Context, group: list[Todo], limits: Limits) -> list[Piece]:
    stored = _stored(ctx.ports.tables, [todo for todo in group if todo.stored])
    pieces = []
    for todo in group:
        ctx.check()
        piece = Piece(todo.document, todo.known, stored.get((todo.document, todo.known)), todo.modified_ns)
        if piece.content is None:
            _read(ctx.sources, piece, limits)
        pieces.append(piece)
    return pieces


def _stored(tables: Tables, todos: Sequence[Todo]) -> dict[tuple[str, str], bytes | None]:
    if not todos:
        return {}
    match = {"document": [todo.document for todo in todos], "sha256": [todo.known for todo in todos]}
    rows = tables.read(RAW_TABLE, ["document", "sha256", "content"], match).to_pylist()
    return {(row["document"], row["sha256"]): row["content"] for row in rows}


def _read(folder: Path | None, piece: Piece, limits: Limits) -> None:
    """Give a piece its bytes and their digest, or a reason: what is parsed is what is hashed."""
    if folder is None:
        piece.give_up("the folder of documents is not at hand")
        return
    path = folder / piece.document
    try:
        piece.reason = refused(piece.document, path.stat().st_size, limits)
        if piece.reason is not None:
            return
        content = path.read_bytes()
        sha256 = digest_bytes(content)
        # It may have changed since it was seen; that is fine when it stands still now.
        if sha256 == piece.sha256 or digest_bytes(path.read_bytes()) == sha256:
            piece.content, piece.sha256 = content, sha256
        else:
            piece.give_up("it was being changed while it was read")
    except FileNotFoundError:
        piece.give_up("it vanished before it was read")
    except OSError as error:
        piece.give_up(f"cannot be read: {(error.strerror or str(error)).lower()}")
