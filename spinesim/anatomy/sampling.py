"""Compiled look-up of numbers on another lattice."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
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


def load_kernels() -> None:
    """Load the compiled look-up from its cache: the first of a process takes a quarter of a second."""
    sample_block(np.zeros((2, 2, 2), dtype=np.float32), np.eye(4), (1, 1, 1), 0.0)


@njit(nogil=True, cache=True)
def _sample(values, m, beyond, out):
    """Fill ``out``; serial and without Python's lock, for callers have a bone a thread."""
    ni, nj, nk = values.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                x = m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]
                y = m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]
                z = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
                if x < 0 or y < 0 or z < 0 or x > ni - 1 or y > nj - 1 or z > nk - 1:
                    out[i, j, k] = beyond
                    continue
                a, b, c = min(int(x), ni - 2), min(int(y), nj - 2), min(int(z), nk - 2)
                u, v, w = np.float32(x - a), np.float32(y - b), np.float32(z - c)
                one = np.float32(1)
                near = (values[a, b, c] * (one - w) + values[a, b, c + 1] * w) * (one - v) + (
                    values[a, b + 1, c] * (one - w) + values[a, b + 1, c + 1] * w
                ) * v
                far = (values[a + 1, b, c] * (one - w) + values[a + 1, b, c + 1] * w) * (one - v) + (
                    values[a + 1, b + 1, c] * (one - w) + values[a + 1, b + 1, c + 1] * w
                ) * v
                out[i, j, k] = near * (one - u) + far * u


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
