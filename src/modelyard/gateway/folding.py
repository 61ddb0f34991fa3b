"""The record into tables, now and then, by a process of its own: no table is written by what answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

from modelyard.serving.record import Record
from modelyard.serving.segment import CLOSED, listed

log = logging.getLogger("modelyard.gateway")

EAGER_BYTES = 64 << 20
"""With so much waiting nobody waits for the time to come: at the limit of the record requests are refused."""
LOOK_SECONDS = 1.0
LAST_SECONDS = 30.0
"""How long the last fold may take when the gateway ends; what is left is folded by the next one."""


class Folding:
    """Folds every `every` seconds where there is something to fold, and once more at the end; None: never."""

    def __init__(
        self, record: Record, folder: Path, tables: Path, every: float | None, traced: tuple[Path, str] | None = None
    ) -> None:
        """`traced` is the project, and its target, of whose answers some are traced too."""
        self._record, self._folder, self._every = record, folder, every
        self._command = [sys.executable, "-m", "modelyard.fold", "--record", str(folder), "--tables", str(tables)]
        if traced is not None:
            self._command += ["--project", str(traced[0]), "--target", traced[1]]
        self._task: asyncio.Task[None] | None = None
        self._broken = ""
        self._left: set[Path] = set()
        """Segments that a fold had to leave, as requests in them are under way: alone no reason for another."""
        self.folded_at = asyncio.get_running_loop().time()
        """Loop time at which everything that was recorded until then was in the tables."""

    def start(self) -> None:
        if self._every is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._every))

    async def stop(self) -> None:
        """Fold what there is, and end. The record stays open for whoever closes it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.fold(), LAST_SECONDS)

    async def fold(self) -> None:
        """Put what was recorded so far into tables. Whatever fails is logged: nothing is lost by it."""
        began = asyncio.get_running_loop().time()
        await self._record.turn()
        try:
            closed = set(listed(self._folder, CLOSED))
        except OSError as error:  # no handle is free, say: the next time there may be one
            log.error("the record cannot be put into tables: %s", error.strerror)
            return
        if closed - self._left:
            try:
                code, said = await self._process()
                closed = set(listed(self._folder, CLOSED))
            except OSError as error:
                code, said = 1, f"its process cannot be started: {error.strerror}"
            if said and said != self._broken:
                what = "the record cannot be put into tables" if code else "what was recorded is in the tables"
                log.error("%s: %s", what, said)
            self._broken = said
            if code:
                return
            self._left = closed
        self.folded_at = began

    async def _process(self) -> tuple[int | None, str]:
        """The exit code of a fold, and the last thing it said. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the gateway
        )
        try:
            _, said = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()  # else its pipe outlives the loop
            raise
        trouble = _last_line(said)
        return process.returncode, trouble or (
            f"its process ended with {process.returncode}" if process.returncode else ""
        )

    async def _run(self, every: float) -> None:
        while True:
            try:
                await self.fold()
            except Exception as error:  # whatever it is: the record must not fill up in silence
                if repr(error) != self._broken:
                    log.exception("the record cannot be put into tables")
                self._broken = repr(error)
            until = asyncio.get_running_loop().time() + every
            while (left := until - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(min(left, LOOK_SECONDS))
                if self._record.log.closed_bytes >= EAGER_BYTES and not self._broken:
                    break


def _last_line(said: bytes) -> str:
    """The last thing that the process itself said: libraries that it loads may have said more."""
    lines = said.decode(errors="replace").strip().splitlines()
    ours = [line for line in lines if line.startswith("modelyard: ")]
    return ours[-1].removeprefix("modelyard: ") if ours else ""
