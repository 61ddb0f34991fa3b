"""The code of a workload of the user's own: it goes into the release, and a release is loaded with the code it has.

`shop:PriceList` in the project's folder is the file `shop.py`, or the package `shop/`. What it imports of the project
beyond that (by its absolute name) is not taken along; a package's relative imports are.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from modelyard.errors import Damaged, ProjectError
from modelyard.ports.workload import Workload

CODE = "code"
"""The folder of a release that holds it."""


def sources(workload: str, project: Path) -> Mapping[str, Path]:
    """{name in the release: file} of the workload's code, where it lies in the project; empty for one of the catalogue
    or of an installed package."""
    top = workload.partition(":")[0].partition(".")[0]
    if ":" not in workload:
        return {}
    if (project / f"{top}.py").is_file():
        return {f"{CODE}/{top}.py": project / f"{top}.py"}
    if (project / top).is_dir():
        files = sorted(path for path in (project / top).rglob("*.py") if path.is_file())
        return {f"{CODE}/{path.relative_to(project).as_posix()}": path for path in files}
    return {}


def load(workload: str, folder: Path, release: str) -> Workload:
    """The workload from the code in `folder`, under a name of this release's own: two releases with different code can
    be loaded beside each other. Raises ProjectError, Damaged."""
    module, _, attribute = workload.partition(":")
    found = _module(module, folder, f"modelyard_release_{release[:16]}")
    try:
        made: Workload = getattr(found, attribute)()
    except AttributeError:
        raise ProjectError(f"workload: {workload!r}: its code has no {attribute!r}") from None
    return made


def _module(name: str, folder: Path, prefix: str) -> ModuleType:
    full, place = prefix, folder
    found = sys.modules.get(full) or ModuleType(full)
    found.__path__ = [str(folder)]
    sys.modules[full] = found
    for part in name.split("."):
        full, place = f"{full}.{part}", place / part
        if full in sys.modules:
            found = sys.modules[full]
            continue
        package = place.is_dir()
        file = place / "__init__.py" if package else place.with_suffix(".py")
        spec = importlib.util.spec_from_file_location(
            full, file, submodule_search_locations=[str(place)] if package else None
        )
        if spec is None or spec.loader is None or not file.is_file():
            raise Damaged(f"the release's code has no module {name!r}")
        found = importlib.util.module_from_spec(spec)
        sys.modules[full] = found
        spec.loader.exec_module(found)
    return found
