"""The trunk from the skin inwards, the table it lies on, and its cavities, as sections along the body.

World RAS, S1 end plate at the origin. All measures are working values of a slim adult lying on the back with
the arms raised out of the field of view; they were drawn by eye after chest and abdomen CTs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from spinesim.phantom.canvas import Slab
from spinesim.phantom.solids import superellipse_distance

AIR_HU, FAT_HU, SKIN_HU, MUSCLE_HU = -1000.0, -105.0, 15.0, 56.0
TABLE_HU, FOAM_HU = -200.0, -900.0
TABLE_TOP_MM = -100.0
TABLE_CURVE_MM = 700.0
SHELL_MM = 3.0
SKIN_MM = 1.6

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
"""The body's surface."""

CAVITY = _section(_CAVITY, 2.3)
"""The chest wall's middle (where the ribs run), and below it the abdominal cavity."""

fat_mm = PchipInterpolator(_HEIGHT, _FAT, extrapolate=True)
"""Thickness of skin and fat under it at a height."""


def table_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the scanner's table: everything below its slightly hollow top."""
    return y - np.float32(TABLE_TOP_MM) - x * x / np.float32(2 * TABLE_CURVE_MM)


def paint_trunk(slab: Slab) -> None:
    """Paint air, table, skin, fat and muscle into a slab, in place; organs and bones come later."""
    x, y, z = slab.place
    skin = SKIN.distance(x, y, z)
    slab.image[:] = AIR_HU
    table = table_distance(x, y)
    slab.paint(table, TABLE_HU)
    slab.paint(table + np.float32(SHELL_MM), FOAM_HU)
    slab.paint(skin, SKIN_HU)
    slab.paint(skin + np.float32(SKIN_MM), FAT_HU)
    slab.paint(skin + fat_mm(z).astype(np.float32), MUSCLE_HU)
