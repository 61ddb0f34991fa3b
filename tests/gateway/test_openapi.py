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

from modelyard.gateway.openapi import document
from modelyard.gateway.openapi_parts import Facts

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
EXAMPLES = 8
SEED = 7


def schemathesis(folder: Path, gateway: Gateway, *options: str) -> str:
    """Its report. Fails where it found something."""
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
    assert done.returncode == 0, report
    linked = re.search(r"API Links: +(\d+) covered", report)
    assert "No issues found" in report
    assert "--include" in " ".join(options) or (linked is not None and int(linked[1]) > 4), report
    return report


def test_nothing_is_found_of_a_chat(town: Town) -> None:
    release = town.release("you said: ", workload="echo")
    town.point(release)
    with town.gateway() as gateway:
        gateway.until_ready(release)
        schemathesis(town.root, gateway)


def test_nothing_is_found_of_a_model_behind_a_token(town: Town) -> None:
    pytest.importorskip("lightgbm")
    release = put(town, "lightgbm", "lightgbm")
    town.point(release)
    with town.gateway(token="a-token-of-the-test") as gateway:
        gateway.until_ready(release)
        schemathesis(town.root, gateway, "-H", "Authorization: Bearer a-token-of-the-test")


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
CHAT = Facts("e", frozenset({"messages"}), search=True, picture=True)
TABLE = Facts("e", frozenset({"dataframe_split"}), invokes=True, schema=COLUMNS, token=True)


def operations(found: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(method.upper(), path): one for path, item in found["paths"].items() for method, one in item.items()}


def test_every_route_is_in_it(served: Gateway) -> None:
    routes = served.http.get("/openapi.json").json()
    assert (
        operations(routes).keys() == operations(document(Facts("town", CHAT.accepts, search=True, picture=True))).keys()
    )
    documented = operations(document(CHAT)).keys() | operations(document(TABLE)).keys()
    source = "\n".join(path.read_text() for path in Path(document.__code__.co_filename).parent.glob("app.py"))
    plain = [re.sub(r":\w+\}", "}", path) for path in re.findall(r'Route\("([^"]+)"', source)]
    assert len(plain) > 15 and set(plain) <= {path for _, path in documented}


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
