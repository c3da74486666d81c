"""Warp image and labels: the image through the field, bones rigidly, the rest of the labels through the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt
from scipy import ndimage

from spinesim.anatomy.grid import Grid, apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Volume
from spinesim.anatomy.silhouette import Box, bounding_boxes
from spinesim.deform.field import Field
from spinesim.deform.kernels import sample_linear, sample_nearest
from spinesim.deform.torch_kernels import CPU, TorchImage, open_device

SLAB_VOXELS = 4_000_000
"""Output voxels computed at once."""


def warp_image(
    image: Volume, field: Field, output: Grid, device: str = CPU
) -> tuple[Volume, Bool[np.ndarray, "i j k"]]:
    """Look an image up through a field, linearly; ``device`` is ``cpu`` or one of PyTorch's.

    Returns
    -------
    Volume
        The image on the output grid, stored as the input is.
    (i, j, k) bool array
        The voxels that came from outside the image; they hold air.
    """
    out = np.empty(output.shape, dtype=image.voxels.dtype, order="F")
    outside = np.empty(output.shape, dtype=bool, order="F")
    fill = _filler(image, field, output, device)
    planes = max(1, SLAB_VOXELS // max(1, output.size // output.shape[0]))
    for first in range(0, output.shape[0], planes):
        slab = slice(first, first + planes)
        fill(first, out[slab], outside[slab])
    return Volume(out, output, image.slope, image.intercept, image.storage, image.source), outside


def _filler(image: Volume, field: Field, output: Grid, device: str) -> Callable[[int, np.ndarray, np.ndarray], None]:
    """What fills a slab of the output, given its first plane, its voxels, and the mask of those from outside."""
    voxel = np.ascontiguousarray(image.grid.voxel_from_world[:3])
    whole = bool(np.issubdtype(image.voxels.dtype, np.integer))
    if device != CPU:
        there = TorchImage(image.voxels, field.displacement, field.lookup(output), voxel, open_device(device))
        return lambda first, out, outside: there.fill(first, image.air, out, outside, whole=whole)
    through = (image.voxels, field.displacement, *field.lookup(output), voxel)
    return lambda first, out, outside: sample_linear(*through, first, image.air, whole, out, outside)


AGREEMENT_MM = 0.85
"""Where field and rigid motion differ by more, two bones that touch have been pressed into each other: that thin layer
is left to neither, as a joint space."""

LAYER_SHARE = 0.018
"""At most this share of a bone is left out so."""


@dataclass(frozen=True, eq=False)
class Carriage:
    """How a bone is carried: its motion (new_from_old, world RAS, mm), and whether it is rigid.

    A bone that is not rigid follows the field, which stays near that motion.
    """

    motion: Float[np.ndarray, "4 4"]
    rigid: bool = True


def warp_labels(labels: LabelMap, carriages: Mapping[Level, Carriage], field: Field, output: Grid) -> LabelMap:
    """Carry a label map along: each rigid bone by its own motion, everything else through the field.

    A bone's surface is found between voxels (linear in the distance to it), so its shape does not fray. Where two bones
    claim one voxel, the field decides; where the field could not follow a bone because it touches another, neither gets
    it. A bone that was in one piece stays in one piece.
    """
    bones = np.zeros(int(labels.voxels.max()) + 1, dtype=bool)
    bones[[n for n in labels.levels if n < len(bones)]] = True
    other = np.where(bones[labels.voxels], 0, labels.voxels)
    warped = np.empty(output.shape, dtype=labels.voxels.dtype, order="F")
    voxel = np.ascontiguousarray(labels.grid.voxel_from_world[:3])
    sample_nearest(other, field.displacement, *field.lookup(output), voxel, warped)
    solids = _solids(labels)
    owner = np.zeros(output.shape, dtype=labels.voxels.dtype, order="F")
    for level, number in labels.numbers.items():
        _claim(owner, solids, number, carriages[level], field, output)
    for number, box in bounding_boxes(owner).items():
        _mend(owner[box], number, solids[number].pieces)
    np.copyto(warped, owner, where=owner > 0)
    return labels.with_voxels(warped, output)


def carry_rigidly(labels: LabelMap, carriages: Mapping[Level, Carriage], output: Grid) -> LabelMap:
    """Carry the bones of a label map by their motions alone: a quick look at the result, without a field.

    Other labels are left out; of two bones that claim a voxel the lower one gets it.
    """
    solids = _solids(labels)
    owner = np.zeros(output.shape, dtype=labels.voxels.dtype, order="F")
    for level, number in labels.numbers.items():
        solid, carriage = solids[number], replace(carriages[level], rigid=True)
        voxels = _reach(solid, carriage, output)
        depth = solid.at(_rigid_sources(voxels, carriage, output))
        owner[tuple(voxels[depth > _level_of_equal_volume(depth, solid, output)].T)] = number
    return labels.with_voxels(owner, output)


def _solids(labels: LabelMap) -> dict[int, _Solid]:
    """Every bone of a label map, by its number."""
    boxes = bounding_boxes(labels.voxels)
    return {number: _solid(labels, number, boxes[number]) for number in labels.numbers.values()}


@dataclass(frozen=True, eq=False)
class _Solid:
    """A bone as a signed distance (mm, positive inside) on its own block of voxels."""

    depth: Float[np.ndarray, "i j k"]
    grid: Grid
    pieces: tuple[int, int]
    volume_mm3: float
    cut: bool

    def at(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        """Depth at world points."""
        voxels = self.grid.to_voxel(points).T
        return ndimage.map_coordinates(self.depth, voxels, order=1, mode="constant", cval=-10.0, prefilter=False)


def _solid(labels: LabelMap, number: int, box: Box) -> _Solid:
    """Cut a bone out and measure the depth of its voxels; its surface lies half-way between voxels."""
    start = np.array([side.start for side in box]) - 2
    stop = np.array([side.stop for side in box]) + 2
    mask = np.pad(labels.voxels[box] == number, 2)
    spacing = labels.grid.spacing_mm
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    half = spacing.min() / 2
    depth = np.where(mask, inside - half, half - outside).astype(np.float32)
    cut = any(side.start == 0 or side.stop == n for side, n in zip(box, labels.grid.shape, strict=True))
    volume = float(np.count_nonzero(mask)) * labels.grid.voxel_volume_mm3
    return _Solid(depth, labels.grid.cropped(tuple(start), tuple(stop)), count_pieces(mask), volume, cut)


def count_pieces(mask: Bool[np.ndarray, "i j k"]) -> tuple[int, int]:
    """Number of pieces of a mask that hang together by faces, and by faces, edges or corners."""
    return ndimage.label(mask)[1], ndimage.label(mask, structure=np.ones((3, 3, 3)))[1]


def _claim(
    owner: UInt[np.ndarray, "i j k"],
    solids: Mapping[int, _Solid],
    number: int,
    carriage: Carriage,
    field: Field,
    output: Grid,
) -> None:
    """Give a bone the output voxels that lie in it.

    A voxel that another bone has too goes to the one that the field puts it deeper into.
    """
    solid = solids[number]
    voxels = _reach(solid, carriage, output)
    sources = field.sources(output, voxels)
    points = sources if not carriage.rigid else _rigid_sources(voxels, carriage, output)
    depth = solid.at(points)
    inside = depth > _level_of_equal_volume(depth, solid, output)
    if inside.any():
        apart = np.linalg.norm(points - sources, axis=1)
        inside &= apart <= max(AGREEMENT_MM, float(np.quantile(apart[inside], 1 - LAYER_SHARE)))
    mine, sources = voxels[inside], sources[inside]
    before = owner[tuple(mine.T)]
    disputed = before > 0
    depth = solid.at(sources[disputed])
    rivals, other = before[disputed], np.empty_like(depth)
    for rival in np.unique(rivals):
        other[rivals == rival] = solids[int(rival)].at(sources[disputed][rivals == rival])
    kept = np.ones(len(mine), dtype=bool)
    kept[disputed] = depth > other
    owner[tuple(mine[kept].T)] = number


def _level_of_equal_volume(depth: Float[np.ndarray, " n"], solid: _Solid, output: Grid) -> float:
    """Depth at which to cut a bone's surface so that it keeps its volume: interpolation rounds thin parts off.

    Never farther from 0 than a quarter voxel; 0 for a bone that lies partly beyond the edge.
    """
    wanted = round(solid.volume_mm3 / output.voxel_volume_mm3)
    if solid.cut or wanted >= len(depth):
        return 0.0
    level = float(np.partition(depth, len(depth) - wanted - 1)[len(depth) - wanted - 1])
    slack = 0.25 * float(solid.grid.spacing_mm.min())
    return float(np.clip(level, -slack, slack))


def _rigid_sources(voxels: np.ndarray, carriage: Carriage, output: Grid) -> Float[np.ndarray, "n 3"]:
    """World points that output voxels (rows of indices) come from when they move with a bone."""
    return apply_affine(np.linalg.inv(carriage.motion), output.to_world(voxels.astype(float)))


def _reach(solid: _Solid, carriage: Carriage, output: Grid) -> np.ndarray:
    """Output voxels (rows of indices) in the box that a bone can come to lie in."""
    corners = output.to_voxel(apply_affine(carriage.motion, solid.grid.corners()))
    slack = 0.0 if carriage.rigid else 8.0 / output.spacing_mm
    low = np.clip(np.floor(corners.min(axis=0) - slack).astype(int), 0, output.shape)
    high = np.clip(np.ceil(corners.max(axis=0) + slack).astype(int) + 1, 0, output.shape)
    sides = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)


def _mend(block: UInt[np.ndarray, "i j k"], number: int, pieces: tuple[int, int]) -> None:
    """Drop crumbs that a bone has lost, in place: it keeps as many pieces as it had (by faces, and by corners)."""
    for allowed, structure in zip(pieces, (None, np.ones((3, 3, 3))), strict=True):
        found, count = ndimage.label(block == number, structure=structure)
        if count > allowed:
            sizes = np.bincount(found.ravel())[1:]
            crumbs = np.argsort(sizes)[: count - allowed] + 1
            block[np.isin(found, crumbs)] = 0
