"""Who sees what: rules, files beside the documents, and that nothing a caller gets tells of what they may not see."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.chatbot import shelf
from tests.chatbot.shelf import Sheet, model, searcher

from modelyard.adapters.chat_scripted import ScriptedChat
from modelyard.adapters.embed_hash import HashEmbedder
from modelyard.adapters.engine_local import LocalEngine
from modelyard.adapters.index_segments import SegmentIndex, open_exported
from modelyard.adapters.tables_memory import MemoryTables
from modelyard.clock import SystemClock
from modelyard.errors import NotFound, UserError
from modelyard.ids import digest_bytes
from modelyard.ports.progress import Silent
from modelyard.ports.reader import Readers
from modelyard.ports.records import Changes, Source
from modelyard.ports.workload import Call, Context, Delta, Predictor
from modelyard.project.access import Statement, beside, is_sidecar, resolve, rules_of
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.release import ChatbotRelease
from modelyard.workloads.chatbot.workload import ChatbotWorkload

SETTINGS: Mapping[str, Any] = {"embedder": "hash", "index": "segments", "chat": None, "answer": {"threshold": "0.4"}}


class Lines(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Counting(HashEmbedder):
    """Counts the texts it was asked for."""

    asked = 0

    def embed(self, texts: Sequence[str], **more: Any) -> Any:
        self.asked += len(texts)
        return super().embed(texts, **more)


class Ports:
    def __init__(self, folder: Path, chat: Any = None) -> None:
        self.tables, self.engine, self.index = MemoryTables(), LocalEngine(1), SegmentIndex(folder / "index")
        self.embed, self._chat = Counting(), chat

    def embedder(self, folder: Path | None = None) -> Counting:
        return self.embed

    def readers(self, folder: Path | None = None) -> Readers:
        return shelf.readers()

    def chat(self) -> Any:
        return self._chat

    def source(self, sha256: str) -> None:
        return None

    def searcher(self, folder: Path) -> Any:
        return open_exported(folder)


class House:
    """A corpus, and releases of it under one access policy or another."""

    def __init__(self, folder: Path, files: Mapping[str, str], chat: Any = None, **access: Any) -> None:
        self.folder, self.lines, self.ports = folder, Lines(), Ports(folder, chat)
        ports: Any = self.ports
        given = {**SETTINGS, "access": access, "chat": None if chat is None else {"model": chat.name}}
        self.ctx = Context(given, ports, SystemClock(), self.lines, sources=folder / "documents")
        self.workload, self._releases = ChatbotWorkload(), 0
        self.put(files)

    def put(self, files: Mapping[str, str]) -> None:
        sources = []
        for name, text in files.items():
            path = self.folder / "documents" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if not is_sidecar(name):
                sources.append(Source(name, digest_bytes(text.encode()), len(text.encode()), 0))
        self.workload.ingest(self.ctx, Changes(tuple(sources), ()))

    def rules(self, **access: Any) -> None:
        self.ctx = replace(self.ctx, settings={**self.ctx.settings, "access": access})

    def release(self) -> tuple[Any, Predictor]:
        self._releases += 1
        out = self.folder / f"release-{self._releases}"
        out.mkdir()
        snapshot = self.workload.snapshot(self.ctx)
        self.workload.build(self.ctx, snapshot, out)
        settings = self.workload.settings(self.ctx)
        return snapshot, self.workload.load(replace(self.ctx, settings=settings, sources=None), out)


def ask(predictor: Predictor, question: Any, groups: frozenset[str] | None) -> list[Any]:
    said = [question] if isinstance(question, str) else question
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(said)]
    out: list[Any] = []
    for event in predictor.predict({"messages": messages}, Call(SystemClock(), "k", groups=groups)):
        out.append(event.text if isinstance(event, Delta) else [event.text, event.output, dict(event.usage)])
    return out


def answer(predictor: Predictor, question: str, *groups: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ask(predictor, question, frozenset(groups))[-1][1]
    return found


OPEN = {
    "rooms-2024.md": "# Room rules 2024\n\n## Prices\n\nA night in the lodge costs 40 euros. Dogs pay 5 euros.\n",
    "rooms-2025.md": "# Room rules 2025\n\n## Prices\n\nA night in the lodge costs 45 euros. Dogs pay 6 euros.\n",
    "boats.md": "# Boats\n\nBoats are returned to the north pier before sunset. A boat has 4 seats.\n",
}
CLOSED = {"hr/pay.md": "# Pay\n\nThe warden of the lodge earns 3,100 euros a month. The bonus is 400 euros.\n"}


def test_only_who_is_of_the_group_is_answered_from_it(tmp_path: Path) -> None:
    _, release = House(tmp_path, OPEN | CLOSED, rules=[{"folder": "hr/**", "groups": ["hr"]}]).release()
    question = "How much does the warden earn a month?"
    assert "3,100" in answer(release, question, "hr")["answer"]
    assert "3,100" in answer(release, question, "sales", "hr")["answer"]
    for groups in ((), ("sales",)):
        told = answer(release, question, *groups)
        assert "hr" not in json.dumps(told["retrieved"]) and "3,100" not in json.dumps(told)
    everything: Any = release
    assert {h["document"] for h in everything.search("warden of the lodge", 9, frozenset({"hr"}))} > {"hr/pay.md"}
    assert "hr/pay.md" not in {h["document"] for h in everything.search("warden of the lodge", 9)}
    assert everything.page_picture("hr/pay.md", 1, "", frozenset({"hr"})).startswith(b"\x89PNG")
    with pytest.raises(NotFound) as closed:
        everything.page_picture("hr/pay.md", 1, "")
    with pytest.raises(NotFound) as absent:
        everything.page_picture("hr/day.md", 1, "")
    assert str(closed.value).replace("pay", "day") == str(absent.value)


WORDS = ["lodge", "night", "costs", "euros", "dogs", "boats", "pier", "sunset", "seats", "Heron", "warden", "2024"]
SECRET = st.fixed_dictionaries(
    {},
    optional={
        "hr/rooms-2026.md": st.just("# Room rules 2026\n\n## Prices\n\nA night in the lodge costs 99 euros.\n"),
        "hr/boats.md": st.just(OPEN["boats.md"]),
        "hr/flood.md": st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(
            lambda words: "# Notes\n\n" + ". ".join(words) + ".\n"
        ),
        **{
            f"hr/{n}.md": st.lists(st.sampled_from(WORDS), min_size=2, max_size=8).map(
                lambda words: f"# {' '.join(words[:2])}\n\nThe {' '.join(words)} is 7 euros.\n"
            )
            for n in range(4)
        },
    },
)
QUESTIONS: Sequence[Any] = (
    "What does a night in the lodge cost?",
    "What did a night in the lodge cost in 2024?",
    "How many seats has a boat, and what do dogs pay?",
    ["What does a night in the lodge cost?", "45 euros.", "And in 2024?"],
    "Where is Heron?",
    "What are the room rules 2026?",
)
RULES = [{"folder": "hr", "groups": ["hr"]}]


def everything_told(house: House, groups: frozenset[str], caplog: pytest.LogCaptureFixture, capsys: Any) -> bytes:
    """Every byte that a caller, or a reader of the logs, gets to see."""
    caplog.clear()
    _, release = house.release()
    predictor: Any = release
    told: list[Any] = []
    for question in QUESTIONS:
        told.append(ask(release, question, groups))
        told.append([dict(hit) for hit in predictor.search(" ".join(question), 20, groups)])
    for name in ("hr/rooms-2026.md", "hr/boats.md", "hr/nothing.md", "boats.md"):
        try:
            told.append(digest_bytes(predictor.page_picture(name, 1, "", groups)))
        except NotFound as error:
            told.append(str(error))
    out, err = capsys.readouterr()
    told += [out, err, [record.getMessage() for record in caplog.records]]
    return json.dumps(told, sort_keys=True).encode()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=SECRET, two=SECRET)
def test_nothing_tells_of_documents_outside_the_callers_groups(
    one: dict[str, str], two: dict[str, str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two corpora that differ only in what the caller may not see give the same bytes: text, citations, scores, usage,
    log lines; from callers without groups and from those of others. As does a corpus without any such document."""
    caplog.set_level(logging.DEBUG)
    callers = (frozenset[str](), frozenset({"sales", "HR"}))
    told = []
    for secret in (one, two, *([] if WITHOUT else [{}])):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "documents").mkdir()
            house = House(Path(folder), {**OPEN, **secret}, rules=RULES)
            told.append([everything_told(house, groups, caplog, capsys) for groups in callers])
    if not WITHOUT:
        WITHOUT.append(told.pop())
    assert told[0] == told[1] == WITHOUT[0]
    assert b"99 euros" not in told[0][0] and told[0][0] == told[0][1]


WITHOUT: list[list[bytes]] = []
"""What is told of the corpus without any such document; found out once."""


def test_a_chat_model_is_given_nothing_of_them(tmp_path: Path) -> None:
    prompts = []
    for number, secret in enumerate(({}, CLOSED, {"hr/pay.md": OPEN["boats.md"]})):
        place = tmp_path / str(number)
        (place / "documents").mkdir(parents=True)
        chat = ScriptedChat("Dogs pay 6 euros [1].")
        _, release = House(place, {**OPEN, **secret}, chat, rules=RULES).release()
        ask(release, "What do dogs pay?", frozenset())
        prompts.append(json.dumps(chat.asked))
    assert prompts[0] == prompts[1] == prompts[2]


def test_a_caller_who_may_see_nothing_gets_a_refusal(tmp_path: Path) -> None:
    _, release = House(tmp_path, OPEN, default=["staff"]).release()
    assert answer(release, QUESTIONS[0])["refused"] and answer(release, QUESTIONS[0])["retrieved"] == []
    assert not answer(release, QUESTIONS[0], "staff")["refused"]
    assert not ask(release, QUESTIONS[0], None)[-1][1]["refused"]


def test_another_rule_is_another_snapshot_and_embeds_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, OPEN | CLOSED)
    open_to_all, before = house.release()
    house.ports.embed.asked = 0
    house.rules(rules=RULES)
    closed, after = house.release()
    assert house.ports.embed.asked == 0 and house.ports.index.snapshots() == [house.ports.index.snapshots()[0]]
    assert open_to_all.root != closed.root and open_to_all.content == closed.content
    house.rules(rules=[{"folder": "hr", "groups": ["board"]}])
    assert house.release()[0].root not in (open_to_all.root, closed.root)
    question = "How much does the warden earn a month?"
    # A release keeps the rules that it was built with.
    assert "3,100" in answer(before, question)["answer"] and "3,100" not in answer(after, question)["answer"]


def test_files_beside_the_documents(tmp_path: Path) -> None:
    files = {
        "hr/a.md": "# A\n\nOne.\n",
        "hr/in/b.md": "# B\n\nTwo.\n",
        "hr/in/c.md": "# C\n\nThree.\n",
        "d.md": "# D\n\nX.\n",
    }
    house = House(
        tmp_path, files, rules=[{"folder": "hr", "groups": ["project"]}, {"folder": "hr/in/c.md", "groups": []}]
    )
    assert dict(house.release()[0].access) == {"hr/a.md": ("project",), "hr/in/b.md": ("project",), "hr/in/c.md": ()}
    house.put({"hr/.access.yml": "groups: [hr, boss, hr]", "hr/in/b.md.access.yml": "groups: public"})
    found, release = house.release()
    assert dict(found.access) == {"hr/a.md": ("boss", "hr"), "hr/in/c.md": ()}
    assert [row["groups"] for row in house.workload.corpus_status(house.ctx)] == [None, ["boss", "hr"], None, []]
    assert house.lines.said == []
    assert answer(release, "What is C?", "hr", "project")["answer"] != "Three."


def test_a_rule_that_matches_nothing_is_one_line(tmp_path: Path) -> None:
    house = House(tmp_path, OPEN, rules=[{"folder": "HR/**", "groups": ["hr"]}])
    house.put({"old.pdf.access.yml": "groups: [hr]"})
    house.workload.snapshot(house.ctx)
    house.workload.snapshot(house.ctx)
    assert house.lines.said == [
        "the rule for HR/** says who may see 'HR': no document is there",
        "old.pdf.access.yml says who may see 'old.pdf': no document is there",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("groups: hr", "groups is a list of names"),
        ("group: [hr]", "nothing else"),
        ("groups: [hr]\nowner: me", "nothing else"),
        ("groups: [1]", "1 is no name of a group"),
        ("groups: [' hr']", "no name of a group"),
        ("groups: [public]", "public is no group"),
        ("groups: [hr", "not valid YAML"),
        ("", "is expected"),
        ("\0", "not valid YAML"),
        ("groups: [" + "a, " * 50_000 + "]", "too many"),
    ],
)
def test_a_file_that_cannot_be_understood_stops_the_build(tmp_path: Path, text: str, says: str) -> None:
    house = House(tmp_path, OPEN)
    house.put({"boats.md.access.yml": text})
    with pytest.raises(UserError, match=says) as error:
        house.release()
    assert "boats.md.access.yml" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_closes_may_be_spelled_in_any_case(tmp_path: Path) -> None:
    house = House(tmp_path, {"hr/a.md": "# A\n\nOne.\n", "b.md": "# B\n\nTwo.\n"})
    house.put({"hr/.Access.yml": "groups: [hr]", "b.md.ACCESS.Yaml": "groups: [boss]"})
    found, _ = house.release()
    assert dict(found.access) == {"hr/a.md": ("hr",), "b.md": ("boss",)}
    assert [row["document"] for row in house.workload.corpus_status(house.ctx)] == ["b.md", "hr/a.md"]
    house.put({"b.md.access.yml": "groups: public"})
    with pytest.raises(UserError, match=r"both say who may see 'b\.md'"):
        house.release()


def test_two_files_for_one_path_are_refused(tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / ".access.yml").write_text("groups: [a]")
    (tmp_path / "hr.access.yaml").write_text("groups: [b]")
    with pytest.raises(UserError, match="both say who may see 'hr'"):
        beside(tmp_path)
    with pytest.raises(UserError, match="cannot be listed"):
        beside(tmp_path / "gone")


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map("/".join)
GROUPS = st.one_of(st.none(), st.lists(st.sampled_from(["x", "y"]), max_size=2).map(lambda g: tuple(sorted(set(g)))))


@given(
    documents=st.lists(PATHS, max_size=6),
    default=GROUPS,
    rules=st.dictionaries(PATHS | st.just(""), GROUPS, max_size=4),
    files=st.dictionaries(PATHS | st.just(""), GROUPS, max_size=4),
)
def test_the_nearest_statement_decides(
    documents: list[str], default: Any, rules: dict[str, Any], files: dict[str, Any]
) -> None:
    found = resolve(
        documents,
        default,
        [Statement(path, groups, "rule") for path, groups in rules.items()],
        [Statement(path, groups, "file") for path, groups in files.items()],
    )
    for document in documents:
        above = [p for p in {*rules, *files} if p == "" or document == p or document.startswith(p + "/")]
        nearest = max(above, key=len, default=None)
        expected = default if nearest is None else files[nearest] if nearest in files else rules[nearest]
        assert found.access.get(document) == expected
    for idle in found.idle:
        assert not any(d == idle.path or d.startswith(idle.path + "/") or idle.path == "" for d in documents)


def test_the_same_name_in_two_spellings_is_the_same() -> None:
    _, rules = rules_of({"rules": [{"folder": "Caf\u00e9/", "groups": ["x"]}]})
    assert resolve(["Cafe\u0301/menu.md"], None, rules, []).access == {"Cafe\u0301/menu.md": ("x",)}


def test_a_picture_in_the_making_keeps_nobody_waiting(tmp_path: Path) -> None:
    asked, given = threading.Event(), threading.Event()

    def source(sha256: str) -> bytes | None:
        asked.set()
        assert given.wait(60)
        return None

    found = searcher(tmp_path, [Sheet("a.pdf", "A night costs 40 euros."), Sheet("b.md", "Boats have 4 seats.")])
    release = ChatbotRelease(lambda some: Chatbot(some, model(), None, {}, ""), found, {"a.pdf": "1"}, {}, source)
    with ThreadPoolExecutor() as pool:
        picture = pool.submit(release.page_picture, "a.pdf", 1, "")
        try:
            assert asked.wait(60)
            hits = pool.submit(release.search, "What does a night cost?", 1)
            assert hits.result(timeout=20)[0]["document"] == "a.pdf"
        finally:
            given.set()
        assert picture.result().startswith(b"\x89PNG")
