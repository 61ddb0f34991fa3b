"""Why a decision was made, and whether it is made again from its stored inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelyard.lifecycle.admit import decide_admit
from modelyard.lifecycle.gate import decide_gate
from modelyard.lifecycle.rollout import decide_rollout
from modelyard.ports.records import Decision

JUDGES: Mapping[str, Callable[..., Decision]] = {"admit": decide_admit, "gate": decide_gate, "rollout": decide_rollout}


def explain(decision: Decision) -> dict[str, Any]:
    """{id, kind, verdict, reasons, inputs, at, replayed}: `replayed` is whether the judge, called again with the
    inputs, comes to the same verdict for the same reasons; None where this version has no such judge."""
    judge = JUDGES.get(decision.kind)
    again = judge(**decision.inputs) if judge is not None else None
    return {
        "id": decision.id,
        "kind": decision.kind,
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "inputs": dict(decision.inputs),
        "at": decision.at,
        "replayed": None if again is None else again.id == decision.id,
    }
