"""When the gateway has its record put into tables, and what becomes of it when that fails."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from pathlib import Path

import pytest

from modelyard.adapters.tables_delta import DeltaTables
from modelyard.gateway import folding as folding_module
from modelyard.gateway.folding import Folding
from modelyard.serving.record import Accepted, Finished, Record, request_id
from modelyard.serving.segment import CLOSED, listed


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.open(tmp_path / "record", segment_bytes=4_000)


async def ask(record: Record, end: bool = True) -> str:
    one = request_id()
    await record.accepted(Accepted(one, "e", "r", "openai", 1_700_000_000_000_000_000, request=b"x" * 1_000))
    if end:
        await record.finished(Finished(one, 200, 1.0))
    return one


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the gateway logged: a thread that another test left behind may log too."""
    return [entry.getMessage() for entry in caplog.records if entry.name == "modelyard.gateway"]


def found(tables: Path) -> set[str]:
    there = DeltaTables(tables)
    if "inference" not in there.names():
        return set()
    return set(there.read("inference").column("databricks_request_id").to_pylist())


def test_what_waits_is_folded_now_and_then_and_at_the_end(tmp_path: Path, record: Record) -> None:
    async def story() -> None:
        folding = Folding(record, record.log.folder, tmp_path / "tables", 0.05)
        folding.start()
        first = await ask(record)
        while found(tmp_path / "tables") != {first}:
            await asyncio.sleep(0.05)
        second = await ask(record)
        await folding.stop()
        assert found(tmp_path / "tables") == {first, second} and not listed(record.log.folder, CLOSED)

    asyncio.run(story())
    record.close()


def test_a_folder_that_cannot_be_read_now_is_folded_later(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handle(folder: Path, suffix: str) -> list[Path]:
        raise OSError(errno.EMFILE, "Too many open files")

    async def story() -> None:
        folding = Folding(record, record.log.folder, tmp_path / "tables", 0.05)
        one = await ask(record)
        with monkeypatch.context() as patch:
            patch.setattr(folding_module, "listed", no_handle)
            folding.start()
            await asyncio.sleep(0.2)
        while found(tmp_path / "tables") != {one}:
            await asyncio.sleep(0.05)
        await folding.stop()

    asyncio.run(asyncio.wait_for(story(), 60))
    record.close()


def test_when_much_waits_it_is_folded_before_its_time(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding_module, "EAGER_BYTES", 10_000)
    monkeypatch.setattr(folding_module, "LOOK_SECONDS", 0.02)

    async def story() -> None:
        folding = Folding(record, record.log.folder, tmp_path / "tables", 3600.0)
        folding.start()
        await asyncio.sleep(0.05)
        asked = {await ask(record) for _ in range(20)}
        while not found(tmp_path / "tables"):
            await asyncio.sleep(0.05)
        await folding.stop()
        assert found(tmp_path / "tables") == asked

    asyncio.run(story())
    record.close()


def test_what_has_to_wait_is_no_reason_for_another_process(
    tmp_path: Path, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        folding = Folding(record, record.log.folder, tmp_path / "tables", 3600.0)
        held = await ask(record, end=False)
        await folding.fold()
        folding._command = ["/nowhere/to/be/found"]  # would be an error now
        for _ in range(2):
            await folding.fold()
        assert not told(caplog)
        await record.finished(Finished(held, 200, 1.0))
        await folding.fold()
        assert "its process cannot be started: No such file" in told(caplog)[-1]

    asyncio.run(story())
    record.close()


def test_a_fold_that_fails_is_told_once_and_tried_again(
    tmp_path: Path, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        folding = Folding(record, record.log.folder, tmp_path / "tables", 3600.0)
        works, folding._command = folding._command, [sys.executable, "-c", "exit('modelyard: the disk is full')"]
        one = await ask(record)
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                await folding.fold()
        assert told(caplog) == ["the record cannot be put into tables: the disk is full"]
        assert listed(record.log.folder, CLOSED)
        folding._command = works
        await folding.fold()
        assert found(tmp_path / "tables") == {one}

    asyncio.run(story())
    record.close()
