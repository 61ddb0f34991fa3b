"""`modelyard token`: who may ask, as member of which groups, and how much."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from modelyard import api
from modelyard.cli.options import json_option, print_json, project_options, shown_name, table
from modelyard.clock import stamp
from modelyard.lifecycle import tokens as lifecycle
from modelyard.ports.tokens import Limits, Spent
from modelyard.units import parse_duration
from modelyard.wiring import open_tokens


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"\s*([1-9][0-9]{0,11})\s*(/\s*min(ute)?)?\s*", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no rate such as 60/min")
    return int(match[1])


def _duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


BUDGET = click.IntRange(1, 10**12)


@click.group()
def token() -> None:
    """Tokens that let callers in: create, list, revoke."""


@token.command()
@project_options
@click.option(
    "--scope",
    type=click.Choice(["query", "operate"]),
    default="query",
    show_default=True,
    help="query: answers. operate: also promote, roll back, operations page, metrics.",
)
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Who has it is a member; several times.")
@click.option("--name", default="", help="What people call it; of one live token at a time.")
@click.option("--rate", metavar="N/min", callback=_rate, help="Most requests a minute.")
@click.option(
    "--token-rate", metavar="N/min", callback=_rate, help="Most tokens of usage a minute, prompt and answer together."
)
@click.option("--daily-budget", type=BUDGET, metavar="N", help="Most requests a day (UTC).")
@click.option("--daily-token-budget", type=BUDGET, metavar="N", help="Most tokens of usage a day (UTC).")
@click.option(
    "--expires", metavar="DURATION", callback=_duration, help="After how long it ends, such as 30d. Default: never."
)
@json_option
def create(
    folder: Path,
    target: str,
    scope: Any,
    groups: tuple[str, ...],
    name: str,
    rate: int | None,
    token_rate: int | None,
    daily_budget: int | None,
    daily_token_budget: int | None,
    expires: float | None,
    as_json: bool,
) -> None:
    """Make a token. Its secret is printed once, and kept nowhere: only its SHA-256 is."""
    limits = Limits(rate, token_rate, daily_budget, daily_token_budget)
    with api.open(folder, target=target) as project, closing(open_tokens(project.world.layout)) as tokens:
        world = project.world
        secret, made = lifecycle.create(
            tokens, world.clock, world.who, scope=scope, groups=groups, limits=limits, name=name, expires_in=expires
        )
        about = lifecycle.described(made, Spent(), stamp(world.clock.now()))
    if as_json:
        print_json({"token": secret, **about})
        return
    click.echo(secret)
    click.echo(f"token {made.id} for {target}: keep it now, it is shown this once", err=True)


@token.command("list")
@project_options
@click.option("--all", "everything", is_flag=True, help="Revoked and expired ones too.")
@json_option
def list_(folder: Path, target: str, everything: bool, as_json: bool) -> None:
    """Tokens, without their secrets; what each used today (UTC) is as of some seconds ago."""
    with api.open(folder, target=target) as project, closing(open_tokens(project.world.layout)) as tokens:
        found = lifecycle.listing(tokens, project.world.clock)
    rows = [one for one in found if everything or one["state"] == "live"]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo(f"no {'' if everything else 'live '}tokens in {target}: `modelyard token create` makes one")
        return
    table(
        [
            [
                f"my_{one['id']}",
                shown_name(one["name"]) or "-",
                one["scope"],
                shown_name(", ".join(one["groups"])) or "-",
                one["state"],
                _used(one),
                one["used"] or "never",
            ]
            for one in rows
        ],
        ["TOKEN", "NAME", "SCOPE", "GROUPS", "STATE", "TODAY", "LAST USED"],
    )


def _used(one: dict[str, Any]) -> str:
    limits, spent = one["limits"], one["spent_today"]
    most = f"/{limits['requests_per_day']}" if limits["requests_per_day"] else ""
    tokens = f", {spent['tokens']}/{limits['tokens_per_day']} tokens" if limits["tokens_per_day"] else ""
    return f"{spent['requests']}{most} requests{tokens}"


@token.command()
@click.argument("name")
@project_options
@json_option
def revoke(name: str, folder: Path, target: str, as_json: bool) -> None:
    """End a token, by id or name. A running gateway knows within a second."""
    name = match[1] if (match := re.match(r"my_([0-9a-f]{10})(?:_|\Z)", name)) else name
    with api.open(folder, target=target) as project, closing(open_tokens(project.world.layout)) as tokens:
        now = stamp(project.world.clock.now())
        about = lifecycle.described(tokens.revoke(name, now), Spent(), now)
    if as_json:
        print_json(about)
    else:
        click.echo(f"token {about['id']} is revoked since {about['revoked']}")
