"""The trunk from the skin inwards, the table it lies on, and its cavities, as sections along the body.

World RAS, S1 end plate at the origin. All measures are working values of a slim adult lying on the back with
the arms raised out of the field of view; they were drawn by eye after chest and abdomen CTs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from spinesim.phantom.canvas import Slab
from spinesim.phantom.solids import smooth_intersection, superellipse_distance

AIR_HU, FAT_HU, SKIN_HU, MUSCLE_HU = -1000.0, -105.0, 15.0, 56.0
TABLE_HU, FOAM_HU = 650.0, -960.0
TABLE_TOP_MM = -105.0
TABLE_CURVE_MM = 800.0
TABLE_HALF_MM = 165.0
SHELL_MM = 2.6
SKIN_MM = 1.6
RIB_CAGE_MM = 5.0
"""From the middle of the chest wall to its outer face, on which the muscles lie."""

_HEIGHT = (-110, 0, 89, 155, 211, 262, 307, 348, 385, 402, 420, 437, 453, 505)
_SKIN = (
    (178, 170, 152, 152, 156, 160, 162, 160, 151, 138, 112, 82, 68, 62),
    (-80, -83, -81, -85, -93, -95, -95, -93, -87, -80, -69, -56, -44, 2),
    (92, 104, 112, 118, 124, 126, 124, 117, 108, 103, 99, 98, 104, 128),
)
_FAT = (18, 18, 17, 14, 11, 10, 10, 10, 9, 8, 6, 5, 5, 5)
_CAVITY = (
    (104, 116, 126, 129, 133, 134, 130, 119, 99, 84, 64, 40, 26, 24),
    (-44, -36, -26, -50, -66, -70, -70, -65, -50, -38, -22, 5, 40, 80),
    (66, 84, 96, 102, 107, 107, 103, 94, 81, 74, 68, 66, 76, 100),
)
_WALL = ((-110, -40, 20, 80, 170), (66, 50, 32, 21, 15))
"""Thickness of the belly's wall at the flanks over height; below the crest the pelvis takes its place."""

RECTUS_MM = 11.0
KIDNEY_BED_MM = -46.0
"""Back of the belly beside the spine; the muscles of the back are painted over what lies deeper."""


@dataclass(frozen=True, eq=False)
class Section:
    """Superelliptic sections stacked along z: half-width, back and front as smooth functions of height."""

    half_width: PchipInterpolator
    back: PchipInterpolator
    front: PchipInterpolator
    power: float

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, grown_mm: float = 0.0) -> np.ndarray:
        """Signed distance inside each section (exact enough where sections change slowly)."""
        back, front = (edge(z).astype(np.float32) for edge in (self.back, self.front))
        half_w = self.half_width(z).astype(np.float32) + np.float32(grown_mm)
        half_d = (front - back) / 2 + np.float32(grown_mm)
        return superellipse_distance(x, y - (front + back) / 2, half_w, half_d, self.power)


def _section(rows: tuple[tuple[int, ...], ...], power: float) -> Section:
    half_width, back, front = (PchipInterpolator(_HEIGHT, row, extrapolate=True) for row in rows)
    return Section(half_width, back, front, power)


SKIN = _section(_SKIN, 2.6)
"""The body's surface, without its furrows."""

CAVITY = _section(_CAVITY, 2.3)
"""The chest wall's middle (where the ribs run)."""

_fat_mm = PchipInterpolator(_HEIGHT, _FAT, extrapolate=True)


@dataclass(frozen=True, eq=False)
class Layers:
    """Signed distances to the layers of the trunk in a slab, each solid within the one before."""

    skin: np.ndarray
    muscle: np.ndarray
    rib_cage: np.ndarray
    belly: np.ndarray


def draw_layers(slab: Slab) -> Layers:
    """Evaluate skin, muscle under its fat, the middle of the rib cage, and the belly, in a slab."""
    x, y, z = slab.place
    behind = np.clip((10 - y) / 60, 0, 1)
    furrow = 7 * np.exp(-((x / 13) ** 2)) * behind * np.clip((z + 60) / 60, 0, 1)
    wobble = 1.4 * np.sin(x / 29 + z / 53) + 1.2 * np.sin(y / 23 - z / 41 + 1)
    skin = SKIN.distance(x, y, z) + furrow + wobble
    uneven = 1 + 0.3 * np.sin(x / 37 + 0.4) * np.sin(z / 61) - 0.45 * np.exp(-((x / 22) ** 2)) * behind
    flank = np.clip(np.abs(x) / 130 - 0.3, 0, 0.6) * behind
    muscle = skin + _fat_mm(z).astype(np.float32) * (uneven + flank).astype(np.float32)
    cage = CAVITY.distance(x, y, z)
    return Layers(skin.astype(np.float32), muscle, cage, _belly_distance(x, y, z, muscle, cage))


def _belly_distance(x: np.ndarray, y: np.ndarray, z: np.ndarray, muscle: np.ndarray, cage: np.ndarray) -> np.ndarray:
    """The belly: inside its wall below, inside the ribs above."""
    flank = np.interp(z, *_WALL).astype(np.float32)
    front = np.clip((y - 15) / 35, 0, 1) * np.clip((110 - np.abs(x)) / 50, 0, 1)
    wall = muscle + flank + front * (np.float32(RECTUS_MM) - flank)
    bed = np.float32(KIDNEY_BED_MM) + np.float32(0.8) * np.maximum(-35 - z, 0)
    open_belly = smooth_intersection(wall, bed - y, 14.0)
    share = np.clip((z - 110) / 60, 0, 1).astype(np.float32)
    share = share * share * (3 - 2 * share)
    return open_belly + share * (cage + RIB_CAGE_MM - open_belly)


def table_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the scanner's table: what lies below its slightly hollow top."""
    return y - np.float32(TABLE_TOP_MM) - x * x / np.float32(2 * TABLE_CURVE_MM)


def paint_trunk(slab: Slab, layers: Layers) -> None:
    """Paint air, table, skin, fat and the muscles outside the ribs and in the belly's wall; organs come later."""
    x, y, z = slab.place
    slab.image[:] = AIR_HU
    table = table_distance(x, y)
    shell = np.maximum(np.maximum(table, -table - np.float32(SHELL_MM)), np.abs(x) - np.float32(TABLE_HALF_MM))
    slab.paint(np.maximum(table + np.float32(SHELL_MM), np.abs(x) - np.float32(TABLE_HALF_MM - 4)), FOAM_HU)
    slab.paint(shell, TABLE_HU)
    slab.paint(layers.skin, SKIN_HU)
    slab.paint(layers.skin + np.float32(SKIN_MM), FAT_HU + 6 * slab.grain)
    slab.paint(layers.muscle, MUSCLE_HU + 3 * slab.grain)
    _paint_planes(slab, layers)


def _paint_planes(slab: Slab, layers: Layers) -> None:
    """Planes of fat between the sheets of muscle: one on the chest, two in the flank, and the axilla where room is."""
    x, y, z = slab.place
    inner = np.where(z > 140, layers.rib_cage - np.float32(RIB_CAGE_MM), layers.belly)
    thick = inner - layers.muscle
    share = inner / np.maximum(thick, 1)
    roomy = np.clip((thick - 20) * np.float32(0.3), 0, 9)
    inside = np.maximum(layers.muscle + 1, -inner)
    wander = np.sin(np.abs(x) / 23 + y / 31 + z / 47) + np.sin(y / 19 - z / 36)
    for at, strong in ((0.4, 0.85), (0.72, 0.6)):
        half = np.float32(0.35) + np.float32(0.45) * slab.grain + (roomy * np.clip(wander, 0, 1.4) if at < 0.5 else 0)
        plane = np.abs(share - np.float32(at) - np.float32(0.09) * wander) * thick - half
        slab.paint(np.maximum(np.maximum(plane, inside), 6 - thick), FAT_HU + 12, strong)
