"""`modelyard release rollouts`, and how a rollout is told."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelyard import api
from modelyard.cli.options import json_option, print_json, project_options, table
from modelyard.errors import Unavailable
from modelyard.ids import short
from modelyard.lifecycle.canary import last_word
from modelyard.ports.records import SHADOW, Rollout

if TYPE_CHECKING:
    from modelyard.lifecycle.drill import Drilled


def standing(rollout: Rollout) -> str:
    """Where it is, in words."""
    if not rollout.live:
        return f"{rollout.state}: {rollout.reason}"
    where = "in the shadow" if rollout.stage == SHADOW else f"at {rollout.share} %"
    return where if rollout.state == "running" else f"held {where}: {rollout.reason}"


def say_started(name: str, rollout: Rollout, as_json: bool) -> None:
    """A canary that was started, or is under way."""
    if as_json:
        print_json(asdict(rollout))
        return
    click.echo(
        f"{name}: release {short(rollout.challenger)} is on its way, {standing(rollout)}; release "
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
@project_options
@json_option
def rollouts(folder: Path, target: str, as_json: bool) -> None:
    """Canaries: where each is and what it waits for, or what became of it; newest first."""
    with api.open(folder, target=target) as project:
        found = project.rollouts()
        words = {one.id: last_word(project.world.layout.trials / one.id) if one.live else None for one in found}
    if as_json:
        print_json([{**asdict(one), "last": words[one.id]} for one in found])
        return
    table(
        [[one.started[:19], short(one.challenger), short(one.champion), one.state, standing(one)] for one in found],
        ["STARTED", "RELEASE", "AGAINST", "STATE", "STANDING"],
    )
    for word in filter(None, words.values()):
        click.echo(f"\nlooked at {word['at'][:19]}: {word['verdict']}")
        for reason in word["reasons"]:
            click.echo(f"  {reason}")
