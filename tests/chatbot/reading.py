"""Files to rows as the product reads them, in a real child, and Office files written by hand."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

import pyarrow as pa

from modelyard.workloads.chatbot.chunk import chunk_pages
from modelyard.workloads.chatbot.continued import with_heads
from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.schemas import PAGES, SOURCES

Rows = list[dict[str, Any]]
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def read(files: dict[str, bytes], limits: Limits | None = None) -> Rows:
    """The rows of the files; checks that the chunks of each page rebuild its text."""
    rows = [
        {"document": name, "sha256": hashlib.sha256(content).hexdigest(), "content": content}
        for name, content in files.items()
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=SOURCES)
    out = list(read_documents(iter([batch]), limits or Limits()))
    assert all(piece.schema == PAGES for piece in out)
    found = [row for piece in out for row in piece.to_pylist()]
    check_spans(out, found)
    return found


def check_spans(batches: list[pa.RecordBatch], rows: Rows) -> None:
    """The promise of schemas.CHUNKS: spans follow each other without gap and cover the page."""
    chunks = [chunk for batch in chunk_pages(with_heads(batches)) for chunk in batch.to_pylist()]
    for row in rows:
        own = [c for c in chunks if (c["document"], c["page"]) == (row["document"], row["page"])]
        assert "".join(chunk["text"] for chunk in own) == (row["text"] if row["text"].strip() else "")
        assert all(row["text"][chunk["start"] : chunk["end"]] == chunk["text"] for chunk in own)


def texts(name: str, content: bytes) -> list[str]:
    """The texts of the pages of one file that can be read."""
    rows = read({name: content})
    assert not [row["reason"] for row in rows if row["reason"]]
    return [row["text"] for row in rows]


def reason(name: str, content: bytes, limits: Limits | None = None) -> str:
    """Why one file cannot be read."""
    [row] = read({name: content}, limits)
    assert row["page"] == 0 and row["text"] == ""
    assert isinstance(row["reason"], str) and "\n" not in row["reason"]
    return row["reason"]


def archive(members: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP file of these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return out.getvalue()


def relations(**targets: str) -> str:
    """A part of relations: kind to target, with the kind as the id."""
    rows = "".join(f'<Relationship Id="{k}" Type="{OFFICE}/{k}" Target="{t}"/>' for k, t in targets.items())
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{rows}</Relationships>'


def word(body: str, declared: str = "", **parts: str) -> bytes:
    """A Word document with this body; parts: footnotes, styles and the like by kind."""
    members: dict[str, bytes | str] = {
        "_rels/.rels": relations(officeDocument="word/document.xml"),
        "word/document.xml": f'<?xml version="1.0"?>{declared}<w:document {W}><w:body>{body}</w:body></w:document>',
        "word/_rels/document.xml.rels": relations(**{kind: f"{kind}.xml" for kind in parts}),
    }
    return archive(members | {f"word/{kind}.xml": text for kind, text in parts.items()})


def p(text: str, properties: str = "") -> str:
    """A paragraph of Word with one run."""
    return f"<w:p>{properties and f'<w:pPr>{properties}</w:pPr>'}<w:r><w:t>{text}</w:t></w:r></w:p>"
