"""Options every command has, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unicodedata import category

import click

F = TypeVar("F", bound=Callable[..., Any])


def project_options(command: F) -> F:
    """-C/--project, -t/--target: which project, as which target sees it."""
    command = click.option(
        "-t", "--target", default="test", show_default=True, help="The target: test, staging, prod."
    )(command)
    return click.option(
        "-C",
        "--project",
        "folder",
        type=click.Path(path_type=Path),
        default=Path(),
        help="The project's folder; default: here, or the nearest above.",
    )(command)


def group_option(command: F) -> F:
    """--group: as whom to ask."""
    return click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="GROUP",
        help="Ask as a member of this group; may be given several times. Default: of no group.",
    )(command)


def json_option(command: F) -> F:
    """--json: the whole result for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def print_json(value: Any) -> None:
    """One value, readable; characters of all languages as they are."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_line(value: Any) -> None:
    """One value on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def table(rows: list[list[str]], head: list[str]) -> None:
    """Columns, as wide as they need to be."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shown(text: str) -> str:
    """Names and words that others wrote, for a terminal: what would control it is escaped."""
    return "".join(c if c.isprintable() or category(c) != "Cc" or c in "\n\t" else _escaped(c) for c in text)


def shown_name(name: str) -> str:
    """A file's name on one line: it may hold newlines, and characters that turn the direction of what follows."""
    return "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
