"""Where each number of a label map lies: its bounding box."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Box = tuple[slice, slice, slice]
"""First voxel and the one after the last, along each axis."""


def bounding_boxes(voxels: np.ndarray) -> dict[int, Box]:
    """Find the bounding box of every number but 0 in a label map (scanned in the order in which it lies in memory)."""
    turned = voxels.flags.f_contiguous
    boxes = ndimage.find_objects(voxels.T if turned else voxels)
    return {number: box[::-1] if turned else box for number, box in enumerate(boxes, start=1) if box is not None}


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
