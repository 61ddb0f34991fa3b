"""What the MLmodel file of an MLflow model says. Plain YAML: no mlflow is imported, nothing of the model is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from modelyard.errors import Damaged, NotFound
from modelyard.ports.model import Column, Described, Signature, Tensor

MLMODEL = "MLmodel"
_MAX_BYTES = 10_000_000
_PICKLES = frozenset({"pickle", "cloudpickle"})
_PICKLED = frozenset({".pkl", ".pickle", ".joblib", ".pt", ".pth"})


def describe(folder: Path) -> Described:
    """Read `folder`/MLmodel. Raises NotFound where there is none, Damaged for one that cannot be read."""
    path = folder / MLMODEL
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Damaged(f"{path} is larger than {_MAX_BYTES:,} bytes")
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"{folder} holds no MLflow model: there is no file {MLMODEL} in it") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Damaged(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    flavors = value.get("flavors") if isinstance(value, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(conf, dict) for conf in flavors.values()):
        raise Damaged(f"{path} names no flavors")
    try:
        signature = _signature(value.get("signature"))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Damaged(f"{path}: its signature cannot be read") from None
    return Described(
        flavors=flavors,
        signature=signature,
        from_hint=bool(value.get("is_signature_from_type_hint")),
        example=_example(folder, value.get("saved_input_example_info")),
        requirements=_requirements(folder),
        executes=tuple(sorted(set(_executes(folder, flavors)))),
    )


def member(folder: Path, name: Any) -> Path:
    """The file of the model that its configuration names. Raises Damaged for one outside the folder, or that is not
    there."""
    if not isinstance(name, str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise Damaged(f"{folder / MLMODEL} names a file outside of the model")
    path = folder / name
    if not path.exists():
        raise Damaged(f"{folder / MLMODEL} names {name}, which is not there")
    return path


def _signature(value: Any) -> Signature | None:
    if not value or not value.get("inputs"):
        return None
    inputs = [_variable(one) for one in json.loads(value["inputs"])]
    columns = tuple(one for one in inputs if isinstance(one, Column))
    tensors = tuple(one for one in inputs if isinstance(one, Tensor))
    params = json.loads(value["params"]) if value.get("params") else []
    outputs = json.loads(value["outputs"]) if value.get("outputs") else []
    names = tuple(str(one["name"]) for one in params)
    return Signature(columns, tensors, names, tuple(_variable(one) for one in outputs))


def _variable(one: Mapping[str, Any]) -> Column | Tensor:
    name = str(one.get("name") or "")
    if one["type"] == "tensor":
        spec = one["tensor-spec"]
        return Tensor(name, str(spec["dtype"]), tuple(int(size) for size in spec["shape"]))
    return Column(name, str(one["type"]), bool(one.get("required", True)))


def _example(folder: Path, about: Any) -> str | None:
    name = about.get("serving_input_path") if isinstance(about, Mapping) else None
    return str(name) if name and PurePosixPath(str(name)).name == name and (folder / str(name)).is_file() else None


def _requirements(folder: Path) -> tuple[str, ...]:
    try:
        lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "-")))


def _executes(folder: Path, flavors: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for conf in flavors.values():
        if conf.get("serialization_format") in _PICKLES or conf.get("skops_trusted_types"):
            name = conf.get("pickled_model") or conf.get("data") or ""
            if str(name).endswith((".pkl", ".skops")):
                yield str(name)
        if conf.get("code"):
            yield str(conf["code"])
    function = flavors.get("python_function", {})
    if function.get("model_code_path"):
        yield PurePosixPath(str(function["model_code_path"])).name
    loader = str(function.get("loader_module", ""))
    if loader and not loader.startswith("mlflow."):
        yield loader
    for path in folder.rglob("*"):
        if path.suffix in _PICKLED and path.is_file():
            yield path.relative_to(folder).as_posix()
