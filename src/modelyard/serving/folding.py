"""Has the record put into tables by a process of its own: now and then, when much waits, and once more at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from modelyard.clock import Clock, SystemClock
from modelyard.errors import StorageError
from modelyard.serving.record import Record
from modelyard.serving.segment import CLOSED, listed

EVERY_SECONDS = 60.0
LOOK_SECONDS = 1.0
EAGER_BYTES = 64 << 20
"""With so much waiting nobody waits for the minute to be over."""
LAST_SECONDS = 15.0
"""What the fold at the end may take. Whatever it leaves is folded after the next start."""


def fold_command(python: str, record: Path, tables: Path) -> list[str]:
    """What folds the record in one folder into the tables in another."""
    return [python, "-m", "modelyard.fold", "--record", str(record), "--tables", str(tables)]


class Folding:
    """Starts `command` when there is something to do for it. `trouble` says in one line why the last time failed."""

    def __init__(
        self, record: Record, command: Sequence[str], every: float = EVERY_SECONDS, clock: Clock | None = None
    ) -> None:
        """`every` is in seconds."""
        self.trouble: str | None = None
        self.runs = 0
        self._record, self._command, self._every, self._clock = record, command, every, clock or SystemClock()
        self._left: set[str] = set()
        """Segments that a fold looked at and had to leave: alone they are no reason for another."""

    async def run(self) -> None:
        """Until it is cancelled."""
        last = self._clock.monotonic() - self._every
        while True:
            self._record.log.look()
            much = self._record.log.closed_bytes >= EAGER_BYTES and self.trouble is None
            if much or self._clock.monotonic() - last >= self._every:
                await self.once()
                last = self._clock.monotonic()
            await asyncio.sleep(min(LOOK_SECONDS, self._every))

    async def once(self) -> None:
        """Fold what was written so far. Raises nothing but what cancels it: then the fold is stopped where it is."""
        await self._record.turn()
        await self._fold()
        self._record.log.look()

    async def close(self) -> None:
        """Close the record, and fold the rest of it as far as that goes quickly."""
        self._record.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._fold(), LAST_SECONDS)

    async def _fold(self) -> None:
        closed = self._closed()
        if not closed - self._left:
            return
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            self.trouble = f"the record cannot be put into tables: {error.strerror}"
            return
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        self.runs += 1
        if process.returncode == 0:
            self.trouble, self._left = None, self._closed()
        else:
            lines = said.decode("utf-8", "backslashreplace").strip().splitlines()
            why = lines[-1] if lines else f"its process ended with {process.returncode}"
            self.trouble = f"the record cannot be put into tables: {why.removeprefix('modelyard: ')}"

    def _closed(self) -> set[str]:
        try:
            return {path.name for path in listed(self._record.log.folder, CLOSED)}
        except OSError as error:
            raise StorageError(f"{self._record.log.folder} cannot be read: {error.strerror}") from None
