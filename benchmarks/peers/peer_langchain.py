"""LangChain with Chroma, as the quick start of semantic search writes it: pages by pypdf, 1,000 characters with an
overlap of 200, a Chroma collection on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import measured
from langchain_chroma import Chroma
from langchain_community.document_loaders import PyPDFLoader
from langchain_huggingface import HuggingFaceEmbeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter

FOUND: dict[str, Any] = {}


def parse(folder: Path) -> Any:
    return [page for path in sorted(folder.glob("*.pdf")) for page in PyPDFLoader(str(path)).load()]


def store(docs: Any, model: str) -> int:
    text_splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200, add_start_index=True)
    all_splits = text_splitter.split_documents(docs)
    embeddings = HuggingFaceEmbeddings(model_name=model)
    vector_store = Chroma(
        collection_name="example_collection",
        embedding_function=embeddings,
        persist_directory=tempfile.mkdtemp(dir=FOUND["scratch"]),
    )
    # Chroma takes at most 5,461 rows at once.
    for at in range(0, len(all_splits), 5_000):
        vector_store.add_documents(documents=all_splits[at : at + 5_000])
    FOUND["store"] = vector_store
    return len(all_splits)


def find(question: str, count: int) -> list[measured.Place]:
    hits = FOUND["store"].similarity_search(question, k=count)
    return [(Path(hit.metadata["source"]).name, hit.metadata["page"] + 1) for hit in hits]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as FOUND["scratch"]:
        measured.main(
            ["langchain", "langchain-chroma", "chromadb", "pypdf", "sentence-transformers"], parse, store, find
        )
