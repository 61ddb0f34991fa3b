"""The gateway's side of the fold: when it is started, and what becomes of it when it fails or is stopped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from modelyard.adapters.tables_delta import DeltaTables
from modelyard.serving.folding import Folding, fold_command
from modelyard.serving.record import Accepted, Finished, Record, request_id
from modelyard.serving.segment import CLOSED, listed

FAILING = [sys.executable, "-c", "import sys; sys.exit('modelyard: the disk is full')"]
ENDLESS = [sys.executable, "-c", "import time; time.sleep(1000)"]


async def ask(record: Record, end: bool = True) -> str:
    one = request_id()
    await record.accepted(Accepted(one, "e", "r", "openai", 1_700_000_000_000_000_000))
    if end:
        await record.finished(Finished(one, 200, 1.0))
    return one


@asynccontextmanager
async def running(folding: Folding) -> AsyncIterator[None]:
    task = asyncio.create_task(folding.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def found(tables: Path) -> list[str]:
    there = DeltaTables(tables)
    return there.read("inference").column("databricks_request_id").to_pylist() if there.names() else []


def test_what_was_recorded_comes_into_the_tables_while_it_serves_and_when_it_ends(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record")
    folding = Folding(record, fold_command(sys.executable, tmp_path / "record", tmp_path / "tables"), every=0.05)

    async def story() -> None:
        async with running(folding):
            first = await ask(record)
            while found(tmp_path / "tables") != [first]:
                await asyncio.sleep(0.05)
            while listed(record.log.folder, CLOSED):
                await asyncio.sleep(0.01)
        second = await ask(record)
        await folding.close()
        assert sorted(found(tmp_path / "tables")) == sorted([first, second])
        assert folding.trouble is None and not listed(record.log.folder, CLOSED)

    asyncio.run(story())


def test_no_process_is_started_for_nothing_or_for_what_has_to_wait(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record")
    folding = Folding(record, fold_command(sys.executable, tmp_path / "record", tmp_path / "tables"))

    async def story() -> None:
        await folding.once()
        assert folding.runs == 0
        await ask(record, end=False)
        for _ in range(3):
            await folding.once()
        assert folding.runs == 1  # the request is under way: its segment stays
        await ask(record)
        await folding.once()
        assert folding.runs == 2

    asyncio.run(story())
    record.close()


def test_a_fold_that_fails_says_why_and_is_tried_again(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record")
    folding = Folding(record, FAILING)

    async def story() -> None:
        await ask(record)
        for runs in (1, 2):
            await folding.once()
            assert folding.trouble == "the record cannot be put into tables: the disk is full" and folding.runs == runs
        folding._command = [str(tmp_path / "nothing here")]
        await folding.once()
        assert folding.trouble is not None and "No such file" in folding.trouble
        assert len(listed(record.log.folder, CLOSED)) == 1

    asyncio.run(story())
    record.close()


def test_a_fold_under_way_is_stopped_with_the_gateway(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record")
    folding = Folding(record, ENDLESS)

    async def story() -> None:
        await ask(record)
        task = asyncio.create_task(folding.once())
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(story())
    record.close()
