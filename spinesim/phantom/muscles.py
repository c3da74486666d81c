"""The muscles beside the spine, and the fat between them.

Working values, drawn by eye after chest and abdomen CTs.
"""

from __future__ import annotations

import numpy as np

from spinesim.phantom.canvas import Slab
from spinesim.phantom.solids import Rod, smooth_intersection, smooth_union, superellipse_distance
from spinesim.phantom.sweep import Tube
from spinesim.phantom.trunk import FAT_HU, MUSCLE_HU, RIB_CAGE_MM, Layers, muscle_hu

_PSOAS = (
    Rod((27.0, 5.0, 150.0), (40.0, 18.0, 55.0), (8.0, 9.0), (19.0, 20.0), up=(0.0, 1.0, 0.0)),
    Rod((40.0, 18.0, 55.0), (66.0, 42.0, -60.0), (19.0, 20.0), (16.0, 17.0), up=(0.0, 1.0, 0.0)),
)
_QUADRATUS = Rod((50.0, -28.0, 170.0), (78.0, -26.0, 34.0), (13.0, 6.0), (20.0, 8.0), up=(0.25, 1.0, 0.0))
_LOINS_MM = 185.0
CREST_OF_RIBS_MM = 165.0
"""Above this height the back's muscles lie on the ribs."""


def paint_muscles(slab: Slab, layers: Layers, canal: Tube) -> None:
    """Paint psoas, quadratus lumborum and erector spinae with the fat round and within it into a slab."""
    x, y, z = slab.place
    if slab.meets(-np.inf, _LOINS_MM):
        side = np.abs(x)
        slab.paint(_QUADRATUS.distance(side, y, z), MUSCLE_HU)
        upper, lower = (rod.distance(side, y, z) for rod in _PSOAS)
        psoas = smooth_union(upper, lower, 4.0)
        slab.paint(psoas - np.float32(1.2), FAT_HU, 0.6)
        slab.paint(psoas, muscle_hu(slab), name="iliopsoas_{side}")
    _paint_erector(slab, layers, canal)


def _paint_erector(slab: Slab, layers: Layers, canal: Tube) -> None:
    """Erector spinae of both sides in a sheath of fat, with streaks of fat between its columns."""
    i = slice(*(int(end) for end in np.searchsorted(slab.axes.x, (-62.0, 62.0))))
    muscle, cage, slab = layers.muscle[i], layers.rib_cage[i], slab.part((i, slice(None), slice(None)))
    x, y, z = slab.place
    _, offset = canal.line.coordinates(y, z)
    sideways, backward = np.abs(x) - 27, offset + 27
    gutter = np.float32(30.0) * np.exp(-np.square(x / np.float32(24.0)))
    on_the_ribs = np.where(z > CREST_OF_RIBS_MM, np.float32(RIB_CAGE_MM - 1) - cage - gutter, np.float32(-9.0))
    back = smooth_intersection(smooth_intersection(muscle + 1, offset + 5, 4.0), on_the_ribs, 8.0)
    round_back = superellipse_distance(sideways, backward, np.float32(27.0), np.float32(18.0), 2.6)
    slab.paint(np.maximum(round_back - np.float32(1.0), back), FAT_HU, 0.8)
    slab.paint(np.maximum(round_back, back), muscle_hu(slab), name="autochthon_{side}")
    for slope, at, strength in ((0.3, 0.0, 0.55), (-0.25, -14.0, 0.4), (0.6, 14.0, 0.4)):
        cleft = np.abs(sideways - np.float32(at) + np.float32(slope) * backward + 3 * slab.grain) - 0.7 * slab.grain
        slab.paint(np.maximum(np.maximum(cleft, round_back + 1), back), FAT_HU, strength)
    streaks = np.maximum((np.float32(1.7) - slab.grain) * 2, np.maximum(round_back + 2, back))
    slab.paint(streaks, FAT_HU, 0.35)
