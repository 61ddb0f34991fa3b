"""modelyard.yml to a validated Project, and where each value came from."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from modelyard.errors import NotFound, ProjectError
from modelyard.project.layout import Layout
from modelyard.project.model import NAME, NAMED, TARGETS, Project, target_defaults

FILE = "modelyard.yml"
_MAX_BYTES = 1_000_000
_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


@dataclass(frozen=True)
class Loaded:
    """A project as one target sees it. `origins` maps a dotted key to where its value came from."""

    root: Path
    target: str
    config: Project
    origins: Mapping[str, str]

    @property
    def layout(self) -> Layout:
        return Layout(self.root, self.target)

    @property
    def documents(self) -> Path:
        return self.root / self.config.documents

    @property
    def exam(self) -> Path:
        return self.root / self.config.exam

    @property
    def section(self) -> BaseModel | None:
        """The section of the workload in use; None for one of the user's own."""
        section = getattr(self.config, self.config.workload, None)
        return section if isinstance(section, BaseModel) else None

    def workload_settings(self) -> dict[str, Any]:
        """The settings of the workload in use, as plain data: those of `settings` for one of the user's own."""
        return self.section.model_dump(mode="json") if self.section is not None else dict(self.config.settings)


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds modelyard.yml. Raises NotFound."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise NotFound(f"no {FILE} in {start} or above it: `modelyard init DIR` makes a project")


def load(root: Path, target: str = "test") -> Loaded:
    """Read and validate the project in `root` for `target`. Raises ProjectError, with the line where there is one."""
    path = root / FILE
    text = _read(path)
    values, lines = _parse(text, path)
    declared = _declared(values.pop("targets", None), path, lines)
    if target not in declared:
        raise ProjectError(f"{path}: there is no target {target!r}; it has {', '.join(declared) or 'none'}")
    for name, override in declared.items():
        if override is not None and not isinstance(override, dict):
            raise ProjectError(f"{path}:{lines.get(f'targets.{name}', 1)}: targets.{name} is a mapping of overrides")
        if name != target and override:
            # The other targets' overrides are checked too: a typing error should not wait for the day of deployment.
            _validate(_merge(_merge(target_defaults(name), values), override), path, lines, name)
    override = declared[target] or {}
    preset = target_defaults(target)
    config = _validate(_merge(_merge(preset, values), override), path, lines, target)
    return Loaded(root, target, config, _origins(config, preset, values, override, lines, target))


def targets(root: Path) -> tuple[str, ...]:
    """Names of the targets the project has."""
    values, lines = _parse(_read(root / FILE), root / FILE)
    return tuple(_declared(values.get("targets"), root / FILE, lines))


def _declared(targets: Any, path: Path, lines: Mapping[str, int]) -> dict[str, Any]:
    """The target names that may become folders of `.modelyard`, and what each overrides."""
    if targets is None:
        return {name: {} for name in TARGETS}
    if not isinstance(targets, dict):
        raise ProjectError(f"{path}:{lines.get('targets', 1)}: targets is a mapping of target names to overrides")
    seen: dict[str, str] = {"store": "the store that targets share"}
    for name in targets:
        place = f"{path}:{lines.get(f'targets.{name}', 1)}: the target {name!r}"
        if not NAME.match(name):
            raise ProjectError(f"{place} has no good name: {NAMED}")
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ProjectError(f"{place} would share its folder with {other}: give it another name")
    return targets


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ProjectError(f"{path} is larger than {_MAX_BYTES:,} bytes: is this a project file?")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"no {FILE} in {path.parent}: `modelyard init {path.parent}` makes a project") from None
    except UnicodeDecodeError as e:
        raise ProjectError(f"{path} is not UTF-8 text (byte {e.start})") from None
    except OSError as e:
        raise ProjectError(f"{path} cannot be read: {e.strerror}") from None


def _parse(text: str, path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise ProjectError(f"{path} is empty: it needs at least `name:`")
        lines: dict[str, int] = {}
        _walk(node, "", lines, path)
        values = yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(e, "problem", None) or e).split())
        raise ProjectError(f"{path}{where}: not valid YAML: {problem}") from None
    except (RecursionError, ValueError) as e:
        raise ProjectError(f"{path}: not valid YAML: {' '.join(str(e).split())}") from None
    if not isinstance(values, dict):
        raise ProjectError(f"{path}: a mapping of keys to values is expected")
    for key, value in leaves(values):
        if (unfit := _unfit(value)) is not None:
            raise ProjectError(f"{path}:{_line(lines, key)}: {key}: {unfit}")
    return values, lines


def _unfit(value: Any) -> str | None:
    """Why a value that YAML knows cannot stand in a project file."""
    if isinstance(value, list | Mapping):
        items = value if isinstance(value, list) else value.values()
        return next((problem for item in items if (problem := _unfit(item))), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no value here: a finite number is expected"
    if isinstance(value, str) and ("\0" in value or _broken(value)):
        return "the text holds a NUL character, or half of a surrogate pair"
    if value is not None and not isinstance(value, str | int | float):
        return f"a {type(value).__name__} is no value here: put it in quotes to have it as text"
    return None


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _walk(node: yaml.Node, prefix: str, lines: dict[str, int], path: Path) -> None:
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _walk(item, f"{prefix}{position}.", lines, path)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ProjectError(f"{path}:{key.start_mark.line + 1}: a key is a plain word")
        name = f"{prefix}{key.value}"
        if key.tag not in _KEYS:
            raise ProjectError(
                f"{path}:{key.start_mark.line + 1}: {name}: YAML reads this key as {key.tag.rpartition(':')[2]}, "
                "not as text: put it in quotes"
            )
        if name in lines:
            raise ProjectError(f"{path}:{key.start_mark.line + 1}: {name} stands twice (first on line {lines[name]})")
        lines[name] = key.start_mark.line + 1
        _walk(value, f"{name}.", lines, path)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings are merged key by key, everything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = _merge(out[key], value)
        else:
            out[key] = value
    return out


def _validate(values: Mapping[str, Any], path: Path, lines: Mapping[str, int], target: str) -> Project:
    try:
        return Project.model_validate(values)
    except ValidationError as e:
        error = e.errors(include_input=False, include_url=False)[0]
        # What stands in brackets names one of several forms that a value may have: no key of the file.
        loc = tuple(part for part in error["loc"] if not str(part).startswith("("))
        where = ".".join(str(part) for part in loc)
        line = lines.get(f"targets.{target}.{where}") or lines.get(where)
        place = f"{path}:{line}" if line else f"{path}"
        if error["type"] == "extra_forbidden":
            raise ProjectError(f"{place}: unknown key {where}{_nearest(loc)}") from None
        if error["type"] == "missing":
            raise ProjectError(f"{place}: {where} is missing") from None
        raise ProjectError(f"{place}: {where}: {_plain(error)}") from None


def _plain(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _nearest(loc: tuple[int | str, ...]) -> str:
    model: Any = Project
    for part in loc[:-1]:
        field = model.model_fields.get(str(part)) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = next((m for m in _models(field.annotation)), None) if field else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return ""
    known = list(model.model_fields) + (["targets"] if model is Project else [])
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else f" (known here: {', '.join(known)})"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _origins(
    config: Project,
    preset: Mapping[str, Any],
    values: Mapping[str, Any],
    override: Mapping[str, Any],
    lines: Mapping[str, int],
    target: str,
) -> dict[str, str]:
    out: dict[str, str] = {}
    for key, _ in leaves(config.model_dump(mode="json")):
        if _has(override, key):
            out[key] = f"{FILE}:{_line(lines, f'targets.{target}.{key}')} (targets.{target})"
        elif _has(values, key):
            out[key] = f"{FILE}:{_line(lines, key)}"
        elif _has(preset, key):
            out[key] = f"default of {target}"
        else:
            out[key] = "default"
    return out


def _line(lines: Mapping[str, int], key: str) -> int:
    while key not in lines and "." in key:
        key = key.rpartition(".")[0]
    return lines.get(key, 1)


def _has(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, Mapping):
            return values is not None
        if part not in values:
            return False
        values = values[part]
    return True


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not a mapping, or is an empty one."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
