"""A scan: a CT, a label map, or both, on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from spinesim.anatomy.boxes import Box, bounding_boxes
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.errors import GeometryError, LabelError

AIR_HU = -1000.0


@dataclass(frozen=True)
class Storage:
    """How a volume lies in its file, so that what comes out is stored as what came in.

    ``dtype`` is the numpy name of the type in the file; ``spatial_units`` and ``time_units`` are the NIfTI codes
    (2 is mm, 8 is s).
    """

    dtype: str
    qform_code: int = 1
    sform_code: int = 1
    spatial_units: int = 2
    description: str = ""
    time_units: int = 0


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT: stored numbers, with HU = slope * stored + intercept.

    ``voxels`` is (i, j, k) in the file's own order and type, read-only; ``source`` names the file for messages.
    """

    voxels: np.ndarray
    grid: Grid
    slope: float = 1.0
    intercept: float = 0.0
    storage: Storage = field(default_factory=lambda: Storage("int16"))
    source: str = "image"

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise GeometryError(f"{self.source}: expected {self.grid.shape} voxels, got {self.voxels.shape}")
        object.__setattr__(self, "voxels", read_only(self.voxels))

    def hu(self, voxels: np.ndarray | None = None) -> np.ndarray:
        """Give Hounsfield units (float32) of the whole volume or of a piece of its stored numbers."""
        stored = self.voxels if voxels is None else voxels
        return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)

    def stored(self, hu: np.ndarray) -> np.ndarray:
        """Give the numbers that stand for HU values in this file, kept inside the range of its type."""
        value = (np.asarray(hu, dtype=float) - self.intercept) / self.slope
        if np.issubdtype(self.voxels.dtype, np.integer):
            limits = np.iinfo(self.voxels.dtype)
            return np.clip(np.round(value), limits.min, limits.max)
        return value

    @cached_property
    def air(self) -> float:
        """The stored number for air: -1000 HU, or the smallest value of a volume that never gets so low."""
        return max(float(self.stored(np.array(AIR_HU))), float(self.voxels.min()))


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map in the file's own numbers, and what those numbers mean.

    ``levels`` maps the numbers that are vertebrae (or the sacrum) to levels; other numbers (ribs, organs) are
    carried along. ``voxels`` is an unsigned integer array, (i, j, k), read-only.
    """

    voxels: np.ndarray
    grid: Grid
    levels: Mapping[int, Level]
    scheme: str = "verse"
    storage: Storage = field(default_factory=lambda: Storage("uint8"))
    source: str = "labels"

    def __post_init__(self) -> None:
        if self.voxels.shape != self.grid.shape:
            raise GeometryError(f"{self.source}: expected {self.grid.shape} voxels, got {self.voxels.shape}")
        if not np.issubdtype(self.voxels.dtype, np.unsignedinteger):
            raise LabelError(f"{self.source}: expected whole label numbers from 0, got type {self.voxels.dtype}")
        object.__setattr__(self, "voxels", read_only(self.voxels))
        object.__setattr__(self, "levels", MappingProxyType(dict(self.levels)))

    @cached_property
    def boxes(self) -> Mapping[int, Box]:
        """The bounding box of each number that has at least one voxel, in rising order, without 0."""
        return MappingProxyType(bounding_boxes(self.voxels))

    @property
    def present(self) -> tuple[int, ...]:
        """The numbers that have at least one voxel, in rising order, without 0."""
        return tuple(self.boxes)

    @cached_property
    def numbers(self) -> Mapping[Level, int]:
        """The number of each level that is present, from the head down."""
        found = {self.levels[n]: n for n in self.present if n in self.levels}
        return MappingProxyType(dict(sorted(found.items())))

    def with_voxels(self, voxels: np.ndarray, grid: Grid | None = None) -> LabelMap:
        """Put other voxels under the same meaning."""
        return replace(self, voxels=voxels, grid=grid or self.grid)


@dataclass(frozen=True, eq=False)
class Scan:
    """A label map and, where there is one, the CT that it was drawn on; both on one grid."""

    labels: LabelMap
    image: Volume | None = None

    def __post_init__(self) -> None:
        if self.image is not None and not self.image.grid.matches(self.labels.grid):
            raise GeometryError(
                f"{self.labels.source}: expected the grid of {self.image.source} ({self.image.grid.describe()}), "
                f"got {self.labels.grid.describe()}; resample one to the other, or pass --resample-labels"
            )

    @property
    def grid(self) -> Grid:
        """The grid that image and labels share."""
        return self.labels.grid


def read_only(array: np.ndarray) -> np.ndarray:
    """Give a view of an array that cannot be written through."""
    view = array.view()
    view.setflags(write=False)
    return view
