"""LlamaIndex, as its starter with local models writes it: SimpleDirectoryReader, VectorStoreIndex in memory, chunks of
1,024 tokens. The model reads the first 256 of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import measured
from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.embeddings.huggingface import HuggingFaceEmbedding

FOUND: dict[str, Any] = {"page": {}}


def parse(folder: Path) -> Any:
    documents = SimpleDirectoryReader(str(folder)).load_data()
    # A page is known by its place in the file: `page_label` is what is printed on it.
    count: Counter[str] = Counter()
    for document in documents:
        name = document.metadata["file_name"]
        count[name] += 1
        FOUND["page"][document.doc_id] = (name, count[name])
    return documents


def store(documents: Any, model: str) -> int:
    Settings.embed_model = HuggingFaceEmbedding(model_name=model)
    FOUND["index"] = VectorStoreIndex.from_documents(documents)
    return len(FOUND["index"].docstore.docs)


def find(question: str, count: int) -> list[measured.Place]:
    hits = FOUND["index"].as_retriever(similarity_top_k=count).retrieve(question)
    return [FOUND["page"][hit.node.ref_doc_id] for hit in hits]


if __name__ == "__main__":
    measured.main(
        ["llama-index-core", "llama-index-readers-file", "pypdf", "sentence-transformers"], parse, store, find
    )
