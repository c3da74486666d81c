"""The spine's bones on the grid: their distances, kept apart from each other, and their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, label

from spinesim.anatomy.boxes import Box, overlap
from spinesim.anatomy.levels import Level, region
from spinesim.phantom.canal import build_canal
from spinesim.phantom.column import Column
from spinesim.phantom.parallel import each
from spinesim.phantom.raster import Axes
from spinesim.phantom.sacrum import sacrum_distance
from spinesim.phantom.solids import smooth_union
from spinesim.phantom.sweep import Tube
from spinesim.phantom.vertebra import FUSION_MM, body_distance, canal_distance, posterior_distance

JOINT_MM = 1.6
"""Least gap between two bones of the spine."""

BODY_CORTEX_MM, POSTERIOR_CORTEX_MM = 0.48, 0.68
WAIST_THINNER = 0.45
"""Share by which a body's shell is thinner half-way up than at its end plates (working value)."""


@dataclass(frozen=True, eq=False)
class Bone:
    """One bone of the spine on the grid: its box, signed distance there and cortex thickness (mm)."""

    level: Level
    box: Box
    distance: np.ndarray
    cortex_mm: np.ndarray


def draw_bones(column: Column, axes: Axes, levels: Iterable[Level] | None = None) -> Mapping[Level, Bone]:
    """Evaluate every vertebra, or those asked for, that the grid meets, each by itself."""
    canal = build_canal(column)
    boxes = {level: _reach(level, column, axes) for level in (column.poses if levels is None else sorted(levels))}
    met = {level: box for level, box in boxes.items() if box is not None}
    return dict(zip(met, each(lambda item: _draw(*item, column, axes, canal), met.items()), strict=True))


def part_bones(drawn: Mapping[Level, Bone], joint_mm: float) -> Mapping[Level, Bone]:
    """Cut neighbours back from the surface midway between them until they are a joint apart."""
    return dict(zip(drawn, each(lambda bone: _parted(bone, drawn, joint_mm), drawn.values()), strict=True))


def _reach(level: Level, column: Column, axes: Axes) -> Box | None:
    pose = column.poses[level]
    if level is Level.S:
        return axes.box((-65, pose.y_mm - 95, pose.z_mm - 115), (65, pose.y_mm + 25, pose.z_mm + 45))
    dims = column.dimensions[level]
    back, high = dims.depth / 2 + dims.canal_d + 55, dims.height / 2 + 25
    low = (-dims.tp_span / 2 - 5, pose.y_mm - back, pose.z_mm - high - (25 if region(level) != "lumbar" else 8))
    return axes.box(low, (dims.tp_span / 2 + 5, pose.y_mm + dims.depth / 2 + 10, pose.z_mm + high + 5))


def _draw(level: Level, box: Box, column: Column, axes: Axes, canal: Tube) -> Bone:
    x, y, z = axes.open(box)
    if level is Level.S:
        distance = np.maximum(sacrum_distance(x, y, z, column), -canal.distance(x, y, z))
        return Bone(level, box, distance, np.full_like(distance, POSTERIOR_CORTEX_MM))
    return Bone(level, box, *vertebra_distance(level, x, y, z, column))


def vertebra_distance(
    level: Level, x: np.ndarray, y: np.ndarray, z: np.ndarray, column: Column
) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to a vertebra, by itself, and its cortex's thickness (mm); world coordinates."""
    dims, pose = column.dimensions[level], column.poses[level]
    local_y, local_z = pose.to_local(y, z)
    variant = column.variant(level)
    if level in column.shapes:
        dims = column.shapes[level].drawing
        x, local_y, local_z = column.shapes[level].to_drawing(x, local_y, local_z)
    body = body_distance(x, local_y, local_z, dims, variant)
    behind = np.maximum(posterior_distance(x, local_y, local_z, dims, variant), -canal_distance(x, local_y, dims))
    waist = np.clip(1 - np.abs(local_z) / np.float32(dims.height / 2), 0, 1)
    shell = np.float32(BODY_CORTEX_MM) * (1 - np.float32(WAIST_THINNER) * waist)
    cortex = np.where(body < behind, shell, np.float32(POSTERIOR_CORTEX_MM))
    return smooth_union(body, behind, FUSION_MM / 2), cortex


def _parted(bone: Bone, drawn: Mapping[Level, Bone], joint_mm: float) -> Bone:
    distance, order = bone.distance.copy(), list(drawn)
    rank = order.index(bone.level)
    for level in order[max(rank - 2, 0) : rank] + order[rank + 1 : rank + 3]:
        shared = overlap(bone.box, drawn[level].box)
        if shared is not None:
            mine, theirs = shared
            midway = (bone.distance[mine] - drawn[level].distance[theirs]) / 2 + np.float32(joint_mm / 2)
            distance[mine] = np.maximum(distance[mine], midway)
    return Bone(bone.level, bone.box, distance, bone.cortex_mm)


def label_bones(bones: Mapping[Level, Bone], numbers: Mapping[Level, int], shape: tuple[int, int, int]) -> np.ndarray:
    """Draw the label map: the inside of each bone that has a number.

    Each label is one 6-connected piece, and no voxel of one is among the 26 neighbours of another.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    for level, number in numbers.items():
        bone = bones[level]
        taken = binary_dilation(labels[bone.box] > 0, np.ones((3, 3, 3)))
        labels[bone.box][_largest_piece((bone.distance < 0) & ~taken)] = number
    return labels


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    pieces, count = label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()
