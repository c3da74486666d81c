"""Label maps on another grid, each structure's surface drawn between voxels."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.distances import signed_depth
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.sampling import sample_block
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.threads import map_threads
from spinesim.errors import LabelError, ScanWarning

MARGIN = 2
"""Voxels around a structure in which the distance to it is known."""


def cut_depth(labels: LabelMap, number: int) -> tuple[Bool[np.ndarray, "i j k"], Float[np.ndarray, "i j k"], Grid]:
    """Cut a structure out with a margin: its mask, the depth of its voxels, and their grid."""
    box = labels.boxes[number]
    start, stop = np.array([[side.start - MARGIN, side.stop + MARGIN] for side in box]).T
    mask = np.pad(labels.voxels[box] == number, MARGIN)
    depth = signed_depth(mask, labels.grid.spacing_mm).astype(np.float32, order="C")
    return mask, depth, labels.grid.cropped(tuple(start), tuple(stop))


def resample_labels(labels: LabelMap, grid: Grid) -> LabelMap:
    """Draw labels on another grid, by the distance to each one's surface (Raya & Udupa 1990); 0 outside.

    Nearest neighbours would draw the steps of thick slices anew and turn end plates by it.

    Raises
    ------
    LabelError
        When no level lies inside the other grid.

    Warns
    -----
    ScanWarning
        When some labels lie outside.
    """
    voxels = np.zeros(grid.shape, labels.voxels.dtype, order="F")
    deepest = np.zeros(grid.shape, np.float32, order="F")
    drawn = map_threads(lambda number: _redraw(labels, number, grid), labels.present)
    for number, (box, depth) in zip(labels.present, drawn, strict=True):
        owned = depth > deepest[box]
        voxels[box][owned] = number
        deepest[box][owned] = depth[owned]
    moved = labels.with_voxels(voxels, grid)
    if not moved.numbers:
        raise LabelError(
            f"{labels.source}: expected vertebrae inside the image ({grid.describe()}), got none there; "
            "check that the two belong together"
        )
    if lost := sorted(set(labels.present) - set(moved.present)):
        warnings.warn(
            f"{labels.source}: expected every label inside the image, got {lost} outside; they are left out",
            ScanWarning,
            stacklevel=3,
        )
    return moved


def _redraw(labels: LabelMap, number: int, grid: Grid) -> tuple[Box, Float[np.ndarray, "a b c"]]:
    """Depth in one structure at the voxels of the part of another grid that it can reach."""
    _, depth, block = cut_depth(labels, number)
    reached = grid.to_voxel(block.corners())
    low = np.clip(np.floor(reached.min(axis=0)), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(reached.max(axis=0)) + 1, low, grid.shape).astype(int)
    into: Box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    shape = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    if 0 in shape:
        return into, np.empty(shape, np.float32)
    there = block.voxel_from_world @ grid.cropped(tuple(low), tuple(high)).world_from_voxel
    beyond = -float(labels.grid.spacing_mm.max())
    return into, sample_block(depth, there, shape, beyond)
