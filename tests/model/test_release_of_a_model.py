"""An MLflow model through the loop: init, run, evaluate, deploy; and what is refused on the way."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
import yaml
from tests.model.shop import NUMBERS, call, folder, labels, numbers, theirs

import modelyard
from modelyard.errors import Damaged, MissingExtra, ModelFailed, NotFound, ProjectError, RefusedByPolicy, UserError
from modelyard.ports.model import NotDirect
from modelyard.ports.workload import CanInvoke, Exam
from modelyard.wiring import ports as wired
from modelyard.wiring.begin import begin
from modelyard.wiring.opening import open_release
from modelyard.wiring.ports import ReleasePorts
from modelyard.workloads.model.choose import Choice, choose, library
from modelyard.workloads.model.workload import versions

URL = re.compile(r"http://[\d.:]+")
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and pandas' own


def copied(name: str, to: Path) -> Path:
    shutil.copytree(folder(name), to)
    return to


def exam(path: Path, rows: int = 120) -> Path:
    table = numbers(rows, seed=5)
    table["region"] = ["north", "south"] * (rows // 2)
    table["defaulted"] = labels(table)
    table.to_csv(path, index=False)
    return path


def retold(model: Path, **changes: Any) -> None:
    """Say something else in the MLmodel file."""
    about = yaml.safe_load((model / "MLmodel").read_text())
    about |= changes
    (model / "MLmodel").write_text(yaml.safe_dump(about))


@contextmanager
def served(root: Path) -> Iterator[str]:
    """`modelyard serve` of the project, ready."""
    command = [sys.executable, "-m", "modelyard", "serve", "-C", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(found[0] for line in process.stdout if "ready" in line and (found := URL.search(line)))
        finally:
            process.send_signal(signal.SIGTERM)


def posted(url: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
    reply = httpx.post(f"{url}/invocations", content=body, headers={"content-type": kind})
    return reply.status_code, reply.content


def test_from_a_model_to_a_release_that_answers_as_it_does(tmp_path: Path) -> None:
    model, notes = copied("linear", tmp_path / "model"), []
    table = exam(tmp_path / "holdout.csv")
    with pytest.raises(ProjectError, match=r"--label NAME \(region, defaulted"):
        modelyard.init(tmp_path / "p", model=str(model), exam=table)
    root = modelyard.init(tmp_path / "p", model=str(model), exam=table, label="defaulted", on_note=notes.append)
    assert notes == []
    with modelyard.open(root) as project:
        outcome = project.run()
        assert outcome.deployed and not outcome.unproven
        assert outcome.evidence is not None
        figures = outcome.evidence["metrics"]
        assert {"quality", "average_precision", "roc_auc", "brier", "log_loss"} <= set(figures)
        assert figures["quality"]["value"] > 0.3 and figures["quality"]["n"] == 120
        body = json.dumps({"inputs": dict.fromkeys(NUMBERS, 0.5)}).encode()
        release = outcome.release
        assert release is not None
        with open_release(project.world.layout.releases / release.id) as opened:
            assert isinstance(opened.predictor, CanInvoke)
            reply = json.loads(opened.predictor.invoke(body, "application/json", call()).body)
        assert reply == theirs("linear", body)
        with served(root) as url:
            assert posted(url, body) == (200, json.dumps(reply).encode())
            assert posted(url, b"f0,f1,f2,f3,f4\n1,2,3,4,5\n", "text/csv")[0] == 200
            for wrong in (
                b"{}",
                body * 2,
                b'{"inputs": {"f0": NaN}}',
                b'{"messages": [{"role": "user", "content": "x"}]}',
            ):
                status, said = posted(url, wrong)
                assert status == 400 and json.loads(said)["message"]
            assert posted(url, body, "text/plain")[0] == 415
        uri = f"sqlite:///{project.world.layout.mlflow_db}"
        source = mlflow.MlflowClient(uri, uri).get_model_version("p", str(release.version)).source
        logged = mlflow.pyfunc.load_model(source)
        assert [c.name for c in logged.metadata.get_input_schema().inputs] == NUMBERS
        assert logged.predict(numbers(2).iloc[:1].assign(**dict.fromkeys(NUMBERS, 0.5))) == reply["predictions"]

        # Another model in the folder: another release, judged against the champion on the same rows.
        shutil.rmtree(model)
        copied("gradient", model)
        (root / "modelyard.yml").write_text((root / "modelyard.yml").read_text() + "gate: {margins: {quality: 0.0}}\n")
        with modelyard.open(root) as again:
            with pytest.raises(modelyard.errors.Judged):
                again.run()
            rival = again.releases()[0]["id"]
            assert again.diff(release.id, rival)["answers"]["changed"]
        assert project.world.ledger.pointers("p").champion == release.id


def test_without_an_exam_the_models_example_is_asked_and_proves_nothing(tmp_path: Path) -> None:
    notes: list[str] = []
    model = copied("mixed", tmp_path / "m")
    rows = [{"a": 0.5, "b": 1.0, "c": i, "d": 1, "e": True, "s": "red"} for i in range(3)]
    (model / "example.json").write_text(json.dumps({"inputs": rows}))
    retold(model, saved_input_example_info={"serving_input_path": "example.json"})
    root = modelyard.init(tmp_path / "p", model=str(model), on_note=notes.append)
    assert len(notes) == 2 and "model.pkl" in notes[0] and "proves nothing" in notes[1]
    with modelyard.open(root) as project:
        workload, ctx = project.world.heavy.workload, project.world.heavy.context
        proposed = list(workload.propose_cases(ctx, workload.snapshot(ctx)))
        assert [row["recorded"] for row in proposed] == theirs_one_by_one("mixed", rows)
        (tmp_path / "built").mkdir()
        workload.build(ctx, workload.snapshot(ctx), tmp_path / "built")
        loaded = workload.load(ctx, tmp_path / "built")
        cases = list(workload.cases(ctx, Exam("generated", tuple(proposed))))
        scored = [workload.score(case, *loaded.predict(case.request, call(effects="exam"))) for case in cases]
    assert [row.values for row in scored] == [{"agrees": 1.0}] * 3
    # No case is `judged`, and the gate wants 30 of them.
    assert workload.min_cases == {"judged": 30} and {row.slices for row in scored} == {()}


def theirs_one_by_one(name: str, rows: list[dict[str, Any]]) -> list[Any]:
    return [theirs(name, json.dumps({"inputs": [row]}).encode())["predictions"] for row in rows]


def test_a_model_is_fetched_into_the_project(tmp_path: Path) -> None:
    root = modelyard.init(tmp_path / "p", model=folder("linear").as_uri())
    config = modelyard.open(root).world.loaded.config
    assert (root / config.documents / "MLmodel").is_file() and not Path(config.documents).is_absolute()
    assert config.model.uri == folder("linear").as_uri()
    for uri in ("http://127.0.0.1:9/model", (tmp_path / "none").as_uri()):
        with pytest.raises(UserError, match="cannot be fetched") as raised:
            modelyard.init(tmp_path / "q", model=uri)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "q" / "modelyard.yml").exists()


def test_a_model_is_looked_at_and_not_run(tmp_path: Path) -> None:
    model = copied("mixed", tmp_path / "m")
    (model / "model.pkl").write_bytes(b"cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    modelyard.init(tmp_path / "p", model=str(model))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "holds no MLflow model"),
        ("[1]", "names no flavors"),
        ("a: [", "cannot be read"),
        ("flavors: 1", "no flavors"),
    ],
)
def test_a_folder_that_is_no_model(tmp_path: Path, text: str | None, said: str) -> None:
    (tmp_path / "m").mkdir()
    if text is not None:
        (tmp_path / "m" / "MLmodel").write_text(text)
    with pytest.raises((Damaged, NotFound), match=said) as raised:
        modelyard.init(tmp_path / "p", model=str(tmp_path / "m"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "p" / "modelyard.yml").exists()


def test_init_says_what_does_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="not both"):
        modelyard.init(tmp_path / "p", model=str(folder("linear")), documents=tmp_path)
    with pytest.raises(ProjectError, match=r"the exam .* is not there"):
        modelyard.init(tmp_path / "p", model=str(folder("linear")), exam=tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(ProjectError, match="has no rows"):
        modelyard.init(tmp_path / "p", model=str(folder("linear")), exam=tmp_path / "empty.csv")
    assert begin.__doc__


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("lightgbm", "lightgbm"),
        ("lightgbm_classes", "lightgbm"),
        ("xgboost", "xgboost"),
        ("xgboost_classifier", "xgboost"),
        ("linear", "sklearn"),
        ("gradient", "sklearn"),
        ("mixed", "sklearn"),
        ("lightgbm_estimator", "sklearn"),
        ("array", "sklearn"),
        ("onnx", "onnx"),
        ("onnx_columns", "onnx"),
        ("own", "pyfunc"),
        ("unnamed", "pyfunc"),
        ("unsigned", "pyfunc"),
    ],
)
def test_the_library_that_serves(name: str, runtime: str) -> None:
    for package in ("lightgbm", "xgboost"):
        if name.startswith(package):
            pytest.importorskip(package)
    ports = ReleasePorts({}, None)
    about = ports.describe_model(folder(name))
    assert choose(about, folder(name), lambda wanted: ports.model(folder(name), wanted)).runtime == runtime


def test_a_library_that_answers_otherwise_does_not_serve(tmp_path: Path) -> None:
    """The estimator was fitted on the columns in another order than the signature has: MLflow refuses what is sent."""
    model = copied("linear", tmp_path / "m")
    about = yaml.safe_load((model / "MLmodel").read_text())["signature"]
    columns = json.loads(about["inputs"])
    retold(model, signature={**about, "inputs": json.dumps(columns[::-1])})
    ports = ReleasePorts({}, None)
    found = choose(ports.describe_model(model), model, lambda wanted: ports.model(model, wanted))
    assert found == Choice("pyfunc", "the signature's columns are not those the estimator was fitted with")


def test_a_model_that_refuses_its_own_example_is_not_built(tmp_path: Path) -> None:
    model = copied("linear", tmp_path / "m")
    (model / "example.json").write_text(json.dumps({"inputs": {"f0": "no"}}))
    retold(model, saved_input_example_info={"serving_input_path": "example.json"})
    ports = ReleasePorts({}, None)
    with pytest.raises(UserError, match="refuses its own input example: missing columns: f1"):
        choose(ports.describe_model(model), model, lambda wanted: ports.model(model, wanted))


def test_a_package_that_is_not_there_is_named_with_the_models_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm")
    model = copied("lightgbm", tmp_path / "m")
    (model / "requirements.txt").write_text("mlflow==3.17.2\nlightgbm==4.6.0\n")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "lightgbm" else find(name, *a))
    with pytest.raises(MissingExtra, match=r"pip install 'lightgbm==4\.6\.0'"):
        wired.ReleasePorts({}, None).model(model, "lightgbm")


def test_other_versions_than_the_models_are_told() -> None:
    here = importlib.metadata.version("numpy")
    assert versions(("numpy==1.0", f"numpy=={here}", "numpy>=1", "not-there==1", "numpy")) == [
        f"numpy 1.0 (here {here})"
    ]


def test_pickles_may_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(RefusedByPolicy, match="MLFLOW_ALLOW_PICKLE_DESERIALIZATION"):
        ReleasePorts({}, None).model(folder("mixed"), "sklearn")


@pytest.mark.parametrize(
    ("name", "file"), [("lightgbm", "model.lgb"), ("xgboost", "model.ubj"), ("onnx", "model.onnx")]
)
def test_a_file_that_is_no_model(tmp_path: Path, name: str, file: str) -> None:
    if name != "onnx":
        pytest.importorskip(name)
    model = copied(name, tmp_path / "m")
    (model / file).write_bytes(b"\x00nothing")
    with pytest.raises(ModelFailed):
        ReleasePorts({}, None).model(model, name)
    (model / file).unlink()
    with pytest.raises(Damaged, match="which is not there"):
        ReleasePorts({}, None).model(model, name)


def test_a_configuration_that_points_outside_is_not_followed(tmp_path: Path) -> None:
    model = copied("onnx", tmp_path / "m")
    flavors = yaml.safe_load((model / "MLmodel").read_text())["flavors"]
    flavors["onnx"]["data"] = "../secret.onnx"
    retold(model, flavors=flavors)
    with pytest.raises(Damaged, match="outside"):
        ReleasePorts({}, None).model(model, "onnx")


def test_columns_of_another_model_are_told(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    model = copied("lightgbm", tmp_path / "m")
    about = yaml.safe_load((model / "MLmodel").read_text())["signature"]
    columns = json.loads(about["inputs"])
    for some in (columns[::-1], columns[:4]):
        retold(model, signature={**about, "inputs": json.dumps(some)})
        with pytest.raises(NotDirect):
            ReleasePorts({}, None).model(model, "lightgbm")


def test_a_signature_of_other_types_is_mlflows(tmp_path: Path) -> None:
    model = copied("own", tmp_path / "m")
    retold(model, signature={"inputs": json.dumps([{"type": "datetime", "name": "when", "required": True}])})
    assert library(ReleasePorts({}, None).describe_model(model)).runtime == "pyfunc"


def test_serving_a_booster_imports_neither_mlflow_nor_pandas() -> None:
    pytest.importorskip("lightgbm")
    code = (
        "import sys; from pathlib import Path; from modelyard.wiring.ports import ReleasePorts;"
        "from modelyard.workloads.model.predictor import ModelPredictor;"
        f"ModelPredictor(ReleasePorts({{}}, None).model(Path({str(folder('lightgbm'))!r}), 'lightgbm'));"
        "print(' '.join(sorted(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mlflow", "pandas", "sklearn", "scipy"} & set(loaded)
