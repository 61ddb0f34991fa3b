"""When what is kept for a rollback only goes cold, and when it is warmed again."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.memory import LONGEST_SECONDS, STEADY_SECONDS, Thermostat

GB = 1 << 30
LOOK = 2.0


def flips(others: list[int], size: int, limit: int) -> tuple[int, list[bool]]:
    """How often a release of `size` goes cold while the others take so much, look by look; and when it was warm."""
    thermostat, warm, count, story = Thermostat(limit), True, 0, []
    for number, taken in enumerate(others):
        now = number * LOOK
        if warm and thermostat.too_much(taken + size, now):
            warm, count = False, count + 1
        elif not warm and thermostat.room(taken, size, now):
            warm = True
        story.append(warm)
    return count, story


def test_over_the_limit_it_goes_cold_at_once_and_comes_back_when_there_was_room_for_a_while() -> None:
    high, low = 8 * GB, 5 * GB
    looks = int(STEADY_SECONDS / LOOK)
    _, story = flips([low] * 3 + [high] * 5 + [low] * (looks + 2), 3 * GB, 10 * GB)
    assert story == [True] * 3 + [False] * (5 + looks) + [True] * 2
    # Room is under nine tenths of the limit: at all of it, it would be over the limit again with the next page.
    _, story = flips([high] + [6 * GB] * 100_000, 3 * GB, 10 * GB)
    assert not any(story)


@given(period=st.integers(2, 3_600), share=st.floats(0.05, 0.95), hours=st.integers(1, 24))
def test_however_the_others_come_and_go_it_does_not_flip_with_them(period: int, share: float, hours: int) -> None:
    high, low = 8 * GB, 3 * GB
    others = [high if n % period < period * share else low for n in range(int(hours * 3_600 / LOOK))]
    count, _ = flips(others, 3 * GB, 10 * GB)
    # The pause doubles up to an hour: six times within it, and then once in each.
    assert count <= 2 + math.log2(LONGEST_SECONDS / STEADY_SECONDS) + hours * 3_600 / LONGEST_SECONDS


def test_what_stayed_warm_for_long_begins_anew() -> None:
    high, low = 8 * GB, 3 * GB
    calm = [low] * int((LONGEST_SECONDS + 2 * STEADY_SECONDS) / LOOK)
    count, story = flips([high, *calm] * 5, 3 * GB, 10 * GB)
    assert count == 5 and story.count(False) * LOOK <= 5 * (STEADY_SECONDS + LOOK)
