"""What every embedder promises, and what the default one promises besides."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.embeddings_stub import DIMENSION, Stub
from tests.contract.threads import in_two_threads

from modelyard.adapters.embed_hash import HashEmbedder
from modelyard.adapters.embed_minilm import MiniLM, packaged
from modelyard.adapters.embed_openai import OpenAIEmbedder
from modelyard.errors import Damaged
from modelyard.ports.embedder import Embedder

_stub: list[Stub] = []


def remote(**options: Any) -> OpenAIEmbedder:
    """One that asks a local server which speaks the protocol."""
    if not _stub:
        _stub.append(Stub())
    return OpenAIEmbedder(url=_stub[0].url, dimension=DIMENSION, **options)


MAKERS: dict[str, Callable[[], Embedder]] = {
    "hash": HashEmbedder,
    "minilm": lambda: MiniLM(packaged(), threads=2),
    "openai": lambda: remote(name="remote", batch=7, parallel=3),
    "openai-base64": lambda: remote(name="remote-base64", encoding="base64", shorten=True),
    "minilm-float32": lambda: MiniLM(packaged(), threads=2, int8=False),
}
ODD = [
    "",
    " \n\t\u00a0",
    "a",
    "Wie viele Tage? 年次有給休暇 🌲🌲 \u202eabc e\u0301",
    "\x00\x02 \ud800 lone",
    "[SEP] [CLS] [PAD]",
    "x" * 5000,
    "leave policy " * 4000,
    "١٢٣ 12.5 % (1,204)",
]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM(packaged(), threads=2)


def texts_of_many_lengths(count: int = 40) -> list[str]:
    return [f"Clause {i}: the depot keeps {i * 7} pumps. " * (1 + i % 11) for i in range(count)]


# Every embedder


def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: Embedder) -> None:
    texts = texts_of_many_lengths()
    vectors = embedder.embed(texts)
    assert vectors.shape == (len(texts), embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(embedder.embed(texts[::-1]), vectors[::-1])


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimension)


def test_any_string_has_a_vector(embedder: Embedder) -> None:
    vectors = embedder.embed(ODD)
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_vector_does_not_depend_on_the_neighbours(embedder: Embedder) -> None:
    texts = texts_of_many_lengths() + ODD + [f"depot{i}" if i % 3 else "pump" for i in range(80)]
    together = embedder.embed(texts)
    assert np.array_equal(together, np.concatenate([embedder.embed([text]) for text in texts]))
    assert np.array_equal(together, embedder.embed(texts))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=80), min_size=1, max_size=6), data=st.data())
def test_any_subset_in_any_order_has_the_same_vectors(
    embedder: Embedder, texts: list[str], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=9))
    assert np.array_equal(embedder.embed([texts[row] for row in rows]), embedder.embed(texts)[rows])


def test_two_threads_get_the_right_vectors(embedder: Embedder) -> None:
    texts = texts_of_many_lengths()
    expected = embedder.embed(texts)
    assert in_two_threads(lambda part: np.array_equal(embedder.embed(texts[part]), expected[part]))


def test_progress_counts_up_to_all_and_may_end_the_call(embedder: Embedder) -> None:
    texts = texts_of_many_lengths()
    seen: list[int] = []
    expected = embedder.embed(texts, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(texts)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedder.embed(texts, progress=stop)
    assert np.array_equal(embedder.embed(texts), expected)


def test_related_texts_are_nearer_than_unrelated_ones(embedder: Embedder) -> None:
    question, answer, other = embedder.embed(
        ["annual leave of part-time employees", "Part-time employees accrue annual leave.", "Tighten the eight bolts."]
    )
    assert question @ answer > question @ other


def test_tokens_are_counted_beyond_the_limit(embedder: Embedder) -> None:
    assert embedder.count_tokens("one two three") < embedder.count_tokens("one two three four")
    assert embedder.count_tokens("leave policy " * 4000) >= 8000


def test_the_digest_is_the_same_each_time_and_members_are_files(embedder: Embedder) -> None:
    assert len(embedder.digest) == 64
    again = {made.name: made.digest for made in (make() for make in MAKERS.values())}
    assert again[embedder.name] == embedder.digest
    assert all(path.is_file() for path in embedder.members().values())


# The default embedder


def test_vectors_are_those_of_sentence_transformers() -> None:
    """The reference was computed by sentence-transformers on torch in float32, the model cut at 256 tokens."""
    reference = json.loads(Path(__file__).with_name("minilm_reference.json").read_text(encoding="utf-8"))
    texts = [entry["text"] for entry in reference]
    expected = np.array([entry["thousandths"] for entry in reference]) / 1000
    for int8 in (None, False):
        cosines = (MiniLM(packaged(), int8=int8).embed(texts) * expected).sum(axis=1)
        filled = np.array([bool(text) for text in texts])
        assert cosines[filled].min() > 0.99, (int8, cosines)
        assert cosines.min() > 0.97, (int8, cosines)


def test_a_release_with_a_copy_of_the_members_embeds_alike(minilm: MiniLM, tmp_path: Path) -> None:
    for name, path in minilm.members().items():
        shutil.copyfile(path, tmp_path / name)
    copy = MiniLM(tmp_path, threads=1)
    assert copy.digest == minilm.digest
    texts = texts_of_many_lengths(12)
    assert np.array_equal(copy.embed(texts), minilm.embed(texts))


def test_text_is_cut_at_256_tokens(minilm: MiniLM) -> None:
    whole, cut, shorter = minilm.embed(["leave " * 300, "leave " * 254, "leave " * 253])
    assert np.array_equal(whole, cut)
    assert not np.array_equal(cut, shorter)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_or_broken_member_is_damage(minilm: MiniLM, tmp_path: Path, name: str) -> None:
    for member, path in minilm.members().items():
        shutil.copyfile(path, tmp_path / member)
    (tmp_path / name).write_bytes(b"not what it was")
    with pytest.raises(Damaged, match=name):
        MiniLM(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(Damaged, match="is missing"):
        MiniLM(tmp_path)


def test_the_same_files_are_compiled_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, compile_model = [], openvino.Core.compile_model

    def counted(*args: Any) -> Any:
        compiled.append(args)
        return compile_model(*args)

    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    for name in ("one", "two", "other"):
        shutil.copytree(packaged(), tmp_path / name)
    other = json.loads((tmp_path / "other/tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "other/tokenizer.json").write_text(json.dumps(other), encoding="utf-8")
    first, second, third = (MiniLM(tmp_path / name, threads=3) for name in ("one", "two", "other"))
    assert len(compiled) == 2  # the third has other bytes, though the same words
    assert second.members()["model.onnx"] == tmp_path / "two/model.onnx"
    assert first.digest == second.digest != third.digest


def test_importing_it_imports_nothing_heavy_and_no_telemetry() -> None:
    unwanted = ["onnx", "onnxruntime", "pandas", "mlflow", "torch", "openvino_telemetry"]
    code = f"import sys, modelyard.adapters.embed_minilm; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
