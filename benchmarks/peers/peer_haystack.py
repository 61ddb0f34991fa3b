"""Haystack, as its tutorial on indexing files writes it: pypdf, cleaner, 150 words with an overlap of 50, the in-memory
store. The embedders are the Sentence Transformers components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import measured
from haystack.components.converters import PyPDFToDocument
from haystack.components.preprocessors import DocumentCleaner, DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)

FOUND: dict[str, Any] = {}


def parse(folder: Path) -> Any:
    return PyPDFToDocument().run(sources=sorted(folder.glob("*.pdf")))["documents"]


def store(documents: Any, model: str) -> int:
    clean = DocumentCleaner().run(documents=documents)["documents"]
    splitter = DocumentSplitter(split_by="word", split_length=150, split_overlap=50)
    embedder = SentenceTransformersDocumentEmbedder(model=model)
    FOUND["text"] = SentenceTransformersTextEmbedder(model=model)
    for component in (splitter, embedder, FOUND["text"]):
        component.warm_up()
    chunks = embedder.run(documents=splitter.run(documents=clean)["documents"])["documents"]
    document_store = InMemoryDocumentStore()
    DocumentWriter(document_store=document_store).run(documents=chunks)
    FOUND["retriever"] = InMemoryEmbeddingRetriever(document_store=document_store)
    return document_store.count_documents()


def find(question: str, count: int) -> list[measured.Place]:
    vector = FOUND["text"].run(text=question)["embedding"]
    hits = FOUND["retriever"].run(query_embedding=vector, top_k=count)["documents"]
    return [(Path(hit.meta["file_path"]).name, hit.meta["page_number"]) for hit in hits]


if __name__ == "__main__":
    measured.main(["haystack-ai", "pypdf", "sentence-transformers"], parse, store, find)
