"""Archives and mails: one file of the folder, many documents of the corpus."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from modelyard.adapters.embed_hash import HashEmbedder
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.clock import SystemClock
from modelyard.errors import RefusedByPolicy, StorageError
from modelyard.ids import digest_bytes
from modelyard.ports.progress import Silent
from modelyard.ports.records import Changes, Source
from modelyard.ports.workload import Context
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot import ingest as ingesting
from modelyard.workloads.chatbot.ingest import ingest
from modelyard.workloads.chatbot.workload import ChatbotWorkload

SETTINGS = {"limits": {"max_file": 2_000_000, "seconds": 60.0, "memory": 10**9, "pages": 1000}}


def rules(name: str, amount: int = 100) -> str:
    return (
        f"# Rules of {name}\n\nThese rules hold for {name} and its yard. A hotel may cost {amount} euros per night.\n"
    )


def packed(files: Mapping[str, str | bytes] | Sequence[tuple[str | zipfile.ZipInfo, str | bytes]]) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


class Remembering:
    """An engine that runs a stage once for a batch: stages are pure, and starting a parser takes its time."""

    _known: ClassVar[dict[tuple[str, bytes], list[pa.RecordBatch]]] = {}

    def run(self, stage: Any, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        asked = list(batches)
        keys = [(repr(stage), batch.serialize().to_pybytes()) for batch in asked]
        if not all(key in self._known for key in keys):
            # One parser for all that is new; what it gives is told apart by the document.
            fresh = [batch for key, batch in zip(keys, asked, strict=True) if key not in self._known]
            if "read_documents" not in repr(stage):
                yield from stage(iter(asked))
                return
            self._known.update({key: [] for key in keys if key not in self._known})
            owner = {batch.column("document")[0].as_py(): at for at, batch in enumerate(asked)}
            for rows in stage(iter(fresh)):
                self._known[keys[owner[rows.column("document")[0].as_py()]]].append(rows)
        for key in keys:
            yield from self._known[key]


class Counting(HashEmbedder):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def embed(self, texts: Sequence[str], *, progress: Any = None) -> Any:
        self.asked += len(texts)
        return super().embed(texts, progress=progress)


@dataclass
class Ports:
    tables: Any
    embed: Any
    engine: Any

    def embedder(self, folder: Path | None = None) -> Any:
        return self.embed


class House:
    """A folder of documents and its tables."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tables, self.embedder = folder, MemoryTables(), Counting()
        self.seen: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, **files: str | bytes | None) -> None:
        for name, content in files.items():
            path = self.folder / name.replace("__", ".")
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def ingest(self, share: float = 1.0, tables: Any = None) -> int:
        """How many texts were embedded."""
        now = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        hashes = {name: digest_bytes(path.read_bytes()) for name, path in now.items()}
        changed = tuple(self.source(name) for name, sha256 in sorted(hashes.items()) if self.seen.get(name) != sha256)
        before = self.embedder.asked
        self.apply(Changes(changed, tuple(sorted(set(self.seen) - set(now))), max_removals=share), tables)
        self.seen = hashes
        return self.embedder.asked - before

    def source(self, name: str) -> Source:
        content = (self.folder / name).read_bytes()
        return Source(name, digest_bytes(content), len(content), 1)

    def apply(self, changes: Changes, tables: Any = None) -> None:
        ports: Any = Ports(tables or self.tables, self.embedder, Remembering())
        ingest(Context(SETTINGS, ports, SystemClock(), Silent(), sources=self.folder), changes)

    def states(self) -> dict[str, str]:
        return {row["document"]: row["state"] for row in corpus.status(self.tables)}

    def hashes(self) -> dict[str, str]:
        return {row.document: row.sha256 for row in corpus.current(self.tables).values()}

    def reasons(self) -> dict[str, str]:
        return {row["document"]: row["reason"] for row in corpus.status(self.tables) if row["state"] == "quarantined"}

    def entries(self) -> list[str]:
        ports: Any = Ports(self.tables, self.embedder, Remembering())
        found = ChatbotWorkload().snapshot(Context(SETTINGS, ports, SystemClock(), Silent(), sources=self.folder))
        return [name for name, _ in found.entries]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "documents")


def test_each_file_of_an_archive_is_a_document_of_its_own(house: House) -> None:
    inner = packed({"deep/c.md": rules("c")})
    house.put(
        box__zip=packed({"a.md": rules("a"), "b/b.csv": "city,price\nRome,5\n", "more.zip": inner, "x.exe": "MZ"})
    )
    house.ingest()
    assert house.states() == {
        "box.zip": "opened",
        "box.zip/a.md": "ready",
        "box.zip/b/b.csv": "ready",
        "box.zip/more.zip/deep/c.md": "ready",
        "box.zip/x.exe": "quarantined",
    }
    assert house.entries() == ["box.zip/a.md", "box.zip/b/b.csv", "box.zip/more.zip/deep/c.md"]
    assert "files ending in .exe are not supported" in house.reasons()["box.zip/x.exe"]


def test_what_programs_leave_in_an_archive_is_left_out(house: House) -> None:
    left = ("Thumbs.db", "in/desktop.INI", ".DS_Store", "__MACOSX/._a.md", "in/~$a.docx", ".git/b.md")
    house.put(box__zip=packed({**dict.fromkeys(left, "x" * 162), "a.md": rules("a")}))
    house.ingest()
    assert house.states() == {"box.zip": "opened", "box.zip/a.md": "ready"}


def test_only_what_changed_in_an_archive_is_read_and_embedded(house: House) -> None:
    files = {f"{name}.md": rules(name) for name in "abcdef"}
    house.put(box__zip=packed(files), other__md=rules("other"))
    assert house.ingest() == 7
    assert house.ingest() == 0
    house.put(box__zip=packed({**files, "c.md": rules("c", 250), "g.md": rules("g")}))
    assert house.ingest() == 2
    house.put(box__zip=packed({name: text for name, text in files.items() if name != "a.md"}))
    assert house.ingest() == 1  # c.md is what it was at first
    assert "box.zip/a.md" not in house.states() and "box.zip/g.md" not in house.states()
    (house.folder / "box.zip").rename(house.folder / "new.zip")
    assert house.ingest() == 0
    assert set(house.entries()) == {*(f"new.zip/{name}.md" for name in "bcdef"), "other.md"}
    house.put(new__zip=None)
    house.ingest()
    assert house.states() == {"other.md": "ready"}


def test_a_folder_and_an_archive_may_take_each_others_name(house: House) -> None:
    house.put(box__zip=packed({"a.md": rules("a")}))
    house.ingest()
    (house.folder / "box.zip").unlink()
    (house.folder / "box.zip").mkdir()
    (house.folder / "box.zip/a.md").write_text(rules("a"))
    house.ingest()
    assert house.states() == {"box.zip/a.md": "ready"}
    (house.folder / "box.zip/a.md").unlink()
    (house.folder / "box.zip").rmdir()
    house.put(box__zip=packed({"a.md": rules("a"), "b.md": rules("b")}))
    house.ingest()
    assert house.entries() == ["box.zip/a.md", "box.zip/b.md"]


def test_an_archive_that_lost_most_of_its_files_does_not_empty_the_corpus(house: House) -> None:
    whole = packed({f"{at}.md": rules(str(at)) for at in range(10)})
    house.put(box__zip=whole, other__md=rules("other"))
    house.ingest()
    there = house.entries()
    for broken in (packed({"0.md": rules("0")}), whole[: len(whole) // 2]):
        seen = dict(house.seen)
        house.put(box__zip=broken)
        with pytest.raises(RefusedByPolicy, match=r"of 11 documents would leave the corpus.*--allow-removals"):
            house.ingest(share=0.2)
        house.seen = seen
        assert house.entries() == there
    house.ingest()
    assert "cut off" in house.reasons()["box.zip"]
    assert house.entries() == ["other.md"]


class Sealed:
    """Tables that nobody may write to."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        assert name not in ("append", "replace", "delete"), f"{name} was called"
        return getattr(self._inner, name)


def test_what_would_lose_too_much_is_refused_before_anything_is_written(house: House) -> None:
    house.put(box__zip=packed({f"{at}.md": rules(str(at)) for at in range(9)}), other__md=rules("other"))
    house.ingest()
    house.put(box__zip=None, other__md=rules("other", 9), new__md=rules("new"))
    with pytest.raises(RefusedByPolicy, match=r"9 of 10 documents would leave the corpus"):
        house.ingest(share=0.2, tables=Sealed(house.tables))


def test_files_that_cannot_be_read_any_more_count_as_lost_before_anything_is_written(house: House) -> None:
    names = [f"{at}.md" for at in range(5)]
    house.put(**{f"{at}__md": rules(str(at)) for at in range(5)}, box__zip=packed({"a.md": rules("a")}))
    house.ingest()
    house.put(new__md=rules("new"))
    changes = Changes((house.source("new.md"),), (), dict.fromkeys(names, "cannot be read"), max_removals=0.2)
    with pytest.raises(RefusedByPolicy, match=r"5 of 6 documents would leave"):
        house.apply(changes, Sealed(house.tables))


def test_a_file_that_is_put_back_after_a_refused_run_is_opened_again(house: House) -> None:
    whole = packed({f"{at}.md": rules(str(at)) for at in range(6)})
    mail = letter(attached={"a.md": rules("a"), "b.md": rules("b"), "c.md": rules("c")})
    house.put(box__zip=whole, mail__eml=mail)
    house.ingest()
    there, seen = house.hashes(), dict(house.seen)
    house.put(box__zip=packed({"0.md": rules("0", 9)}), mail__eml=letter(attached={"a.md": rules("a", 9)}))
    with pytest.raises(RefusedByPolicy):
        house.ingest(share=0.2)
    assert house.hashes() != there
    house.put(box__zip=whole, mail__eml=mail)
    house.seen = dict.fromkeys(seen, "in doubt")
    house.ingest(share=0.2)
    assert house.hashes() == there


def test_another_version_reads_each_file_of_an_archive_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.put(box__zip=packed({"a.md": rules("a")}), mail__eml=letter(attached={"b.md": rules("b")}))
    house.ingest()
    read: list[str] = []
    inner = Remembering.run

    def counting(self: Remembering, stage: Any, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        asked = list(batches)
        if "read_documents" in repr(stage):
            read.extend(batch.column("document")[0].as_py() for batch in asked)
        yield from inner(self, stage, asked)

    monkeypatch.setattr(Remembering, "run", counting)
    for module in (ingesting, corpus):
        monkeypatch.setattr(module, "prepare_version", "another")
    house.ingest()
    assert sorted(read) == ["box.zip/a.md", "mail.eml", "mail.eml/b.md"]
    assert house.ingest() == 0 and len(read) == 3


def test_what_an_archive_says_who_may_see_is_not_left_open(house: House) -> None:
    inner = packed({".access.yml": "groups: [board]", "z.md": rules("z")})
    house.put(
        box__zip=packed(
            {
                "hr\\.access.yml": "groups: [hr]",
                "hr/pay.md": rules("pay"),
                "hr/in/bonus.md": rules("bonus"),
                "a.md.Access.YAML": "groups: [hr]",
                "a.md": rules("a"),
                "b.md": rules("b"),
                "inner.zip": inner,
            }
        )
    )
    house.ingest()
    assert house.entries() == ["box.zip/b.md"]
    reasons = house.reasons()
    assert "hr/.access.yml" in reasons["box.zip/hr/pay.md"] and "hr/.access.yml" in reasons["box.zip/hr/in/bonus.md"]
    assert "a.md.Access.YAML" in reasons["box.zip/a.md"] and ".access.yml" in reasons["box.zip/inner.zip/z.md"]


class Breaking:
    """Tables that break at their `at`-th write."""

    def __init__(self, inner: Any, at: int) -> None:
        self._inner, self._left = inner, at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("append", "replace", "delete"):
            return found

        def broken(*args: Any) -> None:
            self._left -= 1
            if self._left == 0:
                raise StorageError("the disk is full")
            found(*args)

        return broken


@pytest.mark.parametrize("at", (1, 3, 4, 6, 7))
def test_an_interrupted_opening_is_taken_up_again(house: House, at: int) -> None:
    mail = letter(attached={"note.md": rules("note")})
    house.put(box__zip=packed({"a.md": rules("a"), "b.md": rules("b")}), mail__eml=mail)
    house.ingest()
    seen = dict(house.seen)
    house.put(
        box__zip=packed({"b.md": rules("b", 7), "c.md": rules("c")}), mail__eml=letter(attached={"n.md": rules("n")})
    )
    try:
        house.ingest(tables=Breaking(house.tables, at))
    except StorageError:
        house.seen = seen
    house.ingest()
    assert house.entries() == ["box.zip/b.md", "box.zip/c.md", "mail.eml", "mail.eml/n.md"]
    assert set(house.states().values()) == {"ready", "opened"}


def link(name: str) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.create_system, found.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return found


def test_hostile_names_are_named_with_a_reason(house: House) -> None:
    house.put(
        box__zip=packed(
            [
                ("../../etc/out.md", rules("x")),
                ("/etc/absolute.md", rules("x")),
                ("C:\\absolute.md", rules("x")),
                (link("link.md"), "/etc/passwd"),
                ("twice.md", rules("first")),
                ("twice.md", rules("second")),
                (".hidden.md", rules("x")),
                ("__MACOSX/._a.md", b"\0\1"),
                ("n" * 600 + ".md", rules("x")),
                ("good.md", rules("good")),
            ]
        )
    )
    house.ingest()
    reasons = house.reasons()
    assert "leads out of it: ../../etc/out.md" in reasons["box.zip/__/__/etc/out.md"]
    assert (
        "absolute path" in reasons["box.zip/etc/absolute.md"] and "absolute path" in reasons["box.zip/C:/absolute.md"]
    )
    assert "links in archives are not followed" in reasons["box.zip/link.md"]
    assert "several files of this name" in reasons["box.zip/twice.md (1)"]
    assert any("longer than 500" in reason for reason in reasons.values())
    assert house.entries() == ["box.zip/good.md", "box.zip/twice.md"]
    assert len(reasons) == 6


def encrypted(content: bytes) -> bytes:
    """The archive with the mark of encryption on its first file."""
    out = bytearray(content)
    out[6] |= 1
    out[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(out)


def overlapping() -> bytes:
    """Two files of the list that share their bytes."""
    content = bytearray(packed({"a.md": rules("a") * 40, "b.md": rules("b") * 40}))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[second + 42 : second + 46] = (0).to_bytes(4, "little")
    return bytes(content)


def quine(levels: int) -> bytes:
    content = packed({"bottom.md": rules("bottom")})
    for _ in range(levels):
        content = packed({"r.zip": content})
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encrypted(packed({"a.md": rules("a")})), "encrypted"),
        (overlapping(), "shares its bytes"),
        (quine(5), "nested deeper than 3"),
        (packed({"a.md": b"\0" * 30_000_000}), "larger than the limit"),
        (packed({f"{at}.md": rules(str(at)) * 15_000 for at in range(9)}), "in all"),
        (packed({}), "the archive is empty"),
        (packed({f"{at}.md": b"" for at in range(20_001)}), "holds 20,001 files"),
        (packed({"a.md": rules("a")})[:-30], "cut off"),
        (b"%PDF-1.7 no archive", "no ZIP archive"),
        (packed({"[Content_Types].xml": "<x/>", "word/document.xml": "<x/>"}), "Office document"),
        (packed({"a.md": b""}), "empty (zero bytes)"),
    ],
)
def test_hostile_archives_are_named_with_a_reason(house: House, content: bytes, reason: str) -> None:
    house.put(box__zip=content)
    house.ingest()
    assert any(reason in each for each in house.reasons().values()), house.reasons()


def test_a_damaged_file_costs_that_file(house: House) -> None:
    content = bytearray(packed({"a.md": rules("a") * 5, "b.md": rules("b")}))
    content[60:64] = b"\xff\xff\xff\xff"
    house.put(box__zip=bytes(content))
    house.ingest()
    assert "damaged in the archive" in house.reasons()["box.zip/a.md"]
    assert house.entries() == ["box.zip/b.md"]


def test_any_bytes_are_read_or_named(house: House) -> None:
    content = packed({"a.md": rules("a") * 5, "b.csv": "x,y\n1,2\n"})
    for at in range(0, len(content), 23):
        broken = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        (house.folder / f"{at}.zip").write_bytes(broken)
    house.ingest()
    states = house.states()
    for at in range(0, len(content), 23):
        assert states[f"{at}.zip"] in ("opened", "quarantined")
        assert states[f"{at}.zip"] == "quarantined" or any(name.startswith(f"{at}.zip/") for name in states)


def letter(
    text: str = "The hotel in Rome costs 140 euros per night.\n", attached: Mapping[str, str | bytes] | None = None
) -> bytes:
    message = EmailMessage()
    message["From"], message["To"] = "Ann <ann@example.org>", "bob@example.org"
    message["Date"], message["Subject"] = "Fri, 01 Mar 2024 10:00:00 +0000", "Hotels in Rome"
    message.set_content(text)
    for name, content in (attached or {}).items():
        content = content.encode() if isinstance(content, str) else content
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return bytes(message)


def test_the_files_attached_to_a_mail_are_documents_of_their_own(house: House) -> None:
    inner = letter("The forwarded words are these.\n", {"deep.md": rules("deep")})
    attached = {"note.md": rules("note"), "../up.md": rules("up"), "x.bin": b"\0", "old.eml": inner}
    attached["box.zip"] = packed({"c.csv": "a,b\n1,2\n"})
    house.put(mail__eml=letter(attached=attached))
    house.ingest()
    assert house.entries() == [
        "mail.eml",
        "mail.eml/box.zip/c.csv",
        "mail.eml/note.md",
        "mail.eml/old.eml",
        "mail.eml/old.eml/deep.md",
        "mail.eml/up.md",
    ]
    assert list(house.reasons()) == ["mail.eml/x.bin"]
    assert house.ingest() == 0
    house.put(mail__eml=letter(attached={"note.md": rules("note")}))
    assert house.ingest() == 0  # nothing in it is new
    assert house.entries() == ["mail.eml", "mail.eml/note.md"]


def test_compressed_streams_that_lie_about_their_size_are_cut(house: House) -> None:
    body = zlib.compress(b"A" * 10_000_000)[2:-4]
    content = bytearray(packed({"a.md": b"A" * 10_000_000}))
    assert len(content) < 2 * len(body)
    listed = content.index(b"PK\x01\x02")
    content[listed + 24 : listed + 28] = (1000).to_bytes(4, "little")
    house.put(box__zip=bytes(content))
    house.ingest()
    assert "damaged in the archive" in house.reasons()["box.zip/a.md"]
