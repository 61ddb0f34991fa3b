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
    "--workload", help=f"{', '.join(sorted(CATALOGUE))}, or module:Class; default: chatbot, with --model model."
)
@click.option("--model", metavar="URI|FOLDER", help="An MLflow model: its folder, or models:/NAME/VERSION, runs:/...")
@click.option("--exam", type=click.Path(path_type=Path), help="The exam: .jsonl; of a model also .csv, .parquet.")
@click.option("--label", help="The exam's column that a model is to predict.")
@click.option("--name", help="The endpoint's name; default: the folder's.")
def init(
    folder: Path,
    documents: Path | None,
    workload: str | None,
    model: str | None,
    exam: Path | None,
    label: str | None,
    name: str | None,
) -> None:
    """Make a project in FOLDER: modelyard.yml, a documents folder (or a model), an exam to fill in."""

    def note(text: str) -> None:
        click.echo(f"modelyard: {text}", err=True)

    root = api.init(
        folder,
        documents=documents,
        workload=workload,
        name=name,
        model=model,
        exam=exam,
        label=label,
        on_note=note,
    )
    click.echo(f"{root / 'modelyard.yml'}")
    if model is not None:
        click.echo(f"Next: modelyard run -C {folder}")
        return
    where = documents or root / "documents"
    click.echo(f"Documents are read from {where}. Next: modelyard run -C {folder}")
