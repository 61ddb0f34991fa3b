"""`modelyard token`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import modelyard
from modelyard.cli.token import token
from modelyard.errors import NotFound, UserError
from modelyard.ports.tokens import SECRET


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return modelyard.init(tmp_path / "town", workload="echo")


def run(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(token, [*arguments, "-C", str(project)])


def said(project: Path, *arguments: str) -> str:
    result = run(project, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_token_is_shown_once_and_alone_on_its_line(project: Path) -> None:
    options = ["--group", "hr", "--group", "board", "--rate", "60/min", "--daily-budget", "500", "--expires", "30d"]
    secret = said(project, "create", "--name", "sales desk", *options).strip()
    match = SECRET.fullmatch(secret)
    assert match
    (one,) = json.loads(said(project, "list", "--json"))
    assert one["id"] == match[1] and one["name"] == "sales desk" and one["groups"] == ["board", "hr"]
    assert one["scope"] == "query" and one["state"] == "live" and one["spent_today"] == {"requests": 0, "tokens": 0}
    assert one["limits"]["requests_per_minute"] == 60 and one["limits"]["requests_per_day"] == 500
    assert one["limits"]["tokens_per_minute"] is None and one["expires"] > one["created"]
    shown = said(project, "list")
    assert secret not in shown and "sales desk" in shown and "0/500 requests" in shown
    for path in project.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_revoked_by_name_by_id_or_by_the_secret_itself(project: Path) -> None:
    for name in ("one", "two", "three"):
        secret = said(project, "create", "--name", name).strip()
        identity = json.loads(said(project, "list", "--json"))[0]["id"]
        what = {"one": name, "two": f"my_{identity}", "three": secret}[name]
        assert f"token {identity} is revoked" in said(project, "revoke", what)
    assert said(project, "list").startswith("no live tokens in test")
    assert [one["state"] for one in json.loads(said(project, "list", "--all", "--json"))] == ["revoked"] * 3


def test_targets_have_their_own(project: Path) -> None:
    said(project, "create", "-t", "prod", "--scope", "operate")
    assert json.loads(said(project, "list", "--json")) == []
    assert json.loads(said(project, "list", "-t", "prod", "--json"))[0]["scope"] == "operate"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--rate", "0"], "no rate such as 60/min"),
        (["--rate", "60/s"], "no rate such as 60/min"),
        (["--daily-budget", "0"], "0 is not in the range"),
        (["--expires", "soon"], "not a duration"),
        (["--scope", "admin"], "'query', 'operate'"),
    ],
)
def test_what_is_no_option_is_said(project: Path, options: list[str], says: str) -> None:
    result = run(project, "create", *options)
    assert result.exit_code == 2 and says in result.output
    assert json.loads(said(project, "list", "--json")) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--group", "public"], "public is no group"),
        (["--group", ""], "no name of a group"),
        (["--name", "a\nb"], "printable characters"),
        (["--expires", "99999d"], "within a hundred years"),
    ],
)
def test_what_cannot_be_is_one_line(project: Path, options: list[str], says: str) -> None:
    error = run(project, "create", *options).exception
    assert isinstance(error, UserError) and says in str(error) and "\n" not in str(error)
    assert json.loads(said(project, "list", "--json")) == []


def test_a_token_that_is_not_there(project: Path) -> None:
    assert isinstance(run(project, "revoke", "nobody").exception, NotFound)
