"""`modelyard run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelyard import api
from modelyard.cli.evaluate import insist
from modelyard.cli.options import json_option, print_json, project_options
from modelyard.cli.progress import Bars
from modelyard.cli.rollout import standing
from modelyard.errors import GateAbstained, GateFailed
from modelyard.ids import short
from modelyard.lifecycle.unchanged import STEPS, Outcome

CANARY_STARTED = 5


@click.command()
@project_options
@click.option("--only", type=click.Choice(STEPS), help="Do this step alone.")
@click.option("--from", "start", type=click.Choice(STEPS), help="Do everything from this step on, changed or not.")
@click.option("--allow-removals", is_flag=True, help="Documents that are gone are meant to be gone.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for another run on this target."
)
@json_option
def run(
    folder: Path, target: str, only: str | None, start: str | None, allow_removals: bool, wait: float, as_json: bool
) -> int:
    """Take the project to a deployed release: prepare, build, evaluate, gate, deploy.

    Exit 0 deployed (also unproven, with a warning), 3 gate failed, 4 abstained and not admitted, 5 canary started, 2
    bad input. With --only evaluate or gate: 0 passed, 3 failed, 4 abstained.
    """
    with api.open(folder, target=target, progress=Bars()) as project:
        try:
            outcome = project.run(only=only, start=start, allow_removals=allow_removals, wait=wait)
        except (GateFailed, GateAbstained) as e:
            if isinstance(e.outcome, Outcome):
                _show(e.outcome, as_json)
            raise
    _show(outcome, as_json)
    if only in ("evaluate", "gate") and outcome.decision is not None and outcome.release is not None:
        insist(outcome.decision, outcome.release.id)
    return CANARY_STARTED if outcome.canary is not None else 0


def _show(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print_json(summary(outcome))
        return
    for step, state in outcome.steps.items():
        if state != "not asked for":
            click.echo(f"  {step:<9} {'unchanged' if state == 'skipped' else state}")
    if outcome.decision is not None:
        click.echo(f"gate: {outcome.decision.verdict}: {'; '.join(outcome.decision.reasons)}")
    for warning in outcome.warnings:
        click.echo(f"warning: {warning}", err=True)
    if outcome.release is not None:
        version = f" (v{outcome.release.version})" if outcome.release.version is not None else ""
        state = "serves" if outcome.deployed else "is built"
        if outcome.canary is not None:
            state = f"is on its way: {standing(outcome.canary)} (modelyard release rollouts)"
        unproven = ", unproven" if outcome.unproven else ""
        click.echo(f"release {short(outcome.release.id)}{version} {state}{unproven}")


def summary(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON."""
    release, decision = outcome.release, outcome.decision
    return {
        "steps": outcome.steps,
        "release": release.id if release else None,
        "version": release.version if release else None,
        "state": release.state if release else None,
        "verdict": decision.verdict if decision else None,
        "reasons": list(decision.reasons) if decision else [],
        "decision": decision.id if decision else None,
        "deployed": outcome.deployed,
        "unproven": outcome.unproven,
        "canary": outcome.canary.id if outcome.canary else None,
        "warnings": outcome.warnings,
    }
