"""Files to pages, as a pure function of Arrow batches: any engine may run it, and one bad file costs one file."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from modelyard.workloads.chatbot.limits import MEGABYTE, Limits
from modelyard.workloads.chatbot.reading.formats import SUPPORTED, unsupported, wrong_type
from modelyard.workloads.chatbot.sandbox import Died, Refused, Sandbox
from modelyard.workloads.chatbot.schemas import PAGES

__all__ = ["SUPPORTED", "read_documents", "refusal", "unreadable"]


def read_documents(batches: Iterator[pa.RecordBatch], limits: Limits) -> Iterator[pa.RecordBatch]:
    """SOURCES rows to PAGES rows, document by document, in order.

    Every document gives at least one row: its pages, or one row with page 0 and the reason why it cannot be read. A
    null `content` stands for a file that was too large to be read.
    Raises ModelyardError where the parser process cannot be started at all.
    """
    with Sandbox(limits) as sandbox:
        for batch in batches:
            names, hashes, contents = (batch.column(name) for name in ("document", "sha256", "content"))
            for at in range(batch.num_rows):
                content = contents[at].as_buffer() if contents[at].is_valid else None
                yield from _read(sandbox, names[at].as_py(), hashes[at].as_py(), content, limits)


def refusal(document: str, size: int, limits: Limits) -> str | None:
    """Why a file of this name and size (bytes) is not even read; None where it may be."""
    if (why := unsupported(document)) is not None:
        return why
    if size == 0:
        return "the file is empty (zero bytes)"
    if size > limits.max_bytes:
        return f"the file is {size / MEGABYTE:,.1f} MB, larger than the limit of {limits.max_bytes / MEGABYTE:,.1f} MB"
    return None


def unreadable(document: str, sha256: str, reason: str) -> pa.RecordBatch:
    """The one row of a document that cannot be read."""
    row = {
        "document": document,
        "sha256": sha256,
        "page": 0,
        "text": "",
        "words": [],
        "width": 0.0,
        "height": 0.0,
        "title": "",
        "period": "",
        "section": "",
        "headings": [],
        "quality": 0.0,
        "reason": reason,
        "ocr": None,
    }
    return pa.RecordBatch.from_pylist([row], schema=PAGES)


def _read(
    sandbox: Sandbox, document: str, sha256: str, content: pa.Buffer | None, limits: Limits
) -> Iterator[pa.RecordBatch]:
    size = content.size if content is not None else limits.max_bytes + 1
    reason = refusal(document, size, limits)
    if reason is None and content is not None:
        reason = wrong_type(document, bytes(content[:1024]))
    if reason is not None or content is None:
        yield unreadable(document, sha256, reason or "the file was not read")
        return
    skip: dict[str, str] = {}
    while True:
        try:
            arguments = {"document": document, "sha256": sha256, "skip": skip}
            # A document's rows go out together or not at all.
            streams = list(sandbox.run("parse", arguments, content))
            break
        except Refused as refused:
            yield unreadable(document, sha256, str(refused))
            return
        except Died as died:
            if died.page is None or len(skip) >= limits.bad_pages:
                yield unreadable(document, sha256, str(died))
                return
            # The page that brought the parser down is set aside, and the others are read without it.
            skip[str(died.page)] = str(died)
    for stream in streams:
        yield from pa.ipc.open_stream(stream)
