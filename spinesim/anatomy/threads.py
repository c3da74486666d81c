"""Work on several bones, files or parts at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


THREADS = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
"""Processors that this process may use."""


def map_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call a function for each item, on ``THREADS`` threads; results come in the items' order.

    For functions that share nothing they write to, so that the result does not depend on the threads.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))
