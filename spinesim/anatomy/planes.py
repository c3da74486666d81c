"""Planes through points, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

FITS = 6
"""Fits of a plane, each with the weights that the last one gives."""

FLAT = 1e-12
"""Points lie in one line where the product of their spreads is a smaller part of the square of their sum."""


@njit(nogil=True, cache=True)
def fit_plane(x, y, z, tolerance):
    """Lay a plane through points by least squares reweighted after Tukey: what is off by ``tolerance`` does not count.

    Returns its height at the origin and its slopes along x and y; level where all points lie in one line (as before
    where those that still count do).

    References
    ----------
    Beaton AE, Tukey JW (1974). The fitting of power series, meaning polynomials. Technometrics 16:147-185.
    """
    height, across, along = 0.0, 0.0, 0.0
    weights = np.ones(len(z))
    for _ in range(FITS):
        total = weights.sum()
        if total == 0.0:
            break
        mean_x, mean_y, mean_z = (weights * x).sum() / total, (weights * y).sum() / total, (weights * z).sum() / total
        p, q, r = x - mean_x, y - mean_y, z - mean_z
        xx, xy, yy = (weights * p * p).sum(), (weights * p * q).sum(), (weights * q * q).sum()
        xz, yz = (weights * p * r).sum(), (weights * q * r).sum()
        area = xx * yy - xy * xy
        if area > FLAT * (xx + yy) ** 2:
            across, along = (yy * xz - xy * yz) / area, (xx * yz - xy * xz) / area
        height = mean_z - across * mean_x - along * mean_y
        weights = np.maximum(1 - ((z - height - across * x - along * y) / tolerance) ** 2, 0.0) ** 2
    return height, across, along
