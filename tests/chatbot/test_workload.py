"""From tables to a release and back: what is built, what is loaded, what it shows."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.chatbot import shelf

from modelyard.adapters.embed_hash import HashEmbedder
from modelyard.adapters.engine_local import LocalEngine
from modelyard.adapters.index_segments import SegmentIndex, open_exported
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.clock import SystemClock
from modelyard.errors import Damaged, NotFound, UserError
from modelyard.ids import digest_bytes
from modelyard.ports.embedder import Embedder
from modelyard.ports.index import Searcher
from modelyard.ports.progress import Silent
from modelyard.ports.reader import Readers
from modelyard.ports.records import Changes, Source
from modelyard.ports.workload import Call, CanPicture, Context, Predictor, Response
from modelyard.workloads.chatbot.release import find_quote
from modelyard.workloads.chatbot.workload import ChatbotWorkload, index_name

HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook" / "documents"
POLICY = "travel-policy-2025.pdf"
SETTINGS: Mapping[str, Any] = {"embedder": "hash", "index": "segments", "chat": None, "answer": {"threshold": "0.4"}}
CHATBOT = ChatbotWorkload()


class Renamed:
    """The embedder under another digest: another model, as far as anybody can tell."""

    def __init__(self) -> None:
        self._inner = HashEmbedder()
        self.name, self.dimension, self.digest = "renamed", self._inner.dimension, "d" * 64
        self.embed, self.count_tokens, self.members = self._inner.embed, self._inner.count_tokens, self._inner.members


class Ports:
    def __init__(self, store: Path) -> None:
        self.tables, self.engine, self.index = MemoryTables(), LocalEngine(1), SegmentIndex(store)
        self.embed: Embedder = HashEmbedder()
        self.sources: dict[str, bytes] = {}

    def embedder(self, folder: Path | None = None) -> Embedder:
        return self.embed

    def readers(self, folder: Path | None = None) -> Readers:
        return shelf.readers()

    def chat(self) -> None:
        return None

    def source(self, sha256: str) -> bytes | None:
        return self.sources.get(sha256)

    def searcher(self, folder: Path) -> Searcher:
        return open_exported(folder)


class Yard:
    """A corpus in memory, and releases of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, Ports(folder / "index")
        ports: Any = self.ports
        self.ctx = Context(SETTINGS, ports, SystemClock(), Silent(), sources=folder / "documents")
        (folder / "documents").mkdir()
        self._releases = 0

    def ingest(self, files: Mapping[str, bytes | str], removed: tuple[str, ...] = ()) -> None:
        sources = []
        for name, given in files.items():
            content = given if isinstance(given, bytes) else given.encode()
            (self.folder / "documents" / name).write_bytes(content)
            sources.append(Source(name, digest_bytes(content), len(content), 0))
        CHATBOT.ingest(self.ctx, Changes(tuple(sources), removed))

    def build(self, ctx: Context | None = None) -> Path:
        self._releases += 1
        out = self.folder / f"release-{self._releases}"
        out.mkdir()
        CHATBOT.build(ctx or self.ctx, CHATBOT.snapshot(self.ctx), out)
        return out

    def load(self, folder: Path) -> Predictor:
        return CHATBOT.load(replace(self.ctx, settings=CHATBOT.settings(self.ctx), sources=None), folder)


def ask(predictor: Predictor, question: str) -> Mapping[str, Any]:
    request = {"messages": [{"role": "user", "content": question}]}
    last = list(predictor.predict(request, Call(SystemClock(), "k")))[-1]
    assert isinstance(last, Response)
    return last.output


TEA = "# Tea rules\n\nTea is served at four o'clock in the canteen. It costs 2 euros a cup.\n"
DOGS = "# Dog rules\n\nDogs stay in the yard during the day. Cats may enter the office.\n"


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path)
    made.ingest({"tea.md": TEA, "dogs.md": DOGS})
    return made


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Yard, Path]:
    made = Yard(tmp_path_factory.mktemp("policy"))
    made.ingest(
        {POLICY: (HANDBOOK / POLICY).read_bytes(), "office-guide.md": (HANDBOOK / "office-guide.md").read_bytes()}
    )
    return made, made.build()


def test_with_no_documents_it_says_where_they_are_expected(tmp_path: Path) -> None:
    empty = Yard(tmp_path)
    empty.ingest({})
    with pytest.raises(UserError, match="there are no documents yet") as raised:
        empty.build()
    assert str(tmp_path / "documents") in str(raised.value)
    empty.ingest({"empty.txt": b""})
    with pytest.raises(UserError, match=r"none of the 1 documents .* data quarantine"):
        empty.build()


def test_a_release_shows_exactly_its_snapshot(yard: Yard) -> None:
    first = yard.load(yard.build())
    yard.ingest({"birds.md": "# Bird rules\n\nBirds fly over the yard at noon. They eat bread.\n"}, removed=("tea.md",))
    second = yard.load(yard.build())

    def shown(predictor: Predictor) -> set[str]:
        return {hit["document"] for hit in predictor.search("rules of the yard tea birds", 10)}  # type: ignore[attr-defined]

    assert shown(first) == {"tea.md", "dogs.md"}
    assert shown(second) == {"birds.md", "dogs.md"}


def test_a_snapshot_embedded_otherwise_is_another_one_to_search(yard: Yard) -> None:
    before = yard.build()
    snapshot = CHATBOT.snapshot(yard.ctx)
    yard.ports.embed = Renamed()
    with pytest.raises(Damaged, match="prepare again"):
        yard.build()
    CHATBOT.ingest(yard.ctx, Changes((), ()))
    assert CHATBOT.snapshot(yard.ctx).root == snapshot.root, "a root is of content, never of embeddings"
    yard.build()
    assert set(yard.ports.index.snapshots()) == {
        index_name(snapshot, HashEmbedder()),
        index_name(snapshot, yard.ports.embed),
    }
    assert before.exists()


@pytest.mark.parametrize("other", [Renamed(), HashEmbedder(64)], ids=["model", "dimension"])
def test_a_release_is_not_searched_by_another_embedder(yard: Yard, other: Embedder) -> None:
    release = yard.build()
    yard.load(release)
    yard.ports.embed = other
    with pytest.raises(UserError, match="made by another embedder than") as told:
        yard.load(release)
    assert "\n" not in str(told.value) and "run --from prepare" in str(told.value)


def test_a_prompt_is_part_of_a_release_only_with_a_chat_model(yard: Yard) -> None:
    assert not (yard.build() / "prompt.txt").exists()
    chat = {"model": "small", "max_tokens": 200, "prompt": "Be brief."}
    told = yard.build(replace(yard.ctx, settings={**SETTINGS, "chat": chat}))
    assert (told / "prompt.txt").read_text() == "Be brief."


def test_settings_name_the_model_and_not_where_it_is(yard: Yard) -> None:
    chat = {
        "model": "small",
        "max_tokens": 200,
        "temperature": 0.1,
        "url": "http://chat/v1",
        "key": "sk",
        "timeout": 9.0,
    }
    found = CHATBOT.settings(replace(yard.ctx, settings={**SETTINGS, "chat": chat, "limits": {"pages": 3}}))
    assert found["chat"] == {"model": "small", "max_tokens": 200, "temperature": "0.1"}
    assert "limits" not in found, "what is read decides the snapshot, not the answers"


def test_a_release_without_its_list_of_documents_is_damaged(yard: Yard) -> None:
    folder = yard.build()
    assert dict(json.loads((folder / "snapshot.json").read_text())["entries"]).keys() == {"tea.md", "dogs.md"}
    (folder / "snapshot.json").unlink()
    with pytest.raises(Damaged, match=r"snapshot\.json"):
        yard.load(folder)


def test_answers_are_checked_against_the_pages_they_cite(policy: tuple[Yard, Path]) -> None:
    yard, folder = policy
    output = ask(yard.load(folder), "What is the daily allowance in Denmark for a full day?")
    assert not output["refused"]
    assert output["citations"] and output["checks"]["quotes_stand"] == [True] * len(output["citations"])
    assert 0 < output["checks"]["supported"] <= output["checks"]["sentences"]


def test_a_question_about_nothing_there_is_refused_and_cites_nothing(policy: tuple[Yard, Path]) -> None:
    yard, folder = policy
    output = ask(yard.load(folder), "Who composed the opera about the moons of Jupiter?")
    assert output["refused"] and output["citations"] == []
    assert output["checks"] == {"quotes_stand": [], "sentences": 0, "supported": 0}


def yellow(picture: bytes) -> int:
    """How many pixels of a picture a marker has gone over."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return sum(count for count, (red, _, blue) in image.getcolors(1 << 24) or [] if red > 200 and blue < 120)


def test_pictures_of_a_pdf_page_with_the_quote_marked(policy: tuple[Yard, Path]) -> None:
    yard, folder = policy
    release: Any = yard.load(folder)
    assert isinstance(release, CanPicture)
    without = release.page_picture(POLICY, 3, "Sweden and Norway")
    assert yellow(without) > 0, "no bytes at hand: a picture of the text"
    content = (HANDBOOK / POLICY).read_bytes()
    yard.ports.sources = {digest_bytes(content): content}
    fresh: Any = yard.load(folder)
    picture = fresh.page_picture(POLICY, 3, "Sweden and Norway\t68")
    assert yellow(picture) > 0 and picture != without
    assert yellow(fresh.page_picture(POLICY, 3, "")) == 0
    assert yellow(fresh.page_picture(POLICY, 3, "This stands nowhere on the page.")) == 0
    assert yellow(fresh.page_picture("office-guide.md", 2, "Groningen")) > 0
    for document, page in ((POLICY, 99), ("other.pdf", 1), ("office-guide.md", 99)):
        with pytest.raises(NotFound):
            fresh.page_picture(document, page, "")


@pytest.mark.parametrize(
    ("quote", "span"),
    [
        ("per night", (8, 18)),
        ("145 per", (4, 11)),
        ("145\nper\tnight", (4, 18)),
        ("Nowhere", None),
        ("", None),
        (" \n", None),
    ],
)
def test_a_quote_is_found_whatever_parts_its_words(quote: str, span: tuple[int, int] | None) -> None:
    assert find_quote("a\tb\n145 per\n\nnight.", quote) == (span and (span[0], span[1]))


def test_what_became_of_each_document(yard: Yard) -> None:
    yard.ingest({"photo.png": b"\x89PNG"})
    rows = {row["document"]: row for row in CHATBOT.corpus_status(yard.ctx)}
    assert rows["photo.png"]["state"] == "quarantined" and rows["photo.png"]["reason"]
    assert rows["tea.md"]["state"] == "ready" and rows["tea.md"]["title"] == "Tea rules"
