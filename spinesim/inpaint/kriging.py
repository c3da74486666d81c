"""What is painted meets what is known at the rim: kriging of the difference, which fades within some millimetres."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit
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


@njit(cache=True)
def _roughen(x, weights, out):
    """Apply 1 - l² Laplace to a volume that ends even."""
    a, b, c = x.shape
    for i in range(a):
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


@njit(cache=True)
def _solve(known, free, weights, enough, most):
    """Conjugate gradients for Q u = 0 where voxels are free, and u is known elsewhere."""
    found, half, turned, left = known.copy(), known.copy(), known.copy(), known.copy()
    _roughen(known, weights, half)
    _roughen(half, weights, turned)
    size = 0.0
    for n in range(known.size):
        left.flat[n] = -turned.flat[n] if free.flat[n] else 0.0
        size += left.flat[n] ** 2
    step, last = left.copy(), enough**2 * size
    for _ in range(most):
        if size <= last:
            break
        _roughen(step, weights, half)
        _roughen(half, weights, turned)
        along = 0.0
        for n in range(known.size):
            if free.flat[n]:
                along += step.flat[n] * turned.flat[n]
        length, before, size = size / along, size, 0.0
        for n in range(known.size):
            if free.flat[n]:
                found.flat[n] += length * step.flat[n]
                left.flat[n] -= length * turned.flat[n]
                size += left.flat[n] ** 2
        for n in range(known.size):
            step.flat[n] = left.flat[n] + size / before * step.flat[n]
    return found
