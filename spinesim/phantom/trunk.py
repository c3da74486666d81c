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
SEPTUM_HU, MARBLING_HU = 40.0, 42.0
"""How much denser the septa of fat are than fat, and how much less dense those of muscle (working values)."""

TABLE_HU, FOAM_HU, COVER_HU, PAD_HU = 500.0, -950.0, -650.0, -955.0
TABLE_TOP_MM, TABLE_BOTTOM_MM = -111.0, -120.5
TABLE_CURVE_MM = 800.0
TABLE_HALF_MM = 152.0
SHELL_MM, COVER_MM = 2.2, 1.2
PAD_MM = 10.0
BED_MM = 10.5
"""Height over the table on which the back lies flat."""

BREAST_MM = 9.0
SKIN_MM = 1.6
RIB_CAGE_MM = 5.0
"""From the middle of the chest wall to its outer face, on which the muscles lie."""

_HEIGHT = (-110, 0, 89, 155, 211, 262, 307, 348, 385, 402, 420, 437, 453, 505)
_SKIN = (
    (178, 172, 156, 155, 160, 165, 168, 170, 166, 158, 138, 106, 80, 66),
    (-92, -94, -92, -95, -101, -102, -101, -99, -94, -88, -78, -63, -49, 0),
    (96, 110, 120, 124, 126, 128, 127, 120, 111, 106, 101, 99, 104, 128),
)
_FAT = (22, 22, 21, 17, 13, 12, 12, 12, 11, 10, 7, 6, 5, 5)
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
    """Sections stacked along z: half-width, back and front as smooth functions of height.

    ``powers`` are those of the superellipse behind and before the middle, ``widest`` the place of the greatest width
    as a share of the way from back to front.
    """

    half_width: PchipInterpolator
    back: PchipInterpolator
    front: PchipInterpolator
    powers: tuple[float, float]
    widest: float

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray, grown_mm: float = 0.0) -> np.ndarray:
        """Signed distance inside each section (exact enough where sections change slowly)."""
        back, front = (edge(z).astype(np.float32) for edge in (self.back, self.front))
        half_w = self.half_width(z).astype(np.float32) + np.float32(grown_mm)
        before = y - back - np.float32(self.widest) * (front - back)
        share = np.where(before > 0, np.float32(1 - self.widest), np.float32(self.widest))
        power = np.where(before > 0, *(np.float32(part) for part in self.powers[::-1]))
        return superellipse_distance(x, before, half_w, share * (front - back) + np.float32(grown_mm), power)

    def point(self, turn: float, z: float) -> tuple[float, float]:
        """Give x and y at an angle from the back (0) round the right to the front (pi)."""
        back, front, half_w = (float(edge(z)) for edge in (self.back, self.front, self.half_width))
        behind = np.cos(turn) > 0
        power, share = (self.powers[0], self.widest) if behind else (self.powers[1], 1 - self.widest)
        y = -np.sign(np.cos(turn)) * abs(np.cos(turn)) ** (2 / power) * share * (front - back)
        return float(half_w * np.sin(turn) ** (2 / power)), float(back + self.widest * (front - back) + y)


def _section(rows: tuple[tuple[int, ...], ...], powers: tuple[float, float], widest: float) -> Section:
    half_width, back, front = (PchipInterpolator(_HEIGHT, row, extrapolate=True) for row in rows)
    return Section(half_width, back, front, powers, widest)


SKIN = _section(_SKIN, (2.7, 2.1), 0.46)
"""The body's surface, without its furrows: flat where it lies, round in front."""

CAVITY = _section(_CAVITY, (2.4, 2.05), 0.47)
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
    furrow = 5 * np.exp(-((x / 17) ** 2)) * behind * np.clip((z + 60) / 60, 0, 1)
    wobble = 1.4 * np.sin(x / 29 + z / 53) + 1.2 * np.sin(y / 23 - z / 41 + 1)
    breast = _breast_mm(x, y, z)
    skin = SKIN.distance(x, y, z) + furrow + wobble - breast
    skin = smooth_intersection(skin.astype(np.float32), np.float32(BED_MM) - table_distance(x, y), 9.0)
    uneven = 1 + 0.3 * np.sin(x / 37 + 0.4) * np.sin(z / 61) - 0.35 * np.exp(-((x / 22) ** 2)) * behind
    flank = np.clip(np.abs(x) / 130 - 0.3, 0, 0.8) * behind + 0.3 * np.sin(np.abs(x) / 19 + z / 33) * (1 - behind)
    muscle = skin + breast + _fat_mm(z).astype(np.float32) * (uneven + flank).astype(np.float32)
    cage = CAVITY.distance(x, y, z)
    return Layers(skin, muscle.astype(np.float32), cage, _belly_distance(x, y, z, muscle, cage))


def _breast_mm(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How far the fat of the breasts stands out; it slides to the sides of one who lies."""
    round_nipple = ((np.abs(x) - 96) / 48) ** 2 + ((z - 296) / 52) ** 2
    return np.float32(BREAST_MM) * np.exp(-round_nipple).astype(np.float32) * np.clip(y / 50, 0, 1)


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
    _paint_table(slab)
    septa = slab.septa
    slab.paint(layers.skin, SKIN_HU)
    slab.paint(layers.skin + np.float32(SKIN_MM), FAT_HU + 6 * slab.grain + SEPTUM_HU * septa)
    slab.paint(layers.muscle, muscle_hu(slab))
    _paint_planes(slab, layers)


def muscle_hu(slab: Slab) -> np.ndarray:
    """HU of muscle with the fat in its septa."""
    return MUSCLE_HU + 4 * slab.grain - np.float32(MARBLING_HU) * slab.septa


def _paint_table(slab: Slab) -> None:
    """Paint the table, two thin shells round foam, and the pad on it in its cover."""
    x, y, _ = slab.place
    top, beside = table_distance(x, y), np.abs(x) - np.float32(TABLE_HALF_MM)
    inside = np.maximum(np.maximum(top, beside), np.float32(TABLE_BOTTOM_MM) - y + x * x / np.float32(TABLE_CURVE_MM))
    slab.paint(inside, TABLE_HU)
    slab.paint(inside + np.float32(SHELL_MM), FOAM_HU)
    pad = np.maximum(np.abs(top - np.float32(PAD_MM / 2)) - np.float32(PAD_MM / 2 - 1), beside - 6)
    slab.paint(pad, COVER_HU)
    slab.paint(pad + np.float32(COVER_MM), PAD_HU)


def _paint_planes(slab: Slab, layers: Layers) -> None:
    """Planes of fat between the sheets of muscle: one on the chest, two in the flank, and the axilla where room is."""
    x, y, z = slab.place
    inner = np.where(z > 140, layers.rib_cage - np.float32(RIB_CAGE_MM), layers.belly)
    thick = inner - layers.muscle
    share = inner / np.maximum(thick, 1)
    roomy = np.clip((thick - 20) * np.float32(0.15), 0, 4)
    inside = np.maximum(layers.muscle + 1, -inner)
    wander = np.sin(np.abs(x) / 23 + y / 31 + z / 47) + np.sin(y / 19 - z / 36)
    patchy = np.sin(np.abs(x) / 17 - z / 29 + 2) + np.sin(y / 13 + z / 23)
    layered = np.maximum(np.clip((170 - z) / 40, 0, 1), np.clip((thick - 28) / 8, 0, 1)).astype(np.float32)
    for at, away in ((0.4, np.float32(0.0)), (0.72, 30 * (1 - layered))):
        half = np.float32(0.2) + np.float32(0.5) * slab.grain + np.float32(0.5) * patchy
        half = half + (roomy * np.clip(wander - 0.3 + 0.4 * patchy, 0, 1.4) if at < 0.5 else 0)
        plane = np.abs(share - np.float32(at) - np.float32(0.09) * wander) * thick - half
        slab.paint(np.maximum(np.maximum(plane, inside), 6 - thick + away), FAT_HU + 12, 0.8)
