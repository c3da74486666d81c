"""A lattice of voxel centres placed in the world (RAS, millimetres)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.boxes import Box
from spinesim.errors import GeometryError

SHEAR_LIMIT = 1e-3
"""Largest cosine between two voxel axes that still counts as a right angle."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxel centres placed in the world.

    Parameters
    ----------
    shape : (3,) tuple of int
        Number of voxels along i, j and k.
    world_from_voxel : (4, 4) array
        Affine from voxel indices to RAS millimetres, as nibabel gives it. Any orientation,
        obliquity or handedness; no shear.

    Raises
    ------
    GeometryError
        When an axis has no voxel, or the affine is not finite, not invertible or sheared.
    """

    shape: tuple[int, int, int]
    world_from_voxel: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        affine = np.array(self.world_from_voxel, dtype=float)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(
                f"grid: expected three axes with at least one voxel each, got shape {tuple(self.shape)}; "
                "mend the header"
            )
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("grid: expected a finite 4x4 affine, got NaN or infinity in it; mend the header")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError("grid: expected an invertible affine, got determinant 0; mend the header")
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        shear = np.abs(axes.T @ axes - np.eye(3)).max()
        if shear > SHEAR_LIMIT:
            raise GeometryError(
                f"grid: expected voxel axes at right angles, got a shear of {shear:.3f}; "
                "resample the scan to a grid without shear"
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "world_from_voxel", affine)

    @cached_property
    def voxel_from_world(self) -> Float[np.ndarray, "4 4"]:
        """Affine from RAS millimetres to voxel indices."""
        return np.linalg.inv(self.world_from_voxel)

    @cached_property
    def spacing_mm(self) -> Float[np.ndarray, " 3"]:
        """Distance between neighbouring voxel centres along i, j and k."""
        return np.linalg.norm(self.world_from_voxel[:3, :3], axis=0)

    @cached_property
    def direction(self) -> Float[np.ndarray, "3 3"]:
        """Unit vectors of the voxel axes in the world, as columns."""
        return self.world_from_voxel[:3, :3] / self.spacing_mm

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def to_world(self, voxels: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Carry voxel coordinates (rows) to RAS millimetres."""
        return apply_affine(self.world_from_voxel, voxels)

    def to_voxel(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Carry RAS millimetres (rows) to voxel coordinates."""
        return apply_affine(self.voxel_from_world, points)

    def corners(self) -> Float[np.ndarray, "8 3"]:
        """Centres of the eight corner voxels in RAS millimetres."""
        index = np.stack(np.meshgrid(*[[0, n - 1] for n in self.shape], indexing="ij"), axis=-1)
        return self.to_world(index.reshape(-1, 3).astype(float))

    def matches(self, other: Grid, tolerance_mm: float = 1e-2) -> bool:
        """Tell whether two grids have the same voxels, corner by corner."""
        return self.shape == other.shape and bool(np.abs(self.corners() - other.corners()).max() <= tolerance_mm)

    def cropped(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Grid:
        """Cut out the block from ``start`` up to but without ``stop`` (may reach outside: then it pads)."""
        affine = self.world_from_voxel.copy()
        affine[:3, 3] = self.to_world(np.array([start], dtype=float))[0]
        i, j, k = (int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Grid((i, j, k), affine)

    def inside(self, box: Box) -> Grid:
        """Cut out a box whose sides have both ends."""
        (a, b, c), (d, e, f) = zip(*((side.start, side.stop) for side in box), strict=True)
        return self.cropped((a, b, c), (d, e, f))

    def describe(self) -> str:
        """Say shape, spacing, origin and axes in a line, for messages."""
        spacing = "×".join(f"{s:.4g}" for s in self.spacing_mm)
        origin = ", ".join(f"{x:.1f}" for x in self.world_from_voxel[:3, 3])
        axes = "".join(
            "RAS"[row] if self.direction[row, column] > 0 else "LPI"[row]
            for column in range(3)
            for row in [int(np.abs(self.direction[:, column]).argmax())]
        )
        return f"{'×'.join(map(str, self.shape))} voxels of {spacing} mm, origin ({origin}), axes {axes}"


def apply_affine(to_from: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Carry points (rows, the last axis) through a 4x4 affine."""
    return points @ to_from[:3, :3].T + to_from[:3, 3]
