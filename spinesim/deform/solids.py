"""The bones of a label map as solids that can be carried anywhere, their surface between voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.resampling import cut_depth
from spinesim.anatomy.sampling import sample_block, sample_places
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.threads import map_threads

BEYOND_MM = -10.0
"""Depth that counts outside a bone's block."""


LAYER_SHARE = 0.005
"""A layer at one depth is divided when leaving it out would miss a bone's volume by more than this share."""


@dataclass(frozen=True, eq=False)
class Solid:
    """A bone as a signed distance (mm, positive inside) on its own block of voxels.

    ``pieces`` counts those that hang together by faces, and by faces, edges or corners; ``cut`` tells a bone that
    reaches the edge of the volume.
    """

    depth: Float[np.ndarray, "i j k"]
    grid: Grid
    pieces: tuple[int, int]
    volume_mm3: float
    cut: bool

    def at(
        self, points: Float[np.ndarray, "n 3"], motion: Float[np.ndarray, "4 4"] | None = None
    ) -> Float[np.ndarray, " n"]:
        """Depth at world points, or where a motion takes them."""
        voxel = self.grid.voxel_from_world if motion is None else self.grid.voxel_from_world @ motion
        return sample_places(self.depth, voxel, points, BEYOND_MM)

    def carried(self, motion: Float[np.ndarray, "4 4"], output: Grid, box: Box) -> Float[np.ndarray, "a b c"]:
        """Depth (at rest) at the voxels of a box of an output grid when the bone moves as one (``new_from_old``)."""
        i, j, k = (side.stop - side.start for side in box)
        if 0 in (i, j, k):
            return np.empty((i, j, k), dtype=np.float32)
        here = output.inside(box)
        rest_from_output = self.grid.voxel_from_world @ np.linalg.inv(motion) @ here.world_from_voxel
        return sample_block(self.depth, rest_from_output, (i, j, k), BEYOND_MM)

    def filled(self, depth: Float[np.ndarray, "a b c"], output: Grid, growth: float = 1.0) -> Bool[np.ndarray, "a b c"]:
        """Voxels of a box that lie in the bone, as many as its volume, ``growth`` times what it was, asks for.

        Where a whole layer lies at the depth of the cut (an end plate along the axes of the grid), those of it that are
        deepest among their neighbours make the number up.
        """
        wanted = round(self.volume_mm3 * growth / output.voxel_volume_mm3)
        level = self._level_of(depth, wanted)
        mask = depth > level
        lacking, layer = wanted - np.count_nonzero(mask), np.flatnonzero(depth == level)
        if not self.cut and lacking > LAYER_SHARE * wanted:
            around = ndimage.uniform_filter(depth, 3).ravel()[layer]
            mask.ravel()[layer[np.argsort(-around, kind="stable")[:lacking]]] = True
        return mask

    def level_of_equal_volume(
        self, depth: np.ndarray, output: Grid, density: Float[np.ndarray, " n"] | None = None
    ) -> float:
        """Depth at which to cut a bone's surface so that it keeps its volume: interpolation rounds thin parts off.

        Of a bone that is compressed, ``density`` tells how many times at each voxel: it keeps what it had at rest.
        Never farther from 0 than a quarter voxel; 0 for a bone that lies partly beyond the edge.
        """
        wanted = round(self.volume_mm3 / output.voxel_volume_mm3)
        if density is not None:
            deepest = np.argsort(-depth, kind="stable")
            wanted = int(np.searchsorted(np.cumsum(density[deepest]), wanted))
        return self._level_of(depth, wanted)

    def _level_of(self, depth: np.ndarray, wanted: int) -> float:
        """Depth that so many voxels exceed, near the surface."""
        if self.cut or wanted >= depth.size:
            return 0.0
        level = float(np.partition(depth, depth.size - wanted - 1, axis=None)[depth.size - wanted - 1])
        slack = 0.25 * float(self.grid.spacing_mm.min())
        return float(np.clip(level, -slack, slack))


def build_solids(labels: LabelMap) -> Mapping[int, Solid]:
    """Make every bone of a label map a solid, by its number."""
    numbers = list(labels.numbers.values())
    return dict(zip(numbers, map_threads(lambda number: _solid(labels, number), numbers), strict=True))


def _solid(labels: LabelMap, number: int) -> Solid:
    """Cut a bone out and measure the depth of its voxels; its surface lies half-way between voxels."""
    mask, depth, grid = cut_depth(labels, number)
    box = labels.boxes[number]
    cut = any(side.start == 0 or side.stop == n for side, n in zip(box, labels.grid.shape, strict=True))
    volume = float(np.count_nonzero(mask)) * labels.grid.voxel_volume_mm3
    return Solid(depth, grid, count_pieces(mask), volume, cut)


def count_pieces(mask: Bool[np.ndarray, "i j k"]) -> tuple[int, int]:
    """Number of pieces of a mask that hang together by faces, and by faces, edges or corners."""
    by_faces = ndimage.label(mask)[1]
    return by_faces, by_faces if by_faces < 2 else ndimage.label(mask, structure=np.ones((3, 3, 3)))[1]
