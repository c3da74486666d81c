"""Motions that also stretch: taken apart into a stretch at rest and a turn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

RIGID = 1e-9
"""A matrix that differs from a rotation by less stretches nothing."""


def split_stretch(
    matrices: Float[np.ndarray, "*n 3 3"],
) -> tuple[Float[np.ndarray, "*n 3 3"], Float[np.ndarray, "*n 3 3"] | None]:
    """Split linear maps into turns and stretches, ``matrix = turn @ stretch``, the stretch symmetric.

    The right polar decomposition, which is unique where the determinant is positive. Of rotations the stretch is None,
    and the turns are the very matrices that came.
    """
    if np.abs(np.swapaxes(matrices, -1, -2) @ matrices - np.eye(3)).max() < RIGID:
        return matrices, None
    u, sizes, vt = np.linalg.svd(matrices)
    return u @ vt, np.swapaxes(vt, -1, -2) @ (sizes[..., None] * vt)


def stretch_along(axes: Float[np.ndarray, "3 3"], factors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Stretches along three unit axes (columns)."""
    return axes @ (factors[..., None] * axes.T)
