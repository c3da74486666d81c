"""Heart, lungs and airway.

World RAS, S1 end plate at the origin. Shapes and places are working values, drawn by eye after chest CTs; HU from
``tissue_hu.csv`` (Grainger & Allison 7th ed., radclass.mudr.org, and ordinary 120 kV experience).
"""

from __future__ import annotations

import numpy as np

from spinesim.phantom.canvas import GRAIN_MM, Slab
from spinesim.phantom.solids import Rod, ellipse_distance, ellipsoid_distance, smooth_intersection, smooth_union
from spinesim.phantom.sweep import Tube
from spinesim.phantom.tree import TWIG_MM, build_tree
from spinesim.phantom.trunk import AIR_HU, FAT_HU, RIB_CAGE_MM, Layers
from spinesim.phantom.vessels import BLOOD_HU, paint_roots

LUNG_HU, HEART_MUSCLE_HU, GULLET_HU = -862.0, 54.0, 35.0
FISSURE_HU = -600.0
CARINA_MM = 345.0
FURROW_MM = 9.0
"""How deep the fat of the heart's furrows reaches."""
CHEST_FLOOR_MM = 150.0
_LUNG_FLOOR_MM = 172.0
_FISSURE_MM = 0.5
_TWIG_MM = 0.55

_LEFT_HEART = ((-40.0, 50.0, 266.0), (44.0, 40.0, 38.0))
_RIGHT_HEART = ((0.0, 66.0, 266.0), (44.0, 32.0, 42.0))
_ATRIA = ((2.0, 34.0, 288.0), (38.0, 22.0, 26.0))
_CHAMBERS = (((-40.0, 50.0, 267.0), (31.0, 24.0, 23.0)), ((0.0, 68.0, 266.0), (36.0, 23.0, 33.0)), _ATRIA)


def paint_chest(slab: Slab, layers: Layers, bodies: Tube) -> None:
    """Paint heart, lungs with their vessels, gullet and airway into a slab."""
    x, y, z = slab.place
    along, forward = bodies.line.coordinates(y, z)
    heart, furrow = _heart_distances(slab)
    cavity = layers.rib_cage + np.float32(RIB_CAGE_MM)
    slab.paint(np.maximum(heart - 4 - 2 * slab.grain, cavity), FAT_HU)
    slab.paint(np.maximum(heart, cavity), HEART_MUSCLE_HU, name="heart")
    for middle, half in _CHAMBERS:
        slab.paint(np.maximum(_chamber(slab, middle, half) + 3, heart + 4), BLOOD_HU)
    slab.paint(
        np.maximum(
            np.maximum(furrow, np.abs(heart + np.float32(FURROW_MM / 2 - 1)) - np.float32(FURROW_MM / 2 + 1)), cavity
        ),
        FAT_HU,
    )
    paint_roots(slab, bodies)
    mediastinum = smooth_union(_mediastinum(x, forward, bodies.section(along)), heart - 4, 14.0)
    _paint_lungs(slab, _lung_distance(slab, cavity, mediastinum))
    _paint_airway(slab.near_middle(60.0), forward)


def dome_mm(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the diaphragm's two domes, the right one higher."""
    top = np.where(x > 0, np.float32(252.0), np.float32(240.0))
    return top - ((np.abs(x) - 62) ** 2 + np.float32(0.8) * (y - 30) ** 2) / 120


def _heart_distances(slab: Slab) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to the heart, and to the fat that runs between its chambers."""
    left, right, atria = (_chamber(slab, *part) for part in (_LEFT_HEART, _RIGHT_HEART, _ATRIA))
    below = np.minimum(left, right)
    between = np.minimum(np.abs(left - right), np.abs(below - atria)) * np.float32(0.6)
    return smooth_union(smooth_union(left, right, 22.0), atria, 16.0), between - 2 - slab.grain


def _chamber(slab: Slab, middle: tuple[float, float, float], half: tuple[float, float, float]) -> np.ndarray:
    """An ellipsoid of the heart, whose axis points to the left, down and forwards."""
    x, y, z = slab.place
    dx, dy, dz = x - middle[0], y - middle[1], z - middle[2]
    return ellipsoid_distance((dx, dy + np.float32(0.25) * dx, dz - np.float32(0.4) * dx), half)


def _mediastinum(x: np.ndarray, forward: np.ndarray, bodies: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What lies between the lungs, without the heart: round the vertebral bodies and before them."""
    beside = ellipse_distance(x, forward + 10, bodies[0] + 3.5, bodies[1] + 14)
    middle = np.abs(x + 1) - np.float32(12.0) - 18 * np.exp(-(((forward - 50) / 24) ** 2))
    return smooth_union(beside, middle, 10.0)


def _lung_distance(slab: Slab, cavity: np.ndarray, mediastinum: np.ndarray) -> np.ndarray:
    """Both lungs: the chest without the mediastinum, above the two domes of the diaphragm."""
    x, y, z = slab.place
    floor = np.float32(_LUNG_FLOOR_MM) + np.maximum(60 - np.abs(x), 0)
    above = (np.maximum(dome_mm(x, y), floor) - z) * np.float32(0.7)
    return smooth_intersection(smooth_intersection(cavity, -mediastinum, 8.0), above, 6.0)


def _paint_lungs(slab: Slab, lung: np.ndarray) -> None:
    """Lungs, denser where they lie low, with fissures between their lobes, and vessels."""
    x, y, z = slab.place
    slab.paint(lung, LUNG_HU - np.float32(0.3) * y + 9 * slab.grain)
    oblique = (z - 300 + np.float32(0.95) * (y - 12) - np.abs(x - 60) * np.float32(0.12)) * np.float32(0.72)
    across = z - 312 + np.float32(0.15) * (x - 60)
    middle_lobe = np.maximum(-oblique, across)
    for plane in (oblique, np.where(x > 0, np.maximum(np.abs(across), -oblique), np.float32(99.0))):
        slab.paint(np.maximum(np.abs(plane) - np.float32(_FISSURE_MM), lung + 1), FISSURE_HU, 0.5)
    _paint_tree(slab, lung)
    _paint_twigs(slab, lung)
    inside = lung < 0
    slab.mark(inside & (oblique <= 0), "lung_lower_lobe_{side}")
    slab.mark(inside & (oblique > 0), "lung_upper_lobe_{side}")
    slab.mark(inside & (middle_lobe <= 0) & (x > 0), "lung_middle_lobe_right")


def _paint_tree(slab: Slab, lung: np.ndarray) -> None:
    """The vessels of the lungs; one that is thinner than a voxel fills its share of it."""
    for rod, box in build_tree().near(slab.axes):
        part = slab.part(box)
        share = min(1.0, np.pi * (max(rod.end_radii[0], TWIG_MM) / slab.voxel_mm) ** 2)
        part.paint(np.maximum(rod.distance(*part.place), lung[box] + 1), BLOOD_HU, share)


def _paint_twigs(slab: Slab, lung: np.ndarray) -> None:
    """Vessels too many to be grown: the lines on which two grains are zero."""
    third = np.roll(slab.web, [length // 3 for length in slab.web.shape[:2]], axis=(0, 1))
    pairs = ((slab.grain, slab.web), (slab.web, third), (third, slab.grain))
    away = np.sqrt(np.minimum.reduce([a * a + b * b for a, b in pairs])) * np.float32(GRAIN_MM)
    slab.paint(np.maximum(away - np.float32(_TWIG_MM), lung + 4), BLOOD_HU)


def _paint_airway(slab: Slab, forward: np.ndarray) -> None:
    """Gullet, trachea and main bronchi."""
    x, z = slab.x, slab.z
    gullet = np.maximum(ellipse_distance(x + 5, forward - 20, np.float32(8), np.float32(6)), np.float32(240) - z)
    slab.paint(gullet, GULLET_HU, name="esophagus")
    slab.paint(np.hypot(x + 6, forward - 21) - np.float32(1.6) + np.maximum(240 - z, 0), -400.0, 0.7)
    wall = np.sqrt(x * x + np.square((forward - 37) * np.float32(1.1))) - 10
    below = np.float32(CARINA_MM) - z
    slab.paint(np.maximum(wall, below), BLOOD_HU)
    slab.paint(np.maximum(wall + 2, below), AIR_HU, name="trachea")
    for side in (1.0, -1.0):
        bronchus = Rod((0.0, 36.0, CARINA_MM + 2), (side * 38.0, 28.0, 308.0), (6.5, 6.5), (5.0, 5.0))
        distance = bronchus.distance(x, forward, z)
        slab.paint(distance - np.float32(1.5), BLOOD_HU)
        slab.paint(distance, AIR_HU)
