"""One vertebra cut out of its label map, as a depth in its own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.distances import signed_depth
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import region
from spinesim.anatomy.resampling import cut_depth
from spinesim.anatomy.sampling import sample_block
from spinesim.anatomy.scan import LabelMap, read_only
from spinesim.anatomy.vertebra import Vertebra
from spinesim.errors import LabelError

SPACING_MM = 1.0
"""Of the lattice on which a bone lies in its own frame."""

SMOOTHING_MM = 0.6
"""Width (standard deviation) of the Gaussian that takes the steps of voxels out of the depth."""

NEAR_MM = 1.0
"""Within so much of the surface the depth is that between voxels; beyond, the way to the nearest voxel."""

ROOM_MM = 10.0
"""Room that is left round a bone."""

VESSEL_MM2 = 90.0
"""A smaller hole in a layer of a cervical vertebra is a transverse foramen, not the canal: it is filled."""


@dataclass(frozen=True, eq=False)
class Bone:
    """A vertebra's depth (mm, positive inside) on a lattice along the axes of its own frame.

    The frame is that of the vertebra: origin in the middle of the body; right, anterior, superior; mm.
    """

    depth: Float[np.ndarray, "i j k"]
    grid: Grid

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", read_only(self.depth))

    def at(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Depth at points of the frame; beyond the lattice that of its edge."""
        voxels = self.grid.to_voxel(points).T
        return ndimage.map_coordinates(self.depth, voxels, order=1, mode="nearest", prefilter=False)

    def gradient(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """How the depth grows from each point."""
        half = float(self.grid.spacing_mm.min()) / 2
        steps = half * np.eye(3)
        return np.column_stack([(self.at(points + step) - self.at(points - step)) / (2 * half) for step in steps])

    def snapped(
        self, points: Float[np.ndarray, "n 3"], bound_mm: float = np.inf, rounds: int = 3
    ) -> Float[np.ndarray, "n 3"]:
        """Lay points on the surface, each by ``bound_mm`` at most."""
        start = points
        for _ in range(rounds):
            gradient = self.gradient(points)
            steep = np.maximum((gradient**2).sum(axis=1), 0.1)
            way = points - (self.at(points) / steep)[:, None] * gradient - start
            length = np.linalg.norm(way, axis=1, keepdims=True)
            points = start + way * np.minimum(1.0, bound_mm / np.maximum(length, 1e-9))
        return points


def own_grid(low: Float[np.ndarray, " 3"], high: Float[np.ndarray, " 3"], spacing_mm: float) -> Grid:
    """A lattice along the axes of a vertebra's frame that holds a box."""
    start = np.floor(low / spacing_mm)
    i, j, k = (np.ceil(high / spacing_mm) - start + 1).astype(int).tolist()
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = start * spacing_mm
    return Grid((i, j, k), affine)


def cut_bone(labels: LabelMap, vertebra: Vertebra) -> Bone:
    """Cut a vertebra out of its label map and lay it into its own frame, its surface between voxels.

    The transverse foramina of the neck are filled, for many labels do not show them: a vertebra has one hole, the
    canal.

    Raises
    ------
    LabelError
        When nothing of it is there.
    """
    number = labels.numbers[vertebra.level]
    _, depth, block = cut_depth(labels, number)
    own_from_world = np.linalg.inv(vertebra.world_from_vertebra)
    corners = block.corners() @ own_from_world[:3, :3].T + own_from_world[:3, 3]
    grid = own_grid(corners.min(axis=0) - ROOM_MM, corners.max(axis=0) + ROOM_MM, SPACING_MM)
    here = block.voxel_from_world @ vertebra.world_from_vertebra @ grid.world_from_voxel
    drawn = sample_block(depth, here, grid.shape, -float(labels.grid.spacing_mm.max()))
    if not (drawn > 0).any():
        raise LabelError(f"{labels.source}: expected voxels of {vertebra.level.name}, got none; check the labels")
    if region(vertebra.level) == "cervical":
        drawn = np.where(_vessels(drawn > 0), np.float32(NEAR_MM), drawn)
    return _trimmed(Bone(deepened(drawn, grid.spacing_mm), grid))


def blend_bones(first: Bone, second: Bone, share: float) -> Bone:
    """A bone between two in one frame: the mean of their depths, ``share`` of it the second's."""
    ends = np.stack([bone.grid.corners()[[0, -1]] for bone in (first, second)])
    grid = own_grid(ends[:, 0].min(axis=0), ends[:, 1].max(axis=0), SPACING_MM)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    points = grid.to_world(places.astype(float))
    mixed = (1 - share) * _beyond(first, points) + share * _beyond(second, points)
    return _trimmed(Bone(mixed.reshape(grid.shape).astype(np.float32), grid))


def _beyond(bone: Bone, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Depth at points; beyond the lattice that of its edge less the way to it."""
    low, high = bone.grid.corners()[[0, -1]]
    return bone.at(points) - np.linalg.norm(points - np.clip(points, low, high), axis=1)


def _trimmed(bone: Bone) -> Bone:
    """A bone on no more lattice than it needs."""
    filled = np.argwhere(bone.depth > 0)
    room = np.ceil(ROOM_MM / bone.grid.spacing_mm).astype(int)
    start = np.maximum(filled.min(axis=0) - room, 0)
    stop = np.minimum(filled.max(axis=0) + room + 1, bone.grid.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return Bone(
        np.ascontiguousarray(bone.depth[i, j, k]),
        bone.grid.cropped((i.start, j.start, k.start), (i.stop, j.stop, k.stop)),
    )


def _vessels(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """Small holes in the layers of a cervical vertebra."""
    holes = np.zeros_like(mask)
    for rank in range(mask.shape[2]):
        layer = mask[:, :, rank]
        found, count = ndimage.label(ndimage.binary_fill_holes(layer) & ~layer)
        if count:
            areas = ndimage.sum_labels(np.ones_like(found), found, range(1, count + 1)) * SPACING_MM**2
            holes[:, :, rank] = np.isin(found, 1 + np.flatnonzero(areas < VESSEL_MM2))
    return holes


def deepened(drawn: Float[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "i j k"]:
    """Carry a depth that is known near the surface on, far from it, and take the steps of voxels out."""
    far = signed_depth(drawn > 0, spacing_mm).astype(np.float32)
    depth = np.where(np.abs(far) > NEAR_MM, far, drawn)
    return ndimage.gaussian_filter(depth, SMOOTHING_MM / spacing_mm).astype(np.float32)
