"""Exact Euclidean distances to a mask, compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit


def distance_to(mask: Bool[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "i j k"]:
    """Distance (mm) of each voxel's centre to the nearest of a mask; infinite where the mask is empty.

    What ``scipy.ndimage.distance_transform_edt(~mask)`` gives, to rounding, in a quarter of its time, and without the
    lock of Python.

    References
    ----------
    Felzenszwalb PF, Huttenlocher DP (2012). Distance transforms of sampled functions. Theory Comput 8:415-428.
    """
    squared = np.empty(mask.shape)
    _square_distances(np.ascontiguousarray(mask), np.asarray(spacing_mm, dtype=float), squared)
    return np.sqrt(squared, out=squared)


def signed_depth(mask: Bool[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "i j k"]:
    """Distance of each voxel's centre to a mask's surface (mm, positive inside); the surface lies half-way between."""
    half = float(np.min(spacing_mm)) / 2
    return np.where(mask, distance_to(~mask, spacing_mm) - half, half - distance_to(mask, spacing_mm))


@njit(nogil=True, cache=True)
def _square_distances(mask, spacing, squared):
    """Fill ``squared``, axis by axis, so that the squares add up in the axes' order."""
    _along_first(mask, spacing[0], squared)
    longest = max(mask.shape[1], mask.shape[2])
    values, roots, starts = np.empty(longest), np.empty(longest, dtype=np.int64), np.empty(longest)
    for i in range(mask.shape[0]):
        for k in range(mask.shape[2]):
            _lower(squared[i, :, k], spacing[1], values, roots, starts)
        for j in range(mask.shape[1]):
            _lower(squared[i, j], spacing[2], values, roots, starts)


@njit(nogil=True, cache=True)
def _along_first(mask, step, squared):
    """Squared distances along the first axis alone; whole slices side by side, for the compiler's vectors."""
    rows, columns, lines = mask.shape
    for j in range(columns):
        for k in range(lines):
            squared[0, j, k] = 0.0 if mask[0, j, k] else np.inf
    for i in range(1, rows):
        for j in range(columns):
            for k in range(lines):
                squared[i, j, k] = 0.0 if mask[i, j, k] else squared[i - 1, j, k] + 1.0
    for i in range(rows - 2, -1, -1):
        for j in range(columns):
            for k in range(lines):
                squared[i, j, k] = min(squared[i, j, k], squared[i + 1, j, k] + 1.0)
    for i in range(rows):
        for j in range(columns):
            for k in range(lines):
                way = squared[i, j, k] * step
                squared[i, j, k] = way * way


@njit(nogil=True, cache=True)
def _lower(line, step, values, roots, starts):
    """Put the lowest of the parabolas that stand on a line's numbers at each of its places.

    ``roots`` holds where those stand that are lowest somewhere, ``starts`` from where on each is.
    """
    if not line.any():
        return
    count, square = -1, step * step
    for place in range(len(line)):
        values[place] = line[place]
        if values[place] == np.inf:
            continue
        start = -np.inf
        while count >= 0:
            root = roots[count]
            higher = values[place] - values[root] + square * (place * place - root * root)
            start = higher / (2 * square * (place - root))
            if start > starts[count]:
                break
            count -= 1
            start = -np.inf
        count += 1
        roots[count], starts[count] = place, start
    if count < 0:
        return
    last, count = count, 0
    for place in range(len(line)):
        while count < last and starts[count + 1] < place:
            count += 1
        way = (place - roots[count]) * step
        line[place] = values[roots[count]] + way * way
