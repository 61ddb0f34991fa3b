"""The chain: from a request to an answer that quotes its documents, or to an honest "not in these documents"."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from modelyard.errors import RequestError
from modelyard.ports.chat import Chat
from modelyard.ports.embedder import Embedder
from modelyard.ports.index import Searcher
from modelyard.ports.reader import Readers
from modelyard.ports.reranker import Reranker
from modelyard.ports.workload import Call, Delta, Event, Request, Response
from modelyard.workloads.chatbot.cite import Citation, merged, verify
from modelyard.workloads.chatbot.compose import Statement, compose
from modelyard.workloads.chatbot.conversation import Resolved, read_messages, resolve
from modelyard.workloads.chatbot.extract import Extractor
from modelyard.workloads.chatbot.generate import Spent, generate
from modelyard.workloads.chatbot.glossary import Glossary
from modelyard.workloads.chatbot.page import PageView, page_text, read_page
from modelyard.workloads.chatbot.question import Question, analyse_question
from modelyard.workloads.chatbot.retrieve import Catalogue, Page, explained, find_pages, merge_copies, rerank

DEFAULTS: Mapping[str, Any] = {
    "history_turns": 6,
    "pages": 10,
    "depth": 200,
    "threshold": "0.5",
    "margin": "1.8",
    "max_words": 60,
    "max_tokens": 400,
    "glossary": {},
    "reranked": 30,
    "weights": {
        "bias": "-5.54",
        "close": "1.17",
        "read": "0.32",
        "coverage": "0.57",
        "similar": "0.80",
        "lead": "2.79",
        "fit": "1.06",
        "rank": "2.22",
        "subject": "0.19",
        "said": "0.48",
        "local": "1.35",
        "least": "0.62",
        "cell": "-0.16",
        "pair": "-0.90",
        "clash": "-0.58",
        "rival": "-0.76",
        "hard": "-7.00",
        "misfit": "-7.00",
        "sum": "-4.00",
        "year": "-0.25",
        "basis": "-5.50",
        "baseless": "-0.31",
        "foreign": "-2.56",
        "unsaid": "-0.97",
        "told": "-0.37",
        "astray": "-4.00",
        "unsaid_cell": "-1.30",
        "unasked": "-1.83",
        "unnamed": "-0.63",
        "outdone": "-0.46",
    },
}
"""Settings and their defaults. Decimal numbers are strings, since settings go into the release's identity."""

REFUSAL = "This is not in these documents."


class Chatbot:
    """Answers questions from one snapshot of documents. Safe to call from several threads.

    searcher: the snapshot. chat: None for the extractive answerer. settings: see DEFAULTS; keys not there are ignored.
    prompt: what a chat model is told. readers: what the extractive answerer reads statements with; who has a chat
    model, or only searches, needs none. reranker: puts the first pages in order; None leaves them as they were found.
    """

    def __init__(
        self,
        searcher: Searcher,
        embedder: Embedder,
        chat: Chat | None,
        settings: Mapping[str, Any],
        prompt: str,
        *,
        readers: Readers | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        self._searcher, self._embedder, self._chat, self._prompt = searcher, embedder, chat, prompt
        self._reranker = reranker
        self._settings = {**DEFAULTS, **{k: v for k, v in settings.items() if k in DEFAULTS and v is not None}}
        weights = {k: float(v) for k, v in {**DEFAULTS["weights"], **self._settings["weights"]}.items()}
        self._glossary = Glossary(self._settings["glossary"])
        self._extractor = Extractor(embedder, readers, self._glossary.words, weights)
        self._catalogue = Catalogue(searcher)
        self._views: OrderedDict[tuple[str, int], PageView] = OrderedDict()
        self._lock = Lock()

    def close(self) -> None:
        """Nothing is held open here: the searcher belongs to who made it."""

    def predict(self, request: Request, call: Call) -> Iterator[Event]:
        """See ports.workload.Predictor. Raises RequestError, RequestTooLarge, Cancelled, DeadlineExceeded."""
        turns = read_messages(request)
        call.check()
        resolved = resolve(turns, int(self._settings["history_turns"]), self._extractor.vectors)
        question = self._analyse(resolved)
        vector = self._embedder.embed([resolved.text])[0]
        call.check()
        pages = self._pages(question, vector)
        call.check()
        if self._chat is not None:
            yield from self._generative(self._chat, resolved, pages, call)
        else:
            yield from self._extractive(resolved, question, vector, pages, call)

    def search(self, query: str, k: int) -> list[dict[str, Any]]:
        """What retrieval alone finds: at most `k` hits, best first, one a page. Raises RequestError for no words."""
        if not query.strip():
            raise RequestError("the question is empty")
        resolved = Resolved(" ".join(query.split()))
        question = self._analyse(resolved)
        depth = max(4 * k, int(self._settings["depth"]))
        found = self._find(question, self._embedder.embed([resolved.text])[0], k + 10, depth)
        return [explained(page) for page in merge_copies(self._catalogue, found, k)]

    def _analyse(self, resolved: Resolved) -> Question:
        return analyse_question(resolved.own, self._catalogue.rarity, self._catalogue.everywhere, resolved.inherited)

    def _pages(self, question: Question, vector: Any) -> list[Page]:
        settings = self._settings
        found = self._find(question, vector, 2 * int(settings["pages"]), int(settings["depth"]))
        outdated = self._catalogue.outdated(question)
        kept = [p for p in found if p.document not in outdated]
        return kept[: int(settings["pages"])]

    def _find(self, question: Question, vector: Any, pages: int, depth: int) -> list[Page]:
        expansions = self._glossary.expand(question.text)
        most = max(pages, int(self._settings["reranked"])) if self._reranker else pages
        expanded = self._embedder.embed([", ".join(expansions)])[0] if expansions else None
        found = find_pages(
            self._searcher,
            self._catalogue,
            question,
            vector,
            pages=most,
            depth=depth,
            expansions=expansions,
            expanded=expanded,
        )
        return rerank(self._reranker, question.text, found)[:pages] if self._reranker else found

    def _extractive(
        self, resolved: Resolved, question: Question, vector: Any, pages: Sequence[Page], call: Call
    ) -> Iterator[Event]:
        views = [(self._view(p.document, p.page), p.score) for p in pages]
        asked = [vector]
        if question.asked != question.text:
            asked.extend(self._embedder.embed([question.asked]))
        threshold = min(max(float(self._settings["threshold"]), 1e-9), 1 - 1e-9)
        least = math.log(threshold / (1 - threshold))
        found = self._extractor.candidates(question, resolved, views, np.stack(asked), least=least)
        call.check()
        statements = compose(
            question,
            found,
            float(self._settings["threshold"]),
            float(self._settings["margin"]),
            int(self._settings["max_words"]),
        )
        kept: list[Statement] = []
        for statement in statements:
            if self._stands(statement, statement.citation):
                also = tuple(c for c in statement.also if self._stands(statement, c))
                kept.append(replace(statement, also=also))
                call.check()
                yield Delta(statement.text if len(kept) == 1 else "\n" + statement.text)
        best = found[0].score if found else 0.0
        reason = None if kept else ("nothing found" if not found else f"best statement scores {best:.2f}")
        if not kept:
            yield Delta(REFUSAL)
        yield self._response("\n".join(s.text for s in kept), kept, reason, resolved, pages)

    def _stands(self, statement: Statement, citation: Citation) -> bool:
        view = self._view(citation.passage.document, citation.passage.page)
        return verify(statement.text, citation, view.text, statement.labels)

    def _generative(self, chat: Chat, resolved: Resolved, pages: Sequence[Page], call: Call) -> Iterator[Event]:
        """Sentences of a chat model, each shown only once it is checked against the passage that it cites."""
        kept: list[Statement] = []
        spent = Spent()
        passages = [p.passage for p in pages]
        if passages:
            limit = int(self._settings["max_tokens"])
            for statement in generate(chat, self._prompt, resolved.text, passages, call, limit, spent):
                kept.append(statement)
                yield Delta(statement.text if len(kept) == 1 else " " + statement.text)
        reason = None
        if not kept:
            reason = "no sentence of the reply was supported" if spent.dropped else "the model found no answer"
            yield Delta(REFUSAL)
        yield self._response(" ".join(s.text for s in kept), kept, reason, resolved, pages, spent.usage)

    def _response(
        self,
        text: str,
        kept: Sequence[Statement],
        reason: str | None,
        resolved: Resolved,
        pages: Sequence[Page],
        usage: Mapping[str, int] | None = None,
    ) -> Response:
        refused = not kept
        answer = REFUSAL if refused else text
        output = {
            "answer": answer,
            "refused": refused,
            "reason": reason,
            "citations": merged([c for s in kept for c in (s.citation, *s.also)]),
            "question": resolved.text,
            "retrieved": [{"document": p.document, "page": p.page, "score": round(p.score, 6)} for p in pages],
        }
        count = self._embedder.count_tokens
        own = {"prompt_tokens": count(resolved.text), "completion_tokens": count(answer)}
        return Response(answer, output, dict(usage) if usage else own)

    def _view(self, document: str, page: int) -> PageView:
        key = (document, page)
        with self._lock:
            view = self._views.get(key)
        if view is None:
            before, after = (page_text(self._searcher.page(document, n)) for n in (page - 1, page + 1))
            view = read_page(self._searcher.page(document, page), before, after)
            with self._lock:
                self._views[key] = view
                while len(self._views) > 512:
                    self._views.popitem(last=False)
        return view
