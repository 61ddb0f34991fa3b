"""`modelyard evaluate` and `modelyard explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from modelyard import api
from modelyard.cli.options import json_option, print_json, print_line, project_options, table
from modelyard.cli.progress import Bars
from modelyard.errors import GateAbstained, GateFailed
from modelyard.ids import short
from modelyard.ports.records import Decision


@click.command()
@click.argument("name", required=False)
@project_options
@click.option("--rows", is_flag=True, help="Print the rows of its latest sitting, one JSON object a line.")
@click.option("--rebind", multiple=True, metavar="ID", help="Take a case back that was set aside: you looked at it.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, help="Seconds to wait for another run on this target."
)
@json_option
def evaluate(
    name: str | None, folder: Path, target: str, rows: bool, rebind: tuple[str, ...], wait: float, as_json: bool
) -> None:
    """Let a release (default: the champion) sit the exam, and judge it.

    Exit 0 passed, 3 failed, 4 abstained, 2 bad input.
    """
    with api.open(folder, target=target, progress=Bars()) as project:
        if rows:
            for row in project.sitting(name or "champion"):
                print_line(row)
            return
        evidence, decision = project.evaluate(name, rebind=rebind, wait=wait)
    if as_json:
        print_json({"evidence": evidence, "verdict": decision.verdict, "decision": decision.id})
    else:
        show_evidence(evidence)
        click.echo(f"gate: {decision.verdict}: {'; '.join(decision.reasons)}")
        click.echo(f"(modelyard explain {short(decision.id)})")
    insist(decision, evidence["release"])


def insist(decision: Decision, release: str) -> None:
    """Nothing where the gate passed the release. Raises GateFailed, GateAbstained."""
    if decision.verdict == "pass":
        return
    kind, did = (GateFailed, "failed") if decision.verdict == "fail" else (GateAbstained, "abstained on")
    raise kind(f"the gate {did} release {short(release)} (modelyard explain {short(decision.id)})")


def show_evidence(evidence: Any) -> None:
    """The figures, with what they rest on."""
    exam = evidence["exam"]
    click.echo(f"release {short(evidence['release'])} on {exam['cases']} {exam['origin']} cases:")
    differences = evidence.get("differences", {})
    rows = []
    for name, figure in evidence["metrics"].items():
        change = differences.get(name)
        rows.append(
            [
                name,
                f"{figure['value']:.3f}",
                "-" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}",
                str(figure["n"]),
                f"{change['value']:+.3f}" if change else "-",
            ]
        )
    table(rows, ["METRIC", "VALUE", "INTERVAL", "N", "TO CHAMPION"])
    if "latency_ms" in evidence:
        click.echo(f"latency p50 {evidence['latency_ms']['p50']:.0f} ms, p95 {evidence['latency_ms']['p95']:.0f} ms")
    for lost in evidence["unscored"]:
        click.echo(f"unscored: {lost['case']}: {lost['reason']}")
    if exam["set_aside"]:
        click.echo(f"set aside, their content changed: {', '.join(exam['set_aside'])}")


@click.command()
@click.argument("decision")
@project_options
@json_option
def explain(decision: str, folder: Path, target: str, as_json: bool) -> None:
    """Why a decision was made, and whether making it again from its stored inputs gives the same."""
    with api.open(folder, target=target) as project:
        found = project.explain(decision)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['kind']}: {found['verdict']}    {found['id']}    {found['at']}")
    for reason in found["reasons"]:
        click.echo(f"  {reason}")
    for key, value in found["inputs"].items():
        if key == "evidence":
            show_evidence(value)
        else:
            click.echo(f"{key}: {value}")
    replayed = {True: "the same again", False: "NOT the same: the judge changed since", None: "not possible here"}
    click.echo(f"replayed from its inputs: {replayed[found['replayed']]}")
