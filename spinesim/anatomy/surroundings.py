"""What lies outside the patient on a CT: the table and other things that hold still."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.holes import fill_slices
from spinesim.anatomy.sampling import repeat_blocks
from spinesim.anatomy.scan import Volume

COARSE_MM = 3.0
"""Spacing on which body and table are told apart."""

BODY_HU = -400.0
"""Softer than this is no body: between lung and fat."""

MATTER_HU = -850.0
"""Denser than this is no air: foam and sheets count as matter."""

SMALLEST_MM3 = 5_000.0
"""Matter outside the body of less volume than this is noise."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What lies around the patient, on a grid of about 3 mm.

    ``table`` is the table with its mats and rests, ``outside`` all that is not the patient, some millimetres off him;
    ``matter`` is what is denser than air and not him, as near as it can be told from him (``body``).
    """

    table: Bool[np.ndarray, "i j k"]
    outside: Bool[np.ndarray, "i j k"]
    matter: Bool[np.ndarray, "i j k"]
    body: Bool[np.ndarray, "i j k"]
    grid: Grid

    @cached_property
    def touching(self) -> Bool[np.ndarray, "i j k"]:
        """The table with what of it lies nearer to the patient than ``outside`` does."""
        return ndimage.binary_propagation(self.table, np.ones((3, 3, 3)), mask=self.table | self.matter)

    def body_on(self, grid: Grid) -> Bool[np.ndarray, "i j k"]:
        """The patient, with some millimetres around, on the grid of the CT that this was found on."""
        return self.on(grid, ~self.outside)

    def on(self, grid: Grid, values: np.ndarray) -> np.ndarray:
        """Values of this coarse grid at the voxels of the CT that this was found on."""
        step = np.round(self.grid.spacing_mm / grid.spacing_mm).astype(int)
        out = np.empty(grid.shape, values.dtype, order="F")  # in the order in which files lie in memory
        repeat_blocks(values, step, out)
        return out


def find_surroundings(image: Volume) -> Surroundings:
    """Tell the patient from what lies around.

    The body is the largest piece of soft tissue and bone after a morphological opening, which parts it from what it
    lies on. The matter outside it is parted into front and back: the side with more of it holds the table. Either mask
    may be empty (a scan cropped to the spine has neither).
    """
    step = np.maximum(1, np.round(COARSE_MM / image.grid.spacing_mm)).astype(int)
    affine = image.grid.world_from_voxel.copy()
    affine[:3, :3] = affine[:3, :3] * step
    hu = np.ascontiguousarray(image.hu(image.voxels[:: step[0], :: step[1], :: step[2]]))
    grid = Grid(hu.shape, affine)
    body = _body(hu)
    if not body.any():
        return Surroundings(body, body, body, body, grid)
    outside = ~_widened(body, 2)
    return Surroundings(_table(hu, body, outside, grid), outside, (hu > MATTER_HU) & ~body, body, grid)


def _table(hu: np.ndarray, body: np.ndarray, outside: np.ndarray, grid: Grid) -> Bool[np.ndarray, "i j k"]:
    """The larger pieces of matter outside the body, on the side where there is more of it."""
    matter = (hu > MATTER_HU) & outside
    i, j, k = np.ogrid[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
    forward = grid.world_from_voxel[1]
    front = forward[0] * i + forward[1] * j + forward[2] * k + forward[3]
    middle = np.median(front[body])
    table = max((matter & (front < middle), matter & (front >= middle)), key=np.count_nonzero)
    pieces, count = ndimage.label(table, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1) * grid.voxel_volume_mm3
    sizes[0] = 0
    return (sizes >= SMALLEST_MM3)[pieces]


def _body(hu: np.ndarray) -> Bool[np.ndarray, "i j k"]:
    """The patient: the largest piece denser than lung, its hollows filled slice by slice along every axis."""
    solid = _widened(~_widened(~(hu > BODY_HU), 2), 2)
    pieces, count = ndimage.label(solid)
    if count == 0:
        return solid
    body = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    for axis in range(3):
        body |= fill_slices(body, axis)
    return _widened(body, 1)


def _widened(mask: Bool[np.ndarray, "i j k"], steps: int) -> Bool[np.ndarray, "i j k"]:
    """A mask with its neighbours face to face, and theirs: by whole slices, many times as fast as ndimage does it."""
    for _ in range(steps):
        wide = mask.copy()
        for axis in range(3):
            old, new = np.moveaxis(mask, axis, 0), np.moveaxis(wide, axis, 0)
            new[1:] |= old[:-1]
            new[:-1] |= old[1:]
        mask = wide
    return mask
