"""Holes in the slices of a mask: what no way along its rows and columns leads out of; compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numba import njit


def fill_slices(mask: Bool[np.ndarray, "i j k"], axis: int) -> Bool[np.ndarray, "i j k"]:
    """What a mask encloses in each of its slices across an axis."""
    enclosed = np.zeros_like(mask)
    _fill_slices(np.moveaxis(mask, axis, 0), np.moveaxis(enclosed, axis, 0))
    return enclosed


@njit(nogil=True, cache=True)
def find_holes(mask):
    """Size and centre (in pixels) of each hole of a slice; rows are holes, in the order in which they are met."""
    left, trail = ~mask, np.empty((mask.size, 2), dtype=np.int64)
    holes, found = np.empty((mask.size // 2 + 1, 3)), 0
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            if left[i, j]:
                count, closed = _spread(left, i, j, trail)
                if closed:
                    holes[found, 0] = count
                    holes[found, 1], holes[found, 2] = trail[:count, 0].sum() / count, trail[:count, 1].sum() / count
                    found += 1
    return holes[:found].copy()


@njit(nogil=True, cache=True)
def _fill_slices(mask, enclosed):
    """Mark what is enclosed, slice by slice along the first axis."""
    rows, columns = mask.shape[1], mask.shape[2]
    trail = np.empty((rows * columns, 2), dtype=np.int64)
    for number in range(mask.shape[0]):
        left = ~mask[number]
        for i in range(rows):
            for j in range(columns):
                if left[i, j]:
                    count, closed = _spread(left, i, j, trail)
                    for n in range(count if closed else 0):
                        enclosed[number, trail[n, 0], trail[n, 1]] = True


@njit(nogil=True, cache=True)
def _spread(left, row, column, trail):
    """Take the piece that holds a pixel out of what is left; its size, and whether it reaches no edge.

    ``trail`` is overwritten with its pixels.
    """
    left[row, column], trail[0, 0], trail[0, 1] = False, row, column
    count, done, closed = 1, 0, True
    while done < count:
        i, j = trail[done, 0], trail[done, 1]
        done += 1
        for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if not (0 <= a < left.shape[0] and 0 <= b < left.shape[1]):
                closed = False
            elif left[a, b]:
                left[a, b], trail[count, 0], trail[count, 1] = False, a, b
                count += 1
    return count, closed
