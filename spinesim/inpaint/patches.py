"""Patches: how large they are, where they lie, and how much each counts where they overlap."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from spinesim.anatomy.boxes import Box

SIDES = 8
"""Sides of patches are multiples of this."""


def patch_shape(spacing_mm: Float[np.ndarray, " 3"], voxels: int) -> tuple[int, int, int]:
    """Sides (multiples of ``SIDES``) of a patch of about so many voxels, as near to a cube in mm as they can be."""
    side_mm = (voxels * float(np.prod(spacing_mm))) ** (1 / 3)
    i, j, k = (int(max(2, round(n / SIDES))) * SIDES for n in side_mm / spacing_mm)
    return i, j, k


def place_patches(mask: Bool[np.ndarray, "i j k"], shape: Sequence[int], overlap: float) -> list[Box]:
    """Lay patches over what a mask covers; those that hold none of it are left out.

    Parameters
    ----------
    mask : (i, j, k) bool array
        No side is shorter than that of a patch.
    shape : sequence of int
        Sides of a patch.
    overlap : float
        Share of a side that neighbours have in common at least, from 0 to below 1.
    """
    found = np.argwhere(mask)
    if not len(found):
        return []
    starts = [
        _starts(int(low), int(high) + 1, side, size, overlap)
        for low, high, side, size in zip(found.min(axis=0), found.max(axis=0), mask.shape, shape, strict=True)
    ]
    boxes: list[Box] = []
    for i, j, k in itertools.product(*starts):
        box = (slice(i, i + shape[0]), slice(j, j + shape[1]), slice(k, k + shape[2]))
        if mask[box].any():
            boxes.append(box)
    return boxes


def _starts(low: int, high: int, side: int, size: int, overlap: float) -> list[int]:
    """First voxels of the patches along an axis that cover what lies from low to high, in the middle of it."""
    step = max(1, int(size * (1 - overlap)))
    count = 1 + max(0, -(-(high - low - size) // step))
    first = (low + high - size - (count - 1) * step) // 2
    return sorted({min(max(0, first + n * step), side - size) for n in range(count)})


def hann(shape: Sequence[int]) -> Float[np.ndarray, "i j k"]:
    """Weights that fall to near 0 at the sides of a patch (a Hann window between its voxels), float32."""
    i, j, k = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in shape)
    return np.maximum(i[:, None, None] * j[:, None] * k, 1e-6).astype(np.float32)
