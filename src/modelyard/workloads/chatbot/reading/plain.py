"""Markdown and plain text as the table of formats asks for them."""

from __future__ import annotations

from modelyard.workloads.chatbot.limits import Limits
from modelyard.workloads.chatbot.reading.formats import Progress, Reading
from modelyard.workloads.chatbot.reading.text import read_sections


def read_markdown(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """A page per heading. Raises Unreadable for what is not text, or is too long."""
    return Reading(*read_sections(content, True, limits))


def read_plain(content: bytes, document: str, limits: Limits, progress: Progress) -> Reading:
    """A page per heading, form feed or some 3,000 characters. Raises Unreadable for what is no text, or is too long."""
    return Reading(*read_sections(content, False, limits))
