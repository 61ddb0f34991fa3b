"""Admission: may this release be deployed, given the gate's verdict and the policy? A decision of its own."""

from __future__ import annotations

from modelyard.ports.records import Decision
from modelyard.project.model import STRICT


def decide_admit(
    verdict: str, champion_state: str | None, admit_unproven: bool, by_person: bool, target: str, gate: str
) -> Decision:
    """Verdict pass (deploy as proven), unproven (deploy with a warning) or refuse.

    `verdict` is the gate's, `champion_state` the ledger's state of the champion (None: there is none), `by_person`
    whether somebody asked for this release by name, `gate` the id of the gate's decision. Only an abstained verdict can
    be let in unproven: by policy where nothing proven would be displaced, by a person outside prod over any champion.
    A failed one never.
    """
    inputs = {
        "verdict": verdict,
        "champion_state": champion_state,
        "admit_unproven": admit_unproven,
        "by_person": by_person,
        "target": target,
        "gate": gate,
    }
    if verdict == "pass":
        return Decision("admit", "pass", ("the gate passed it",), inputs)
    if verdict == "fail":
        return Decision("admit", "refuse", ("the gate failed it, and a failed release is never deployed",), inputs)
    if by_person and target.lower() not in STRICT:
        return Decision("admit", "unproven", ("a person asked for it; the gate had too little evidence",), inputs)
    displaces = champion_state == "passed"
    if admit_unproven and not displaces:
        standing = "there is no champion" if champion_state is None else f"the champion is {champion_state} itself"
        return Decision("admit", "unproven", (f"the gate had too little evidence, and {standing}",), inputs)
    why = "it would displace a proven champion" if displaces else f"the policy of {target} admits no unproven release"
    return Decision("admit", "refuse", (f"the gate had too little evidence, and {why}",), inputs)
