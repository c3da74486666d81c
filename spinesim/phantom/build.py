"""Build the built-in healthy phantom: a CT of a trunk with vertebra labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Scan, Storage, Volume
from spinesim.phantom.canal import build_canal, paint_canal
from spinesim.phantom.column import Column, build_column
from spinesim.phantom.discs import paint_discs
from spinesim.phantom.muscles import paint_muscles
from spinesim.phantom.organs import paint_organs
from spinesim.phantom.parameters import PhantomParameters
from spinesim.phantom.pelvis import wing_distance
from spinesim.phantom.physics import NOISE_GRAIN_MM, Slab, blurred, fill, paint, paint_bone, sample_grain
from spinesim.phantom.raster import Axes, axes_of
from spinesim.phantom.skeleton import JOINT_MM, POSTERIOR_CORTEX_MM, Bone, draw_bones, label_bones, part_bones
from spinesim.phantom.thorax import (
    CARTILAGE_HU,
    FAR_MM,
    RIB_CORTEX_MM,
    RIB_LEVELS,
    RIB_MARROW_HU,
    build_rib,
    build_scapula,
    build_sternum,
    rods_distance,
)
from spinesim.phantom.trunk import paint_trunk

DEFAULT = PhantomParameters()

WIDTH_MM = 360.0
BACK_MM, FRONT_MM = -122.0, 140.0
MARGIN_MM = 15.0
SLAB = 24
LABEL_GAP_VOXELS = 1.5
"""Least gap between two labels, so that no voxel of one is a neighbour of the other."""

TEXTURE_HU = 32.0
"""Standard deviation of the grain of cancellous bone (working value)."""

VERSE_NUMBER = (
    {Level(rank): rank for rank in range(Level.C1, Level.T12 + 1)}
    | {Level(Level.L1 + n): 20 + n for n in range(5)}
    | {Level.S: 26}
)
"""VerSe label numbers of the levels that the phantom can have."""


def build_phantom(parameters: PhantomParameters = DEFAULT) -> Scan:
    """Build a healthy, straight and symmetric spine inside a trunk, as a CT would show it.

    Parameters
    ----------
    parameters : PhantomParameters
        Range of levels, voxel size, noise, seed and age.

    Returns
    -------
    Scan
        Image (int16 HU) and labels (uint8, VerSe numbers) on one RAS grid; the levels asked for are whole and
        labelled, 15 mm of the body above and below are shown without labels. The middle of the S1 end plate lies
        at the world's origin. Same parameters, same bytes.
    """
    rng = np.random.default_rng(parameters.seed)
    column = build_column()
    grid = _place_grid(column, parameters)
    axes = axes_of(grid)
    drawn = draw_bones(column, axes)
    bones = part_bones(drawn, JOINT_MM)
    gap = max(JOINT_MM, LABEL_GAP_VOXELS * max(parameters.spacing_mm))
    numbers = {level: VERSE_NUMBER[level] for level in parameters.levels}
    labels = label_bones(part_bones(drawn, gap), numbers, grid.shape)
    image = _soft_tissue(column, axes, parameters, rng)
    _paint_skeleton(image, bones, column, axes, parameters, rng)
    image = blurred(image, parameters.spacing_mm)
    image += parameters.noise_hu * sample_grain(grid.shape, (NOISE_GRAIN_MM,) * 3, parameters.spacing_mm, rng=rng)
    hu = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    levels = {number: level for level, number in VERSE_NUMBER.items()}
    return Scan(
        LabelMap(labels, grid, levels, source="phantom"), Volume(hu, grid, storage=Storage("int16"), source="phantom")
    )


def _place_grid(column: Column, parameters: PhantomParameters) -> Grid:
    """Lay the grid round the levels asked for, symmetric about x = 0."""
    low, high = _height_range(column, parameters)
    spacing = np.array(parameters.spacing_mm)
    extent = np.array([WIDTH_MM, FRONT_MM - BACK_MM, high - low])
    width, depth, height = (int(n) for n in np.ceil(extent / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(width - 1) * spacing[0] / 2, BACK_MM, low]
    return Grid((width, depth, height), affine)


def _height_range(column: Column, parameters: PhantomParameters) -> tuple[float, float]:
    """Lowest and highest z: the levels asked for, whole, with a margin of soft tissue."""
    coarse = Axes(*(np.arange(*ends, 2.0, dtype=np.float32) for ends in ((0, 45), (-110, 110), (-130, 560))))
    bones = draw_bones(column, coarse)
    inside = [
        coarse.z[bone.box[2]][(bone.distance < 1).any(axis=(0, 1))] for bone in (bones[v] for v in parameters.levels)
    ]
    return float(min(z.min() for z in inside)) - MARGIN_MM, float(max(z.max() for z in inside)) + MARGIN_MM


def _soft_tissue(column: Column, axes: Axes, parameters: PhantomParameters, rng: np.random.Generator) -> np.ndarray:
    voxel = float(np.mean(parameters.spacing_mm))
    grain = sample_grain(axes.shape, (4.5, 4.5, 5.5), parameters.spacing_mm, rng=rng)
    canal = build_canal(column)
    image = np.empty(axes.shape, dtype=np.float32)
    for start in range(0, axes.shape[2], SLAB):
        k = slice(start, start + SLAB)
        slab = Slab(image[..., k], *axes.open((slice(None), slice(None), k)), grain[..., k], voxel)
        paint_trunk(slab)
        paint_organs(slab, column)
        paint_muscles(slab, canal)
        paint_canal(slab, column, canal)
    paint_discs(image, column, axes, voxel)
    return image


def _paint_skeleton(
    image: np.ndarray,
    bones: Mapping[Level, Bone],
    column: Column,
    axes: Axes,
    parameters: PhantomParameters,
    rng: np.random.Generator,
) -> None:
    voxel = float(np.mean(parameters.spacing_mm))
    grain = TEXTURE_HU * sample_grain(axes.shape, (0.7, 0.7, 1.6), parameters.spacing_mm, rng=rng)
    spine = np.full(axes.shape, FAR_MM, dtype=np.float32)
    for bone in bones.values():
        np.minimum(spine[bone.box], bone.distance, out=spine[bone.box])
    ribs = [build_rib(level, column) for level in RIB_LEVELS]
    cartilage = rods_distance([rod for _, rods in ribs for rod in rods], axes)
    paint(image, fill(cartilage, voxel), CARTILAGE_HU)
    bony = rods_distance([rod for rods, _ in ribs for rod in rods] + build_sternum() + build_scapula(), axes)
    clear = np.float32(JOINT_MM) - spine
    paint_bone(image, np.maximum(bony, clear), voxel, RIB_MARROW_HU + grain, RIB_CORTEX_MM)
    pelvis = axes.box((-180, -110, -140), (180, 110, 50))
    if pelvis is not None:
        wings = np.maximum(wing_distance(*axes.open(pelvis)), clear[pelvis])
        paint_bone(image[pelvis], wings, voxel, 140.0 + grain[pelvis], POSTERIOR_CORTEX_MM)
    for level, bone in bones.items():
        marrow = parameters.trabecular_hu(level) + grain[bone.box]
        paint_bone(image[bone.box], bone.distance, voxel, marrow, bone.cortex_mm)
