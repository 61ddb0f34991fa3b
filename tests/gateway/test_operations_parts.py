"""What the operations page is made of: markup, charts, windows, rows that are recalled, how a rollout stands."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.gateway.charts import Line, chart
from modelyard.gateway.markup import Html, join, tag
from modelyard.gateway.ops_page import panel
from modelyard.gateway.ops_rollout import rollout_block
from modelyard.lifecycle.canary import policy_of
from modelyard.lifecycle.rollout import decide_rollout
from modelyard.lifecycle.standing import standings
from modelyard.project.model import Rollout as Policy
from modelyard.serving.recall import MOST_BYTES, MOST_REQUESTS, Recall
from modelyard.serving.rows import ACCEPTED, FINISHED, Accepted, Finished, encode, request_id
from modelyard.serving.windows import BOUNDS, SLOT_SECONDS, SLOTS, Tally, Windows

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=40)


class Read(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(WORDS, WORDS)
def test_whatever_text_is_put_in_comes_out_as_text(inside: str, attribute: str) -> None:
    read = Read(tag("p", inside, title=attribute))
    assert read.tags == [("p", {"title": attribute})] and read.text == inside


def test_only_markup_is_markup() -> None:
    assert join("<", Html("<b>"), None, 3) == "&lt;<b>3"
    assert tag("input", class_="a", aria_label="b", hidden=True, checked=False, name=None) == (
        '<input class="a" aria-label="b" hidden>'
    )


@given(
    st.lists(
        st.lists(st.none() | st.floats(0, 1e12, allow_nan=False), min_size=1, max_size=70).map(
            lambda values: Line("<a>", "one", values)
        ),
        max_size=4,
    )
)
def test_a_chart_is_drawn_within_its_frame_whatever_the_figures(lines: list[Line]) -> None:
    figure = ElementTree.fromstring(chart("Latency", lines, "ms", "30 minutes ago"))
    svg = figure.find("svg")
    assert svg is not None and svg.get("aria-label", "").startswith("Latency: ")
    places = [float(dot.get("cy", "")) for dot in svg.iter("circle")]
    for path in svg.iter("path"):
        places += [
            float(step.split()[-1]) for step in path.get("d", "").replace("M", "|").replace("L", "|").split("|")[1:]
        ]
    assert all(0 <= place <= 110 for place in places)
    assert len(places) == sum(value is not None for line in lines for value in line.values)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([200, 404, 500]), st.floats(0.3, 1e5)), max_size=60)
)
def test_windows_lose_nothing_and_quantiles_are_right_to_a_fifth(seen: list[tuple[str, int, float]]) -> None:
    windows = Windows()
    for i, (release, status, milliseconds) in enumerate(seen):
        windows.count(1000.0 + i, release, status, milliseconds)
    points = windows.read(1000.0 + len(seen) + SLOT_SECONDS, 10, 3 * SLOT_SECONDS)
    for release in ("a", "b"):
        own = [(status, ms) for name, status, ms in seen if name == release]
        total = Tally()
        for point in points:
            total.merge(point.get(release, Tally()))
        assert total.requests == len(own) and total.failed == sum(status == 500 for status, _ in own)
        took = sorted(ms for status, ms in own if status == 200)
        for share in (0.5, 0.95):
            found = total.quantile(share)
            if not took:
                assert found is None
                continue
            exact = took[max(0, math.ceil(share * len(took)) - 1)]
            assert found is not None and exact <= found <= exact * 1.2 + BOUNDS[0]


def test_windows_forget() -> None:
    windows = Windows()
    for slot in range(SLOTS + 50):
        windows.count(slot * SLOT_SECONDS, "a", 200, 1.0)
    points = windows.read((SLOTS + 50) * SLOT_SECONDS, SLOTS + 50, SLOT_SECONDS)
    assert [len(point) for point in points] == [0] * 50 + [1] * SLOTS


@settings(max_examples=20)
@given(st.lists(st.integers(0, MOST_BYTES // 3), max_size=12))
def test_rows_are_recalled_as_they_were_written_the_newest_of_them(sizes: list[int]) -> None:
    recall, ids = Recall(), [request_id() for _ in sizes]
    for identity, size in zip(ids, sizes, strict=True):
        accepted = Accepted(identity, "town", "r", "openai", 1, unit="u", request=b"x" * size)
        recall.keep(bytes.fromhex(identity), encode(ACCEPTED, accepted, ["CUT"]))
        recall.keep(bytes.fromhex(identity), encode(FINISHED, Finished(identity, 200, response=b"y")))
    kept = [identity for identity in ids if recall.find(identity) is not None]
    assert kept == ids[len(ids) - len(kept) :] and bool(kept) == bool(ids)
    for identity in kept:
        found = recall.find(identity)
        assert found is not None and found.finished is not None
        assert found.accepted.request == b"x" * sizes[ids.index(identity)]
        assert (found.accepted.unit, found.finished.status, found.finished.response) == ("u", 200, b"y")
        assert found.left_out == ("CUT",)


def test_no_more_rows_are_kept_than_are_wanted() -> None:
    recall, ids = Recall(), [request_id() for _ in range(MOST_REQUESTS + 5)]
    for identity in ids:
        recall.keep(bytes.fromhex(identity), encode(ACCEPTED, Accepted(identity, "town", "r", "openai", 1)))
        recall.keep(bytes.fromhex(request_id()), encode(FINISHED, Finished(identity, 200)))  # of nothing that is kept
    assert [recall.find(identity) is None for identity in ids] == [True] * 5 + [False] * MOST_REQUESTS
    assert recall.find("no id") is None


COUNTS = st.integers(0, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@st.composite
def evidences(draw: st.DrawFn) -> dict[str, Any]:
    shadow, names = draw(st.booleans()), sorted(policy_of(Policy())["tests"])
    tests = {}
    for name in draw(st.lists(st.sampled_from(names), unique=True)):
        champion, challenger = draw(COUNTS), draw(COUNTS)
        rows: list[dict[str, Any]] = [{"share": 0.25, "champion": list(champion), "challenger": list(challenger)}]
        if shadow:
            rows = [{"units": champion[0] + challenger[0], "champion_only": 0, "challenger_only": challenger[1]}]
        tests[name] = {"seen": rows, "settled": rows}
    return {
        "rollout": "r1",
        "stage": -1 if shadow else 2,
        "share": 0 if shadow else 25,
        "next": 100,
        "shadow": shadow,
        "units": {"champion": 100, "challenger": 1000},
        "age": 10.0,
        "down": None,
        "agreement": None,
        "tests": tests,
    }


@settings(max_examples=60, deadline=None)
@given(evidences())
def test_how_tests_stand_agrees_with_the_decision(evidence: dict[str, Any]) -> None:
    policy = policy_of(Policy())
    decision = decide_rollout(evidence, policy)
    found = standings(decision)
    states = {one.test: one.state for one in found}
    assert set(states) == set(policy["tests"])
    expected = (
        "fail" if "against" in states.values() else "pass" if set(states.values()) <= {"shown", "aside"} else "abstain"
    )
    assert decision.verdict == expected
    said = " ".join(decision.reasons)
    for one in found:
        assert -1 <= one.low <= 1 and -1 <= one.high <= 1 and 0 < one.margin < 1
        if one.state in ("unsure", "waiting") and decision.verdict == "abstain":
            assert f"{one.test}: " in said


def test_every_word_of_others_is_escaped_on_the_page() -> None:
    evil = "<img src=x onerror=alert(1)>"
    release = {
        **dict.fromkeys(("workers", "wanted", "under_way", "waiting"), 1),
        **{"release": evil, "roles": [evil], "state": "unproven", "version": 1, "percent": 100, "out": True},
        "trouble": evil,
    }
    seen = {"id": evil, "at": 1.0, "release": evil, "arm": evil, "dialect": evil, "status": 500, "error": evil}
    move = {"generation": 1, "at": evil, "champion": evil, "challenger": evil, "traffic": {evil: 100}, "who": evil}
    rollout = {
        **{"id": evil, "champion": evil, "challenger": evil, "state": "held", "reason": evil, "shadow": False},
        **{"share": 5, "next": 25, "steps": [5, 25, 100], "alpha": 0.01, "tests": []},
        "decision": {"verdict": "abstain", "reasons": [evil]},
    }
    one = {
        **{
            "name": evil,
            "ready": False,
            "reason": evil,
            "cold": None,
            "generation": 1,
            "own": True,
            "rollout": rollout,
        },
        "releases": [release],
        "trouble": evil,
        "back": {"release": evil, "from": evil, "canary": False},
        "windows": {"seconds": 30, "series": [{"release": evil, "points": [dict.fromkeys(_POINT, 1)]}]},
        "requests": [{**seen, "milliseconds": 1.0, "unit": evil}],
        "moves": [{**move, "why": evil, "decision": evil, "reasons": [evil]}],
        "counts": {"restarts": 1},
    }
    record = dict.fromkeys(("bytes", "limit", "lag_seconds", "accepted", "finished", "open", "slowest_commit_ms"), 1)
    state = {
        "version": evil,
        "started": evil,
        "endpoints": [one],
        "record": {**record, "durability": evil, "trouble": evil},
    }
    read = Read(panel(state, evil, evil))
    assert "img" not in {name for name, _ in read.tags} and read.text.count("<img") >= 15
    assert "img" not in {name for name, _ in Read(rollout_block(rollout)).tags}


_POINT = ("requests", "failed", "refused", "p50", "p95")
