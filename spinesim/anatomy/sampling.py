"""Compiled look-up of numbers on another lattice."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from numba import njit, prange


def sample_block(
    values: Float[np.ndarray, "i j k"],
    there_from_here: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
    beyond: float,
) -> Float[np.ndarray, "a b c"]:
    """Look numbers up on another lattice, trilinearly; ``beyond`` outside.

    Parameters
    ----------
    values : (i, j, k) float32 array
        At least two along each axis.
    there_from_here : (4, 4) array
        Indices of the other lattice to those of ``values``.
    shape : tuple of int
        Of the other lattice.
    """
    out = np.empty(shape, dtype=np.float32)
    _sample(values, np.ascontiguousarray(there_from_here[:3]), np.float32(beyond), out)
    return out


def sample_places(
    values: Float[np.ndarray, "i j k"],
    voxel_from_world: Float[np.ndarray, "4 4"],
    places: Float[np.ndarray, "n 3"],
    beyond: float,
) -> Float[np.ndarray, " n"]:
    """Look float32 numbers, two along each axis or more, up at places in the world, trilinearly; ``beyond`` outside."""
    out = np.empty(len(places), dtype=np.float32)
    matrix = np.ascontiguousarray(voxel_from_world[:3])
    _sample_places(values, matrix, np.float32(beyond), np.ascontiguousarray(places), out)
    return out


def mean_of_sheets(
    values: Shaped[np.ndarray, "i j k"],
    sheet: Float[np.ndarray, "rows columns 3"],
    steps: Float[np.ndarray, "n 3"],
    beyond: float,
) -> Float[np.ndarray, "rows columns"]:
    """Mean, float32, of what is looked up trilinearly on a sheet and on others beside it; ``beyond`` outside.

    Parameters
    ----------
    values : (i, j, k) array
        Numbers of any kind.
    sheet : (rows, columns, 3) array
        Where to look, in voxels.
    steps : (n, 3) array
        From the sheet to each that counts, in voxels.
    """
    out = np.empty(sheet.shape[:2], dtype=np.float32)
    _mean_of_sheets(values, np.ascontiguousarray(sheet), np.ascontiguousarray(steps), float(beyond), out)
    return out


def load_kernels() -> None:
    """Load the compiled look-up from its cache: the first of a process takes a quarter of a second."""
    sample_block(np.zeros((2, 2, 2), dtype=np.float32), np.eye(4), (1, 1, 1), 0.0)


@njit(inline="always")
def look_up(values, m, p, q, r, beyond):
    """Trilinear look-up at one place, which the affine ``m`` takes to voxels; ``beyond`` outside."""
    x = m[0, 0] * p + m[0, 1] * q + m[0, 2] * r + m[0, 3]
    y = m[1, 0] * p + m[1, 1] * q + m[1, 2] * r + m[1, 3]
    z = m[2, 0] * p + m[2, 1] * q + m[2, 2] * r + m[2, 3]
    ni, nj, nk = values.shape
    if x >= 0 and y >= 0 and z >= 0 and x <= ni - 1 and y <= nj - 1 and z <= nk - 1:
        return look_up_inside(values, x, y, z)
    return beyond


@njit(inline="always")
def look_up_inside(values, x, y, z):
    """Trilinear look-up at one place inside, in voxels: single precision, two voxels along each axis or more."""
    ni, nj, nk = values.shape
    a, b, c = min(int(x), ni - 2), min(int(y), nj - 2), min(int(z), nk - 2)
    u, v, w = np.float32(x - a), np.float32(y - b), np.float32(z - c)
    one = np.float32(1)
    near = (values[a, b, c] * (one - w) + values[a, b, c + 1] * w) * (one - v) + (
        values[a, b + 1, c] * (one - w) + values[a, b + 1, c + 1] * w
    ) * v
    far = (values[a + 1, b, c] * (one - w) + values[a + 1, b, c + 1] * w) * (one - v) + (
        values[a + 1, b + 1, c] * (one - w) + values[a + 1, b + 1, c + 1] * w
    ) * v
    return near * (one - u) + far * u


@njit(nogil=True, cache=True)
def _sample(values, m, beyond, out):
    """Fill ``out``; serial and without Python's lock, for callers have a bone a thread."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                out[i, j, k] = look_up(values, m, i, j, k, beyond)


@njit(nogil=True, cache=True)
def _sample_places(values, m, beyond, places, out):
    """The same at places anywhere."""
    for n in range(places.shape[0]):
        out[n] = look_up(values, m, places[n, 0], places[n, 1], places[n, 2], beyond)


@njit(nogil=True, cache=True)
def _mean_of_sheets(values, sheet, steps, beyond, out):
    a, b, c = values.shape
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            total = 0.0
            for step in range(len(steps)):
                x = sheet[row, column, 0] + steps[step, 0]
                y = sheet[row, column, 1] + steps[step, 1]
                z = sheet[row, column, 2] + steps[step, 2]
                if not (0 <= x <= a - 1 and 0 <= y <= b - 1 and 0 <= z <= c - 1):
                    total += beyond
                    continue
                i, j, k = min(int(x), max(a - 2, 0)), min(int(y), max(b - 2, 0)), min(int(z), max(c - 2, 0))
                p, q, r = min(i + 1, a - 1), min(j + 1, b - 1), min(k + 1, c - 1)
                x, y, z = x - i, y - j, z - k
                near = (1 - x) * values[i, j, k] + x * values[p, j, k]
                beside = (1 - x) * values[i, q, k] + x * values[p, q, k]
                above = (1 - x) * values[i, j, r] + x * values[p, j, r]
                across = (1 - x) * values[i, q, r] + x * values[p, q, r]
                total += (1 - z) * ((1 - y) * near + y * beside) + z * ((1 - y) * above + y * across)
            out[row, column] = total / len(steps)


@njit(parallel=True, cache=True)
def repeat_blocks(values, step, out):
    """Fill ``out`` with the number of the block of ``step`` voxels that each of its voxels lies in."""
    for k in prange(out.shape[2]):
        for j in range(out.shape[1]):
            b, c = j // step[1], k // step[2]
            for a in range(values.shape[0]):
                value = values[a, b, c]
                for i in range(a * step[0], min((a + 1) * step[0], out.shape[0])):
                    out[i, j, k] = value
