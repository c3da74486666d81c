"""The command's threads share one heap, and its modules are kept from the collector."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, threading
from spinesim.anatomy.memory import share_heap
{share}
barrier = threading.Barrier(4)
def work():
    block = bytearray(3000)
    barrier.wait()
    return block
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
ctypes.CDLL(None).malloc_stats()
"""

KEEP = """
import gc
from spinesim.anatomy.memory import keep_modules
keep_modules()
kept = gc.get_freeze_count()
more = [[number] for number in range(1000)]
keep_modules()
print(kept, gc.get_freeze_count())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a heap a thread")
@pytest.mark.parametrize(("share", "several"), [("share_heap()", False), ("", True)])
def test_threads_share_a_heap_once_they_are_told_to(share, several):
    script, plain = COUNT.format(share=share), {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=plain)
    assert "Arena 0" in done.stderr
    assert ("Arena 1" in done.stderr) == several


def test_what_is_there_is_kept_from_the_collector_and_nothing_that_comes_later():
    done = subprocess.run([sys.executable, "-c", KEEP], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first == second > 1000
