"""One bone of a label map as a smooth solid that can be sampled anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.columns import find_ends, seen_along
from spinesim.anatomy.distances import distance_to
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.sampling import sample_block

SMOOTHING_MM = 1.2
"""Width (standard deviation) of the Gaussian that rounds the voxel staircase off."""

MARGIN_MM = 6.0
"""Room around the bone, so that the smoothed solid fades out inside its box."""


COARSE_MM = 2.0
"""Spacing on which the deepest part of a bone is looked for."""


@dataclass(frozen=True, eq=False)
class Silhouette:
    """A bone's mask cut out of its label map, and its smoothed occupancy (0 to 1; its surface lies at 0.5)."""

    mask: Bool[np.ndarray, "i j k"]
    occupancy: Float[np.ndarray, "i j k"]
    grid: Grid
    cut: bool

    def sample(
        self, world_from_lattice: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]
    ) -> Float[np.ndarray, "n m h"]:
        """Occupancy on a lattice placed in the world (trilinear; 0 outside the box)."""
        here = self.grid.voxel_from_world @ world_from_lattice
        return sample_block(self.occupancy, here, shape, 0.0)

    def seen(
        self, world_from_lattice: Float[np.ndarray, "4 4"], shape: tuple[int, int, int]
    ) -> Bool[np.ndarray, "n m"]:
        """Shadow of the bone along the third axis of a lattice placed in the world."""
        return seen_along(self.occupancy, self.grid.voxel_from_world @ world_from_lattice, shape)

    def ends(
        self,
        world_from_lattice: Float[np.ndarray, "4 4"],
        within: Bool[np.ndarray, "n m"],
        heights: Float[np.ndarray, " h"],
    ) -> Float[np.ndarray, "2 n m"]:
        """Heights at which columns of a lattice enter the bone from above and from below; see :func:`find_ends`."""
        return find_ends(self.occupancy, self.grid.voxel_from_world @ world_from_lattice, within, heights)

    def voxel_centres(self) -> Float[np.ndarray, "n 3"]:
        """World positions of the voxels of the bone."""
        return self.grid.to_world(np.argwhere(self.mask).astype(float))

    def line_ends(self) -> Float[np.ndarray, "n 3"]:
        """World positions of voxels at which the bone begins or ends along the last axis: all corners of its hull."""
        inner = np.zeros_like(self.mask)
        inner[:, :, 1:-1] = self.mask[:, :, :-2] & self.mask[:, :, 2:]
        return self.grid.to_world(np.argwhere(self.mask & ~inner).astype(float))

    def centroid(self) -> Float[np.ndarray, " 3"]:
        """Mean position (world) of the voxels of the bone."""
        counts = [self.mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        index = [np.arange(len(count)) @ count / count.sum() for count in counts]
        return self.grid.to_world(np.array([index]))[0]

    def volume_mm3(self) -> float:
        """Volume of the bone."""
        return float(np.count_nonzero(self.mask)) * self.grid.voxel_volume_mm3

    def deepest_part(self) -> Float[np.ndarray, " 3"]:
        """Centre (world) of what lies far from the bone's surface, found on a lattice of about 2 mm."""
        step = np.maximum(1, np.round(COARSE_MM / self.grid.spacing_mm)).astype(int)
        coarse = self.mask[:: step[0], :: step[1], :: step[2]]
        if not coarse.any():  # a crumb that the lattice missed
            step, coarse = np.ones(3, int), self.mask
        depth = np.nan_to_num(distance_to(~coarse, self.grid.spacing_mm * step), posinf=1.0)  # nothing but bone
        return self.grid.to_world(np.argwhere(depth > 0.75 * depth.max()) * step.astype(float)).mean(axis=0)


def cut_out(voxels: np.ndarray, number: int, box: Box, grid: Grid) -> Silhouette:
    """Cut one label number out of a label map, with a margin, and smooth it.

    ``box`` is the number's bounding box. Beyond the edge of the volume the bone is taken to go on as it was there.
    """
    margin = np.ceil(MARGIN_MM / grid.spacing_mm).astype(int)
    start = np.array([side.start for side in box]) - margin
    stop = np.array([side.stop for side in box]) + margin
    inside = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(start, stop, grid.shape, strict=True))
    mask = np.pad(
        voxels[inside] == number,
        [(s.start - a, b - s.stop) for s, a, b in zip(inside, start, stop, strict=True)],
        mode="edge",
    )
    occupancy = ndimage.gaussian_filter(mask.astype(np.float32), SMOOTHING_MM / grid.spacing_mm, truncate=3.0)
    cut = any(side.start == 0 or side.stop == n for side, n in zip(box, grid.shape, strict=True))
    return Silhouette(mask, occupancy, grid.cropped(tuple(start), tuple(stop)), cut)
