"""What one document may cost. Everything over a limit is quarantined with a sentence that names the limit."""

from __future__ import annotations

from dataclasses import dataclass

MEGABYTE = 1_000_000


class Unreadable(Exception):
    """What was asked for cannot be read; the message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on reading one document, all inclusive.

    max_bytes: size of the file.
    max_pages: pages of one document.
    max_glyphs: characters drawn on one page.
    max_characters: characters of text in one document.
    max_decoded: bytes one compressed stream of a document may unfold to; for an archive, all that is read of it.
    max_members: files in one archive (an Office document is one).
    memory_bytes: address space the parser may take beyond what it starts with and the file itself (weak on macOS).
    page_seconds: wall clock without a sign of progress; one sign is given per page.
    seconds: wall clock for the whole document.
    bad_pages: pages of one document that may crash or hang the parser before the whole document is given up.
    """

    max_bytes: int = 200 * MEGABYTE
    max_pages: int = 5_000
    max_glyphs: int = 200_000
    max_characters: int = 50_000_000
    max_decoded: int = 256 * MEGABYTE
    max_members: int = 10_000
    memory_bytes: int = 1_000 * MEGABYTE
    page_seconds: float = 20.0
    seconds: float = 300.0
    bad_pages: int = 3
