"""What is painted meets what is known at the rim: kriging of the difference, which fades within some millimetres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit, prange
from scipy import ndimage

from spinesim.anatomy.boxes import bounding_boxes, padded

RIM_VOXELS = 2
"""Width of the rim on which known and painted are compared: the precision of the correlation reaches so far."""

LENGTH_MM = 2.0
"""The correlation of what a network misses falls to 1/e over this length (chosen on scans of its training)."""

ENOUGH, MOST = 1e-3, 400
"""Conjugate gradients stop when so much of the residual is left, and after so many steps."""


def find_rim(mask: Bool[np.ndarray, "i j k"], known: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """What is known within ``RIM_VOXELS`` of a mask."""
    return ndimage.binary_dilation(mask, iterations=RIM_VOXELS) & ~mask & known


def krige(
    values: Float[np.ndarray, "i j k"],
    rim: Bool[np.ndarray, "i j k"],
    mask: Bool[np.ndarray, "i j k"],
    spacing_mm: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, "i j k"]:
    r"""Expect, inside a mask, a stationary random field that is known on its rim.

    Its correlation is exponential, :math:`e^{-r/\ell}` with :math:`\ell` = ``LENGTH_MM``: then the precision is
    :math:`Q = (\ell^{-2} - \Delta)^2` and couples voxels at most two steps apart. The expectation u solves
    :math:`Q u = 0` in the mask; far from the rim it fades to 0.

    A painted volume that does not meet what is known becomes a draw that does, when the expectation of the difference
    is added to it (conditioning by kriging; Journel and Huijbregts 1978).

    Parameters
    ----------
    values : (i, j, k) float32 array
        The field; only that on the rim counts.
    rim : (i, j, k) bool array
        Where it is known, outside the mask.
    mask : (i, j, k) bool array
        Where it is expected.
    spacing_mm : (3,) array
        Of the voxels.

    Returns
    -------
    (i, j, k) float32 array
        0 outside the mask.

    References
    ----------
    Lindgren F, Rue H, Lindstrom J (2011). An explicit link between Gaussian fields and Gaussian Markov random fields.
    J R Stat Soc B 73:423-498.
    """
    out = np.zeros(values.shape, dtype=np.float32)
    if not rim.any():
        return out
    box = padded(bounding_boxes(mask.view(np.uint8))[1], mask.shape, np.full(3, 2 * RIM_VOXELS))
    free = ndimage.binary_dilation(mask[box], iterations=RIM_VOXELS) & ~rim[box]
    known = np.where(rim[box], values[box], np.float32(0)).astype(np.float32)
    i, j, k = (float(each) for each in LENGTH_MM**2 / spacing_mm**2)
    found = _solve(known, free, (i, j, k), ENOUGH, MOST)
    out[box] = np.where(mask[box], found, np.float32(0))
    return out


@njit(parallel=True, cache=True)
def _roughen(x, weights, out):
    """Apply 1 - l² Laplace to a volume that ends even."""
    a, b, c = x.shape
    for i in prange(a):
        for j in range(b):
            for k in range(c):
                here = x[i, j, k]
                total = here
                if i > 0:
                    total += weights[0] * (here - x[i - 1, j, k])
                if i + 1 < a:
                    total += weights[0] * (here - x[i + 1, j, k])
                if j > 0:
                    total += weights[1] * (here - x[i, j - 1, k])
                if j + 1 < b:
                    total += weights[1] * (here - x[i, j + 1, k])
                if k > 0:
                    total += weights[2] * (here - x[i, j, k - 1])
                if k + 1 < c:
                    total += weights[2] * (here - x[i, j, k + 1])
                out[i, j, k] = total


@njit(parallel=True, cache=True)
def _product(one, other, free, sums):
    """Sum of products where voxels are free: of each layer, so that it does not depend on the threads."""
    for i in prange(one.shape[0]):
        total = 0.0
        for j in range(one.shape[1]):
            for k in range(one.shape[2]):
                if free[i, j, k]:
                    total += one[i, j, k] * other[i, j, k]
        sums[i] = total
    return sums.sum()


@njit(parallel=True, cache=True)
def _add(share, more, free, out):
    """Add a share of something where voxels are free."""
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                if free[i, j, k]:
                    out[i, j, k] += share * more[i, j, k]


@njit(parallel=True, cache=True)
def _turn(left, share, step):
    """The next step: what is left, and a share of the last step."""
    for i in prange(step.shape[0]):
        for j in range(step.shape[1]):
            for k in range(step.shape[2]):
                step[i, j, k] = left[i, j, k] + share * step[i, j, k]


def _solve(
    known: Float[np.ndarray, "i j k"],
    free: Bool[np.ndarray, "i j k"],
    weights: tuple[float, float, float],
    enough: float,
    most: int,
) -> Float[np.ndarray, "i j k"]:
    """Conjugate gradients for Q u = 0 where voxels are free, and u is known elsewhere."""
    found, half, turned = known.copy(), np.empty_like(known), np.empty_like(known)
    sums = np.empty(len(known))
    _roughen(known, weights, half)
    _roughen(half, weights, turned)
    left = np.where(free, -turned, np.float32(0))
    step, size = left.copy(), _product(left, left, free, sums)
    last = enough**2 * size
    for _ in range(most):
        if size <= last:
            break
        _roughen(step, weights, half)
        _roughen(half, weights, turned)
        length = size / _product(step, turned, free, sums)
        _add(length, step, free, found)
        _add(-length, turned, free, left)
        before, size = size, _product(left, left, free, sums)
        _turn(left, size / before, step)
    return found
