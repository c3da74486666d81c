"""A displacement field: where each point of the output comes from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import read_only
from spinesim.deform.kernels import cell_determinants, sample_density, trace_sources, trace_voxels
from spinesim.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Field:
    """A backward field on a grid of its own, trilinear between its nodes.

    Parameters
    ----------
    displacement : (i, j, k, 3) float32 array
        Source point less target point, world RAS, mm.
    grid : Grid
        Nodes of the field; its axes run along those of the output that it was made for.
    """

    displacement: Float[np.ndarray, "i j k 3"]
    grid: Grid

    def __post_init__(self) -> None:
        if self.displacement.shape != (*self.grid.shape, 3):
            raise GeometryError(f"field: expected {(*self.grid.shape, 3)} numbers, got {self.displacement.shape}")
        object.__setattr__(self, "displacement", read_only(self.displacement))

    def jacobian_range(self) -> tuple[float, float]:
        """Smallest and largest Jacobian determinant at the corners of all cells: below 0 the field folds."""
        low, high = self.determinants
        return float(low.min()), float(high.max())

    @cached_property
    def determinants(self) -> tuple[Float[np.ndarray, "a b c"], Float[np.ndarray, "a b c"]]:
        """Smallest and largest Jacobian determinant at the corners of each cell; read-only."""
        low, high = determinants(self.displacement, self.grid)
        return read_only(low), read_only(high)

    def lookup(self, output: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How voxels of an output grid find their place in the field.

        Returns
        -------
        scale, shift : (3,) array
            From voxel indices to node indices, axis by axis.
        world_from_voxel : (3, 4) array
            The output's affine without its last row.

        Raises
        ------
        GeometryError
            When the axes differ, or the output reaches beyond the field.
        """
        nodes = self.grid.voxel_from_world @ output.world_from_voxel
        scale, shift = np.diag(nodes)[:3].copy(), nodes[:3, 3].copy()
        last = shift + scale * (np.array(output.shape) - 1)
        straight = np.abs(nodes[:3, :3] - np.diag(scale)).max() < 1e-6
        if not straight or shift.min() < 0 or (last >= np.array(self.grid.shape) - 1).any():
            raise GeometryError(
                f"field: expected an output grid inside the field's and along its axes, got {output.describe()}"
            )
        return scale, shift, np.ascontiguousarray(output.world_from_voxel[:3])

    def sources(self, output: Grid, voxels: np.ndarray) -> Float[np.ndarray, "n 3"]:
        """World points that voxels (rows of indices) of an output grid come from."""
        out = np.empty((len(voxels), 3))
        trace_sources(np.ascontiguousarray(voxels, dtype=float), self.displacement, *self.lookup(output), out)
        return out

    def block(self, output: Grid, box: Box) -> tuple[Float[np.ndarray, "a b c 3"], Float[np.ndarray, "a b c"]]:
        """World points that a box of an output grid comes from, and how many times its tissue was compressed.

        The latter is the Jacobian determinant of the field, by central differences; a box is two voxels wide or more.
        """
        sides = [np.arange(side.start, side.stop) for side in box]
        voxels = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
        sources = self.sources(output, voxels.reshape(-1, 3)).reshape(voxels.shape)
        steps = np.stack(np.gradient(sources, axis=(0, 1, 2)), axis=-1)
        return sources, np.linalg.det(steps) / np.linalg.det(output.world_from_voxel[:3, :3])

    def voxels_in(self, source: Grid, output: Grid, box: Box) -> Float[np.ndarray, "a b c 3"]:
        """Voxels of the source grid (fractional indices, float32) that a box of an output grid comes from."""
        i, j, k = (side.stop - side.start for side in box)
        out = np.empty((k, j, i, 3), dtype=np.float32).transpose(2, 1, 0, 3)  # in the order in which it is walked
        voxel = np.ascontiguousarray(source.voxel_from_world[:3])
        trace_voxels(self.displacement, *self.lookup(output), voxel, np.array([side.start for side in box]), out)
        return out

    def density(self, output: Grid, box: Box) -> Float[np.ndarray, "a b c"]:
        """How many times the tissue of a box of output voxels was compressed (float32; below 1: stretched)."""
        low, high = self.determinants
        scale, shift, _ = self.lookup(output)
        out = np.empty([side.stop - side.start for side in box], dtype=np.float32, order="F")
        sample_density(low, high, scale, shift, np.array([side.start for side in box]), out)
        return out


def determinants(
    displacement: Float[np.ndarray, "i j k 3"], grid: Grid
) -> tuple[Float[np.ndarray, "a b c"], Float[np.ndarray, "a b c"]]:
    """Smallest and largest Jacobian determinant at the corners of each cell of a trilinear field."""
    cells = tuple(n - 1 for n in displacement.shape[:3])
    low, high = np.empty(cells, dtype=np.float32), np.empty(cells, dtype=np.float32)
    cell_determinants(displacement, np.ascontiguousarray(grid.world_from_voxel[:3, :3]), low, high)
    return low, high


def field_grid(output: Grid, spacing_mm: float) -> Grid:
    """Lay a grid of nodes along the axes of an output grid, one cell larger on every side, and never finer."""
    spacing = np.maximum(output.spacing_mm, spacing_mm)
    shape = np.ceil((np.array(output.shape) - 1) * output.spacing_mm / spacing).astype(int) + 3
    affine = np.eye(4)
    affine[:3, :3] = output.direction * spacing
    affine[:3, 3] = output.world_from_voxel[:3, 3] - affine[:3, :3] @ np.ones(3)
    return Grid(tuple(shape), affine)
