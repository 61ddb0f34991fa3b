"""The drill of a rollback, in a process of its own: it loads what no gateway has any use for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from modelyard.errors import Unavailable

DRILL_SECONDS = 180.0


async def drilled(project: Path, target: str, endpoint: str) -> dict[str, Any]:
    """What `modelyard release rollback --drill` measures, as JSON. Raises Unavailable with what stands in the way."""
    words = ["release", "rollback", "--drill", "--json", "-C", str(project), "-t", target, "--", endpoint]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "modelyard",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DRILL_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"the drill took longer than {DRILL_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        lines = err.decode(errors="replace").strip().splitlines()
        raise Unavailable(
            lines[-1].removeprefix("modelyard: ") if lines else f"the drill ended with {process.returncode}"
        ) from None
    return found
