"""The scanner's table under a trunk that bends: the field carries it along, but it stands where it stood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import Volume, read_only
from spinesim.anatomy.surroundings import Surroundings
from spinesim.deform.field import Field
from spinesim.deform.kernels import sample_nearest


class Spot(IntEnum):
    """What a voxel of the result has to do with the table."""

    NOTHING = 0
    PATIENT = 1
    TABLE = 2
    """The field would bring the table here: it is air."""
    STANDING = 3
    """The table stands here, and no patient."""


@dataclass(frozen=True, eq=False)
class StandingTable:
    """A table that stays while the field carries all of its scan along.

    Parameters
    ----------
    around : Surroundings
        The table and the patient in the scan.
    image : Volume
        The CT of the scan.
    field : Field
        Where the voxels of the result come from.
    output : Grid
        Grid of the result.
    """

    around: Surroundings
    image: Volume
    field: Field
    output: Grid

    @cached_property
    def spots(self) -> UInt8[np.ndarray, "i j k"]:
        """What each voxel of the result has to do with the table (numbers of ``Spot``); read-only.

        The patient's mask reaches beyond his skin: where that meets the standing table, the denser of the two is there.
        """
        spots = np.zeros(self.output.shape, dtype=np.uint8, order="F")
        voxel = np.ascontiguousarray(self.image.grid.voxel_from_world[:3])
        kept = np.array([False, True, True])
        sample_nearest(self._at_rest, kept, self.field.displacement, *self.field.lookup(self.output), voxel, spots)
        stands = _looked_up(self._at_rest, self.image.grid, self.output, order=0, mode="grid-constant") == Spot.TABLE
        both = np.argwhere(stands & (spots == Spot.PATIENT))
        skin = self._nearest(self.field.sources(self.output, both))
        table = self._nearest(self.output.to_world(both.astype(float)))
        stands[tuple(both[skin >= table].T)] = False
        spots[stands] = Spot.STANDING
        return read_only(spots)

    def _nearest(self, points: Float[np.ndarray, "n 3"]) -> np.ndarray:
        """The scan's stored numbers at world points."""
        grid = self.image.grid
        voxels = np.clip(np.round(grid.to_voxel(points)).astype(int), 0, np.array(grid.shape) - 1)
        return self.image.voxels[tuple(voxels.T)]

    @cached_property
    def _at_rest(self) -> UInt8[np.ndarray, "i j k"]:
        """The patient and the table, with some millimetres around, in the scan."""
        wide = ndimage.binary_dilation(self.around.touching, iterations=2) & ~self.around.body
        spots = np.where(wide, Spot.TABLE, np.where(self.around.body, Spot.PATIENT, Spot.NOTHING))
        return self.around.on(self.image.grid, spots.astype(np.uint8))

    @property
    def touched(self) -> Bool[np.ndarray, "i j k"]:
        """Voxels of the result that do not hold what the field brings, or mix it with the air beside."""
        carried = ndimage.binary_dilation(self.spots == Spot.TABLE, np.ones((3, 3, 3)))
        return (self.spots == Spot.STANDING) | (carried & (self.spots != Spot.PATIENT))

    def taken_away(self) -> Volume:
        """The scan's CT with air in the place of the table."""
        voxels = self.image.voxels.copy(order="K")
        voxels[self._at_rest == Spot.TABLE] = self.image.air
        return replace(self.image, voxels=voxels)

    def put_back(self, warped: Volume) -> Volume:
        """The warped CT with the table of the scan's CT where it stood."""
        stands = self.spots == Spot.STANDING
        voxels = warped.voxels.copy(order="K")
        voxels[stands] = _looked_up(self.image.voxels, self.image.grid, self.output, order=1, mode="nearest")[stands]
        return replace(warped, voxels=voxels)


def _looked_up(
    values: np.ndarray, source: Grid, output: Grid, order: int, mode: Literal["grid-constant", "nearest"]
) -> np.ndarray:
    """Numbers of a grid on another one: 0 beyond its voxels, or the nearest."""
    if source.matches(output):
        return values
    there = source.voxel_from_world @ output.world_from_voxel
    return ndimage.affine_transform(values, there[:3, :3], there[:3, 3], output.shape, order=order, mode=mode)
