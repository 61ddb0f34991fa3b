"""`modelyard release rollouts`, and how a rollout is told."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelyard import api
from modelyard.cli.options import json_option, print_json, project_options, table
from modelyard.errors import ModelyardError, Unavailable
from modelyard.ids import short
from modelyard.ports.records import SHADOW, Rollout

if TYPE_CHECKING:
    from modelyard.lifecycle.drill import Drilled


def standing(rollout: Rollout) -> str:
    """Where it is, in words."""
    if not rollout.live:
        return f"{rollout.state}: {rollout.reason}"
    where = "in the shadow" if rollout.stage == SHADOW else f"at {rollout.share} %"
    return where if rollout.state == "running" else f"held {where}: {rollout.reason}"


def say_started(rollout: Rollout, as_json: bool) -> None:
    """A canary that was started, or is under way."""
    if as_json:
        print_json(asdict(rollout))
        return
    click.echo(
        f"{rollout.endpoint}: release {short(rollout.challenger)} is on its way, {standing(rollout)}; release "
        f"{short(rollout.champion)} stays champion until the gateway decides (modelyard release rollouts)"
    )


def say_drilled(done: Drilled, as_json: bool) -> None:
    """One line; raises Unavailable where the release did not answer all it was asked."""
    if as_json:
        print_json(done.to_json())
    else:
        click.echo(
            f"a rollback to release {short(done.release)} would move the pointer in {done.pointer_ms:.1f} ms, and the "
            f"gateway would follow within {done.noticed_ms:.0f} ms; it is warm, and answered {done.answered} of "
            f"{done.probes} questions"
            + (f" (median {done.answer_ms:.0f} ms)" if done.answer_ms is not None else "")
            + "; nothing was changed"
        )
    if done.failures:
        raise Unavailable(f"release {short(done.release)} did not answer a question of the exam: {done.failures[0]}")


@click.command()
@click.argument("endpoint", required=False)
@project_options
@json_option
def rollouts(endpoint: str | None, folder: Path, target: str, as_json: bool) -> None:
    """Canaries: where each is and what it waits for, or what became of it; newest first. Of ENDPOINT, where it is
    another than the project's own."""
    with api.open(folder, target=target) as project:
        found = project.rollouts(endpoint=endpoint)
        words = {one.id: project.last_word(one) for one in found}
        now = _at_gateway(project, endpoint) if any(one.live for one in found) else None
    tests = {now["id"]: now["tests"]} if now is not None else {}
    if as_json:
        print_json([{**asdict(one), "last": words[one.id], "tests": tests.get(one.id, [])} for one in found])
        return
    table(
        [[one.started[:19], short(one.challenger), short(one.champion), one.state, standing(one)] for one in found],
        ["STARTED", "RELEASE", "AGAINST", "STATE", "STANDING"],
    )
    for one in found:
        word = words[one.id]
        if word is not None:
            click.echo(f"\nlooked at {word['at'][:19]}: {word['verdict']}")
            for reason in word["reasons"]:
                click.echo(f"  {reason}")
        if now is not None and now["id"] == one.id and tests[one.id]:
            _say_tests(now)


def _at_gateway(project: api.Project, endpoint: str | None) -> dict[str, Any] | None:
    """What the gateway has in mind; where it does not say, the rest is told all the same."""
    try:
        now = project.under_way(endpoint=endpoint)
    except ModelyardError as error:
        click.echo(f"warning: the gateway does not tell how the tests stand: {error}", err=True)
        return None
    return now if now is not None and now["next"] is not None else None


_WORDS = {
    "shown": "within the margin",
    "unsure": "more units needed",
    "waiting": "no figure of both yet",
    "against": "against it",
}


def _say_tests(now: dict[str, Any]) -> None:
    """The figures of each test, and what the next step would come to."""
    rows = [
        [
            test["test"],
            _failed(test, "champion"),
            _failed(test, "challenger"),
            f"{_points(test['value'])} ({_points(test['low'])} to {_points(test['high'])})",
            _points(test["at_next"]),
            _points(test["margin"]),
            _WORDS[test["state"]],
        ]
        for test in now["tests"]
        if test["state"] != "aside"
    ]
    if rows:
        level = f"{100 * (1 - now['alpha']):g} %"
        click.echo()
        head = ["CHAMPION", "CHALLENGER", f"DIFFERENCE ({level})", f"AT {now['next']} %", "MARGIN", ""]
        table(rows, ["TEST", *head])
    aside = [test["test"] for test in now["tests"] if test["state"] == "aside"]
    if aside:
        click.echo(f"not measured here: {', '.join(aside)}")


def _failed(test: dict[str, Any], arm: str) -> str:
    """Units that failed, of those that settled: of an arm, and of those that both answered."""
    units, failed = test[arm]
    pairs, champion, challenger = test["shadow"]
    out = [f"{failed:,} of {units:,}"] if units else []
    out += [f"{challenger if arm == 'challenger' else champion:,} alone of {pairs:,} in the shadow"] if pairs else []
    return ", ".join(out) or "-"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
