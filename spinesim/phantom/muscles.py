"""The muscles of back and wall, and the fat between them.

Working values, drawn by eye after chest and abdomen CTs.
"""

from __future__ import annotations

import numpy as np

from spinesim.phantom.canvas import Slab
from spinesim.phantom.solids import Rod, smooth_union, superellipse_distance
from spinesim.phantom.sweep import Tube
from spinesim.phantom.trunk import CAVITY, FAT_HU, MUSCLE_HU, SKIN, fat_mm

_PSOAS = (
    Rod((27.0, 5.0, 150.0), (40.0, 18.0, 55.0), (8.0, 9.0), (19.0, 20.0), up=(0.0, 1.0, 0.0)),
    Rod((40.0, 18.0, 55.0), (66.0, 42.0, -60.0), (19.0, 20.0), (16.0, 17.0), up=(0.0, 1.0, 0.0)),
)
_PSOAS_TOP_MM = 165.0


def paint_muscles(slab: Slab, canal: Tube) -> None:
    """Paint psoas, and fat round and within the erector spinae and in the wall, into a slab, in place."""
    x, y, z = slab.place
    if slab.meets(-np.inf, _PSOAS_TOP_MM):
        upper, lower = (rod.distance(np.abs(x), y, z) for rod in _PSOAS)
        slab.paint(smooth_union(upper, lower, 4.0), MUSCLE_HU)
    muscle = SKIN.distance(x, y, z) + fat_mm(z).astype(np.float32)
    wall = np.maximum(np.abs(muscle + 11 + 2 * slab.grain) - np.float32(0.5), muscle)
    slab.paint(np.maximum(wall, -CAVITY.distance(x, y, z, 4.0)), FAT_HU, 0.7)
    _paint_erector(slab.near_middle(60.0), canal)


def _paint_erector(slab: Slab, canal: Tube) -> None:
    """Erector spinae of both sides in a sheath of fat, with a cleft between its columns."""
    x, y, z = slab.place
    _, offset = canal.line.coordinates(y, z)
    sideways, backward = np.abs(x) - 27, offset + 27
    back = np.maximum(SKIN.distance(x, y, z) + fat_mm(z).astype(np.float32), offset + 5)
    erector = superellipse_distance(sideways, backward, np.float32(26.0), np.float32(17.0), 2.6)
    slab.paint(np.maximum(erector, back), MUSCLE_HU)
    slab.paint(np.maximum(np.abs(erector) - np.float32(0.6), back), FAT_HU, 0.8)
    cleft = np.abs(sideways + np.float32(0.3) * backward + 2 * slab.grain) - np.float32(0.4)
    slab.paint(np.maximum(np.maximum(cleft, erector), back), FAT_HU, 0.5)
