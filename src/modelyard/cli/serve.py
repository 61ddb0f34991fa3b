"""`modelyard serve`."""

from __future__ import annotations

from pathlib import Path

import click

from modelyard import api
from modelyard.cli.options import project_options


@click.command()
@project_options
@click.option("--host", help="Default: serve.host of the project file, 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: serve.port of the project file; 0: any free one.")
def serve(folder: Path, target: str, host: str | None, port: int | None) -> int:
    """Serve the champion until Ctrl-C: gateway, a worker process per release in use, chat page.

    Other addresses than loopback need a token: `modelyard token create`, serve.token in the project file, or
    MODELYARD_TOKEN.
    """
    with api.open(folder, target=target) as project:
        champion = project.world.ledger.pointers(project.name).champion
        if champion is None:
            click.echo(f"nothing is deployed in {target} yet: /ready says so until `modelyard run` deploys", err=True)
        return project.serve(
            host=host,
            port=port,
            on_listening=lambda url: click.echo(f"{project.name} ({target}) on {url}    Ctrl-C stops"),
            on_ready=lambda url: click.echo(f"ready: chat page {url}/, operations {url}/ops"),
        )
