"""Where each number of a label map lies: its bounding box."""

from __future__ import annotations

import numpy as np
from numba import njit

Box = tuple[slice, slice, slice]
"""First voxel and the one after the last, along each axis."""


def bounding_boxes(voxels: np.ndarray) -> dict[int, Box]:
    """Find the bounding box of every number but 0 in a label map (scanned in the order in which it lies in memory)."""
    if not voxels.size:
        return {}
    turned = abs(voxels.strides[0]) < abs(voxels.strides[-1])
    across = voxels.T if turned else voxels
    count = int(voxels.max()) + 1
    first, last = np.full((count, 3), np.iinfo(np.int64).max), np.full((count, 3), -1)
    _find_ends(across, first, last)
    boxes: dict[int, Box] = {}
    for number in np.flatnonzero(last[1:, 0] >= 0) + 1:
        i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(first[number], last[number], strict=True))
        boxes[int(number)] = (k, j, i) if turned else (i, j, k)
    return boxes


@njit(nogil=True, cache=True)
def _find_ends(voxels, first, last):
    """First and last voxel of each number but 0 along each axis; rows of 0 alone are passed over at once."""
    for i in range(voxels.shape[0]):
        for j in range(voxels.shape[1]):
            row = voxels[i, j]
            any_bit = row[0]
            for number in row:
                any_bit |= number
            if any_bit == 0:
                continue
            k = 0
            while k < len(row):
                number, begin = row[k], k
                while k < len(row) and row[k] == number:
                    k += 1
                if number != 0:
                    for axis, (low, high) in enumerate(((i, i), (j, j), (begin, k - 1))):
                        first[number, axis] = min(first[number, axis], low)
                        last[number, axis] = max(last[number, axis], high)


def padded(box: Box, shape: tuple[int, int, int], more: int | np.ndarray) -> Box:
    """A box and so many voxels around it (one number, or one an axis), as far as the volume goes."""
    i, j, k = (
        slice(max(side.start - int(m), 0), min(side.stop + int(m), n))
        for side, m, n in zip(box, np.broadcast_to(more, 3), shape, strict=True)
    )
    return i, j, k


def within(box: Box, outer: Box) -> Box:
    """A box inside another one, counted from the other's first voxel."""
    i, j, k = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))
    return i, j, k


def overlap(a: Box, b: Box) -> tuple[Box, Box] | None:
    """Give the voxels that two boxes share, counted within each of them, or None."""
    starts = [max(p.start, q.start) for p, q in zip(a, b, strict=True)]
    stops = [min(p.stop, q.stop) for p, q in zip(a, b, strict=True)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        return None
    i, j, k = (slice(*ends) for ends in zip(starts, stops, strict=True))
    return within((i, j, k), a), within((i, j, k), b)
