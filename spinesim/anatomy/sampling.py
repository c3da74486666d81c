"""Compiled look-up of numbers on another lattice."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Sheet:
    """Places in rows: each row starts where it will (in voxels), and all go on by the same step (in voxels)."""

    starts: Float[np.ndarray, "rows 3"]
    step: Float[np.ndarray, " 3"]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.starts), self.columns


def mean_of_sheets(
    values: Shaped[np.ndarray, "i j k"], sheet: Sheet, beside: Float[np.ndarray, "n 3"], beyond: float
) -> Float[np.ndarray, "rows columns"]:
    """Mean, float32, of what is looked up trilinearly on several sheets; ``beyond`` outside.

    Parameters
    ----------
    values : (i, j, k) array
        Numbers of any kind.
    sheet : Sheet
        Where to look.
    beside : (n, 3) array
        From the sheet to each that counts, in voxels.
    beyond : float
        What lies outside the centres of the outermost voxels.
    """
    out = np.empty(sheet.shape, dtype=np.float32)
    _mean_of_sheets(values, sheet.starts, sheet.step, np.ascontiguousarray(beside), np.float32(beyond), out)
    return out


def nearest_on_sheet(values: Shaped[np.ndarray, "i j k"], sheet: Sheet) -> Shaped[np.ndarray, "rows columns"]:
    """The number of the voxel nearest to each place of a sheet; 0 outside the centres of the outermost ones."""
    out = np.empty(sheet.shape, dtype=values.dtype)
    _nearest_on_sheet(values, sheet.starts, sheet.step, out)
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
def _mean_of_sheets(values, starts, step, beside, beyond, out):
    a, b, c = values.shape
    one = np.float32(1)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            total = np.float32(0)
            for n in range(len(beside)):
                x = starts[row, 0] + column * step[0] + beside[n, 0]
                y = starts[row, 1] + column * step[1] + beside[n, 1]
                z = starts[row, 2] + column * step[2] + beside[n, 2]
                if not (0 <= x <= a - 1 and 0 <= y <= b - 1 and 0 <= z <= c - 1):
                    total += beyond
                    continue
                i, j, k = min(int(x), max(a - 2, 0)), min(int(y), max(b - 2, 0)), min(int(z), max(c - 2, 0))
                p, q, r = min(i + 1, a - 1), min(j + 1, b - 1), min(k + 1, c - 1)
                u, v, w = np.float32(x - i), np.float32(y - j), np.float32(z - k)
                near = (one - u) * np.float32(values[i, j, k]) + u * np.float32(values[p, j, k])
                aside = (one - u) * np.float32(values[i, q, k]) + u * np.float32(values[p, q, k])
                above = (one - u) * np.float32(values[i, j, r]) + u * np.float32(values[p, j, r])
                across = (one - u) * np.float32(values[i, q, r]) + u * np.float32(values[p, q, r])
                total += (one - w) * ((one - v) * near + v * aside) + w * ((one - v) * above + v * across)
            out[row, column] = total / np.float32(len(beside))


@njit(nogil=True, cache=True)
def _nearest_on_sheet(values, starts, step, out):
    a, b, c = values.shape
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            x = starts[row, 0] + column * step[0]
            y = starts[row, 1] + column * step[1]
            z = starts[row, 2] + column * step[2]
            inside = 0 <= x <= a - 1 and 0 <= y <= b - 1 and 0 <= z <= c - 1
            out[row, column] = values[int(x + 0.5), int(y + 0.5), int(z + 0.5)] if inside else 0


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
