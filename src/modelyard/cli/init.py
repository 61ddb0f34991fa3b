"""`modelyard init`."""

from __future__ import annotations

from pathlib import Path

import click

from modelyard import api
from modelyard.workloads import CATALOGUE


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--documents", type=click.Path(path_type=Path), help="A folder of documents that is there already.")
@click.option(
    "--workload", default="chatbot", show_default=True, help=f"{', '.join(sorted(CATALOGUE))}, or module:Class."
)
@click.option("--name", help="The endpoint's name; default: the folder's.")
def init(folder: Path, documents: Path | None, workload: str, name: str | None) -> None:
    """Make a project in FOLDER: modelyard.yml, a documents folder, an exam to fill in."""
    root = api.init(folder, documents=documents, workload=workload, name=name)
    click.echo(f"{root / 'modelyard.yml'}")
    where = documents or root / "documents"
    click.echo(f"Documents are read from {where}. Next: modelyard run -C {folder}")
