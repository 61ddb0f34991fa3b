"""Who may see which document: rules of the project file and files beside the documents, resolved once a snapshot.

Every statement is about a path, and holds for the document there or for all below the folder there. The one about the
longest path decides: nearest wins. About the same path a file beside the documents goes before the project file.
Groups of several statements are never added up.

    hr/.access.yml                groups: [hr]              all of hr/
    hr/menu.pdf.access.yml        groups: public            hr/menu.pdf alone
    access: {default: public, rules: [{folder: finance/**, groups: [finance, board]}]}
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelyard.errors import UserError

PUBLIC = "public"
MOST_BYTES = 100_000
# In any case of letters: what is meant to close a document must not be passed over for its spelling.
_SIDECAR = re.compile(r"(?si)(.*)\.access\.ya?ml\Z")

Groups = tuple[str, ...] | None
"""Who may see something: names, sorted, of which a caller must have one; None for everybody."""
Access = Mapping[str, tuple[str, ...]]
"""{document: groups}. A document that is not in it is for everybody."""


@dataclass(frozen=True)
class Statement:
    """That `groups` may see what is at or below `path` ("" for everything); `where` says who says so."""

    path: str
    groups: Groups
    where: str


@dataclass(frozen=True)
class Resolved:
    """Who may see each document; and the statements that say nothing of any."""

    access: Access
    idle: tuple[Statement, ...] = ()


def is_sidecar(name: str) -> bool:
    """Whether a file of this name (or path) says who may see others, and is no document.

    >>> [is_sidecar(name) for name in (".access.yml", "hr/a.pdf.Access.YAML", "access.yml")]
    [True, True, False]
    """
    return _SIDECAR.match(name) is not None


def read_groups(value: Any) -> Groups:
    """The groups of a statement: `public`, or a list of names. Raises ValueError for anything else: what is meant to
    close a document must not fail to."""
    if value == PUBLIC:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError("groups is a list of names, or the word public")
    for name in value:
        if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable():
            raise ValueError(f"{name!r} is no name of a group: text without blanks around it is expected")
        if name == PUBLIC:
            raise ValueError("public is no group: `groups: public` is for everybody")
    return tuple(sorted(set(value)))


def read_folder(text: str) -> str:
    """The path that a rule is about, "" for everything. Raises ValueError."""
    path = _same(text.removesuffix("**").strip("/"))
    if any(c in path for c in "*?[\\") or any(part in (".", "..", "") for part in path.split("/") if path):
        raise ValueError(f"{text!r}: a folder below the documents folder is expected: hr, hr/ or hr/**")
    return path


def rules_of(settings: Mapping[str, Any]) -> tuple[Groups, list[Statement]]:
    """The default, and the rules, of a section `access` as the project file has it. Raises ValueError."""
    default = read_groups(settings.get("default", PUBLIC))
    rules = [
        Statement(read_folder(rule["folder"]), read_groups(rule["groups"]), f"the rule for {rule['folder']}")
        for rule in settings.get("rules") or ()
    ]
    if twice := _twice(rules):
        raise ValueError(f"two rules for {twice[1].path or 'everything'!r}")
    return default, rules


def beside(folder: Path) -> list[Statement]:
    """What the files beside the documents say, in order of their paths. Hidden folders are left out, and links to
    folders not followed, as for documents.

    Raises UserError for a file or folder that cannot be read or understood: it may be what keeps a document from
    strangers.
    """
    found = [_read(folder, path) for path in _sidecars(folder)]
    if twice := _twice(found):
        what = f"{twice[1].path!r}" if twice[1].path else "everything"
        raise UserError(f"{twice[0].where} and {twice[1].where} both say who may see {what}: one of them must go")
    return found


def _sidecars(folder: Path) -> Iterator[Path]:
    def unlisted(error: OSError) -> None:
        raise UserError(f"the folder {error.filename} cannot be listed: {error.strerror}") from None

    for home, folders, files in os.walk(folder, onerror=unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # Of a document's name that begins with a dot there is no document.
        yield from (Path(home, name) for name in sorted(files) if is_sidecar(name))


def _read(folder: Path, path: Path) -> Statement:
    where = path.relative_to(folder).as_posix()
    found = _SIDECAR.match(where)
    target = _same(found[1].rstrip("/")) if found else ""
    try:
        text = path.read_bytes()
        if len(text) > MOST_BYTES:
            raise UserError(f"{path}: {len(text):,} bytes are too many for a list of groups")
        value = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"{path}: not valid YAML: `groups: [NAME, ...]` is expected") from None
    if not isinstance(value, dict) or set(value) != {"groups"}:
        raise UserError(f"{path}: `groups: [NAME, ...]` or `groups: public` is expected, and nothing else")
    try:
        return Statement(target, read_groups(value["groups"]), where)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _twice(statements: Iterable[Statement]) -> tuple[Statement, Statement] | None:
    seen: dict[str, Statement] = {}
    for one in statements:
        if (other := seen.setdefault(one.path, one)) is not one:
            return other, one
    return None


def resolve(
    documents: Iterable[str], default: Groups, rules: Sequence[Statement], files: Sequence[Statement]
) -> Resolved:
    """Who may see each of `documents`. Pure.

    >>> resolve(["hr/a.md", "b.md"], None, [Statement("hr", ("hr",), "a rule")], []).access
    {'hr/a.md': ('hr',)}
    """
    nearest = {one.path: one for one in (*rules, *files)}
    met: set[str] = set()
    access: dict[str, tuple[str, ...]] = {}
    for document in sorted(documents):
        said = [path for path in _at_and_above(_same(document)) if path in nearest]
        met.update(said)
        groups = nearest[said[0]].groups if said else default
        if groups is not None:
            access[document] = groups
    return Resolved(access, tuple(one for one in (*rules, *files) if one.path not in met))


def _at_and_above(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _same(path: str) -> str:
    # A file system (that of macOS) may spell a name otherwise than the editor of the project file.
    return unicodedata.normalize("NFC", path)


def allowed(access: Access, document: str, groups: frozenset[str] | None) -> bool:
    """Whether a caller of these groups may see the document; of `groups` None everything may be seen."""
    return groups is None or document not in access or not groups.isdisjoint(access[document])
