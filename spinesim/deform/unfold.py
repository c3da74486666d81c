"""Smooth a field where it folds, and nowhere else."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.deform.field import Field, determinants

LEAST_JACOBIAN = 0.05
"""Cells whose smallest Jacobian determinant is below this are smoothed."""

ROUNDS = 60
"""Rounds of smoothing before giving up."""


def unfold(field: Field) -> tuple[Field, int]:
    """Smooth a field around the cells that fold until none does.

    Where two rigid bones touch and slide (facet joints), the layer in which one motion gives way to the other can be
    thinner than a cell, and the trilinear field folds there although the flow does not. Nodes around such cells are
    drawn towards the mean of their neighbours; every ten rounds without success the neighbourhood grows by a cell.

    Returns
    -------
    Field
        The mended field.
    int
        Nodes that were changed.
    """
    low = field.determinants[0]
    if low.min() >= LEAST_JACOBIAN:
        return field, 0
    low = low.copy()
    displacement = field.displacement.copy()
    changed = np.zeros(field.grid.shape, dtype=bool)
    for number in range(ROUNDS):
        bad = np.argwhere(low < LEAST_JACOBIAN)
        if len(bad) == 0:
            break
        reach = 2 + number // 10
        box = tuple(
            slice(max(a - reach - 3, 0), min(b + reach + 5, n))
            for a, b, n in zip(bad.min(axis=0), bad.max(axis=0), field.grid.shape, strict=True)
        )
        cells = tuple(slice(side.start, side.stop - 1) for side in box)
        nodes = _around(low[cells] < LEAST_JACOBIAN, reach)
        _relax(displacement[box], nodes)
        changed[box] |= nodes
        low[cells] = determinants(displacement[box], field.grid)[0]
    return Field(displacement, field.grid), int(changed.sum())


def _around(cells: Bool[np.ndarray, "a b c"], reach: int) -> Bool[np.ndarray, "i j k"]:
    """Nodes within some steps of marked cells."""
    nodes = np.pad(cells, (0, 1))
    for axis in range(3):
        nodes = nodes | np.roll(nodes, 1, axis=axis)
    return ndimage.binary_dilation(nodes, iterations=reach - 1)


def _relax(displacement: Float[np.ndarray, "i j k 3"], nodes: Bool[np.ndarray, "i j k"]) -> None:
    """Move the displacement of some nodes half-way to the mean of their six neighbours, in place."""
    kernel = ndimage.generate_binary_structure(3, 1).astype(np.float32) / 6
    kernel[1, 1, 1] = 0
    for part in range(3):
        mean = ndimage.convolve(displacement[..., part], kernel, mode="nearest")
        values = displacement[..., part]
        values[nodes] += 0.5 * (mean[nodes] - values[nodes])
