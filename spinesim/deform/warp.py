"""Warp image and labels: the image through the field, bones rigidly, the rest of the labels through the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt
from scipy import ndimage

from spinesim.anatomy.boxes import Box, bounding_boxes, overlap
from spinesim.anatomy.grid import Grid, apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.plan import Where
from spinesim.anatomy.scan import LabelMap, Volume
from spinesim.anatomy.threads import map_threads
from spinesim.deform.field import Field
from spinesim.deform.kernels import sample_linear, sample_nearest
from spinesim.deform.regions import DistanceMap
from spinesim.deform.solids import Solid
from spinesim.deform.spline import sample_spline, spline_coefficients
from spinesim.deform.torch_kernels import CPU, TorchImage, open_device

AGREEMENT_MM = 0.85
"""Where field and rigid motion differ by more, two bones that touch have been pressed into each other: that thin layer
is left to neither, as a joint space."""

LAYER_SHARE = 0.018
"""At most this share of a bone is left out so."""

AROUND_MM = 8.0
"""A bone that is not rigid is looked for so far around where its parts are carried."""

TORN = 0.33
"""Where a divided bone is stretched to less than this density, beside its growth, it is torn: the gap belongs to no
bone."""

CRUMB_SHARE, PROCESS_CRUMB_SHARE = 0.04, 0.005
"""A loose piece of a torn bone below this share of it is a crumb; of one whose process broke off, below the second."""

SOFTNESS_MM = 0.3
"""Softness of the weights with which a divided bone is carried quickly."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a broken bone that keeps its form: which points at rest it ``holds`` (world RAS, mm), and its motion.

    One that ``yields`` loses what others come by, however much that is.
    """

    holds: Where
    motion: Float[np.ndarray, "4 4"]
    yields: bool = False


@dataclass(frozen=True, eq=False)
class Carriage:
    """How a bone is carried: its motion (new_from_old, world RAS, mm), and whether it follows that as a whole.

    One that does not follows the motions of the ``pieces`` that it breaks into, or of a single one and the field beside
    it. Without any it follows the field, which stays near that motion and near those of its other ``parts``, and it
    ``tears`` where it is stretched too far, unless it swells. A loose piece is dropped below a share of the bone
    (``crumb_share``).
    """

    motion: Float[np.ndarray, "4 4"]
    whole: bool = True
    parts: tuple[Float[np.ndarray, "4 4"], ...] = ()
    pieces: tuple[Piece, ...] = ()
    tears: bool = True
    crumb_share: float = CRUMB_SHARE

    @property
    def growth(self) -> float:
        """How many times its volume it gets."""
        return _growth(self.motion)

    @property
    def apart(self) -> bool:
        """Whether it breaks into pieces that go their own ways."""
        return len(self.pieces) > 1


Overlaps = Mapping[tuple[Level, Level], float]
"""How much of two bones would lie in each other if both went as planned: a share of the smaller one. Pieces that yield
do not count, a bone that follows the field is where that takes it, and pairs that share nothing are not there."""

Interpolation = Literal["linear", "bspline"]
"""How an image is looked up between its voxels: linearly, or by cubic B-splines."""


def warp_image(
    image: Volume, field: Field, output: Grid, device: str = CPU, interpolation: Interpolation = "linear"
) -> tuple[Volume, Bool[np.ndarray, "i j k"]]:
    """Look an image up through a field; ``device`` is ``cpu`` or one of PyTorch's (splines: the processor anyhow).

    Returns
    -------
    Volume
        The image on the output grid, stored as the input is.
    (i, j, k) bool array
        The voxels that came from outside the image; they hold air.
    """
    out = np.empty(output.shape, dtype=image.voxels.dtype, order="F")
    outside = np.empty(output.shape, dtype=bool, order="F")
    voxel = np.ascontiguousarray(image.grid.voxel_from_world[:3])
    whole = bool(np.issubdtype(out.dtype, np.integer))
    through = (image.voxels, field.displacement, *field.lookup(output), voxel)
    if interpolation == "bspline":
        limits = float(image.voxels.min()), float(image.voxels.max())
        sample_spline(spline_coefficients(image.voxels), *through[1:], limits, image.air, whole, out, outside)
    elif device == CPU:
        sample_linear(*through, image.air, whole, out, outside)
    else:
        TorchImage(*through, open_device(device)).fill(image.air, out, outside, whole=whole)
    return Volume(out, output, image.slope, image.intercept, image.storage, image.source), outside


def warp_labels(
    labels: LabelMap, solids: Mapping[int, Solid], carriages: Mapping[Level, Carriage], field: Field, output: Grid
) -> tuple[LabelMap, Overlaps]:
    """Carry a label map along: each rigid bone by its own motion, everything else through the field.

    A bone's surface is found between voxels (linear in the distance to it), so its shape does not fray. Where two bones
    claim one voxel, the field decides; where the field could not follow a bone because it touches another, neither gets
    it. A bone that was in one piece stays in one piece, unless a plan tears it.

    Returns
    -------
    LabelMap
        The labels on the output grid.
    Overlaps
        Bones that would lie in each other, and how much.
    """
    owner = np.zeros(output.shape, dtype=labels.voxels.dtype, order="F")
    numbers = labels.numbers
    found = map_threads(lambda level: _place(solids[numbers[level]], carriages[level], field, output), numbers)
    places = dict(zip(numbers, found, strict=True))
    for level, bone in places.items():
        _claim(owner, solids, numbers[level], bone.voxels, bone.sources)
    boxes = bounding_boxes(owner)
    torn = {
        numbers[level]: each.crumb_share for level, each in carriages.items() if not each.whole and level in numbers
    }
    map_threads(lambda n: drop_crumbs(owner[boxes[n]], n, solids[n].pieces, torn.get(n, 1.0)), boxes)
    return labels.with_voxels(_with_others(owner, labels, field, output), output), _overlaps(places)


Divided = Mapping[Level, Sequence[tuple[DistanceMap, Float[np.ndarray, "4 4"]]]]
"""The parts of bones that are neither rigid nor in pieces: where each is at rest, and its motion (new_from_old, world
RAS, mm)."""


def carry_quickly(
    labels: LabelMap,
    solids: Mapping[int, Solid],
    carriages: Mapping[Level, Carriage],
    output: Grid,
    divided: Divided = MappingProxyType({}),
) -> LabelMap:
    """Carry the bones of a label map by their motions alone: a quick look at the result, without a field.

    A divided bone is blended between the motions of its parts. Other labels are left out; of two bones that claim a
    voxel the lower one gets it.
    """
    owner = np.zeros(output.shape, dtype=labels.voxels.dtype, order="F")

    def carried(level: Level) -> tuple[Box, Bool[np.ndarray, "a b c"]]:
        solid, motion = solids[labels.numbers[level]], carriages[level].motion
        if carriages[level].apart:
            box = _reach_of_parts(solid, carriages[level], output)
            return box, np.any([_filled_piece(solid, piece, output, box) for piece in carriages[level].pieces], axis=0)
        if level in divided:
            box = _reach_of_parts(solid, carriages[level], output)
            places = output.to_world(_voxels(box).astype(float))
            depth = solid.at(blend_sources(divided[level], places))
            return box, depth.reshape([side.stop - side.start for side in box]) > 0
        box = _reach(solid, motion, 0.0, output)
        return box, _filled(solid, motion, output, box)

    for number, (box, filled) in zip(labels.numbers.values(), map_threads(carried, labels.numbers), strict=True):
        owner[box][filled] = number
    return labels.with_voxels(owner, output)


def blend_sources(
    parts: Sequence[tuple[DistanceMap, Float[np.ndarray, "4 4"]]], places: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Where points come from when each part pulls them back by its own motion, weighted as the flow weighs them."""
    total, weights = np.zeros_like(places), np.zeros(len(places))
    for region, motion in parts:
        back = apply_affine(np.linalg.inv(motion), places)
        weight = 1 / (region.at(back) ** 2 + SOFTNESS_MM**2) ** 2
        total += weight[:, None] * back
        weights += weight
    return total / weights[:, None]


def _with_others(
    owner: UInt[np.ndarray, "i j k"], labels: LabelMap, field: Field, output: Grid
) -> UInt[np.ndarray, "i j k"]:
    """Carried bones with what is no bone, carried through the field, around them."""
    others = [number for number in labels.present if number not in labels.levels]
    if not others:
        return owner
    warped = np.empty(output.shape, dtype=labels.voxels.dtype, order="F")
    kept = np.isin(np.arange(max(labels.present) + 1), others)
    voxel = np.ascontiguousarray(labels.grid.voxel_from_world[:3])
    sample_nearest(labels.voxels, kept, field.displacement, *field.lookup(output), voxel, warped)
    np.copyto(warped, owner, where=owner > 0)
    return warped


def _claim(
    owner: UInt[np.ndarray, "i j k"],
    solids: Mapping[int, Solid],
    number: int,
    mine: np.ndarray,
    sources: Float[np.ndarray, "n 3"],
) -> None:
    """Give a bone the output voxels that lie in it, and that the field takes from ``sources``.

    A voxel that another bone has too goes to the one that the field puts it deeper into.
    """
    before = owner[tuple(mine.T)]
    disputed = before > 0
    depth = solids[number].at(sources[disputed])
    rivals, other = before[disputed], np.empty_like(depth)
    for rival in np.unique(rivals):
        other[rivals == rival] = solids[int(rival)].at(sources[disputed][rivals == rival])
    kept = np.ones(len(mine), dtype=bool)
    kept[disputed] = depth > other
    owner[tuple(mine[kept].T)] = number


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a bone comes to lie.

    The voxels of a box that its motions fill, but for pieces that yield; those that it gets where no other bone claims
    them (rows of indices), and the world points that the field takes these from.
    """

    box: Box
    fills: Bool[np.ndarray, "a b c"]
    voxels: np.ndarray
    sources: Float[np.ndarray, "n 3"]


def _place(solid: Solid, carriage: Carriage, field: Field, output: Grid) -> _Place:
    """Where a bone comes to lie, whatever way it is carried."""
    if carriage.pieces:
        return _in_pieces(solid, carriage, field, output)
    if not carriage.whole:
        return _followed(solid, carriage, field, output)
    box = _reach(solid, carriage.motion, 0.0, output)
    filled = _filled(solid, carriage.motion, output, box)
    return _Place(box, filled, *_agreed(filled, box, carriage.motion, field, output))


def _followed(solid: Solid, carriage: Carriage, field: Field, output: Grid) -> _Place:
    """A bone that goes where the field takes it."""
    box = _reach_of_parts(solid, carriage, output)
    shape = tuple(side.stop - side.start for side in box)
    if min(shape) < 2:
        return _Place(box, np.zeros(shape, dtype=bool), np.empty((0, 3), dtype=int), np.empty((0, 3)))
    block, density = field.block(output, box)
    voxels, sources = _voxels(box), block.reshape(-1, 3)
    depth = solid.at(sources)
    inside = depth > solid.level_of_equal_volume(depth, output, density.ravel())
    if carriage.tears:
        inside &= density.ravel() > TORN / carriage.growth
    return _Place(box, inside.reshape(shape), voxels[inside], sources[inside])


def _in_pieces(solid: Solid, carriage: Carriage, field: Field, output: Grid) -> _Place:
    """A bone in pieces, each with its motion; beside a single one the field decides."""
    box = _reach_of_parts(solid, carriage, output)
    filled = [_filled_piece(solid, piece, output, box) for piece in carriage.pieces]
    found = [
        _agreed(there, box, piece.motion, field, output, piece.yields)
        for piece, there in zip(carriage.pieces, filled, strict=True)
    ]
    fills = np.any([there & (not piece.yields) for piece, there in zip(carriage.pieces, filled, strict=True)], axis=0)
    if not carriage.apart:
        rest = _followed(solid, carriage, field, output)
        beside = ~carriage.pieces[0].holds(rest.sources)
        found.append((rest.voxels[beside], rest.sources[beside]))
        fills[tuple((rest.voxels[beside] - [side.start for side in box]).T)] = True
    voxels, sources = (np.concatenate(rows) for rows in zip(*found, strict=True))
    _, first = np.unique(np.ravel_multi_index(tuple(voxels.T), output.shape), return_index=True)
    return _Place(box, fills, voxels[first], sources[first])


def _overlaps(places: Mapping[Level, _Place]) -> Overlaps:
    """What each two bones would share, of the smaller one."""
    sizes = {level: np.count_nonzero(bone.fills) for level, bone in places.items()}
    shared = {(a, b): _shared(places[a], places[b]) for a, b in combinations(places, 2)}
    return {(a, b): float(count / min(sizes[a], sizes[b])) for (a, b), count in shared.items() if count}


def _shared(one: _Place, other: _Place) -> int:
    """Number of voxels that two bones both fill."""
    common = overlap(one.box, other.box)
    return int(np.count_nonzero(one.fills[common[0]] & other.fills[common[1]])) if common else 0


def _agreed(
    filled: Bool[np.ndarray, "a b c"],
    box: Box,
    motion: Float[np.ndarray, "4 4"],
    field: Field,
    output: Grid,
    yields: bool = False,
) -> tuple[np.ndarray, Float[np.ndarray, "n 3"]]:
    """Voxels of what a motion fills that the field takes from about there, and from where it does."""
    voxels = np.argwhere(filled) + [side.start for side in box]
    sources = field.sources(output, voxels)
    if len(voxels) == 0:
        return voxels, sources
    rigid = apply_affine(np.linalg.inv(motion), output.to_world(voxels.astype(float)))
    apart = np.linalg.norm(rigid - sources, axis=1)
    kept = 0.0 if yields else float(np.quantile(apart, 1 - LAYER_SHARE))
    agreed = apart <= max(AGREEMENT_MM, kept)
    return voxels[agreed], sources[agreed]


def _filled(solid: Solid, motion: Float[np.ndarray, "4 4"], output: Grid, box: Box) -> Bool[np.ndarray, "a b c"]:
    """Voxels of a box that lie in a bone where a motion carries it, grown if it grows."""
    return solid.filled(solid.carried(motion, output, box), output, _growth(motion))


def _growth(motion: Float[np.ndarray, "4 4"]) -> float:
    """How many times its volume a motion gives a bone."""
    return float(np.linalg.det(motion[:3, :3]))


def _filled_piece(solid: Solid, piece: Piece, output: Grid, box: Box) -> Bool[np.ndarray, "a b c"]:
    """Voxels of a box that lie in a piece of a bone where its motion carries it."""
    filled = _filled(solid, piece.motion, output, box)
    places = output.to_world((np.argwhere(filled) + [side.start for side in box]).astype(float))
    filled[filled] = piece.holds(apply_affine(np.linalg.inv(piece.motion), places))
    return filled


def _reach(solid: Solid, motion: Float[np.ndarray, "4 4"], slack_mm: float, output: Grid) -> Box:
    """Box of output voxels that a bone can come to lie in."""
    corners = output.to_voxel(apply_affine(motion, solid.grid.corners()))
    slack = slack_mm / output.spacing_mm
    low = np.clip(np.floor(corners.min(axis=0) - slack).astype(int), 0, output.shape)
    high = np.clip(np.ceil(corners.max(axis=0) + slack).astype(int) + 1, 0, output.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _reach_of_parts(solid: Solid, carriage: Carriage, output: Grid) -> Box:
    """Box of output voxels that a bone can come to lie in when its parts go different ways."""
    boxes = [_reach(solid, motion, AROUND_MM, output) for motion in (carriage.motion, *carriage.parts)]
    i, j, k = (slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True))
    return i, j, k


def _voxels(box: Box) -> np.ndarray:
    """All voxels of a box (rows of indices)."""
    sides = [np.arange(side.start, side.stop) for side in box]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)


def drop_crumbs(block: UInt[np.ndarray, "i j k"], number: int, pieces: tuple[int, int], share: float) -> None:
    """Drop crumbs that a bone has lost, in place: it keeps as many pieces as it had (by faces, and by corners).

    Of a bone that is torn into parts, a piece of more than a ``share`` of it is no crumb (1 for a whole one).
    """
    for allowed, structure in zip(pieces, (None, np.ones((3, 3, 3))), strict=True):
        found, count = ndimage.label(block == number, structure=structure)
        if count > allowed:
            sizes = np.bincount(found.ravel())[1:]
            crumbs = np.argsort(sizes)[: count - allowed] + 1
            crumbs = crumbs[sizes[crumbs - 1] < share * sizes.sum()]
            block[np.isin(found, crumbs)] = 0
