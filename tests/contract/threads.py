"""The same work from two threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable


def in_two_threads(holds: Callable[[slice], bool]) -> bool:
    """Whether `holds(part)` three times in each of two threads, one with every even row and one with every odd."""
    got: dict[int, bool] = {}

    def work(number: int) -> None:
        got[number] = all(holds(slice(number, None, 2)) for _ in range(3))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got == {0: True, 1: True}
