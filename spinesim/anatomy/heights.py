"""Heights of a vertebral body at five places between the rims of its end plates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from spinesim.anatomy.vertebra import BodyHeights, Vector

FALL_MM = 2.0
"""A plate ends where it has fallen by so much against its plane on the way from its middle to its rim; farther out is
the wall, or a lip of the other plate. On slices of 2.5 mm a slanting plate has steps of about one and a half."""

EDGE, MIDDLE = (0.02, 0.14), (0.38, 0.62)
"""Heights are read over these shares of a plate, counted from its rim."""

STRIP = 0.5
"""Share of the width (or depth) about the middle on which the heights of front and back (or sides) are read."""


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


def _read_along(surface: Float[np.ndarray, "n m"], slope: float) -> Vector:
    """Read a plate along its second axis, in a strip about the middle of the first: at an edge, midway, at an edge."""
    count = len(surface)
    strip = np.abs(np.arange(count) - (count - 1) / 2) < STRIP * (count - 1) / 2
    lines = _filled(surface[strip & (np.isfinite(surface).sum(axis=1) >= 4)])
    if not len(lines):
        return np.full(3, np.nan)
    first, last = _find_rims(lines, slope)
    length = last - first
    inner, outer = EDGE
    begin, end = MIDDLE
    parts = (
        (first + inner * length, first + outer * length),
        (first + begin * length, first + end * length),
        (last - outer * length, last - inner * length),
    )
    return np.array([_mean_between(lines, *part) for part in parts])


def _filled(lines: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    """The same with holes inside a line bridged."""
    filled, places = lines.copy(), np.arange(lines.shape[1])
    for line in filled:
        known = np.flatnonzero(np.isfinite(line))
        hole = slice(known[0], known[-1] + 1)
        line[hole] = np.interp(places[hole], known, line[known])
    return filled


def _find_rims(
    lines: Float[np.ndarray, "n m"], slope: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Where each line across a plate begins and ends (in steps; half a step beyond its outermost columns at most)."""
    known = np.isfinite(lines)
    high = lines.shape[1] - 1
    middle = (np.argmax(known, axis=1) + high - np.argmax(known[:, ::-1], axis=1)) // 2
    flat = lines - slope * np.arange(high + 1)
    return high - _find_end(flat[:, ::-1], high - middle), _find_end(flat, middle)


def _find_end(lines: Float[np.ndarray, "n m"], start: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Where lines have fallen by ``FALL_MM`` from their highest point after the start, or else end."""
    rows, beyond = np.arange(len(lines)), ((0, 0), (0, 1))
    heights = np.where(np.arange(lines.shape[1]) >= start[:, None], lines, lines[rows, start, None])
    highest = np.maximum.accumulate(np.nan_to_num(heights, nan=-np.inf), axis=1)
    fallen = np.pad(highest - heights, beyond, constant_values=np.nan)
    at = np.argmax(~(fallen <= FALL_MM), axis=1)
    before, now = fallen[rows, at - 1], fallen[rows, at]
    return at - 1 + np.where(np.isfinite(now), (FALL_MM - before) / np.where(now > before, now - before, 1.0), 0.5)


def _mean_between(
    lines: Float[np.ndarray, "n m"], begin: Float[np.ndarray, " n"], end: Float[np.ndarray, " n"]
) -> float:
    """Mean of lines over a stretch of each, to which columns count as far as they lie in it."""
    places = np.arange(lines.shape[1])
    shares = np.minimum(places + 0.5, end[:, None]) - np.maximum(places - 0.5, begin[:, None])
    shares = np.where(np.isfinite(lines), np.clip(shares, 0.0, 1.0), 0.0)
    return float((shares * np.nan_to_num(lines)).sum() / shares.sum())
