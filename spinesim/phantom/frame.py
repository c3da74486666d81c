"""The bones as they are painted: ribs with their cartilages, breastbone, shoulder blades, pelvis, then the spine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spinesim.anatomy.boxes import Box, overlap
from spinesim.anatomy.levels import Level
from spinesim.phantom.canvas import Slab
from spinesim.phantom.column import Column
from spinesim.phantom.parameters import PhantomParameters
from spinesim.phantom.pelvis import wing_distance
from spinesim.phantom.physics import fill, paint_bone
from spinesim.phantom.skeleton import JOINT_MM, POSTERIOR_CORTEX_MM, Bone
from spinesim.phantom.solids import Rod
from spinesim.phantom.thorax import (
    CARTILAGE_HU,
    FAR_MM,
    RIB_CORTEX_MM,
    RIB_LEVELS,
    RIB_MARROW_HU,
    build_rib,
    build_scapula,
    build_sternum,
    rods_box,
    rods_distance,
)

WING_HU = 140.0

DENSER_HU, DENSER_MM = 55.0, 5.0
"""Cancellous bone is denser towards the shell: by how much, and from how deep (working values)."""

VEIN_HU = 110.0
"""How much darker than the marrow the basivertebral vein is (working value)."""

CORTEX_SPREAD = 0.33
"""Standard deviation of the shell's thickness, as a share of it."""

_PELVIS = ((-180.0, -110.0, -140.0), (180.0, 110.0, 50.0))


@dataclass(frozen=True, eq=False)
class Frame:
    """All bones of the phantom, ready to be painted.

    Parameters
    ----------
    spine : mapping of Level to Bone
        The vertebrae and the sacrum on the grid.
    marrow_hu : mapping of Level to float
        Mean HU of their cancellous bone.
    veins : mapping of Level to Rod
        The basivertebral vein of each body, from the middle of its back wall inwards.
    flat : tuple of (str, rods)
        Name and right half of ribs, sternum and shoulder blades.
    cartilage : tuple of Rod
        The ribs' cartilages, right half.
    """

    spine: Mapping[Level, Bone]
    marrow_hu: Mapping[Level, float]
    veins: Mapping[Level, Rod]
    flat: tuple[tuple[str, list[Rod]], ...]
    cartilage: list[Rod]


def build_frame(spine: Mapping[Level, Bone], column: Column, parameters: PhantomParameters) -> Frame:
    """Put the bones together."""
    ribs = [build_rib(level, column) for level in RIB_LEVELS]
    named = [(f"rib_{{side}}_{n}", rods) for n, (rods, _) in enumerate(ribs, start=1)]
    flat = (*named, ("sternum", build_sternum()), ("scapula_{side}", build_scapula()))
    marrow = {level: parameters.trabecular_hu(level) for level in spine}
    veins = {level: _vein(level, column) for level in column.dimensions}
    return Frame(spine, marrow, veins, flat, [rod for _, rods in ribs for rod in rods])


def _vein(level: Level, column: Column) -> Rod:
    dims, pose = column.dimensions[level], column.poses[level]
    back, inner = pose.to_world(-dims.depth / 2, 0.0), pose.to_world(-0.1 * dims.depth, 0.0)
    up = (0.0, float(np.sin(pose.lean)), float(np.cos(pose.lean)))
    return Rod((0.0, *back), (0.0, *inner), (5.0, 2.2), (3.0, 1.2), up=up)


def paint_frame(slab: Slab, box: Box, frame: Frame, texture: np.ndarray) -> None:
    """Paint all bones into a slab.

    Parameters
    ----------
    box : Box
        Where the slab lies in the grid.
    texture : array
        Grain of cancellous bone in the slab, HU.
    """
    met = [(bone, shared) for bone in frame.spine.values() if (shared := overlap(bone.box, box)) is not None]
    near_spine = np.full(slab.image.shape, FAR_MM, dtype=np.float32)
    for bone, (mine, there) in met:
        np.minimum(near_spine[there], bone.distance[mine], out=near_spine[there])
    clear = np.float32(JOINT_MM) - near_spine
    cartilage = rods_distance(frame.cartilage, slab.axes)
    slab.paint(cartilage, CARTILAGE_HU, name="costal_cartilages")
    for name, rods in frame.flat:
        _paint_rods(slab, name, rods, clear, texture)
    pelvis = slab.axes.box(*_PELVIS)
    if pelvis is not None:
        part = slab.part(pelvis)
        wings = np.maximum(wing_distance(*part.place), clear[pelvis])
        paint_bone(part.image, wings, slab.voxel_mm, WING_HU + texture[pelvis], POSTERIOR_CORTEX_MM)
        part.mark(wings < 0, "hip_{side}")
    for bone, (mine, there) in met:
        distance = bone.distance[mine]
        dense = np.float32(DENSER_HU) * np.clip(1 + distance / np.float32(DENSER_MM), 0, 1)
        marrow = np.float32(frame.marrow_hu[bone.level]) + texture[there] + dense
        if bone.level in frame.veins:
            vein = frame.veins[bone.level].distance(*slab.part(there).place)
            marrow = marrow - np.float32(VEIN_HU) * fill(vein, slab.voxel_mm)
        cortex = bone.cortex_mm[mine] * (1 + np.float32(CORTEX_SPREAD) * slab.grain[there])
        paint_bone(slab.image[there], distance, slab.voxel_mm, marrow, cortex)
        slab.part(there).mark(distance < 0, "nothing")


def _paint_rods(slab: Slab, name: str, rods: list[Rod], clear: np.ndarray, texture: np.ndarray) -> None:
    """Paint a bone made of rods, and its mirror image."""
    low, high = rods_box(rods)
    far = max(abs(low[0]), abs(high[0]))
    box = slab.axes.box((-far, low[1], low[2]), (far, high[1], high[2]))
    if box is None:
        return
    part = slab.part(box)
    distance = np.maximum(rods_distance(rods, part.axes), clear[box])
    paint_bone(part.image, distance, slab.voxel_mm, RIB_MARROW_HU + texture[box], RIB_CORTEX_MM)
    part.mark(distance < 0, name)
