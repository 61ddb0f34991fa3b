"""What every reader promises, and what the packaged ones promise besides."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.test_embedder import ODD
from tests.contract.threads import in_two_threads

from modelyard.adapters import read_minilm, read_smollm
from modelyard.adapters.read_minilm import MiniLMReader
from modelyard.adapters.read_smollm import SmolLMReader
from modelyard.errors import Damaged
from modelyard.ports.reader import Reader

MAKERS: dict[str, Callable[[], Reader]] = {
    "minilm": lambda: MiniLMReader(read_minilm.packaged(), threads=2),
    "minilm-float32": lambda: MiniLMReader(read_minilm.packaged(), threads=2, int8=False),
    "smollm2": lambda: SmolLMReader(read_smollm.packaged(), threads=2),
    "smollm2-float32": lambda: SmolLMReader(read_smollm.packaged(), threads=2, int8=False),
}
OPENED: dict[str, Callable[[Path], Reader]] = {"minilm": MiniLMReader, "smollm2": SmolLMReader}
QUESTION = "Where can my guests leave their car?"
STATEMENTS = [f"Guide. Parking. Bay {i} is for {'visitors' if i % 3 else 'vans'}. " * (1 + i % 4) for i in range(14)]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def reader(request: pytest.FixtureRequest) -> Reader:
    return MAKERS[request.param]()


# Every reader


def test_one_figure_a_statement_in_their_order(reader: Reader) -> None:
    said = reader.read(QUESTION, STATEMENTS)
    assert said.shape == (len(STATEMENTS),)
    assert said.dtype == np.float32
    assert np.array_equal(reader.read(QUESTION, STATEMENTS[::-1]), said[::-1])


def test_no_statements_give_no_figures(reader: Reader) -> None:
    assert reader.read(QUESTION, []).shape == (0,)


def test_any_strings_can_be_read(reader: Reader) -> None:
    for question, statements in [
        *((odd, STATEMENTS[:2]) for odd in ODD),
        (QUESTION, ODD),
        *((odd, [odd]) for odd in ODD),
    ]:
        assert np.isfinite(reader.read(question, statements)).all()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(max_size=60), statements=st.lists(st.text(max_size=80), min_size=1, max_size=6))
def test_a_figure_does_not_depend_on_the_neighbours(reader: Reader, question: str, statements: list[str]) -> None:
    alone = np.concatenate([reader.read(question, [one]) for one in statements])
    assert np.array_equal(reader.read(question, statements), alone)


def test_two_threads_get_the_right_figures(reader: Reader) -> None:
    expected = reader.read(QUESTION, STATEMENTS)
    assert in_two_threads(lambda part: np.array_equal(reader.read(QUESTION, STATEMENTS[part]), expected[part]))


# The packaged ones

SIDE_BY_SIDE = """
from concurrent.futures import ThreadPoolExecutor
from modelyard.adapters import embed_minilm, read_minilm, read_smollm
asked = [
    lambda: embed_minilm.MiniLM(embed_minilm.packaged()).embed(["a"])[0],
    lambda: read_minilm.MiniLMReader(read_minilm.packaged()).read("a?", ["a"]),
    lambda: read_smollm.SmolLMReader(read_smollm.packaged()).read("a?", ["a"]),
]
with ThreadPoolExecutor(3) as threads:
    print([len(each.result()) for each in [threads.submit(one) for one in asked]])
"""


def test_models_may_be_opened_by_several_threads_of_a_fresh_process() -> None:
    done = subprocess.run([sys.executable, "-c", SIDE_BY_SIDE], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[384, 1, 1]"


@pytest.mark.parametrize(
    ("question", "answers", "near_by"),
    [
        (
            "How much does a night in a hotel in Porto cost at most?",
            "Travel rules. Hotels. City Porto, Limit per night: 130 EUR",
            "Travel rules. Hotels. City Porto, Breakfast: 12 EUR",
        ),
        (
            "Who do I ring when the lift is stuck?",
            "House guide. Lifts. If a lift stops between floors, call the caretaker on 0800 5512.",
            "House guide. Lifts. The lifts were replaced in 2019 and carry eight persons.",
        ),
        (
            "Why must the ladder be checked twice a year?",
            "Ladders. Ladders are inspected every six months because rungs loosen with use.",
            "Ladders. Ladders are inspected every six months by a trained person.",
        ),
    ],
)
def test_an_answer_is_told_from_what_stands_near_by(reader: Reader, question: str, answers: str, near_by: str) -> None:
    yes, no = reader.read(question, [answers, near_by])
    assert yes > max(0, no + 2)


def test_of_a_long_question_the_end_is_read_and_of_a_long_statement_too(reader: Reader) -> None:
    long = "We had a meeting about the budget of the club and its summer party. " * 40
    assert reader.read(long + QUESTION, STATEMENTS[:1]) == reader.read(long * 2 + QUESTION, STATEMENTS[:1])
    assert reader.read(QUESTION, [long + STATEMENTS[0]]) == reader.read(QUESTION, [long * 2 + STATEMENTS[0]])


@pytest.mark.parametrize("kind", OPENED)
def test_members_read_the_same_elsewhere(tmp_path: Path, kind: str) -> None:
    reader = MAKERS[kind]()
    for name, path in reader.members().items():
        shutil.copyfile(path, tmp_path / name)
    moved = OPENED[kind](tmp_path)
    assert moved.digest == reader.digest
    assert np.array_equal(moved.read(QUESTION, STATEMENTS), reader.read(QUESTION, STATEMENTS))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "altered"])
@pytest.mark.parametrize("kind", OPENED)
def test_a_damaged_folder_says_which_file(tmp_path: Path, name: str, damage: str, kind: str) -> None:
    for each, path in MAKERS[kind]().members().items():
        shutil.copyfile(path, tmp_path / each)
    (tmp_path / name).unlink() if damage == "missing" else (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(Damaged, match=name):
        OPENED[kind](tmp_path)
