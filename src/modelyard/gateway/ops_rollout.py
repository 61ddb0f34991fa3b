"""The block of the operations page that says how a rollout stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.gateway.markup import Html, join, tag
from modelyard.ids import short

_STATES = {
    "shown": ("within the margin", "good"),
    "unsure": ("more units needed", "warn"),
    "waiting": ("waits for figures", "warn"),
    "against": ("against it", "bad"),
    "aside": ("not measured here", "role"),
}


def rollout_block(rollout: Mapping[str, Any]) -> Html:
    """Where it is, what the next step waits for, and the figures of each test."""
    names = f"{short(rollout['challenger'])} against {short(rollout['champion'])}"
    return tag(
        "section",
        tag("h3", "Rollout: ", names),
        tag("p", _standing(rollout)),
        _steps(rollout),
        _waits(rollout),
        _tests(rollout) if rollout["tests"] else "",
        class_="rollout",
        aria_label=f"Rollout of {names}",
    )


def _standing(rollout: Mapping[str, Any]) -> str:
    where = "in the shadow: it gets copies only" if rollout["shadow"] else f"at {rollout['share']} % of what is new"
    state, reason = rollout["state"], rollout["reason"]
    return where if state == "running" else f"{state}: {reason}" if state != "held" else f"held {where}: {reason}"


def _steps(rollout: Mapping[str, Any]) -> Html:
    now = -1 if rollout["shadow"] else rollout["share"]
    items = []
    shadow = [(-1, "shadow")] if rollout["shadow"] else []  # whether there was one is not told afterwards
    for step, name in [*shadow, *((step, f"{step} %") for step in rollout["steps"])]:
        done = rollout["state"] == "promoted" or step < now
        kind = "now" if step == now and not done else "done" if done else None
        items.append(tag("li", name, class_=kind, aria_current="step" if kind == "now" else None))
    return tag("ol", *items, class_="steps", aria_label="Steps")


def _waits(rollout: Mapping[str, Any]) -> Html:
    decision = rollout["decision"]
    if rollout["next"] is None:
        return Html("")
    if decision is None:
        return tag("p", f"It was not looked at yet: that is done every {rollout['look_every']:g} s.", class_="soft")
    if decision["verdict"] == "abstain":
        title = f"The step to {rollout['next']} % waits:" if rollout["state"] == "running" else "It is held:"
    else:
        title = "The last look said:"
    return join(tag("p", title), tag("ul", *(tag("li", reason) for reason in decision["reasons"]), class_="waits"))


def _tests(rollout: Mapping[str, Any]) -> Html:
    level = f"{100 * (1 - rollout['alpha']):g} %"
    names = ("Test", "Champion", "Challenger", f"Difference ({level})", "At the next step", "Margin", "Against", "")
    head = tag("tr", *(tag("th", name or tag("span", "Standing", class_="hidden"), scope="col") for name in names))
    rows = []
    for test in rollout["tests"]:
        words, kind = _STATES[test["state"]]
        rows.append(
            tag(
                "tr",
                tag("th", test["test"], scope="row"),
                tag("td", tally(test, "champion"), class_="number"),
                tag("td", tally(test, "challenger"), class_="number"),
                tag("td", difference(test), class_="number"),
                tag("td", points(test["at_next"]) if test["value"] is not None else "–", class_="number"),
                tag("td", points(test["margin"]), class_="number"),
                tag("td", f"{times(test['evidence'])} of {times(test['back_at'])}", class_="number"),
                tag("td", tag("span", words, class_=f"badge {kind}")),
            )
        )
    caption = tag("caption", "Tests: units that failed, of units that settled", class_="hidden")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="tests")
    note = (
        "Failed units of settled ones. The step comes when no test could make the endpoint as a whole worse by more "
        "than its margin; it goes back when the evidence against it (a factor) reaches its limit."
    )
    scroll = tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Tests of the rollout")
    return join(scroll, tag("p", note, class_="soft small"))


def tally(test: Mapping[str, Any], arm: str) -> str:
    """Failed of settled units of an arm; in the shadow, of pairs."""
    units, failed = test[arm]
    pairs, champion, challenger = test["shadow"]
    only = challenger if arm == "challenger" else champion
    out = [f"{failed:,} of {units:,}"] if units else []
    out += [f"{only:,} of {pairs:,} alone in the shadow"] if pairs else []
    return "; ".join(out) or "–"


def difference(test: Mapping[str, Any]) -> str:
    """The estimate with its limits, in points."""
    if test["value"] is None:
        return "–"
    return f"{points(test['value'])} ({points(test['low'])} to {points(test['high'])})"


def points(share: float) -> str:
    """A share as points of a hundred."""
    return f"{100 * share:.2f}"


def times(log10: float) -> str:
    """An e-value from its logarithm to base 10."""
    return f"{10**log10:,.3g}" if log10 < 6 else f"10^{log10:.0f}"
