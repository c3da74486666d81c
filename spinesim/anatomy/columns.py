"""Lines along the third axis of a lattice through a smooth solid: where they enter it, and its shadow; compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from spinesim.anatomy.sampling import look_up

SURFACE = np.float32(0.5)
"""Occupancy at the surface of a solid; it is 0 beyond the edges of its block."""


def seen_along(
    occupancy: Float[np.ndarray, "i j k"], there_from_here: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]
) -> Bool[np.ndarray, "a b"]:
    """Shadow of a solid along the third axis of a lattice.

    Parameters
    ----------
    occupancy : (i, j, k) float32 array
        At least two along each axis.
    there_from_here : (4, 4) array
        Indices of the lattice to those of ``occupancy``.
    shape : tuple of int
        Of the lattice.
    """
    out = np.zeros(shape[:2], dtype=np.bool_)
    _seen_along(occupancy, np.ascontiguousarray(there_from_here[:3]), shape[2], out)
    return out


def find_ends(
    occupancy: Float[np.ndarray, "i j k"],
    there_from_here: Float[np.ndarray, "4 4"],
    within: Bool[np.ndarray, "a b"],
    heights: Float[np.ndarray, " h"],
) -> Float[np.ndarray, "2 a b"]:
    """Follow columns from above and from below to where they enter a solid (linear between samples).

    Parameters
    ----------
    occupancy, there_from_here
        As in :func:`seen_along`.
    within : (a, b) array
        The columns that are followed.
    heights : (h,) array
        Of the lattice along its third axis.

    Returns
    -------
    (2, a, b) array
        Upper and lower height; not a number where a column meets nothing, or begins inside on that side.
    """
    out = np.full((2, *within.shape), np.nan)
    _find_ends(occupancy, np.ascontiguousarray(there_from_here[:3]), within, heights, out)
    return out


@njit(inline="always")
def _look_at(occupancy, m, i, j, k):
    """Occupancy at one place of the lattice."""
    return look_up(occupancy, m, i, j, k, np.float32(0))


@njit(nogil=True, cache=True)
def _seen_along(occupancy, m, count, out):
    """Set ``out`` where one of ``count`` places along the third axis lies inside."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(count):
                if _look_at(occupancy, m, i, j, k) > SURFACE:
                    out[i, j] = True
                    break


@njit(nogil=True, cache=True)
def _find_ends(occupancy, m, within, heights, out):
    """Fill ``out``."""
    for i in range(within.shape[0]):
        for j in range(within.shape[1]):
            if within[i, j]:
                out[0, i, j] = _enter(occupancy, m, i, j, heights, len(heights) - 1, -1)
                out[1, i, j] = _enter(occupancy, m, i, j, heights, 0, 1)


@njit(nogil=True, cache=True)
def _enter(occupancy, m, i, j, heights, start, step):
    """Height at which a column enters the solid on its way from one end; not a number where it begins inside."""
    before = _look_at(occupancy, m, i, j, start)
    if before > SURFACE:
        return np.nan
    k = start + step
    while 0 <= k < len(heights):
        now = _look_at(occupancy, m, i, j, k)
        if now > SURFACE:
            share = (now - SURFACE) / (now - before)
            return heights[k] + share * (heights[k - step] - heights[k])
        before = now
        k += step
    return np.nan
