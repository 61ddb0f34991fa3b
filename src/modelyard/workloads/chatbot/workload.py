"""The chatbot: answers from documents, with citations."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import Damaged, UserError
from modelyard.ids import canonical, digest
from modelyard.ports.embedder import Embedder
from modelyard.ports.index import Searcher
from modelyard.ports.records import Changes, Snapshot
from modelyard.ports.workload import Case, Context, Exam, Metric, Predictor, Request, Response, Row
from modelyard.project import access
from modelyard.workloads.base import BaseWorkload, freeze
from modelyard.workloads.chatbot import corpus
from modelyard.workloads.chatbot.chain import Chatbot
from modelyard.workloads.chatbot.exam import cases
from modelyard.workloads.chatbot.generate import DEFAULT_PROMPT
from modelyard.workloads.chatbot.ingest import ingest, limits_of
from modelyard.workloads.chatbot.parse import SUPPORTED
from modelyard.workloads.chatbot.propose import propose
from modelyard.workloads.chatbot.release import ChatbotRelease
from modelyard.workloads.chatbot.schemas import prepare_version
from modelyard.workloads.chatbot.score import METRICS, score, signals

_ANSWERING = ("embedder", "index", "retrieval", "answer", "history_turns", "glossary")
_CHAT = ("model", "max_tokens", "temperature", "top_p", "seed", "stop")
"""What of the chat model's settings changes answers. Anything else may be a URL or a key, and stays out."""

_RERANKER = ("model", "protocol", "pages", "max_characters")
"""The same of the reranker's."""

_EMBEDDER = ("kind", "model", "dimension", "shorten", "max_characters")
"""The same of a remote embedder's."""

INDEX, EMBEDDER, READERS, PROMPT, SNAPSHOT = "index", "embedder", "readers", "prompt.txt", "snapshot.json"


class ChatbotWorkload(BaseWorkload):
    """Settings: `embedder`, `index`, `chat` (null for the extractive answerer), `retrieval: {candidates, passages}`,
    `answer: {max_words, threshold}`, `history_turns`, `limits: {max_file, seconds, memory, pages}`."""

    name = "chatbot"
    answer_version = 9
    accepts = frozenset({"messages"})
    metrics: Mapping[str, Metric] = METRICS
    floors: Mapping[str, float] = {"citation_validity": 0.98, "abstention_recall": 0.5}
    margins: Mapping[str, float] = {
        "right": 0.1,
        "wrong": 0.1,
        "recall@10": 0.1,
        "citation_validity": 0.02,
        "abstention_recall": 0.2,
    }
    min_cases: Mapping[str, int] = {"answerable": 30, "unanswerable": 10}

    def __init__(self) -> None:
        self._told: set[str] = set()

    def prepared(self, ctx: Context) -> str:
        """Parser, chunker and embedder, and whether pages that are pictures can be read here."""
        return f"{prepare_version}+embed-{ctx.ports.embedder().digest}+ocr-{limits_of(ctx.settings).ocr}"

    def settings(self, ctx: Context) -> Mapping[str, Any]:
        """Those that change answers; of the chat model its name and parameters, never where it is served."""
        found = {key: freeze(ctx.settings[key]) for key in _ANSWERING if key in ctx.settings}
        if isinstance(embedder := found.get("embedder"), Mapping):
            found["embedder"] = {key: embedder[key] for key in _EMBEDDER if key in embedder}
        if (reranker := ctx.settings.get("reranker")) is not None:
            found["reranker"] = {key: freeze(reranker[key]) for key in _RERANKER if key in reranker}
        chat = ctx.settings.get("chat")
        found["chat"] = None if chat is None else {key: freeze(chat[key]) for key in _CHAT if key in chat}
        return found

    def warm(self, ctx: Context) -> None:
        """The embedder, and the readers where they answer: seconds of compiling."""
        ctx.ports.embedder()
        if ctx.settings.get("chat") is None:
            ctx.ports.readers()

    def ingest(self, ctx: Context, changes: Changes) -> None:
        ingest(ctx, changes)

    def snapshot(self, ctx: Context) -> Snapshot:
        """The documents that are ready, and who may see them. Raises UserError for a file that should say so and
        cannot be understood."""
        rows = corpus.current(ctx.ports.tables).values()
        shelf = [row for row in rows if row.state == corpus.READY]
        entries = sorted((row.document, row.sha256) for row in shelf)
        found = _access(ctx, ctx.sources, [row.document for row in rows])
        for idle in found.idle:
            if idle.where not in self._told:
                self._told.add(idle.where)
                ctx.progress.say(f"{idle.where} says who may see {idle.path or 'everything'!r}: no document is there")
        ready = {name for name, _ in entries}
        shown = sorted((name, groups) for name, groups in found.access.items() if name in ready)
        return Snapshot(tuple(entries), corpus.prepared(shelf), tuple(shown))

    def corpus_status(self, ctx: Context) -> Sequence[Mapping[str, Any]]:
        """[{document, state, pages, chunks, words, reason, title, groups}], by document; `groups` is null where
        everybody may see it."""
        rows = corpus.status(ctx.ports.tables)
        there = ctx.sources if ctx.sources is not None and ctx.sources.is_dir() else None
        found = _access(ctx, there, [row["document"] for row in rows]).access
        return [{**row, "groups": list(found[row["document"]]) if row["document"] in found else None} for row in rows]

    def build(self, ctx: Context, snapshot: Snapshot, out_dir: Path) -> None:
        """Raises UserError where no document is ready, Damaged where the tables do not hold the snapshot."""
        if not snapshot.entries:
            raise UserError(_nothing_to_build(ctx))
        embedder, tables = ctx.ports.embedder(), ctx.ports.tables
        shown = corpus.visible(tables, snapshot, embedder.digest)
        name = index_name(snapshot, embedder)
        fetch = corpus.fetcher(tables, shown)
        with ctx.progress.bar("index", None, "passages") as bar:
            done = 0

            def progress(now: int, total: int) -> None:
                nonlocal done
                ctx.check()
                bar.total(total)
                bar.advance(now - done)
                done = now

            written = ctx.ports.index.write(name, sorted(shown), fetch, progress=progress)
        if written.repaired:
            ctx.progress.say("the index was damaged on disk: what was, is written again from the tables")
        ctx.ports.index.export(name, out_dir / INDEX)
        for member, path in embedder.members().items():
            _link(path, out_dir / EMBEDDER / member)
        chat = ctx.settings.get("chat")
        if chat is None:
            for which, reader in ctx.ports.readers()._asdict().items():
                for member, path in reader.members().items():
                    _link(path, out_dir / READERS / which / member)
        else:
            (out_dir / PROMPT).write_bytes(str(chat.get("prompt") or DEFAULT_PROMPT).encode())
        body: dict[str, Any] = {
            "prepared": snapshot.prepared,
            "entries": [list(entry) for entry in sorted(snapshot.entries)],
        }
        if snapshot.access:
            body["access"] = [[name, list(groups)] for name, groups in sorted(snapshot.access)]
        (out_dir / SNAPSHOT).write_bytes(canonical(body))

    def load(self, ctx: Context, artifact_dir: Path) -> Predictor:
        """Raises Damaged where a member cannot be read, UserError where the chat model is nowhere to be found or the
        index is of another embedder than the one at hand."""
        snapshot = _snapshot(artifact_dir / SNAPSHOT)
        folder, prompt = artifact_dir / EMBEDDER, artifact_dir / PROMPT
        embedder = ctx.ports.embedder(folder if folder.is_dir() else None)
        chat = ctx.ports.chat() if ctx.settings.get("chat") is not None else None
        readers = ctx.ports.readers(artifact_dir / READERS) if chat is None else None
        words = prompt.read_text(encoding="utf-8") if prompt.is_file() else DEFAULT_PROMPT
        searcher = ctx.ports.searcher(artifact_dir / INDEX)
        if searcher.snapshot != index_name(snapshot, embedder):
            raise UserError(
                f"the index of this release was made by another embedder than {embedder.name} as it is here (digest "
                f"{embedder.digest[:12]}): vectors of two embedders cannot be compared; `modelyard run --from prepare` "
                "makes one by this"
            )
        settings = chain_settings(ctx.settings)
        reranker = ctx.ports.reranker() if ctx.settings.get("reranker") is not None else None

        def chain(searcher: Searcher) -> Chatbot:
            return Chatbot(searcher, embedder, chat, settings, words, readers=readers, reranker=reranker)

        return ChatbotRelease(chain, searcher, dict(snapshot.entries), dict(snapshot.access), ctx.ports.source)

    def cases(self, ctx: Context, exam: Exam) -> Iterator[Case]:
        return cases(ctx.ports.tables, exam)

    def propose_cases(self, ctx: Context, snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
        """Questions by heading and by the labels of tables. Rows of an exam file, tagged `generated`."""
        tables, names = ctx.ports.tables, {name for name, _ in snapshot.entries}

        def scan() -> Iterator[Mapping[str, Any]]:
            ctx.check()
            return (page for page in corpus.page_texts(tables) if page["document"] in names)

        yield from propose(names, lambda some: corpus.page_texts(tables, {"document": list(some)}), scan)

    def score(self, case: Case, response: Response) -> Row:
        return score(case, response)

    def signals(self, request: Request, response: Response) -> Mapping[str, float]:
        return signals(response)


def index_name(snapshot: Snapshot, embedder: Embedder) -> str:
    """What the index calls a snapshot: its content and the embedder, since the same documents embedded otherwise are
    another thing to search, and whoever may see them the same."""
    return digest({"snapshot": snapshot.content, "embedder": embedder.digest})


def chain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the chain calls them; what is not given is the chain's own default."""
    retrieval, answer = settings.get("retrieval") or {}, settings.get("answer") or {}
    given = {
        "pages": retrieval.get("passages"),
        "depth": retrieval.get("candidates"),
        "threshold": answer.get("threshold"),
        "max_words": answer.get("max_words"),
        "history_turns": settings.get("history_turns"),
        "glossary": settings.get("glossary"),
        "reranked": (settings.get("reranker") or {}).get("pages"),
        "max_tokens": (settings.get("chat") or {}).get("max_tokens"),
    }
    return {key: value for key, value in given.items() if value is not None}


def _nothing_to_build(ctx: Context) -> str:
    waiting = len(corpus.current(ctx.ports.tables))
    kinds = ", ".join(SUPPORTED)
    where = f"{ctx.sources}" if ctx.sources is not None else "the documents folder"
    if waiting:
        return f"none of the {waiting} documents in {where} could be read: `modelyard data quarantine` says why"
    return f"there are no documents yet: put files ({kinds}) into {where} and run again"


def _access(ctx: Context, folder: Path | None, documents: Sequence[str]) -> access.Resolved:
    """Who may see which of `documents`, by the rules in the settings and the files in `folder`, which must be there."""
    default, rules = access.rules_of(ctx.settings.get("access") or {})
    return access.resolve(documents, default, rules, access.beside(folder) if folder is not None else [])


def _snapshot(path: Path) -> Snapshot:
    """What a release was made from: its documents with their digests, and which groups may see those not for all."""
    try:
        found = json.loads(path.read_bytes())
        entries = tuple((str(name), str(sha256)) for name, sha256 in found["entries"])
        access = tuple((str(name), tuple(map(str, groups))) for name, groups in found.get("access", ()))
        return Snapshot(entries, str(found["prepared"]), access)
    except (OSError, ValueError, KeyError, TypeError):
        raise Damaged(f"{path.name} of the release is missing or altered") from None


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
