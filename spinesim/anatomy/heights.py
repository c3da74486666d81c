"""Heights of a vertebral body at five places between the rims of its end plates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit

from spinesim.anatomy.vertebra import BodyHeights

FALL_MM = 2.0
"""A plate ends where it has fallen by so much against its plane on the way from its middle to its rim; farther out is
the wall, or a lip of the other plate. On slices of 2.5 mm a slanting plate has steps of about one and a half."""

EDGE, MIDDLE = (0.02, 0.14), (0.38, 0.62)
"""Heights are read over these shares of a plate, counted from its rim."""

STRIP = 0.5
"""Share of the width (or depth) about the middle on which the heights of front and back (or sides) are read."""

FEWEST = 4
"""A line of fewer columns is not read."""


def measure_heights(
    spots: Float[np.ndarray, "n 2"], ends: Float[np.ndarray, "2 n"], slopes: Float[np.ndarray, "2 2"]
) -> BodyHeights:
    """Read the heights of a body from the ends of columns that stand one step apart, a little beyond its waist too.

    Each plate is followed from its middle to its own rims: the plates of a wedge stand askew, and what lies over the
    front rim of the one is not the front rim of the other.

    Parameters
    ----------
    spots : (n, 2) array
        Where columns stand on their lattice, in steps along right and anterior.
    ends : (2, n) array
        Heights of their upper and lower ends (mm).
    slopes : (2, 2) array
        What the plane of each plate rises by in one step to the right and forward (mm).
    """
    at = np.round(spots - spots.min(axis=0)).astype(int)
    lengthwise, across = np.zeros(3), np.zeros(3)
    for side, heights, (to_right, forward) in zip((1.0, -1.0), ends, slopes, strict=True):
        surface = np.full(at.max(axis=0) + 1, np.nan)
        surface[tuple(at.T)] = side * heights
        lengthwise += _read_along(surface, side * forward)
        across += _read_along(surface.T, side * to_right)
    (posterior, middle, anterior), (left, _, right) = lengthwise.tolist(), across.tolist()
    return BodyHeights(anterior, middle, posterior, left, right)


@njit(nogil=True, cache=True)
def _read_along(surface, slope):
    """Read a plate along its second axis, in a strip about the middle of the first: at an edge, midway, at an edge."""
    middle = (surface.shape[0] - 1) / 2
    sums, shares, line = np.zeros(3), np.zeros(3), np.empty(surface.shape[1])
    for row in range(surface.shape[0]):
        if abs(row - middle) >= STRIP * middle:
            continue
        begin, end, known = _bridge(surface[row], line)
        if known < FEWEST:
            continue
        start = (begin + end) // 2
        first = start - _find_rim(line, slope, start, begin, -1)
        last = start + _find_rim(line, slope, start, end, 1)
        length = last - first
        _add_between(line, begin, end, first + EDGE[0] * length, first + EDGE[1] * length, 0, sums, shares)
        _add_between(line, begin, end, first + MIDDLE[0] * length, first + MIDDLE[1] * length, 1, sums, shares)
        _add_between(line, begin, end, last - EDGE[1] * length, last - EDGE[0] * length, 2, sums, shares)
    return sums / shares


@njit(nogil=True, cache=True)
def _bridge(line, bridged):
    """Bridge holes inside a line; the first and the last place that are known, and how many are."""
    begin, end, known = -1, -1, 0
    for place in range(len(line)):
        if np.isnan(line[place]):
            continue
        for hole in range(end + 1, place if known else 0):
            bridged[hole] = line[end] + (line[place] - line[end]) / (place - end) * (hole - end)
        bridged[place] = line[place]
        begin, end, known = place if known == 0 else begin, place, known + 1
    return begin, end, known


@njit(nogil=True, cache=True)
def _find_rim(line, slope, start, end, step):
    """Steps from the middle of a plate to its rim: where it fell by ``FALL_MM`` from its highest point on the way.

    Else half a step beyond its outermost column.
    """
    highest, before, place = line[start] - slope * start, 0.0, start
    while place != end:
        place += step
        height = line[place] - slope * place
        highest = max(highest, height)
        fallen = highest - height
        if fallen > FALL_MM:
            return abs(place - start) - 1 + (FALL_MM - before) / (fallen - before)
        before = fallen
    return abs(end - start) + 0.5


@njit(nogil=True, cache=True)
def _add_between(line, begin, end, low, high, part, sums, shares):
    """Add a stretch of a line to a part, and its length: places count as far as they lie in it."""
    for place in range(begin, end + 1):
        share = min(max(min(place + 0.5, high) - max(place - 0.5, low), 0.0), 1.0)
        sums[part] += share * line[place]
        shares[part] += share
