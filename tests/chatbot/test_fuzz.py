"""The first rounds of `make fuzz`, without the sandbox: our own code on damage never raises and loses nothing."""

from __future__ import annotations

import random

import pytest

from . import fuzz


@pytest.mark.parametrize("seed", range(4))
def test_damaged_structure_never_raises(seed: int) -> None:
    source = random.Random(seed)
    for content in fuzz.seeds():
        for _ in range(10):
            fuzz.put_together(fuzz.damaged(content, source))


@pytest.mark.parametrize("seed", range(4))
def test_words_anywhere_become_text_without_losing_one(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(10):
        fuzz.laid_out([fuzz.words(source) for _ in range(5)])
