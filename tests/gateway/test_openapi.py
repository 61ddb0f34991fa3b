"""What /openapi.json says is so: schemathesis, with all its checks, in sequences of requests too, finds nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from models import put
from town import Gateway, Town

from modelyard.gateway.control import routes as control
from modelyard.gateway.control_data import routes as data
from modelyard.gateway.openapi import document
from modelyard.gateway.openapi_parts import Facts
from modelyard.gateway.ops_api import ROUTES

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 4
SEED = 7
MOVES = ("create", "create_too", "rollback", "ops_drill")
"""What starts workers, or sends traffic elsewhere: it answers by what there is, and not by what was asked alone."""


def schemathesis(folder: Path, gateway: Gateway, *options: str, links: int = 0) -> None:
    """Fails where it finds something, or could follow fewer than `links` kinds of links."""
    pytest.importorskip("schemathesis")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SCHEMATHESIS_")}
    (folder / "schemathesis").mkdir()
    done = subprocess.run(
        [
            *(str(SCHEMATHESIS), "run", f"{gateway.url}/openapi.json", "--checks", "all", "--no-color"),
            *("--max-examples", str(EXAMPLES), "--seed", str(SEED), "--generation-deterministic", *options),
        ],
        cwd=folder / "schemathesis",
        capture_output=True,
        text=True,
        env={**clean, "NO_PROXY": "*", "no_proxy": "*"},
        check=False,
    )
    report = done.stdout + done.stderr
    followed = re.search(r"API Links: +(\d+) covered", report)
    assert done.returncode == 0 and int(followed[1] if followed else 0) >= links, report


@pytest.mark.proof
def test_nothing_is_found_of_a_chat(town: Town) -> None:
    release = town.release("you said: ", workload="echo")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        without = [part for name in MOVES for part in ("--exclude-operation-id", name)]
        schemathesis(town.root, gateway, *without, links=5)


@pytest.mark.proof
def test_nothing_is_found_of_a_model_behind_a_token(town: Town) -> None:
    pytest.importorskip("lightgbm")
    release = put(town, "lightgbm", "lightgbm")
    town.point(release)
    with town.gateway(token="a-token-of-the-test") as gateway:
        gateway.until_ready(release)
        only = ("--include-path-regex", "^/(invocations|predict|v1|v2|ready|feedback|metrics|version|serving)")
        schemathesis(town.root, gateway, "-H", "Authorization: Bearer a-token-of-the-test", *only, links=3)


def test_nothing_is_found_of_search_and_pictures(served: Gateway, tmp_path: Path) -> None:
    schemathesis(tmp_path, served, "--include-path-regex", "^/(search|pages)")


COLUMNS = {
    "runtime": "sklearn",
    "tensors": False,
    "missing": False,
    "inputs": [
        {"name": "age", "kind": "long", "shape": [-1], "required": True},
        {"name": "town", "kind": "string", "shape": [-1], "required": False},
    ],
    "outputs": [{"name": "", "kind": "float64", "shape": [-1], "required": True}],
}
CHAT = Facts("e", frozenset({"messages"}), search=True, picture=True, control=True, releases=("0" * 64,))
TABLE = Facts("e", frozenset({"dataframe_split"}), invokes=True, schema=COLUMNS, token=True)


def operations(found: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(method.upper(), path): one for path, item in found["paths"].items() for method, one in item.items()}


def test_every_route_is_in_it(served: Gateway) -> None:
    routes = served.http.get("/openapi.json").json()
    assert operations(routes).keys() == operations(document(CHAT)).keys()
    documented = operations(document(CHAT)).keys() | operations(document(TABLE)).keys()
    source = (Path(document.__code__.co_filename).parent / "app.py").read_text()
    plain = {re.sub(r":\w+\}", "}", path) for path in re.findall(r'Route\("([^"]+)"', source)}
    assert len(plain) > 15 and plain <= {path for _, path in documented}
    others = {(method, route.path) for route in (*ROUTES, *control(), *data()) for method in route.methods or ()}
    missing = {one for one in others if one[0] != "HEAD"} - documented
    # A form of the page that carries a secret of the gateway, and what is refused to everybody.
    assert missing == {("POST", "/ops/do"), ("PUT", "/api/2.0/serving-endpoints/{name}/rate-limits")}


def test_the_columns_of_the_model_are_in_it() -> None:
    body = document(TABLE)["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    split = body["anyOf"][0]["properties"]["dataframe_split"]["properties"]
    assert split["columns"] == {"const": ["age", "town"]} and split["data"]["items"]["minItems"] == 2
    record = body["anyOf"][1]["properties"]["dataframe_records"]["items"]
    assert record["required"] == ["age"] and set(record["properties"]) == {"age", "town"}
    assert record["additionalProperties"] is False


def test_links_and_names_are_those_of_operations() -> None:
    for facts in (CHAT, TABLE, Facts("e", frozenset()), Facts("e", frozenset({"inputs"}), invokes=True)):
        found = operations(document(facts))
        names = [one["operationId"] for one in found.values()]
        assert len(names) == len(set(names))
        for one in found.values():
            for answer in one["responses"].values():
                for link in answer.get("links", {}).values():
                    assert link["operationId"] in names


def test_a_token_is_asked_for_where_one_is_needed() -> None:
    assert "security" not in document(CHAT)
    found = document(TABLE)
    assert found["security"] == [{"token": []}] and found["paths"]["/health"]["get"]["security"] == []
    assert "security" not in found["paths"]["/invocations"]["post"]
