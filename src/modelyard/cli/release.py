"""`modelyard release ...`: the registry seen as releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelyard import api
from modelyard.cli.options import json_option, print_json, project_options, table
from modelyard.cli.rollout import rollouts, say_drilled, say_started
from modelyard.errors import ModelyardError
from modelyard.ids import short
from modelyard.ports.records import Rollout
from modelyard.units import show_size


@click.group()
def release() -> None:
    """Releases by id, by a unique prefix of 8 digits, as v7, or as champion, challenger, previous."""


@release.command("list")
@project_options
@json_option
def list_(folder: Path, target: str, as_json: bool) -> None:
    """All releases, newest first."""
    with api.open(folder, target=target) as project:
        rows = project.releases()
    if as_json:
        print_json(rows)
        return
    table(
        [
            [
                short(r["id"]),
                f"v{r['version']}" if r["version"] else "-",
                r["created"][:19],
                r["state"],
                " ".join(r["aliases"]),
            ]
            for r in rows
        ],
        ["RELEASE", "VERSION", "CREATED", "STATE", "ALIASES"],
    )


@release.command()
@click.argument("name")
@project_options
@json_option
def show(name: str, folder: Path, target: str, as_json: bool) -> None:
    """Everything known of a release."""
    with api.open(folder, target=target) as project:
        found = project.describe(name)
    if as_json:
        print_json(found)
        return
    click.echo(f"release   {found['id']}")
    click.echo(f"version   {found['version'] or '-'}    state {found['state']}    {' '.join(found['aliases'])}")
    click.echo(f"created   {found['created']}")
    if found["documents"] is not None:
        click.echo(f"holds     {found['documents']} documents, {show_size(found['bytes'])}")
    click.echo(f"snapshot  {found['manifest']['snapshot']}")
    if found["verdict"]:
        click.echo(f"gate      {found['verdict']} (modelyard explain {short(found['decision'])})")
    for metric, figure in found["metrics"].items():
        click.echo(f"  {metric:<22} {figure['value']:.3f}  ({_interval(figure)}, n={figure['n']})")
    if found["mlflow"]["model_uri"]:
        click.echo(f"mlflow    MLFLOW_TRACKING_URI={found['mlflow']['tracking_uri']} {found['mlflow']['model_uri']}")


def _interval(figure: dict[str, Any]) -> str:
    if figure["low"] is None or figure["high"] is None:
        return "no interval"
    return f"{figure['low']:.3f} to {figure['high']:.3f}"


@release.command()
@click.argument("old")
@click.argument("new")
@project_options
@json_option
def diff(old: str, new: str, folder: Path, target: str, as_json: bool) -> None:
    """What lies between two releases: documents, prompt lines, settings, answers."""
    with api.open(folder, target=target) as project:
        found = project.diff(old, new)
    if as_json:
        print_json(found)
        return
    for what in ("documents", "members"):
        for sign, kind in (("+", "added"), ("-", "removed"), ("~", "changed")):
            for name in found[what][kind]:
                click.echo(f"{sign} {what[:-1]} {name}")
    for name, groups in found["access"].items():
        shown = ("everybody" if g is None else ", ".join(g) or "nobody" for g in (groups["old"], groups["new"]))
        click.echo(f"~ access {name}: {' -> '.join(shown)}")
    for name, lines in found["lines"].items():
        click.echo(f"~ {name}")
        for line in lines:
            click.echo(f"    {line}")
    for key, value in found["settings"].items():
        click.echo(f"~ setting {key}: {value['old']} -> {value['new']}")
    answers = found["answers"]
    click.echo(f"{len(answers['changed'])} of {answers['compared']} answers changed")
    for change in answers["changed"]:
        click.echo(f"~ {change['question'] or change['case']}")
        click.echo(f"    - {change['old']}")
        click.echo(f"    + {change['new']}")


@release.command()
@click.argument("name")
@click.argument("endpoint", required=False)
@project_options
@click.option("--canary", is_flag=True, help="By steps that decide for themselves: rollout in the project file.")
@click.option("--why", default="", help="Written into the history.")
@json_option
def promote(name: str, endpoint: str | None, folder: Path, target: str, canary: bool, why: str, as_json: bool) -> None:
    """Make a release the champion: judged, warmed, then the pointer moves; with --canary by steps. Of ENDPOINT, where
    it is another than the project's own."""
    with api.open(folder, target=target) as project:
        go = project.canary if canary else project.promote
        done = go(name, why, endpoint=endpoint)
        if isinstance(done, Rollout):
            say_started(done, as_json)
            return
        if canary and done.before != done.release.id:
            click.echo("no canary: without a gateway that serves there is no traffic to go by", err=True)
        _moved(project, endpoint, done, as_json)


@release.command()
@click.argument("endpoint", required=False)
@project_options
@click.option("--to", help="A release that was champion before; default: the previous one.")
@click.option("--why", default="", help="Written into the history.")
@click.option("--drill", is_flag=True, help="Prove that it would work, and change nothing of what is served.")
@json_option
def rollback(
    endpoint: str | None, folder: Path, target: str, to: str | None, why: str, drill: bool, as_json: bool
) -> None:
    """Go back to the previous champion; from a canary under way, to the champion. Needs no exam. Of ENDPOINT, where it
    is another than the project's own."""
    with api.open(folder, target=target) as project:
        if drill:
            say_drilled(project.drill(to, endpoint=endpoint), as_json)
            return
        _moved(project, endpoint, project.rollback(to, why, endpoint=endpoint), as_json)


def _moved(project: api.Project, endpoint: str | None, moved: Any, as_json: bool) -> None:
    value = {
        "release": moved.release.id,
        "version": moved.release.version,
        "before": moved.before,
        "generation": moved.generation,
        "unproven": moved.unproven,
        "warnings": list(moved.warnings),
    }
    if as_json:
        print_json(value)
    else:
        for warning in moved.warnings:
            click.echo(f"warning: {'unproven: ' * moved.unproven}{warning}", err=True)
        before = f" (before: {short(moved.before)})" if moved.before else ""
        click.echo(f"{endpoint or project.name} serves release {short(moved.release.id)}{before}")
    if endpoint not in (None, project.name):
        return  # the registry's aliases are those of the project's own endpoint
    try:
        project.follow()
    except ModelyardError as e:
        # The pointer has moved: what shows it elsewhere is brought in line by the next command that can.
        click.echo(f"warning: the registry's aliases do not follow yet: {e}", err=True)


release.add_command(rollouts)


@release.command()
@click.argument("endpoint", required=False)
@project_options
@json_option
def history(endpoint: str | None, folder: Path, target: str, as_json: bool) -> None:
    """Every move of the pointer, newest first. Of ENDPOINT, where it is another than the project's own."""
    with api.open(folder, target=target) as project:
        moves = project.history(endpoint=endpoint)
    rows: list[dict[str, Any]] = [
        {
            "generation": m.pointers.generation,
            "champion": m.pointers.champion,
            "challenger": m.pointers.challenger,
            "previous": m.pointers.previous,
            "traffic": dict(m.pointers.traffic),
            "who": m.who,
            "why": m.why,
            "decision": m.decision,
            "at": m.at,
        }
        for m in moves
    ]
    if as_json:
        print_json(rows)
        return
    table(
        [
            [
                str(r["generation"]),
                str(r["at"])[:19],
                _id(r["champion"]),
                _id(r["challenger"]) + "".join(f" {p} %" for n, p in r["traffic"].items() if n == r["challenger"]),
                str(r["who"]),
                str(r["why"]),
            ]
            for r in rows
        ],
        ["MOVE", "AT", "CHAMPION", "CHALLENGER", "WHO", "WHY"],
    )


def _id(identity: Any) -> str:
    return short(identity) if identity else "-"


@release.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@project_options
def export(name: str, path: Path, folder: Path, target: str) -> None:
    """Write a release to one file."""
    with api.open(folder, target=target) as project:
        written = project.export(name, path)
    click.echo(f"{written} ({show_size(written.stat().st_size)})")


@release.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@project_options
@json_option
def import_(path: Path, folder: Path, target: str, as_json: bool) -> None:
    """Take in an exported release, under the same id."""
    with api.open(folder, target=target) as project:
        found = project.import_(path)
    if as_json:
        print_json({"id": found.id, "state": found.state})
        return
    click.echo(f"release {short(found.id)} is here; `modelyard evaluate {short(found.id)}` judges it")
