"""The operations page as HTML, from what the console gathered. Pure: no request is seen here, no clock is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from modelyard.gateway.charts import Line, chart
from modelyard.gateway.markup import Html, join, tag
from modelyard.gateway.ops_rollout import rollout_block
from modelyard.ids import short
from modelyard.serving.recall import Recalled
from modelyard.units import show_size

MOST_SHOWN = 65_536
"""Characters of a request, or a response, that are shown."""
_KINDS = ("one", "two", "three", "four")


def panel(state: Mapping[str, Any], guard: str, said: Html | str = "") -> Html:
    """Everything of the page that changes. `guard` goes into its forms, `said` is what the last action came to."""
    return join(
        tag("p", said, class_="said", role="status", id="said"),
        *(_endpoint(one, guard) for one in state["endpoints"]),
        _gateway(state),
    )


def _endpoint(one: Mapping[str, Any], guard: str) -> Html:
    head = tag(
        "header",
        tag("h2", one["name"]),
        _badge("ready", "good") if one["ready"] else _badge("not ready", "bad"),
        tag("p", one["reason"], class_="why") if one["reason"] else "",
        _badge(f"the ledger cannot be read: {one['trouble']}", "bad") if one["trouble"] else "",
    )
    return tag(
        "section",
        head,
        _releases(one),
        _acts(one, guard),
        rollout_block(one["rollout"]) if one["rollout"] else "",
        _charts(one),
        _requests(one),
        _moves(one),
        class_="endpoint",
        aria_label=f"Endpoint {one['name']}",
    )


def _releases(one: Mapping[str, Any]) -> Html:
    if not one["releases"]:
        return tag("p", "Nothing is deployed here yet.", class_="soft")
    rows = [_release_row(r, i, one) for i, r in enumerate(one["releases"])]
    head = ("Release", "", "Traffic", "Workers", "Under way", "State")
    return join(_bar(one["releases"]), _table("Releases", head, rows, "releases"))


def _release_row(r: Mapping[str, Any], place: int, one: Mapping[str, Any]) -> Html:
    trouble = f": {r['trouble']}" if r["trouble"] and r["workers"] < r["wanted"] else ""
    if r["out"]:
        standing = _badge(f"out of traffic{trouble}", "bad")
    elif one["cold"] == r["release"]:
        seconds = one["cold_start_seconds"]
        known = f", a start takes {seconds:.1f} s" if seconds else ""
        standing = _badge(f"cold for want of memory{known}", "warn")
    elif r["workers"] < r["wanted"]:
        standing = _badge(f"starting{trouble}", "warn")
    else:
        standing = tag("span", "warm", class_="soft")
    waiting = f", {r['waiting']} wait" if r["waiting"] else ""
    return tag(
        "tr",
        tag("th", tag("i", class_=_KINDS[place % 4]), _release(r["release"], r["version"]), scope="row"),
        tag("td", *(_badge(role, "role") for role in r["roles"]), _unproven(r["state"])),
        tag("td", f"{r['percent']} %", class_="number"),
        tag("td", f"{r['workers']} of {r['wanted']}", class_="number"),
        tag("td", f"{r['under_way']}{waiting}", class_="number"),
        tag("td", standing),
    )


def _bar(releases: Sequence[Mapping[str, Any]]) -> Html:
    """Traffic as a bar: each release its part."""
    parts, at = [], 0
    for i, r in enumerate(releases):
        if r["percent"]:
            parts.append(tag("rect", x=at, y=0, width=r["percent"], height=4, class_=_KINDS[i % 4]))
            at += r["percent"]
    said = ", ".join(f"{r['percent']} % to {short(r['release'])}" for r in releases if r["percent"])
    label = f"Traffic of what is new: {said or 'none'}"
    return tag(
        "svg", *parts, viewBox="0 0 100 4", preserveAspectRatio="none", class_="bar", role="img", aria_label=label
    )


def _acts(one: Mapping[str, Any], guard: str) -> Html:
    back = one["back"]
    if back is None:
        return tag("div", tag("p", "There is no release to go back to.", class_="soft"), class_="acts")
    to, now = short(back["release"]), short(back["from"])
    if back["canary"]:
        what = f"Take the canary {now} back: all traffic to {to}."
    else:
        what = f"All traffic from {now} to {to}, at once. What is under way ends where it began."
    hidden = [
        tag("input", type="hidden", name=name, value=value)
        for name, value in (
            ("guard", guard),
            ("endpoint", one["name"]),
            ("generation", one["generation"]),
        )
    ]
    why = f"why-{one['name']}"
    confirm = tag(
        "form",
        *hidden,
        tag("input", type="hidden", name="act", value="rollback"),
        tag("p", what),
        tag("label", "Why (it is written into the history)", for_=why),
        tag("input", id=why, name="why", maxlength=500, autocomplete="off"),
        tag("button", f"Roll back to {to}", class_="danger"),
        method="post",
        action="/ops/do",
        data_act="rollback",
    )
    drill = tag(
        "form",
        *hidden,
        tag("input", type="hidden", name="act", value="drill"),
        tag("button", "Drill", title="Prove that a rollback would work, and change nothing of what is served"),
        method="post",
        action="/ops/do",
        data_act="drill",
    )
    details = tag("details", tag("summary", "Roll back…"), confirm, class_="act", data_key=f"act-{one['name']}")
    return tag("div", details, drill if not back["canary"] else "", class_="acts")


def _charts(one: Mapping[str, Any]) -> Html:
    windows = one["windows"]
    minutes = windows["seconds"] / 60
    places = {r["release"]: _KINDS[i % 4] for i, r in enumerate(one["releases"])}
    named = [(short(s["release"]) or "none", places.get(s["release"], "gone"), s["points"]) for s in windows["series"]]
    count = [Line(name, kind, [p["requests"] / minutes for p in points]) for name, kind, points in named]
    slow = [Line(f"{name} p50", kind, [p["p50"] for p in points]) for name, kind, points in named]
    slow += [Line(f"{name} p95", f"{kind} thin", [p["p95"] for p in points]) for name, kind, points in named]
    failed = [
        Line(name, kind, [100 * p["failed"] / p["requests"] if p["requests"] else None for p in points])
        for name, kind, points in named
    ]
    points = len(windows["series"][0]["points"]) if windows["series"] else 60
    since = f"{points * windows['seconds'] // 60} minutes ago"
    return tag(
        "div",
        chart("Requests a minute", count, "", since),
        chart("Latency", slow, "ms", since),
        chart("Failed (5xx)", failed, "%", since),
        class_="charts",
    )


def _requests(one: Mapping[str, Any]) -> Html:
    rows = [
        tag(
            "tr",
            tag("td", tag("a", _time(_iso(r["at"])), href=f"/ops/requests/{r['id']}", data_details=r["id"])),
            tag("td", _release(r["release"])),
            tag("td", r["arm"]),
            tag("td", r["dialect"]),
            tag("td", _status(r["status"]), f" {r['error']}" if r["error"] else ""),
            tag("td", _milliseconds(r["milliseconds"]), class_="number"),
            tag("td", tag("code", r["unit"][:8])),
        )
        for r in one["requests"]
    ]
    if not rows:
        return tag("p", "No request since the gateway started.", class_="soft")
    head = ("Time", "Release", "Arm", "Dialect", "Status", "Took", "Unit")
    table = _table("Newest requests", head, rows, "requests")
    summary = tag("summary", f"Newest requests ({len(rows)})")
    return tag("details", summary, table, open=True, data_key=f"requests-{one['name']}")


def _moves(one: Mapping[str, Any]) -> Html:
    rows = []
    for move in one["moves"]:
        reasons: Html | str = ""
        if move["reasons"]:
            reasons = tag(
                "details",
                tag("summary", "decision ", tag("code", short(move["decision"]))),
                tag("ul", *(tag("li", reason) for reason in move["reasons"])),
                data_key=f"move-{one['name']}-{move['generation']}",
            )
        rows.append(
            tag(
                "tr",
                tag("td", move["generation"], class_="number"),
                tag("td", _time(move["at"], day=True)),
                tag("td", _pointed(move)),
                tag("td", move["who"]),
                tag("td", move["why"], reasons),
            )
        )
    if not rows:
        return Html("")
    table = _table("Moves", ("Move", "Time", "Traffic of what is new", "Who", "Why"), rows, "moves")
    summary = tag("summary", f"Moves ({len(rows)} newest)")
    return tag("details", summary, table, open=True, data_key=f"moves-{one['name']}")


def _pointed(move: Mapping[str, Any]) -> Html:
    split = [f"{percent} % {short(release)}" for release, percent in move["traffic"].items() if percent]
    if split:
        return tag("span", ", ".join(split))
    warmed = f" ({short(move['challenger'])} is warmed)" if move["challenger"] else ""
    return tag("span", f"all to {short(move['champion'])}{warmed}" if move["champion"] else f"none{warmed}")


def _gateway(state: Mapping[str, Any]) -> Html:
    record = state["record"]
    waiting = f", the oldest for {record['lag_seconds']:.0f} s" if record["lag_seconds"] >= 1 else ""
    facts: list[tuple[str, object]] = [
        ("Record", f"{show_size(record['bytes'])} of {show_size(record['limit'])} wait to be put into tables{waiting}"),
        ("Rows", f"{record['accepted']:,} accepted, {record['finished']:,} finished, {record['open']:,} open"),
        ("Durability", f"{record['durability']}, slowest commit {record['slowest_commit_ms']:g} ms"),
    ]
    if record["trouble"]:
        facts.insert(0, ("Trouble", _badge(record["trouble"], "bad")))
    for name, what in _FAULTS.items():
        if record.get(name):
            facts.append((what, f"{record[name]:,}"))
    for one in state["endpoints"]:
        counts = ", ".join(f"{count:,} {_WORDS[name]}" for name, count in one["counts"].items())
        facts.append((f"Workers of {one['name']}", counts))
    facts.append(("Gateway", join(f"modelyard {state['version']}, since ", _time(state["started"], day=True))))
    listed = [join(tag("dt", name), tag("dd", value)) for name, value in facts]
    return tag("section", tag("h2", "Gateway and record"), tag("dl", *listed), class_="gateway")


_FAULTS = {
    "aborted": "Closed as aborted",
    "refused": "Refused unrecorded",
    "unlogged": "Answered unrecorded",
    "unwritten": "Answers withheld",
    "unreadable": "Damaged files",
}
_WORDS = {
    "restarts": "restarts",
    "retries": "requests run again",
    "given_up": "given up",
    "refused": "turned away",
    "streams_cut": "streams cut",
}


def details(seen: Mapping[str, Any], rows: Recalled | None) -> Html:
    """One request: what is known of it, and what was said, as far as the record keeps it."""
    accepted = rows.accepted if rows is not None else None
    finished = rows.finished if rows is not None else None
    facts: list[tuple[str, object]] = [
        ("Request", tag("code", seen["id"])),
        ("Endpoint", seen["endpoint"]),
        ("Release", tag("code", seen["release"])),
        ("Arm", seen["arm"]),
        ("Time", _time(_iso(seen["at"]), day=True)),
        ("Status", join(_status(seen["status"]), f" {seen['error'] or ''}")),
        ("Took", _milliseconds(seen["milliseconds"])),
        ("Dialect", seen["dialect"]),
        ("Unit", tag("code", seen["unit"])),
    ]
    if accepted is not None:
        facts += [("Asked by", accepted.requester or "anonymous"), ("Probability", f"{accepted.probability:g}")]
    if finished is not None:
        facts += [("Attempts", finished.attempts)]
        facts += [(name.replace("_", " "), f"{count:,}") for name, count in finished.usage.items()]
        facts += [(name, f"{value:g}") for name, value in finished.signals.items()]
        if finished.aborted or finished.truncated:
            facts.append(("Ended", "aborted" if finished.aborted else "cut"))
    facts.append(("Trace, where sampled", tag("code", f'tags."modelyard.request" = "{seen["id"]}"')))
    listed = [join(tag("dt", name), tag("dd", value)) for name, value in facts]
    return tag(
        "section",
        tag("h2", "Request"),
        tag("dl", *listed),
        _body("Request body", accepted.request if accepted else None, rows),
        _body("Response body", finished.response if finished else None, rows),
        id="details-of",
        class_="details",
    )


def _body(title: str, body: bytes | None, rows: Recalled | None) -> Html:
    if body is None:
        if rows is None:
            why = "not at hand any more: the table `inference` has what was kept of it"
        else:
            left = f" ({', '.join(rows.left_out)})" if rows.left_out else ""
            why = f"not kept{left}"
        return join(tag("h3", title), tag("p", why, class_="soft"))
    shown = _readable(body)
    cut = tag("p", f"The first {MOST_SHOWN:,} characters.", class_="soft") if len(shown) > MOST_SHOWN else ""
    return join(tag("h3", title), tag("pre", shown[:MOST_SHOWN], tabindex=0), cut)


def _readable(body: bytes) -> str:
    text = body[: 4 * MOST_SHOWN].decode("utf-8", "replace")
    if len(body) > MOST_SHOWN:
        return text
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return text


# pieces


def _table(caption: str, head: Sequence[str], rows: Sequence[Html], kind: str) -> Html:
    top = tag("tr", *(tag("th", name or tag("span", "Role", class_="hidden"), scope="col") for name in head))
    named = tag("caption", caption, class_="hidden")
    table = tag("table", named, tag("thead", top), tag("tbody", *rows), class_=kind)
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _badge(text: str, kind: str) -> Html:
    return tag("span", text, class_=f"badge {kind}")


def _unproven(state: str | None) -> Html:
    return _badge(state, "warn") if state in ("unproven", "redacted") else Html("")


def _release(release: str, version: int | None = None) -> Html:
    if not release:
        return tag("span", "none", class_="soft")
    return join(tag("code", short(release), title=release), f" v{version}" if version else "")


def _status(status: int) -> Html:
    kind = "bad" if status >= 500 else "warn" if status >= 400 else "good"
    return _badge(str(status), kind)


def _milliseconds(value: float) -> str:
    return f"{value:,.1f} ms" if value < 1000 else f"{value / 1000:,.1f} s"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(at: str, day: bool = False) -> Html:
    shown = at[:19].replace("T", " ") if day else at[11:19]
    return tag("time", shown, datetime=at)
