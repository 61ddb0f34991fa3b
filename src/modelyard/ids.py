"""Identity: canonical JSON, digests, and the short forms people type. Standard library only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_HEX = re.compile(r"[0-9a-f]{8,64}\Z")


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON: UTF-8, sorted keys, no spaces, no floats.

    Two writers of the same value give the same bytes, whatever language they are written in; floats are refused
    because their decimal forms differ between writers (give a string, such as "0.35").

    Raises TypeError for floats, non-string keys and anything JSON has no form for.
    """
    _check(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _check(value: Any, where: str) -> None:
    if isinstance(value, float):
        raise TypeError(f"{where}: a float ({value!r}) has no canonical form; give a string")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is not a string")
            _check(item, f"{where}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for i, item in enumerate(value):
            _check(item, f"{where}[{i}]")
    elif not isinstance(value, str | int | None):
        raise TypeError(f"{where}: {type(value).__name__} has no canonical form")


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def plain(value: Any) -> Any:
    """`value` with floats as their shortest decimal strings and sequences as lists: what `canonical` takes.

    Two floats get the same string only when they are the same number.
    """
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 (64 hex digits) of the bytes, one part after the other."""
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, read in pieces of 1 MiB. Raises OSError."""
    h = hashlib.sha256()
    with path.open("rb") as f:
        while piece := f.read(_CHUNK):
            h.update(piece)
    return h.hexdigest()


def is_prefix(text: str) -> bool:
    """Whether `text` may name an id by its first 8 or more hex digits."""
    return bool(_HEX.match(text))


def short(identity: str) -> str:
    """The first 12 hex digits: what people see."""
    return identity[:12]
