"""Pages that are pictures: read by Tesseract where it is installed, and one clear line where it is not."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageFont

from modelyard.adapters.engine_local import LocalEngine
from modelyard.errors import Damaged
from modelyard.ports.engine import Stage
from modelyard.ports.records import Changes
from modelyard.ports.workload import Context
from modelyard.project.model import Chatbot
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot.limits import Limits, looks, ocr_of
from modelyard.workloads.chatbot.parse import read_documents
from modelyard.workloads.chatbot.schemas import SOURCES
from modelyard.workloads.chatbot.workload import ChatbotWorkload

from . import test_ingest
from .pdfs import assemble, objects_of, pdf, shown, stream
from .test_workload import Yard, ask

HERE = looks(ocr_of("auto", ["eng"]))
needs_tesseract = pytest.mark.skipif(not HERE, reason="Tesseract, or its English data, is not installed")
LINES = [
    "Minutes of the meeting of March",
    "The committee agreed to buy seven pumps",
    "at a price of 1,250 euros each.",
]


def scan(turn: int = 0, lines: list[str] = LINES, text: str = "") -> bytes:
    """A page that is a picture of these lines, put into the scanner with so many quarter turns clockwise."""
    picture = Image.new("L", (1240, 700), 255)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=40)
    for at, line in enumerate(lines):
        pen.text((150, 200 + 70 * at), line, fill=0, font=font)
    picture = picture.rotate(-90 * turn, expand=True)
    width, height = picture.size
    drawn = f"q {width * 0.48} 0 0 {height * 0.48} 0 0 cm /Im Do Q {text}"
    objects = objects_of([drawn], resources=b"/XObject << /Im 900 0 R >>", box=f"0 0 {width * 0.48} {height * 0.48}")
    kind = b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8"
    objects[900] = stream(zlib.compress(picture.tobytes()), kind % (width, height) + b" /Filter /FlateDecode")
    return assemble(objects)


def assemble_two() -> bytes:
    """A page of text, and a scanned one."""
    first = scan()
    objects = objects_of([shown(72, 200, "This page was written and not scanned."), "q 595 0 0 336 0 0 cm /Im Do Q"])
    body = first.split(b"900 0 obj\n", 1)[1].split(b"\nendobj", 1)[0]
    objects[12] = objects[12].replace(b"/Font <<", b"/XObject << /Im 900 0 R >> /Font <<")
    return assemble(objects | {900: body})


def archive(files: Mapping[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        for name, content in files.items():
            box.writestr(name, content)
    return packed.getvalue()


def read(content: bytes, limits: Limits) -> list[dict[str, Any]]:
    row = {"document": "a.pdf", "sha256": hashlib.sha256(content).hexdigest(), "content": content}
    batches = read_documents(iter([pa.RecordBatch.from_pylist([row], schema=SOURCES)]), limits)
    return [row for batch in batches for row in batch.to_pylist()]


@needs_tesseract
@pytest.mark.parametrize("turn", [0, 1])
def test_a_scanned_page_is_read_with_the_places_of_its_words(turn: int) -> None:
    [row] = read(scan(turn), Limits(ocr="eng"))
    assert row["reason"] is None and row["text"] == f"{LINES[0]}\n{LINES[1]} {LINES[2]}"
    assert 0.6 < row["quality"] < 1
    first = row["words"][0]
    assert row["text"][first["start"] : first["end"]] == "Minutes"
    x0, y0, x1, y1 = (first[side] for side in ("x0", "y0", "x1", "y1"))
    if turn == 0:
        assert 70 < x0 < 76 and 95 < y0 < y1 < 120 and x1 - x0 > y1 - y0
    else:
        assert 70 < y0 < 76 and y1 - y0 > x1 - x0 and row["width"] - 120 < x0 < x1 < row["width"] - 95


@needs_tesseract
def test_a_picture_under_a_stamp_is_looked_at_and_prose_is_not() -> None:
    stamp = shown(20, 20, "Received 3 May")
    [row] = read(scan(text=stamp), Limits(ocr="eng"))
    assert "seven pumps" in row["text"]
    [plain] = read(scan(), Limits(ocr="off"))
    assert plain["page"] == 0 and "switched off: `chatbot.ocr`" in plain["reason"]


@needs_tesseract
def test_a_picture_without_words_says_so() -> None:
    [row] = read(scan(lines=[]), Limits(ocr="eng"))
    assert row["reason"] == "its only page is a picture, and OCR finds no words on it"


@needs_tesseract
def test_a_page_has_a_time_for_ocr_of_its_own() -> None:
    [row] = read(scan(), Limits(ocr="eng", ocr_seconds=0.05))
    assert row["page"] == 0 and "OCR did not finish it within 0.05 seconds" in row["reason"]
    [row] = read(scan(), Limits(ocr="eng", seconds=0.6))
    assert row["reason"] is None


@needs_tesseract
def test_only_what_needed_it_is_read_again_where_ocr_appears(tmp_path: Path) -> None:
    house = test_ingest.House(tmp_path / "documents")
    half = assemble_two()
    house.put({"scan.pdf": scan(), "half.pdf": half, "rules.md": test_ingest.rules(1)})
    settings = {"limits": {"max_file": 10_000_000, "seconds": 60.0, "memory": 500_000_000, "pages": 100}}
    without = replace(house.ctx, settings={**settings, "ocr": "off"})
    with_it = replace(house.ctx, settings={**settings, "ocr": "auto", "ocr_languages": ["eng"]})
    house.ingest(without)
    assert house.states() == {"scan.pdf": "quarantined", "half.pdf": "ready", "rules.md": "ready"}
    before = ChatbotWorkload().snapshot(without)
    raw = {row["document"]: row["reason"] or "" for row in corpus.status(house.tables)}
    assert "it needs OCR (it is switched off" in raw["scan.pdf"] and "page 2 of 2" in raw["half.pdf"]
    house.ingest(with_it)
    assert house.states() == {"scan.pdf": "ready", "half.pdf": "ready", "rules.md": "ready"}
    pages = house.tables.read("pages").to_pylist()
    assert sum("seven pumps" in page["text"] for page in pages) == 2
    test_ingest.check_whole(house.tables)
    after = ChatbotWorkload().snapshot(with_it)
    assert set(before.entries) < set(after.entries) and before.root != after.root


@needs_tesseract
def test_a_page_that_is_read_at_last_is_another_snapshot(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    without = replace(yard.ctx, settings={**yard.ctx.settings, "ocr": "off"})
    with_it = replace(yard.ctx, settings={**yard.ctx.settings, "ocr": "auto", "ocr_languages": ["eng"]})
    yard.ctx = without
    yard.ingest({"half.pdf": assemble_two()})
    before, first = ChatbotWorkload().snapshot(without), yard.build()
    assert ask(yard.load(first), "How many pumps did the committee agree to buy?")["refused"]
    ChatbotWorkload().ingest(with_it, Changes((), ()))
    after = ChatbotWorkload().snapshot(with_it)
    assert before.entries == after.entries and before.root != after.root
    with pytest.raises(Damaged, match="prepare again"):
        ChatbotWorkload().build(with_it, before, tmp_path / "late")
    found = ask(yard.load(yard.build()), "How many pumps did the committee agree to buy?")
    assert "seven pumps" in found["answer"] and [cited["page"] for cited in found["citations"]] == [2]
    ChatbotWorkload().ingest(without, Changes((), ()))
    assert ChatbotWorkload().snapshot(without).root == before.root


class Told:
    """An engine that says which documents were read."""

    def __init__(self) -> None:
        self._inner, self._read = LocalEngine(processes=1), list[str]()

    def run(self, stage: Stage, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        given = list(batches)
        if given and "content" in given[0].schema.names:
            self._read += [name for batch in given for name in batch.column("document").to_pylist()]
        return self._inner.run(stage, iter(given))

    def taken(self) -> list[str]:
        found, self._read = self._read, []
        return sorted(found)


@needs_tesseract
def test_other_languages_read_again_what_ocr_reads_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    house = test_ingest.House(tmp_path / "documents", engine=told)
    files = {
        "half.pdf": assemble_two(),
        "plain.pdf": pdf([shown(72, 72, "Some plain words.")]),
        "a.md": "# A\n\nOne.\n",
    }
    house.put(files)
    house.put({"box.zip": archive(files)})
    plain = house.ctx.settings["limits"] | {"max_file": 10_000_000}

    def settings(*languages: str) -> Context:
        given = {"limits": plain, "ocr": "auto" if languages else "off", "ocr_languages": list(languages) or ["eng"]}
        return replace(house.ctx, settings=given)

    house.ingest(settings("eng"))
    first = ChatbotWorkload().snapshot(settings("eng"))
    told.taken()
    # Each way of looking is another, and those pages are not read twice by one.
    for ctx, read in ((settings("eng", "eng"), True), (settings("eng", "eng"), False), (settings(), True)):
        house.ingest(ctx)
        assert told.taken() == (["box.zip/half.pdf", "half.pdf"] if read else [])
    texts = {page["document"]: page["reason"] for page in house.tables.read("pages").to_pylist() if page["page"] == 2}
    assert set(texts) == {"half.pdf", "box.zip/half.pdf"} and all("switched off" in text for text in texts.values())
    house.ingest(settings("eng"))
    assert told.taken() == ["box.zip/half.pdf", "half.pdf"]
    assert ChatbotWorkload().snapshot(settings("eng")).root == first.root
    # What this system lacks takes nothing away that was read.
    house.ingest(settings("no-such-language"))
    assert told.taken() == [] and ChatbotWorkload().snapshot(house.ctx).root == first.root
    test_ingest.check_whole(house.tables)


def test_without_tesseract_the_reason_says_what_to_install() -> None:
    [row] = read(scan(), Limits(ocr="missing tesseract"))
    assert row["reason"] == (
        "its only page is a picture without a text layer: it needs OCR "
        "(install Tesseract: `apt-get install tesseract-ocr` or `brew install tesseract`)"
    )
    [row] = read(scan(), Limits(ocr="missing chi_sim"))
    assert "no data for `chi_sim`: `apt-get install tesseract-ocr-chi-sim`" in row["reason"]


def test_what_is_asked_for_meets_what_is_there() -> None:
    assert ocr_of("off", ["eng"]) == "off"
    there = ocr_of("auto", ["eng", "no-such-language"])
    assert there == ("missing no-such-language" if shutil.which("tesseract") else "missing tesseract")


def test_a_bare_off_of_yaml_is_off() -> None:
    assert Chatbot.model_validate({"ocr": False}).ocr == "off"
    assert Chatbot().ocr == "auto" and Chatbot().ocr_languages == ["eng"]
