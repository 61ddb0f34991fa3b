"""`modelyard data ...`: the corpus, and what was recorded."""

from __future__ import annotations

from pathlib import Path

import click

from modelyard import api
from modelyard.cli.options import json_option, print_json, project_options, shown_name, table


@click.group()
def data() -> None:
    """What is in the corpus, what could not be read, what was asked and answered."""


@data.command()
@project_options
@json_option
def status(folder: Path, target: str, as_json: bool) -> None:
    """Each document and what became of it."""
    with api.open(folder, target=target) as project:
        rows = project.documents()
    if as_json:
        keys = ("document", "state", "pages", "chunks", "words")
        print_json([{**{k: r[k] for k in keys}, "groups": r.get("groups")} for r in rows])
        return
    lines = [[shown_name(r["document"]), r["state"], str(r["pages"]), str(r["chunks"]), str(r["words"])] for r in rows]
    head = ["DOCUMENT", "STATE", "PAGES", "CHUNKS", "WORDS"]
    if any(r.get("groups") is not None for r in rows):
        lines = [[*line, _seen_by(r.get("groups"))] for line, r in zip(lines, rows, strict=True)]
        head.append("GROUPS")
    table(lines, head)


@data.command()
@project_options
@json_option
def quarantine(folder: Path, target: str, as_json: bool) -> None:
    """What could not be read, and why."""
    with api.open(folder, target=target) as project:
        rows, known = project.quarantine(), bool(project.documents())
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{shown_name(row['document'])}: {shown_name(row['reason'])}")
    if not rows:
        click.echo("everything was read" if known else "nothing was read yet: `modelyard run` reads the documents")


@data.command()
@project_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--schema",
    type=click.Choice(["ai-gateway", "legacy", "model-services"]),
    default="ai-gateway",
    show_default=True,
    help="Whose names the columns have, of those that Databricks has published.",
)
def inference(folder: Path, target: str, file: Path, schema: str) -> None:
    """Write what was asked and answered to a Parquet FILE."""
    with api.open(folder, target=target) as project:
        rows = project.export_inference(file, schema)
    click.echo(f"{file}: {rows:,} requests")


def _seen_by(groups: list[str] | None) -> str:
    if groups is None:
        return "everybody"
    return ", ".join(groups) or "nobody"
