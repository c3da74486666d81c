"""The discs between the vertebrae."""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.phantom.canvas import Slab
from spinesim.phantom.column import Column, body_wedge
from spinesim.phantom.solids import superellipse_distance

NUCLEUS_HU, ANNULUS_HU = 76.0, 96.0


def paint_discs(slab: Slab, column: Column) -> None:
    """Paint every disc into a slab, reaching into the bodies above and below, which are painted over it."""
    for level in column.dimensions:
        _paint_disc(slab, level, column)


def _paint_disc(slab: Slab, level: Level, column: Column) -> None:
    dims = column.dimensions[level]
    lower_plate = column.poses[level].moved(0.0, -dims.height / 2, -body_wedge(dims) / 2)
    pose = lower_plate.moved(0.0, -dims.disc_below / 2)
    half_w, half_d = dims.w_inf / 2 - 0.3, dims.d_inf / 2 - 0.3
    reach = half_d + dims.disc_below
    near = slab.near(
        (-half_w - 2, pose.y_mm - reach, pose.z_mm - reach), (half_w + 2, pose.y_mm + reach, pose.z_mm + reach)
    )
    if near is None:
        return
    x, y, z = near.place
    y, z = pose.to_local(y, z)
    side = superellipse_distance(x, y, np.float32(half_w), np.float32(half_d), 2.3)
    disc = np.maximum(side, np.abs(z) - np.float32(dims.disc_below / 2 + 2.0) - np.maximum(y, 0) * np.float32(0.15))
    share = np.clip(-side / np.float32(0.45 * half_d), 0, 1)
    near.paint(disc, np.float32(ANNULUS_HU) + share * np.float32(NUCLEUS_HU - ANNULUS_HU), name="nothing")
