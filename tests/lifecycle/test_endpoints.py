"""Databricks' configurations into pointers and back. Pure."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import RequestError
from modelyard.ids import digest
from modelyard.lifecycle.endpoints import (
    ai_gateway,
    cooled,
    endpoint_extras,
    endpoint_name,
    entities,
    pointers_for,
    resolved,
    served_now,
    tags,
    warming,
)
from modelyard.ports.endpoints import Served
from modelyard.ports.records import Manifest, Pointers, Release


def release(number: int) -> Release:
    manifest = Manifest("echo", 1, {}, digest("snapshot"), {"number": number})
    return Release(manifest.id, manifest, "passed", "2026-01-01T00:00:00.000Z", version=number + 1)


RELEASES = {one.id: one for one in map(release, range(12))}
IDS = list(RELEASES)


@st.composite
def splits(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Releases with whole percent that sum to 100, some of them 0."""
    chosen = draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=10, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(chosen) - 1, max_size=len(chosen) - 1)))
    return [(one, b - a) for one, (a, b) in zip(chosen, itertools.pairwise([0, *cuts, 100]), strict=True)]


@st.composite
def standing(draw: st.DrawFn) -> Pointers:
    """Where an endpoint may point."""
    split = draw(splits())
    previous, challenger = (draw(st.none() | st.sampled_from(IDS)) for _ in range(2))
    traffic = tuple(split) if len(split) > 1 or draw(st.booleans()) else ()
    return Pointers(draw(st.integers(1, 9)), split[0][0], challenger, previous, traffic)


def served(split: list[tuple[str, int]]) -> tuple[Served, ...]:
    return tuple(Served(f"e{at}", one, "town", str(at), share) for at, (one, share) in enumerate(split))


@given(splits(), standing())
def test_what_is_configured_is_what_is_served(split: list[tuple[str, int]], before: Pointers) -> None:
    wanted = served(split)
    after = pointers_for(wanted, before)
    assert served_now(after, wanted, RELEASES, "town") == wanted
    assert after.champion is not None and dict(after.split)[after.champion] == max(share for _, share in split)
    assert after.previous not in (after.champion,) and after.challenger is None
    if before.champion not in (None, after.champion):
        assert after.previous == before.champion  # a rollback finds it
    assert pointers_for(wanted, after) == after


@given(standing(), st.lists(st.sampled_from(IDS), max_size=5, unique=True))
def test_warming_moves_no_traffic_and_is_taken_back(before: Pointers, more: list[str]) -> None:
    warm = warming(before, more)
    assert set(more) <= set(warm.named()) and set(before.named()) <= set(warm.named())
    assert [one for one in warm.split if one[1]] == [one for one in before.split if one[1]]
    back = cooled(warm, [one for one, _ in before.split])
    assert dict(back.split) == dict(before.split)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 120) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("name", "entity_name", "entity_version", "workload_size", "environment_vars", "scale_to_zero_enabled")
ENTITY = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON | st.sampled_from(["town", "1", "a-b"])))
ROUTE = st.fixed_dictionaries(
    {},
    optional={
        "served_model_name": st.sampled_from(["town-1", "x"]) | JSON,
        "traffic_percentage": st.integers(-1, 101) | JSON,
    },
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "served_entities": st.lists(ENTITY | JSON, max_size=3) | JSON,
            "served_models": JSON,
            "traffic_config": st.fixed_dictionaries({"routes": st.lists(ROUTE | JSON, max_size=3) | JSON}) | JSON,
        },
    )
    | JSON
)
def test_a_configuration_is_understood_or_refused_in_one_line(config: Any) -> None:
    try:
        found = entities(config, "town", ())
    except RequestError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert found and sum(one.percent for one in found) == 100


def test_traffic_alone_keeps_the_entities() -> None:
    current = served([(IDS[0], 90), (IDS[1], 10)])
    routes = [{"served_entity_name": "e1", "traffic_percentage": 100}]
    found = entities({"traffic_config": {"routes": routes}}, "town", current)
    assert [(one.name, one.version, one.percent) for one in found] == [("e0", "0", 0), ("e1", "1", 100)]


def test_the_older_form_means_the_same() -> None:
    new = {"served_entities": [{"entity_name": "a.b.town", "entity_version": "1", "scale_to_zero_enabled": True}]}
    old = {"served_models": [{"model_name": "a.b.town", "model_version": "1", "scale_to_zero_enabled": True}]}
    assert entities(new, "town", ()) == entities(old, "town", ())
    (one,) = entities(new, "town", ())
    assert (one.name, one.percent, one.extras) == ("town-1", 100, {"scale_to_zero_enabled": True})


ONE = {"entity_name": "town", "entity_version": "1"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"environment_vars": {"K": "secret"}}, "environment_vars"),
        ({"external_model": {"provider": "x"}}, "external_model"),
        ({"instance_profile_arn": "arn"}, "instance_profile_arn"),
        ({"min_provisioned_throughput": 100}, "throughput"),
        ({"workload_type": "GPU_SMALL"}, "only CPU"),
        ({"workload_size": 4}, "workload_size"),
        ({"surprise": 1}, "unknown surprise"),
        ({"entity_version": ""}, "a version of town"),
        ({"name": "a b"}, "letters"),
    ],
)
def test_what_would_promise_too_much_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said) as error:
        entities({"served_entities": [{**ONE, **more}]}, "town", ())
    assert "secret" not in str(error.value)


def test_two_entities_are_two_releases() -> None:
    asked = entities(
        {
            "served_entities": [ONE, {**ONE, "name": "again"}],
            "traffic_config": {"routes": [{"served_model_name": "town-1", "traffic_percentage": 100}]},
        },
        "town",
        (),
    )
    with pytest.raises(RequestError, match="the same release"):
        resolved(asked, {"1": RELEASES[IDS[0]]})


def test_of_an_endpoint_what_is_harmless_is_kept() -> None:
    kept = endpoint_extras(
        {
            "name": "a",
            "description": "d",
            "budget_policy_id": "b",
            "route_optimized": False,
            "ai_gateway": {"usage_tracking_config": {"enabled": True}, "fallback_config": {}},
        }
    )
    assert kept == {
        "description": "d",
        "budget_policy_id": "b",
        "ai_gateway": {"usage_tracking_config": {"enabled": True}, "fallback_config": {"enabled": False}},
    }
    for more in (
        {"route_optimized": True},
        {"rate_limits": [{"calls": 1}]},
        {"email_notifications": {"on": ["x"]}},
        {"ai_gateway": {"guardrails": {"input": {"safety": True}}}},
        {"ai_gateway": {"inference_table_config": {"enabled": True}}},
    ):
        with pytest.raises(RequestError, match="leave it out"):
            endpoint_extras(more)
    assert ai_gateway({"inference_table_config": {"enabled": False}}) == {"inference_table_config": {"enabled": False}}


@given(JSON)
def test_names_and_tags_are_taken_or_refused(value: Any) -> None:
    for read in (endpoint_name, tags):
        try:
            read(value)
        except RequestError as error:
            assert "\n" not in str(error)
