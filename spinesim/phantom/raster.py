"""The grid as three axes, and boxes of voxels in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.grid import Grid


@dataclass(frozen=True, eq=False)
class Axes:
    """World coordinates of the voxel middles along each axis (RAS, millimetres), float32, rising."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Box | None:
        """Voxels inside a world box, or None where it misses the grid."""
        i, j, k = (
            slice(*(int(end) for end in np.searchsorted(axis, ends)))
            for axis, ends in zip((self.x, self.y, self.z), zip(low, high, strict=True), strict=True)
        )
        return None if any(part.stop <= part.start for part in (i, j, k)) else (i, j, k)

    def open(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates of a box, shaped to broadcast against each other."""
        return self.x[box[0], None, None], self.y[None, box[1], None], self.z[None, None, box[2]]

    def scaled(self, factor: float) -> Axes:
        """Give the axes of a grid that is so many times as large, about the origin."""
        return Axes(*(axis * np.float32(factor) for axis in (self.x, self.y, self.z)))

    def slab(self, k: slice) -> Axes:
        """Give the axes of some of its slices."""
        return Axes(self.x, self.y, self.z[k])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        return len(self.x), len(self.y), len(self.z)


def axes_of(grid: Grid) -> Axes:
    """Give the axes of a grid whose voxel axes are the world's."""
    start, step = grid.world_from_voxel[:3, 3], grid.spacing_mm
    x, y, z = ((start[n] + step[n] * np.arange(grid.shape[n])).astype(np.float32) for n in range(3))
    return Axes(x, y, z)
