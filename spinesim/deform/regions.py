"""Where an anchor holds: distance from the part of the bone that moves with it, in its rest frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box, bounding_boxes, padded
from spinesim.anatomy.distances import distance_to
from spinesim.anatomy.grid import Grid, apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.plan import Anchor, Motion, Part, Region, Where
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Vertebra
from spinesim.deform.kernels import mark_blocks
from spinesim.errors import PathologyError

MARGIN_MM = 24.0
"""Room around a bone in which its distance map is exact; farther out the distance to the box is added."""

BLOCK_MM = 1.5
"""Voxels finer than this are taken together in blocks: a block belongs to a bone if any of its voxels does."""

PLATE_SHARE = 0.3
"""Share of the height of a body that moves with each end plate when the vertebra is wedged."""


@dataclass(frozen=True, eq=False)
class DistanceMap:
    """Distance in mm to an anchor's region, 0 inside, on a block of voxels that surrounds it.

    ``softness_mm`` is the epsilon of its weight: small, and the region moves exactly as its anchor does. ``divided``
    tells that it is a part of a bone, or a region beside one.
    """

    distance: Float[np.ndarray, "i j k"]
    grid: Grid
    softness_mm: float = 0.3
    divided: bool = False

    def at(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Distance of world points at rest; beyond the block, that to the block is added."""
        voxels = self.grid.to_voxel(points)
        inside = np.clip(voxels, 0, np.array(self.distance.shape) - 1)
        beyond = np.linalg.norm((voxels - inside) * self.grid.spacing_mm, axis=1)
        return beyond + ndimage.map_coordinates(self.distance, inside.T, order=1, prefilter=False)


Passing = Sequence[tuple[DistanceMap, Motion]]
"""Anchors that come by: where each is at rest, and how it moves."""


def measure_distances(
    labels: LabelMap,
    vertebra: Vertebra,
    anchor: Anchor,
    shell_mm: float,
    yielding: frozenset[Level] = frozenset(),
    passing: Passing = (),
) -> DistanceMap:
    """Measure the distance to the part of a bone that an anchor moves.

    Parameters
    ----------
    labels : LabelMap
        The bone and its neighbours.
    vertebra, anchor
        The bone, and the anchor that moves it or a part of it.
    shell_mm : float
        The bone gives up what lies nearer than this to another bone, so that touching bones leave the flow some room.
    yielding : frozenset of Level
        Bones to which it gives nothing up.
    passing : sequence of (DistanceMap, Motion)
        What comes by and is given way to: the part gives up what one of them comes nearer to than that on its way.

    Raises
    ------
    PathologyError
        When the part is so small that it holds no voxel.
    """
    grid, number = labels.grid, labels.numbers[vertebra.level]
    start, stop, factor = _block_frame(labels.boxes[number], grid)
    firm = [number for level, number in labels.numbers.items() if level not in yielding]
    bones = np.isin(np.arange(max(labels.present) + 1), firm)
    own, others = (np.zeros((stop - start) // factor, dtype=bool) for _ in range(2))
    mark_blocks(labels.voxels, start, factor, number, bones, own, others)
    coarse = _coarse_grid(grid, start, own.shape, factor)
    own &= _belongs(anchor, vertebra, coarse, own.shape)
    if not own.any():
        raise PathologyError(
            f"flow: expected voxels in the {anchor.part.value} of {anchor.level.name}, got none; "
            "take a scan with finer slices, or ask for less"
        )
    kept = own & ~_near(others, own, shell_mm, coarse)
    own = kept if kept.any() else own
    if passing:
        kept = own & ~_passed(own, coarse, anchor.motion, passing, shell_mm)
        own = kept if kept.any() else own
    half_block = (factor - 1) * grid.spacing_mm / 2
    distance = distance_to(own, coarse.spacing_mm) - np.linalg.norm(half_block)
    return DistanceMap(np.maximum(distance, 0).astype(np.float32), coarse, divided=anchor.part is not Part.WHOLE)


def _near(
    others: Bool[np.ndarray, "a b c"], own: Bool[np.ndarray, "a b c"], reach_mm: float, grid: Grid
) -> Bool[np.ndarray, "a b c"]:
    """Which blocks about a part are as near to others as that; it is looked for no farther from the part."""
    near = np.zeros_like(own)
    if reach_mm > 0:
        more = np.ceil(reach_mm / grid.spacing_mm).astype(int)
        box = padded(bounding_boxes(own.view(np.uint8))[1], grid.shape, more)
        if others[box].any():
            near[box] = distance_to(others[box], grid.spacing_mm) <= reach_mm
    return near


def _passed(
    own: Bool[np.ndarray, "a b c"], grid: Grid, motion: Motion, passing: Passing, room_mm: float
) -> Bool[np.ndarray, "a b c"]:
    """Which blocks of a part something comes nearer to than some room, at rest or on its way."""
    index = np.argwhere(own)
    points = grid.to_world(index.astype(float))
    near = np.zeros(len(points), dtype=bool)
    for region, other in passing:
        for mine, theirs in zip(motion.knots, other.knots, strict=True):
            near |= region.at(apply_affine(np.linalg.inv(theirs) @ mine, points)) < room_mm
    passed = np.zeros_like(own)
    passed[tuple(index[near].T)] = True
    return passed


def measure_region(region: Region) -> DistanceMap:
    """Measure the distance to a region that is no part of a vertebra, on a grid of its own around it."""
    half = np.ceil((region.radius_mm + MARGIN_MM) / BLOCK_MM)
    affine = np.diag([BLOCK_MM, BLOCK_MM, BLOCK_MM, 1.0])
    affine[:3, 3] = region.centre - half * BLOCK_MM
    side = int(2 * half + 1)
    grid = Grid((side, side, side), affine)
    own = region.where(grid.to_world(np.indices(grid.shape).reshape(3, -1).T.astype(float))).reshape(grid.shape)
    if not own.any():
        raise PathologyError("flow: expected a region of some millimetres, got less; ask for more")
    distance = distance_to(own, grid.spacing_mm)
    return DistanceMap(distance.astype(np.float32), grid, divided=True)


def _block_frame(box: Box, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First voxel, voxel after the last, and block size of a box with margin, in whole blocks."""
    factor = np.maximum(1, np.floor(BLOCK_MM / grid.spacing_mm + 1e-6)).astype(int)
    margin = np.ceil(MARGIN_MM / grid.spacing_mm).astype(int)
    start = np.array([side.start for side in box]) - margin
    stop = np.array([side.stop for side in box]) + margin
    stop = start + np.ceil((stop - start) / factor).astype(int) * factor
    return start, stop, factor


def _coarse_grid(grid: Grid, start: np.ndarray, shape: tuple[int, ...], factor: np.ndarray) -> Grid:
    """Place blocks in the world: the centre of a block is the mean of its voxel centres."""
    affine = grid.world_from_voxel.copy()
    affine[:3, :3] = affine[:3, :3] * factor
    affine[:3, 3] = grid.to_world((start + (factor - 1) / 2)[None])[0]
    i, j, k = shape
    return Grid((i, j, k), affine)


def _belongs(anchor: Anchor, vertebra: Vertebra, grid: Grid, shape: tuple[int, ...]) -> np.ndarray:
    """Which blocks belong to what an anchor moves."""
    where = anchor.where or usual_part(anchor.part, vertebra)
    if where is None:
        return np.ones(shape, dtype=bool)
    index = np.indices(shape).reshape(3, -1).T.astype(float)
    return where((grid.to_world(index) - vertebra.centre) @ vertebra.axes).reshape(shape)


def usual_part(part: Part, vertebra: Vertebra) -> Where | None:
    """Outline a part in the vertebra's frame: the upper or lower end of the body, or what lies behind it."""
    if part is Part.WHOLE:
        return None
    back = vertebra.back_mm
    if part is Part.ARCH:
        return lambda points: points[:, 1] < back
    edge, sign = (0.5 - PLATE_SHARE) * vertebra.body_mm, 1.0 if part is Part.SUPERIOR else -1.0
    return lambda points: (points[:, 1] >= back) & (sign * points[:, 2] > edge)
