"""A field for a bone that changes its shape: the flow of its surface, which fades out around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.surface_motion import SurfaceMotion
from spinesim.deform.field import Field, field_grid
from spinesim.deform.kernels import follow_surface
from spinesim.deform.unfold import unfold
from spinesim.errors import ConfigError, PathologyError

FEWEST_STEPS, STEP_MM = 6, 0.5
"""Steps in time at least, and how far the point that goes farthest comes in one."""

FIRM_MM = 3.0
"""So near the bone all goes along in full."""


@dataclass(frozen=True)
class Fading:
    """How a bone's change of shape fades out.

    ``reach_mm`` from the bone nothing moves; ``softness_mm`` is the distance within which points of the surface count
    as one; ``spacing_mm`` of the field's nodes, never finer than the output.
    """

    reach_mm: float = 15.0
    softness_mm: float = 1.2
    spacing_mm: float = 2.5

    def __post_init__(self) -> None:
        if not self.reach_mm > FIRM_MM:
            raise ConfigError(
                f"shape: expected a change that fades out beyond {FIRM_MM:g} mm, got {self.reach_mm:g} mm; give more"
            )


def build_local_field(motion: SurfaceMotion, output: Grid, fading: Fading = Fading()) -> Field:
    """The pull-back field of a bone that changes its shape.

    Every point of the surface goes straight to its goal; what lies between them flows along, by inverse distance
    (power 4) to the points where they are at that time, less and less away from the bone. Points that hold still count
    as such.

    Raises
    ------
    PathologyError
        When the field folds.
    """
    grid = field_grid(output, fading.spacing_mm)
    displacement = np.zeros((*grid.shape, 3), dtype=np.float32)
    nodes = _near(motion, grid, fading.reach_mm)
    points = grid.to_world(nodes.astype(float))
    sources = points.copy()
    steps = max(FEWEST_STEPS, int(np.ceil(motion.travel_mm / STEP_MM)))
    bone = cKDTree(np.concatenate([motion.points, motion.moved, motion.within]))
    away = (bone.query(points)[0] - FIRM_MM) / (fading.reach_mm - FIRM_MM)
    follow_surface(
        sources,
        np.ascontiguousarray(motion.moved),
        np.ascontiguousarray(motion.points - motion.moved),
        np.ascontiguousarray(motion.still),
        1 - _smooth_step(away),
        steps,
        fading.softness_mm,
    )
    displacement[tuple(nodes.T)] = sources - points
    field, _ = unfold(Field(displacement, grid))
    low, _ = field.jacobian_range()
    if low <= 0:
        raise PathologyError(
            f"shape: expected a field without folds, got a smallest Jacobian of {low:.2f}; ask for a smaller change"
        )
    return field


def _near(motion: SurfaceMotion, grid: Grid, reach_mm: float) -> np.ndarray:
    """Nodes (rows of indices) within reach of the bone, before or after."""
    around = np.concatenate([motion.points, motion.moved])
    voxels = grid.to_voxel(around)
    low = np.clip(np.floor(voxels.min(axis=0) - reach_mm / grid.spacing_mm), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(voxels.max(axis=0) + reach_mm / grid.spacing_mm) + 1, 1, grid.shape).astype(int)
    sides = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    nodes = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    places = grid.to_world(nodes.astype(float))
    distance = cKDTree(np.concatenate([motion.points, motion.within])).query(places, distance_upper_bound=reach_mm)[0]
    return nodes[distance < reach_mm]


def _smooth_step(share: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """From 0 to 1 without a bend at either end."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)
