"""modelyard.yml: what it refuses, in which words, and where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import ModelyardError, NotFound, ProjectError
from modelyard.project.load import find_root, leaves, load
from modelyard.project.secrets import Secret, masked


def project(folder: Path, text: str) -> Path:
    (folder / "modelyard.yml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: p\nserve: {prot: 3}", ":2: unknown key serve.prot (did you mean port?)"),
        ("name: p\nsreve: {}", ":2: unknown key sreve (did you mean serve?)"),
        (
            "name: p\nchatbot: {chat: {url: 'http://x', model: m, kye: 'env:X'}}",
            "unknown key chatbot.chat.kye (did you",
        ),
        ("name: p\nserve: {port: high}", ":2: serve.port: input should be a valid integer"),
        ("name: p\nserve: {port: 70000}", "serve.port: input should be less than or equal to 65535"),
        ("name: p\nserve: {workers: 0}", "serve.workers: input should be greater than or equal to 1"),
        ("name: p\nserve: {workers: 2.5}", "serve.workers: input should be a valid integer"),
        ("name: p\nserve: {memory_limit: a lot}", ":2: serve.memory_limit"),
        ("name: p\nserve: {drain: 0s}", "serve.drain: input should be greater than 0"),
        ("name: p\nserve: {notice: -1}", "serve.notice: input should be greater than or equal to 0"),
        ("name: 3", ":1: name: input should be a valid string"),
        ("name: p\nname: q", ":2: name stands twice (first on line 1)"),
        ("workload: echo", "name is missing"),
        ("name: 'a b'", "name: letters, digits"),
        ("name: [p", "not valid YAML"),
        ("- p", "a mapping of keys to values is expected"),
        ("", "is empty: it needs at least `name:`"),
        ("name: p\ntargets: {test: {}, prod: {sreve: {}}}", "unknown key sreve"),
        ("name: p\ntargets: [test]", ":2: targets is a mapping"),
        ("name: p\ntargets: {staging: {}}", "there is no target 'test'; it has staging"),
        ("name: p\nserve: {token: hunter2}", "a secret is given by reference"),
        ("name: p\nchatbot: {chat: {url: 'ftp://x', model: m}}", "a URL that begins with http"),
        ("name: p\ngate: {floors: {right: high}}", "gate.floors.right: input should be a valid number"),
        ("name: p\ningest: {max_file: 3 apples}", "is not a size such as 200 MB"),
        ("name: p\ngate:\n  floors: {right: .inf}", ":3: gate.floors.right: inf is no value here"),
        ("name: p\ngate: {margins: {right: .nan}}", ":2: gate.margins.right: nan is no value here"),
        ("name: p\nsettings:\n  a: [1.0, {b: 1.0e+999}]", ":3: settings.a: inf is no value here"),
        ("name: p\ntargets:\n  prod: {gate: {floors: {right: -.inf}}}", ":3: targets.prod.gate.floors.right: -inf"),
        ("name: p\nsettings: {on_day: 2025-01-01}", ":2: settings.on_day: a date is no value here"),
        ("name: p\ntargets: {1: {}, test: {}}", ":2: targets.1: YAML reads this key as int, not as text"),
        ("name: p\nsettings: {a: [{yes: 1}]}", ":2: settings.a.0.yes: YAML reads this key as bool"),
        ("name: p\ngate: {floors: {~: 1}}", ":2: gate.floors.~: YAML reads this key as null"),
        ('name: p\nserve: {token: "file:a\\0b"}', ":2: serve.token: the text holds a NUL character"),
        ('name: p\ndocuments: "\\ud800"', ":2: documents: the text holds a NUL character, or half"),
        ("name: p\ntargets:\n  test: {}\n  ../../esc: {}", ":4: the target '../../esc' has no good name: letters"),
        ("name: p\ntargets: {test: {}, '': {}}", "the target '' has no good name"),
        ("name: p\ntargets: {test: {}, Store: {}}", ":2: the target 'Store' would share its folder with the store"),
        ("name: p\ntargets: {test: {}, Test: {}}", ":2: the target 'Test' would share its folder with test"),
        ("name: p\nworkload: ':X'", ":2: workload: the name of a kind of model is expected, or module:Class"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProjectError) as error:
        load(project(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)
    assert error.value.exit_code == 2


def test_targets_override_and_every_value_knows_its_origin(tmp_path: Path) -> None:
    text = """\
name: p
serve: {port: 1000}
gate: {confidence: 0.9}
targets:
  test: {}
  prod:
    serve: {port: 2000}
"""
    root = project(tmp_path, text)
    test, prod = load(root), load(root, "prod")
    assert (test.config.serve.port, prod.config.serve.port) == (1000, 2000)
    assert test.origins["serve.port"] == "modelyard.yml:2"
    assert prod.origins["serve.port"] == "modelyard.yml:7 (targets.prod)"
    assert prod.origins["gate.confidence"] == "modelyard.yml:3"
    assert prod.origins["gate.min_human"] == "default of prod"
    assert prod.config.gate.min_human == 30 and not prod.config.gate.admit_unproven
    assert test.config.gate.min_human == 0 and test.config.gate.admit_unproven
    assert test.origins["serve.host"] == "default"
    assert set(test.origins) == {key for key, _ in leaves(test.config.model_dump(mode="json"))}


@pytest.mark.parametrize("name", ["prod", "production", "Prod"])
def test_where_strangers_are_met_defaults_are_strict(tmp_path: Path, name: str) -> None:
    root = project(tmp_path, f"name: p\ntargets: {{test: {{}}, {name}: {{}}}}")
    gate = load(root, name).config.gate
    assert (gate.min_human, gate.admit_unproven) == (30, False)
    assert load(root, name).origins["gate.min_human"] == f"default of {name}"
    relaxed = project(tmp_path, f"name: p\ntargets: {{{name}: {{gate: {{admit_unproven: true}}}}}}")
    assert load(relaxed, name).config.gate.admit_unproven


def test_targets_keep_their_state_apart_and_share_the_store(tmp_path: Path) -> None:
    root = project(tmp_path, "name: p")
    test, prod = load(root).layout, load(root, "prod").layout
    for name in ("ledger", "journal", "tables", "mlflow_db", "mlflow_artifacts", "run_lock", "serve_info"):
        assert getattr(test, name) != getattr(prod, name)
        assert prod.state in getattr(prod, name).parents
    assert test.store == prod.store


def test_a_secret_is_read_when_needed_and_never_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    (tmp_path / "token").write_text("hunter3\n")
    assert Secret("env:MY_TOKEN").reveal(tmp_path) == "hunter2"
    assert Secret("file:token").reveal(tmp_path) == "hunter3"
    assert "hunter" not in repr(Secret("env:MY_TOKEN"))
    with pytest.raises(ProjectError, match="NOT_SET is not set"):
        Secret("env:NOT_SET").reveal(tmp_path)
    with pytest.raises(ProjectError, match="cannot be read"):
        Secret("file:none").reveal(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ProjectError, match="not UTF-8"):
        Secret("file:binary").reveal(tmp_path)
    with pytest.raises(ValueError, match="by reference"):
        Secret("file:a\0b")
    loaded = load(project(tmp_path, "name: p\nserve: {token: 'env:MY_TOKEN'}"))
    assert "hunter" not in repr(loaded) and loaded.config.model_dump(mode="json")["serve"]["token"] == "env:MY_TOKEN"


@pytest.mark.parametrize("uri", ["http://me:hunter2@host:5000", "postgresql://me:hunter2/@x#y@host/db"])
def test_the_password_of_a_tracking_server_is_not_shown(tmp_path: Path, uri: str) -> None:
    loaded = load(project(tmp_path, f"name: p\nmlflow: {{tracking_uri: '{uri}'}}"))
    assert loaded.config.mlflow.tracking_uri == uri
    assert "hunter" not in repr(loaded) and "hunter" not in str(loaded.config.model_dump(mode="json"))
    assert masked(f"no answer from {uri}: try") == "no answer from " + uri.split("me:")[0] + "***@" + (
        f"{uri.rpartition('@')[2]}: try"
    )
    assert masked("sqlite:////a@b/c.db") == "sqlite:////a@b/c.db"


def test_the_project_is_found_from_below(tmp_path: Path) -> None:
    project(tmp_path, "name: p")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_root(tmp_path / "a" / "b") == tmp_path
    with pytest.raises(NotFound, match="modelyard init"):
        find_root(Path("/"))


@given(st.text(max_size=200))
def test_no_text_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("p")
    (root / "modelyard.yml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(root)
    except ModelyardError as e:
        assert "\n" not in str(e) or "\n" in str(root)
