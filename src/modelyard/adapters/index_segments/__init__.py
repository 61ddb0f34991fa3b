"""The default index: immutable segments on disk, scanned exactly, with BM25 beside them.

    segments/<digest>/      segment.json, rows.arrow, vectors.bin, postings.bin     written once, shared by snapshots
    snapshots/<snapshot>/   snapshot.json                                           which rows of which segments

The store is content-addressed: the same rows give the same files and the same digest, so that targets, snapshots and
releases share what they have in common, and a new snapshot costs in proportion to what changed.
"""

from __future__ import annotations

from modelyard.adapters.index_segments.search import SegmentSearcher, open_exported
from modelyard.adapters.index_segments.store import SegmentIndex

__all__ = ["SegmentIndex", "SegmentSearcher", "open_exported"]
