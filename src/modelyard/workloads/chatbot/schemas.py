"""The tables between documents and chunks, as Arrow schemas, and the version of what fills them.

Offsets are positions in the page's `text`, counted in Unicode code points. Boxes are in PDF points, origin at the top
left of the page as it is shown. Pages count from 1.
"""

from __future__ import annotations

import pyarrow as pa

PARSER_VERSION = "3"
CHUNKER_VERSION = "2"

prepare_version = f"parse-{PARSER_VERSION}+chunk-{CHUNKER_VERSION}"
"""Names what turns bytes into chunks: the same bytes under the same version always give the same chunks."""

SOURCES = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("content", pa.binary()),
    ]
)
"""One file a row: path in the documents folder (posix), hash of the bytes, the bytes."""

WORD = pa.struct(
    [
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("x0", pa.float32()),
        pa.field("y0", pa.float32()),
        pa.field("x1", pa.float32()),
        pa.field("y1", pa.float32()),
    ]
)
"""Where the characters [start, end) of the page's text stand on the page."""

HEADING = pa.struct(
    [
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("level", pa.int32()),
        pa.field("path", pa.string()),
    ]
)
"""A heading line of the page, and the heading path in force from there on (itself last)."""

PAGES = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("words", pa.list_(WORD), nullable=False),
        pa.field("width", pa.float32(), nullable=False),
        pa.field("height", pa.float32(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("period", pa.string(), nullable=False),
        pa.field("section", pa.string(), nullable=False),
        pa.field("headings", pa.list_(HEADING), nullable=False),
        pa.field("quality", pa.float32(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
"""One page a row. `reason` is null for good rows; a page that cannot be read has its number, no text and a reason; a
document that cannot be read has one row with page 0 and a reason."""

CHUNKS = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("period", pa.string(), nullable=False),
        pa.field("section", pa.string(), nullable=False),
        pa.field("header", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""One span of a page a row: `text` is the page's text[start:end]; the spans of a page follow each other without gap and
cover its text. `header` is embedded and indexed with the text, never quoted."""
