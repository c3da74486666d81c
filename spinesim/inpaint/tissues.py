"""What tissue a voxel is, as the network is told it: maps that labels give, or the CT where there are none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, Int8, UInt16
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.distances import signed_depth
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Volume, read_only
from spinesim.anatomy.vertebra import Spine, Vertebra


class Kind(IntEnum):
    """A tissue, by the bit that stands for it. Those of labels are not known on every scan, bone and outside are."""

    BONE = 0
    OUTSIDE = 1
    CORTEX = 2
    VERTEBRAL_BODY = 3
    POSTERIOR_ELEMENTS = 4
    DISC = 5
    CANAL = 6
    SACRUM = 7
    RIB = 8
    LYTIC = 9
    SCLEROTIC = 10
    MASS = 11

    @property
    def bit(self) -> np.uint16:
        """The number that has only this bit."""
        return np.uint16(1 << self)


LABELLED = (Kind.VERTEBRAL_BODY, Kind.POSTERIOR_ELEMENTS, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.RIB)
"""What only labels tell."""

CORTEX_MM = 1.5
"""Bone nearer to its surface counts as cortex."""

FARTHEST_MM = 12.0
"""Distances to the surface of bone are followed so far."""

PER_MM = 10
"""They are kept in tenths of a millimetre."""

CANAL_MM = (11.0, 8.0)
"""Half axes of the canal, to the side and to the front: what is no bone within them."""

BONE_HU, SMOOTHING_MM, SMALLEST_MM3, GAP_MM = 180.0, 0.6, 200.0, 2.0
"""Without labels, bone is what is denser than this after a Gaussian, in pieces of this volume, with gaps closed."""

MARROW_HU = (60.0, 450.0)
"""What bone encloses in an axial slice is marrow if its mean lies between these: lung, canal and gas do not."""


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """Bits of the tissues (``Kind``) that each voxel is, and its distance to the surface of bone.

    ``depth`` is in tenths of a millimetre, positive inside bone, cut off at ``FARTHEST_MM``. Both are read-only.
    """

    bits: UInt16[np.ndarray, "i j k"]
    depth: Int8[np.ndarray, "i j k"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", read_only(self.bits))
        object.__setattr__(self, "depth", read_only(self.depth))

    def of(self, kind: Kind) -> Bool[np.ndarray, "i j k"]:
        """Whether each voxel is of a kind."""
        return (self.bits & kind.bit) > 0

    def cropped(self, box: Box) -> TissueMaps:
        """The same in a box."""
        return TissueMaps(self.bits[box], self.depth[box])

    def without(self, kinds: Iterable[Kind]) -> TissueMaps:
        """The same where nothing is known of some kinds; without bone the distance to it is 0 everywhere."""
        kinds = tuple(kinds)
        keep = np.uint16(0xFFFF & ~sum(1 << kind for kind in kinds))
        return TissueMaps(self.bits & keep, np.zeros_like(self.depth) if Kind.BONE in kinds else self.depth)


def map_tissues(
    hu: Float[np.ndarray, "i j k"],
    grid: Grid,
    body: Bool[np.ndarray, "i j k"],
    labels: LabelMap | None = None,
    spine: Spine | None = None,
) -> TissueMaps:
    """Map the tissues of a CT, or of a box of one.

    With labels their levels are bone, and the spine tells bodies from arches, discs and the canal; bone that has no
    level is a rib. Without, bone is found by its density alone.

    Parameters
    ----------
    hu : (i, j, k) float32 array
        The CT.
    grid : Grid
        Of the CT.
    body : (i, j, k) bool array
        The patient.
    labels, spine
        Levels on the grid of the CT, and the vertebrae that were measured on them.
    """
    bits = np.where(body, np.uint16(0), Kind.OUTSIDE.bit)
    bone = find_bone(hu, grid) & body
    if labels is not None:
        levels = np.isin(labels.voxels, list(labels.levels))
        beside = ndimage.binary_dilation(levels, iterations=2)
        bits[bone & ~beside] |= Kind.RIB.bit
        bone = levels | (bone & ~beside)
        _mark_parts(bits, labels, spine or Spine(()), grid, levels | _dense(hu, grid))
    depth = depth_in(bone, grid)
    bits[bone] |= Kind.BONE.bit
    bits[bone & (depth <= CORTEX_MM * PER_MM)] |= Kind.CORTEX.bit
    return TissueMaps(bits, depth)


def with_lesion(maps: TissueMaps, mask: Bool[np.ndarray, "i j k"], kind: Kind) -> TissueMaps:
    """Add a lesion."""
    return TissueMaps(np.where(mask, maps.bits | kind.bit, maps.bits), maps.depth)


def depth_in(bone: Bool[np.ndarray, "i j k"], grid: Grid) -> Int8[np.ndarray, "i j k"]:
    """Distance (tenths of a mm) to the surface of bone, positive inside, cut off at ``FARTHEST_MM``."""
    if not bone.any() or bone.all():
        return np.full(bone.shape, FARTHEST_MM * PER_MM * (1 if bone.any() else -1), dtype=np.int8)
    signed = signed_depth(bone, grid.spacing_mm)
    return np.round(PER_MM * np.clip(signed, -FARTHEST_MM, FARTHEST_MM)).astype(np.int8)


def find_bone(hu: Float[np.ndarray, "i j k"], grid: Grid) -> Bool[np.ndarray, "i j k"]:
    """Find bone by its density, with the marrow that it encloses in axial slices.

    Vessels with contrast pass for bone: of such a scan labels should be given.
    """
    dense = _dense(hu, grid)
    pieces, count = ndimage.label(dense)
    large = np.bincount(pieces.ravel(), minlength=count + 1) * grid.voxel_volume_mm3 >= SMALLEST_MM3
    large[0] = False
    bone = large[pieces]
    closed = ndimage.binary_closing(np.pad(bone, 4), _ball(grid, GAP_MM))[4:-4, 4:-4, 4:-4] | bone
    axis = int(np.abs(grid.direction[2]).argmax())
    for mask, values in zip(np.moveaxis(closed, axis, 0), np.moveaxis(hu, axis, 0), strict=True):
        mask |= _marrow(mask, values)
    return closed


def _dense(hu: Float[np.ndarray, "i j k"], grid: Grid) -> Bool[np.ndarray, "i j k"]:
    return ndimage.gaussian_filter(hu, SMOOTHING_MM / grid.spacing_mm) > BONE_HU


def _ball(grid: Grid, radius_mm: float) -> Bool[np.ndarray, "a b c"]:
    reach = np.minimum(3, np.floor(radius_mm / grid.spacing_mm)).astype(int)
    offsets = [np.arange(-n, n + 1) * mm for n, mm in zip(reach, grid.spacing_mm, strict=True)]
    i, j, k = np.meshgrid(*offsets, indexing="ij")
    return i**2 + j**2 + k**2 <= radius_mm**2


def _marrow(bone: Bool[np.ndarray, "a b"], hu: Float[np.ndarray, "a b"]) -> Bool[np.ndarray, "a b"]:
    """What bone encloses in a slice and is as dense as marrow."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(bone) & ~bone)
    if count == 0:
        return np.zeros_like(bone)
    means = ndimage.mean(hu, holes, np.arange(1, count + 1))
    return np.isin(holes, 1 + np.flatnonzero((means > MARROW_HU[0]) & (means < MARROW_HU[1])))


def _mark_parts(
    bits: UInt16[np.ndarray, "i j k"],
    labels: LabelMap,
    spine: Spine,
    grid: Grid,
    bone: Bool[np.ndarray, "i j k"],
) -> None:
    """Mark the sacrum, bodies, arches, discs and the canal, in place."""
    for level, number in labels.numbers.items():
        box = labels.boxes[number]
        own = labels.voxels[box] == number
        if level is Level.S or level not in spine:
            bits[box][own] |= (Kind.SACRUM if level is Level.S else Kind.VERTEBRAL_BODY).bit
            continue
        behind = _in_frame(spine[level], grid, box)[..., 1] < spine[level].back_mm
        bits[box][own & behind] |= Kind.POSTERIOR_ELEMENTS.bit
        bits[box][own & ~behind] |= Kind.VERTEBRAL_BODY.bit
    present = [v for v in spine if v.level in labels.numbers]
    for vertebra in present:
        _mark_canal(bits, vertebra, grid, bone)
    for upper, lower in zip(present, present[1:], strict=False):
        _mark_disc(bits, upper, lower, grid, bone)


def measure_marrow(image: Volume, spine: Spine) -> float | None:
    """Mean density (HU) in the middle of the vertebral bodies, None where no vertebra is whole."""
    found = []
    for vertebra in spine.whole:
        box = _box_around(image.grid, vertebra.centre, vertebra.width_mm / 2)
        x, y, z = np.moveaxis(np.abs(_in_frame(vertebra, image.grid, box)), -1, 0)
        middle = (x < vertebra.width_mm / 4) & (y < vertebra.depth_mm / 4) & (z < vertebra.body_mm / 4)
        if middle.any():
            found.append(float(image.hu(image.voxels[box][middle]).mean()))
    return float(np.mean(found)) if found else None


def _in_frame(vertebra: Vertebra, grid: Grid, box: Box) -> Float[np.ndarray, "a b c 3"]:
    """Voxels of a box in a vertebra's frame, mm."""
    frame_from_voxel = np.linalg.inv(vertebra.world_from_vertebra) @ grid.world_from_voxel
    i, j, k = (np.arange(side.start, side.stop) for side in box)
    return (
        frame_from_voxel[:3, 0] * i[:, None, None, None]
        + frame_from_voxel[:3, 1] * j[None, :, None, None]
        + frame_from_voxel[:3, 2] * k[None, None, :, None]
        + frame_from_voxel[:3, 3]
    )


def _box_around(grid: Grid, centre: Float[np.ndarray, " 3"], radius_mm: float) -> Box:
    """The voxels within a distance of a point along each axis."""
    middle, reach = grid.to_voxel(centre[None])[0], radius_mm / grid.spacing_mm
    low = np.clip(np.floor(middle - reach), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(middle + reach) + 1, 0, grid.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _mark_canal(
    bits: UInt16[np.ndarray, "i j k"], vertebra: Vertebra, grid: Grid, bone: Bool[np.ndarray, "i j k"]
) -> None:
    if vertebra.canal is None:
        return
    box = _box_around(grid, vertebra.canal, vertebra.body_mm + CANAL_MM[0])
    x, y, z = np.moveaxis(_in_frame(vertebra, grid, box), -1, 0)
    to_side, forward, up = vertebra.axes.T @ (vertebra.canal - vertebra.centre)
    round_it = ((x - to_side) / CANAL_MM[0]) ** 2 + ((y - forward) / CANAL_MM[1]) ** 2 < 1
    near = np.abs(z - up) < 0.7 * vertebra.body_mm
    bits[box][round_it & near & (y < vertebra.back_mm) & ~bone[box]] |= Kind.CANAL.bit


def _mark_disc(
    bits: UInt16[np.ndarray, "i j k"], upper: Vertebra, lower: Vertebra, grid: Grid, bone: Bool[np.ndarray, "i j k"]
) -> None:
    top, bottom = upper.inferior, lower.superior
    box = _box_around(grid, (top.centre + bottom.centre) / 2, upper.width_mm / 2 + 5)
    x, y, _ = np.moveaxis(_in_frame(upper, grid, box), -1, 0)
    round_it = (2 * x / upper.width_mm) ** 2 + (2 * y / upper.depth_mm) ** 2 < 1
    i, j, k = (np.arange(side.start, side.stop) for side in box)
    points = grid.to_world(np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1).reshape(-1, 3).astype(float))
    below = ((points - top.centre) @ top.normal < 1.0).reshape(x.shape)
    above = ((points - bottom.centre) @ bottom.normal > -1.0).reshape(x.shape)
    bits[box][round_it & below & above & ~bone[box]] |= Kind.DISC.bit
