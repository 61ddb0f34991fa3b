"""The words of a user's field: configuration, never code. Single words help to match answers, phrases to find pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelyard.calc.text import analyse, stem


class Glossary:
    """terms: what people ask for -> what the documents call it; words or phrases on both sides."""

    def __init__(self, terms: Mapping[str, Sequence[str]]) -> None:
        self._phrases = [(tuple(analyse(asked)), tuple(said)) for asked, said in terms.items() if analyse(asked)]
        self.words = {stem(k.lower()): frozenset(stem(w.lower()) for w in v) for k, v in terms.items()}

    def expand(self, text: str) -> tuple[str, ...]:
        """What the documents may call the things `text` asks for, in the order of the glossary, each once; phrases that
        the text itself says are left out.

        >>> Glossary({"time off in lieu": ["compensatory leave"]}).expand("How much time off in lieu do I get?")
        ('compensatory leave',)
        """
        asked = analyse(text)
        found: dict[str, None] = {}
        for key, said in self._phrases:
            if _holds(asked, key):
                found.update((phrase, None) for phrase in said if not _holds(asked, tuple(analyse(phrase))))
        return tuple(found)


def _holds(terms: Sequence[str], phrase: tuple[str, ...]) -> bool:
    size = len(phrase)
    return any(tuple(terms[at : at + size]) == phrase for at in range(len(terms) - size + 1))
