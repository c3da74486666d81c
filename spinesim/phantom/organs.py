"""What lies inside the trunk's wall, in the order in which it is painted."""

from __future__ import annotations

import numpy as np

from spinesim.phantom.belly import paint_belly
from spinesim.phantom.canvas import Slab
from spinesim.phantom.chest import CHEST_FLOOR_MM, paint_chest
from spinesim.phantom.column import Column
from spinesim.phantom.sweep import Tube, draw_tube
from spinesim.phantom.trunk import FAT_HU, RIB_CAGE_MM, Layers
from spinesim.phantom.vessels import paint_vessels


def build_body_tube(column: Column) -> Tube:
    """Draw the tube of the vertebral bodies, which vessels and mediastinum follow."""
    levels = column.upwards
    half_w = [(dims.w_sup + dims.w_inf) / 4 for dims in levels]
    return draw_tube(column.local_line(), half_w, [dims.depth / 2 for dims in levels])


def paint_organs(slab: Slab, layers: Layers, column: Column, bodies: Tube) -> None:
    """Paint all organs into a slab, in place."""
    inside = np.where(slab.z > 170, layers.rib_cage + np.float32(RIB_CAGE_MM), layers.belly)
    slab.paint(inside, FAT_HU + 5 + 5 * slab.grain)
    paint_belly(slab, layers)
    if slab.meets(CHEST_FLOOR_MM, np.inf):
        paint_chest(slab, layers, bodies)
    paint_vessels(slab, column, bodies)
