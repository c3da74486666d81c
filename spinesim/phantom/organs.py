"""The organs of chest and belly and the great vessels.

World RAS, S1 end plate at the origin. Shapes and places are working values, drawn by eye after chest and abdomen
CTs; HU from ``tissue_hu.csv`` (Grainger & Allison 7th ed., radclass.mudr.org, and ordinary 120 kV experience).
"""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.phantom.canvas import Slab
from spinesim.phantom.column import Column
from spinesim.phantom.solids import Rod, ellipse_distance, ellipsoid_distance, smooth_intersection, smooth_union
from spinesim.phantom.sweep import Tube, draw_tube
from spinesim.phantom.trunk import AIR_HU, CAVITY, FAT_HU

LUNG_HU, HEART_HU, BLOOD_HU, GULLET_HU = -860.0, 42.0, 45.0, 35.0
LIVER_HU, SPLEEN_HU, KIDNEY_HU, STOMACH_HU, BOWEL_HU, GUT_AIR_HU = 56.0, 48.0, 32.0, 30.0, 32.0, -800.0

WALL_MM = 7.0
"""From the middle of the chest wall to its inner face."""

_FRONT = (0.0, 1.0, 0.0)
_BELLY = (
    ((70.0, 42.0, 185.0), (78.0, 80.0, 72.0), LIVER_HU),
    ((-52.0, 48.0, 190.0), (44.0, 34.0, 50.0), STOMACH_HU),
    ((-60.0, 66.0, 200.0), (28.0, 12.0, 26.0), GUT_AIR_HU),
    ((-92.0, -12.0, 195.0), (28.0, 42.0, 45.0), SPLEEN_HU),
    ((62.0, -10.0, 128.0), (24.0, 22.0, 54.0), KIDNEY_HU),
    ((-62.0, -10.0, 138.0), (24.0, 22.0, 54.0), KIDNEY_HU),
)
"""Ellipsoids: middle, half-axes, HU; later ones lie over earlier ones."""

_HEART = ((-18.0, 50.0, 272.0), (52.0, 40.0, 48.0))
_GREAT_VESSELS = (
    Rod((10.0, 62.0, 295.0), (14.0, 60.0, 335.0), (15.0, 15.0), (14.5, 14.5), up=_FRONT),
    Rod((14.0, 60.0, 335.0), (-12.0, 24.0, 362.0), (14.0, 14.0), (12.0, 12.0)),
    Rod((-12.0, 24.0, 362.0), (-16.0, 20.0, 345.0), (12.0, 12.0), (11.0, 11.0), up=_FRONT),
    Rod((-14.0, 66.0, 295.0), (-16.0, 48.0, 330.0), (13.0, 13.0), (12.0, 12.0), up=_FRONT),
    Rod((-30.0, 36.0, 326.0), (32.0, 40.0, 322.0), (10.0, 10.0), (9.0, 9.0)),
    Rod((30.0, 56.0, 290.0), (28.0, 50.0, 385.0), (9.0, 9.0), (8.0, 8.0), up=_FRONT),
    Rod((10.0, 50.0, 360.0), (24.0, 40.0, 430.0), (6.5, 6.5), (5.5, 5.5), up=_FRONT),
    Rod((-10.0, 42.0, 360.0), (-22.0, 36.0, 430.0), (5.0, 5.0), (4.5, 4.5), up=_FRONT),
)
"""Aorta's root and arch, pulmonary trunk and arteries, superior vena cava, carotids: x, offset before the bodies, z."""

_CARINA_MM = 345.0
_BOWEL_TOP_MM = 165.0
_LUNG_FLOOR_MM, _CHEST_FLOOR_MM = 172.0, 150.0


def build_body_tube(column: Column) -> Tube:
    """Draw the tube of the vertebral bodies, which vessels and mediastinum follow."""
    levels = column.upwards
    half_w = [(dims.w_sup + dims.w_inf) / 4 for dims in levels]
    return draw_tube(column.local_line(), half_w, [dims.depth / 2 for dims in levels])


def paint_organs(slab: Slab, column: Column) -> None:
    """Paint all organs into a slab, in place."""
    x, y, z = slab.place
    bodies = build_body_tube(column)
    cavity = CAVITY.distance(x, y, z, -WALL_MM)
    slab.paint(cavity, FAT_HU + 5)
    _paint_belly(slab, cavity)
    if slab.meets(_CHEST_FLOOR_MM, np.inf):
        _paint_chest(slab, cavity, bodies)
    _paint_vessels(slab.near_middle(45.0), column, bodies)


def _paint_chest(slab: Slab, cavity: np.ndarray, bodies: Tube) -> None:
    """Heart, great vessels, lungs with their branches, and airway."""
    x, y, z = slab.place
    along, forward = bodies.line.coordinates(y, z)
    heart = _ellipsoid(x, y, z, *_HEART)
    slab.paint(np.maximum(heart, cavity), HEART_HU)
    middle = slab.near_middle(60.0)
    for vessel in _GREAT_VESSELS:
        low, high = sorted((vessel.start[2], vessel.end[2]))
        if slab.meets(low - 20, high + 20):
            middle.paint(vessel.distance(middle.x, forward, z), BLOOD_HU)
    mediastinum = smooth_union(_mediastinum(x, forward, bodies.section(along)), heart, 14.0)
    branches = 900 * np.clip(np.abs(slab.grain) - np.float32(1.9), 0, 1)
    slab.paint(_lung_distance(slab, cavity, mediastinum), LUNG_HU + 20 * slab.grain + branches)
    _paint_airway(middle, forward)


def _ellipsoid(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, middle: tuple[float, float, float], half: tuple[float, float, float]
) -> np.ndarray:
    return ellipsoid_distance((x - middle[0], y - middle[1], z - middle[2]), half)


def _paint_belly(slab: Slab, cavity: np.ndarray) -> None:
    """Bowel and gas where the texture is high, in front of the retroperitoneum; then the solid organs."""
    x, y, z = slab.place
    if slab.meets(-np.inf, _BOWEL_TOP_MM):
        behind = np.maximum(np.float32(32.0) - y, z - np.float32(_BOWEL_TOP_MM))
        loops = smooth_intersection(np.maximum(cavity + 6, behind), (np.float32(-0.15) - slab.grain) * 6, 4.0)
        slab.paint(loops, BOWEL_HU)
        slab.paint(np.maximum(np.maximum(cavity + 16, behind), (np.float32(1.5) - slab.grain) * 6), GUT_AIR_HU)
    for middle, half, hu in _BELLY:
        if not slab.meets(middle[2] - half[2] - 5, middle[2] + half[2] + 5):
            continue
        organ = smooth_intersection(_ellipsoid(x, y, z, middle, half), cavity, 6.0)
        slab.paint(organ, hu)


def _mediastinum(x: np.ndarray, forward: np.ndarray, bodies: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What lies between the lungs, without the heart: round the vertebral bodies and before them."""
    beside = ellipse_distance(x, forward + 8, bodies[0] + 5, bodies[1] + 12)
    middle = np.abs(x + 3) - np.float32(15.0) - 12 * np.exp(-(((forward - 55) / 26) ** 2))
    return smooth_union(beside, middle, 12.0)


def _lung_distance(slab: Slab, cavity: np.ndarray, mediastinum: np.ndarray) -> np.ndarray:
    """Both lungs: the chest without the mediastinum, above the two domes of the diaphragm."""
    x, y, z = slab.place
    top = np.where(x > 0, np.float32(252.0), np.float32(240.0))
    dome = top - ((np.abs(x) - 62) ** 2 + np.float32(0.8) * (y - 30) ** 2) / 120
    floor = np.float32(_LUNG_FLOOR_MM) + np.maximum(60 - np.abs(x), 0)
    above = (np.maximum(dome, floor) - z) * np.float32(0.7)
    return smooth_intersection(smooth_intersection(cavity + 1, -mediastinum, 8.0), above, 6.0)


def _paint_airway(slab: Slab, forward: np.ndarray) -> None:
    """Gullet, trachea and main bronchi."""
    x, z = slab.x, slab.z
    gullet = np.maximum(ellipse_distance(x + 5, forward - 20, np.float32(8), np.float32(6)), np.float32(240) - z)
    slab.paint(gullet, GULLET_HU)
    wall = np.hypot(x, forward - 37) - 10
    below = np.float32(_CARINA_MM) - z
    slab.paint(np.maximum(wall, below), BLOOD_HU)
    slab.paint(np.maximum(wall + 2, below), AIR_HU)
    for side in (1.0, -1.0):
        bronchus = Rod((0.0, 36.0, _CARINA_MM + 2), (side * 38.0, 28.0, 308.0), (6.5, 6.5), (5.0, 5.0))
        slab.paint(bronchus.distance(x, forward, z), AIR_HU)


def _paint_vessels(slab: Slab, column: Column, bodies: Tube) -> None:
    """Aorta to the left in front of the bodies, inferior vena cava to the right."""
    x, y, z = slab.place
    along, forward = bodies.line.coordinates(y, z)
    place = {dims.level: float(at) for dims, at in zip(column.upwards, bodies.along_mm, strict=True)}
    beside = np.interp(along, [place[level] for level in (Level.L3, Level.T10, Level.T5)], [6, 9, 17])
    before = forward - bodies.section(along)[1]
    aorta = np.hypot(x + beside.astype(np.float32), before - 11) - np.float32(10.5)
    aorta = np.maximum(aorta, np.maximum(place[Level.L4] - along, along - place[Level.T4] - 8))
    cava = ellipse_distance(x - 17, before - 10, np.float32(11.0), np.float32(9.0))
    cava = np.maximum(cava, np.maximum(place[Level.L5] - along, along - place[Level.T10]))
    for vessel in (aorta, cava):
        slab.paint(vessel, BLOOD_HU)
