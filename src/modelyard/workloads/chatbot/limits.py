"""What one document may cost. Everything over a limit is quarantined with a sentence that names the limit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MEGABYTE = 1_000_000
OCR = "tesseract"
OFF, MISSING = "off", "missing"
NEEDS_OCR = "it needs OCR"


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
    ocr: languages by which pages that are pictures are read, as Tesseract names them ("eng+deu"); "off"; or "missing"
        with the language, where this system has no Tesseract or no data for that language.
    ocr_seconds: wall clock for reading one page by OCR; it does not count against the document's.
    """

    max_bytes: int = 200 * MEGABYTE
    max_pages: int = 5_000
    max_glyphs: int = 200_000
    max_characters: int = 50_000_000
    max_decoded: int = 256 * MEGABYTE
    max_members: int = 10_000
    memory_bytes: int = 500 * MEGABYTE
    page_seconds: float = 20.0
    seconds: float = 300.0
    bad_pages: int = 3
    ocr: str = "off"
    ocr_seconds: float = 60.0


def ocr_of(mode: str, languages: Sequence[str]) -> str:
    """What `Limits.ocr` is on this system. mode: "auto" or "off"."""
    if mode == OFF:
        return OFF
    there = _languages()
    lacking = [language for language in languages if language not in there]
    if not there or lacking:
        return f"{MISSING} {lacking[0] if there else OCR}"
    return "+".join(languages)


def ocr_here(settings: Mapping[str, Any]) -> str:
    """What `Limits.ocr` is on this system by a project's settings."""
    return ocr_of(settings.get("ocr", "auto"), settings.get("ocr_languages", ("eng",)))


def looks(ocr: str) -> bool:
    """Whether pages can be read by OCR. ocr: see `Limits`."""
    return ocr != OFF and not ocr.startswith(MISSING)


@lru_cache(maxsize=1)
def _languages() -> frozenset[str]:
    """What Tesseract has data for; empty where there is no Tesseract."""
    program = shutil.which(OCR)
    if program is None:
        return frozenset()
    try:
        said = subprocess.run([program, "--list-langs"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(said.stdout.decode("utf-8", "replace").split("\n")[1:]) - {""}
