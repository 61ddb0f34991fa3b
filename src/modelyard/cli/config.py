"""`modelyard config ...`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from modelyard.cli.options import json_option, print_json, project_options
from modelyard.project.load import find_root, leaves, load
from modelyard.project.secrets import masked


@click.group()
def config() -> None:
    """The project file's values, and where each came from."""


@config.command()
@project_options
@click.option("--origin", is_flag=True, help="Beside each value, where it came from.")
@json_option
def show(folder: Path, target: str, origin: bool, as_json: bool) -> None:
    """Every value in force for the target. Secrets are shown as references, a URL without its password."""
    loaded = load(find_root(folder), target)
    found = leaves(loaded.config.model_dump(mode="json"))
    values = {key: masked(value) if isinstance(value, str) else value for key, value in found}
    if as_json:
        print_json({key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()})
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        shown = json.dumps(value, ensure_ascii=False)
        click.echo(f"{key:<{width}}  {shown}" + (f"    # {loaded.origins[key]}" if origin else ""))
