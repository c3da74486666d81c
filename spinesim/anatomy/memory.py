"""How a process gets its memory, and what of it Python looks through again."""

from __future__ import annotations

import ctypes
import gc
import sys

M_ARENA_MAX = -8
"""Parameter of glibc's ``mallopt``: so many heaps (malloc.h)."""


def share_heap() -> None:
    """Let all threads of this process share one heap, as ``MALLOC_ARENA_MAX=1`` does; glibc only.

    With a heap a thread, what one thread frees another cannot use: the peak is a sixth higher, and the system hands out
    new pages over and over. For programs to call at their start; a library leaves its caller's memory alone.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(M_ARENA_MAX, 1)


def keep_modules() -> None:
    """Tell Python's collector that what is there at the first call stays, so that it looks through it no more.

    The modules of a case make 150,000 objects, and looking through them takes a tenth of a second in which no other
    thread runs Python. For programs to call when they have imported what they need; a later call changes nothing, since
    what is there by then may be garbage.
    """
    if not gc.get_freeze_count():
        gc.freeze()
