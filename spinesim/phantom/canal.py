"""The spinal canal and what lies in it."""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.phantom.canvas import Slab
from spinesim.phantom.column import Column
from spinesim.phantom.sacrum import sacral_pose
from spinesim.phantom.solids import ellipse_distance
from spinesim.phantom.sweep import Tube, draw_tube

CORD_HU, FLUID_HU, EPIDURAL_HU = 38.0, 20.0, -80.0
"""Spinal cord; thecal sac (15 +- 8 HU, a little more with its nerve roots); fat around it (``tissue_hu.csv``)."""

LOWEST_CORD = Level.L1

_SACRAL = ((75.0, 13.0, 4.0, 2.5), (50.0, 17.0, 7.0, 3.5), (30.0, 21.0, 9.5, 5.0), (10.0, 25.0, 12.5, 7.0))
"""Sacral canal: depth below the S1 end plate, offset behind the bodies' middle, half-width and half-depth."""


def build_canal(column: Column) -> Tube:
    """Draw the canal from the sacral hiatus to C3 and on; width and depth of each level from the table."""
    plate = column.poses[Level.S]
    sacral = [sacral_pose(plate, depth).to_world(-offset, 0.0) for depth, offset, _, _ in _SACRAL]
    levels = column.upwards
    return draw_tube(
        np.concatenate([np.array(sacral), column.local_line(at_canal=True)]),
        [row[2] for row in _SACRAL] + [dims.canal_w / 2 for dims in levels],
        [row[3] for row in _SACRAL] + [dims.canal_d / 2 for dims in levels],
    )


def paint_canal(slab: Slab, column: Column, canal: Tube) -> None:
    """Paint epidural fat, thecal sac and cord into a slab, in place."""
    slab = slab.near_middle(25.0)
    x, y, z = slab.place
    along, offset = canal.line.coordinates(y, z)
    half_w, half_d = canal.section(along)
    slab.paint(ellipse_distance(x, offset, half_w + 1, half_d + 1), EPIDURAL_HU)
    sac = ellipse_distance(x, offset - np.float32(0.06) * half_d, half_w * np.float32(0.82), half_d * np.float32(0.86))
    slab.paint(sac, FLUID_HU)
    pose = column.poses[LOWEST_CORD]
    end, _ = canal.line.coordinates(*np.array([[pose.y_mm], [pose.z_mm]]))
    cord = ellipse_distance(x, offset, np.minimum(half_w / 2, 5.5), np.minimum(half_d / 2, 4))
    slab.paint(np.maximum(cord, end[0] - along), CORD_HU, name="spinal_cord")
