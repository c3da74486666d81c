"""How a process gets its memory."""

from __future__ import annotations

import ctypes
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
