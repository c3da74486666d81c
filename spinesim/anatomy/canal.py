"""The depth of the spinal canal in each vertebra's ring."""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Spine, Vertebra

STEP_MM = 0.25
"""Steps along the lines that are followed."""

BESIDE_MM = (-2.0, 0.0, 2.0)
"""Lines beside the midline; the narrowest counts."""

HEIGHTS = np.linspace(-0.5, 0.5, 21)
"""Where they run, as shares of the body's height: what stands in the canal at one of them narrows it."""

FARTHEST_MM = 30.0
"""A canal that is not closed within this is not seen (the ring is cut, or its label has a gap)."""


def measure_canals(labels: LabelMap, spine: Spine) -> dict[Level, float]:
    """Measure how deep the canal is in each whole vertebra (mm): from body to arch along its axis.

    A ring whose front or back is not found has none.
    """
    found = ((v.level, _depth(labels, v)) for v in spine.whole if v.canal is not None and v.level in labels.numbers)
    return {level: depth for level, depth in found if depth is not None}


def _depth(labels: LabelMap, vertebra: Vertebra) -> float | None:
    """Depth in one ring, from its canal's centre forwards and back."""
    centre = vertebra.axes.T @ (vertebra.canal - vertebra.centre)
    along = np.arange(-FARTHEST_MM, FARTHEST_MM + STEP_MM / 2, STEP_MM)
    x, y, z = np.meshgrid(centre[0] + np.array(BESIDE_MM), centre[1] + along, HEIGHTS * vertebra.body_mm, indexing="ij")
    points = vertebra.centre + np.stack([x, y, z], axis=-1).reshape(-1, 3) @ vertebra.axes.T
    voxels = np.round(labels.grid.to_voxel(points)).astype(int)
    inside = ((voxels >= 0) & (voxels < labels.grid.shape)).all(axis=1)
    bone = np.zeros(len(voxels), dtype=bool)
    bone[inside] = labels.voxels[tuple(voxels[inside].T)] == labels.numbers[vertebra.level]
    depths = []
    for line in np.any(bone.reshape(x.shape), axis=2).reshape(len(BESIDE_MM), -1):
        front, back = np.flatnonzero(line & (along > 0)), np.flatnonzero(line & (along < 0))
        if line[len(along) // 2]:
            depths.append(0.0)
        elif len(front) and len(back):
            depths.append(float(along[front[0]] - along[back[-1]]))
    return min(depths, default=None)
