"""What a look at the data folder finds, also after an ingest that was cut short or a journal that was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import ProjectError, RefusedByPolicy, StorageError
from modelyard.lifecycle.journal import Journal
from modelyard.lifecycle.scan import Scan, guard_removals, scan, without

LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "documents"
    root.mkdir()
    for name in "abcdef":
        (root / f"{name}.md").write_text(name)
    return root


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


def ingest(folder: Path, journal: Journal) -> Scan:
    found = scan(folder, journal.seen(), LIMIT)
    journal.see(found.touched, found.changes.removed)
    return found


def begin(folder: Path, journal: Journal) -> Scan:
    """An ingest that is killed before it is over."""
    found = scan(folder, journal.seen(), LIMIT)
    changes = found.changes
    journal.doubt([*(s.path for s in changes.changed), *changes.removed, *changes.unreadable])
    return found


def test_only_what_changed_is_news(folder: Path, journal: Journal) -> None:
    assert len(ingest(folder, journal).changes.changed) == 6
    assert not scan(folder, journal.seen(), LIMIT).changes
    (folder / "a.md").write_text("A")
    (folder / "b.md").unlink()
    (folder / "c.md").touch()
    found = scan(folder, journal.seen(), LIMIT)
    assert [s.path for s in found.changes.changed] == ["a.md"] and found.changes.removed == ("b.md",)
    assert {s.path for s, _ in found.touched} == {"a.md", "c.md"}


def test_an_interrupted_ingest_is_looked_at_again_even_when_the_edit_was_undone(folder: Path, journal: Journal) -> None:
    ingest(folder, journal)
    before = (folder / "a.md").stat()
    (folder / "a.md").write_text("A")
    begin(folder, journal)
    (folder / "a.md").write_text("a")
    import os

    os.utime(folder / "a.md", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [s.path for s in scan(folder, journal.seen(), LIMIT).changes.changed] == ["a.md"]


def test_an_interrupted_ingest_does_not_open_the_way_for_an_empty_share(folder: Path, journal: Journal) -> None:
    ingest(folder, journal)
    for path in folder.iterdir():
        path.write_text("edited")
    begin(folder, journal)
    for path in folder.iterdir():
        path.unlink()
    found = scan(folder, journal.seen(), LIMIT)
    assert (found.lost, found.readable) == (6, 6)
    with pytest.raises(RefusedByPolicy, match="6 of 6 documents are gone"):
        guard_removals(found, 0.2, folder)


def test_a_new_file_whose_ingest_was_cut_short_and_that_is_gone_is_taken_out(folder: Path, journal: Journal) -> None:
    ingest(folder, journal)
    (folder / "new.md").write_text("new")
    begin(folder, journal)
    (folder / "new.md").unlink()
    found = scan(folder, journal.seen(), LIMIT)
    assert found.changes.removed == ("new.md",) and found.lost == 0


def test_what_cannot_be_read_is_named_once_and_again_when_naming_it_was_cut_short(
    folder: Path, journal: Journal
) -> None:
    (folder / "huge.md").write_bytes(b"x" * (LIMIT + 1))
    assert set(begin(folder, journal).changes.unreadable) == {"huge.md"}
    assert set(ingest(folder, journal).changes.unreadable) == {"huge.md"}
    assert not scan(folder, journal.seen(), LIMIT).changes
    (folder / "huge.md").write_text("small")
    assert [s.path for s in scan(folder, journal.seen(), LIMIT).changes.changed] == ["huge.md"]


def test_who_may_see_a_folder_is_looked_at_in_any_case_of_letters(folder: Path, journal: Journal) -> None:
    ingest(folder, journal)
    (folder / ".Access.YML").write_text("groups: [hr]")
    found = ingest(folder, journal)
    assert [source.path for source, _ in found.touched] == [".Access.YML"] and not found.changes


def test_what_programs_leave_beside_documents_is_none(folder: Path, journal: Journal) -> None:
    ingest(folder, journal)
    for name in (".DS_Store", "Thumbs.db", "thumbs.db", "Desktop.ini", "~$plan.docx", ".~lock.plan.odt#"):
        (folder / name).write_bytes(b"x" * 162)
    (folder / ".git").mkdir()
    (folder / ".git" / "notes.md").write_text("x")
    (folder / "~$budget.docx").write_bytes(b"x" * 1001)
    found = scan(folder, journal.seen(), 10 * LIMIT)
    assert found.paths == {f"{name}.md" for name in "abcdef"} | {"~$budget.docx"}
    assert [source.path for source in found.changes.changed] == ["~$budget.docx"] and not found.changes.unreadable


def test_links_are_read_or_named(folder: Path, journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("outside")
    (folder / "file.md").symlink_to(tmp_path / "outside.md")
    (folder / "round").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    (folder / "itself.md").symlink_to("itself.md")
    (folder / ".hidden").write_text("hidden")
    found = scan(folder, journal.seen(), LIMIT)
    assert set(found.changes.unreadable) == {"round", "nowhere", "itself.md"} and "file.md" in {
        s.path for s in found.changes.changed
    }
    assert ".hidden" not in found.paths


def test_a_lost_journal_still_knows_what_is_gone(folder: Path, tmp_path: Path) -> None:
    found = without(scan(folder, {}, LIMIT), ["a.md", "gone.md"])
    assert found.changes.removed == ("gone.md",) and found.lost == 1


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    journal.finish("run", "key", {"release": "x"})
    data = bytearray(path.read_bytes())
    del journal
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    path.write_bytes(b"not a database at all" + bytes(data)[21:])
    with pytest.raises(StorageError, match="delete it and run again"):
        Journal(path).last("run")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="is not there"):
        scan(tmp_path / "none", {}, LIMIT)
