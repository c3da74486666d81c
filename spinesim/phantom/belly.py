"""The organs of the belly.

World RAS, S1 end plate at the origin. Shapes and places are working values, drawn by eye after abdomen CTs; HU from
``tissue_hu.csv`` (Grainger & Allison 7th ed., radclass.mudr.org, and ordinary 120 kV experience).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline

from spinesim.phantom.bundle import Bundle, bundle
from spinesim.phantom.canvas import GRAIN_MM, Slab
from spinesim.phantom.chest import dome_mm
from spinesim.phantom.solids import Rod, ellipsoid_distance, smooth_intersection, smooth_union
from spinesim.phantom.trunk import FAT_HU, Layers
from spinesim.phantom.vessels import BLOOD_HU

LIVER_HU, SPLEEN_HU, KIDNEY_HU, STOMACH_HU, PANCREAS_HU = 56.0, 48.0, 32.0, 38.0, 42.0
GALL_HU, URINE_HU, GUT_WALL_HU, GUT_HU, GUT_AIR_HU = 12.0, 6.0, 42.0, 24.0, -920.0
BELLY_TOP_MM = 270.0

_SPLEEN = ((-96.0, -18.0, 192.0), (32.0, 46.0, 52.0))
_STOMACH = ((-52.0, 44.0, 188.0), (42.0, 38.0, 46.0))
_STOMACH_LEVEL_MM = 62.0
_GALL = ((48.0, 62.0, 128.0), (13.0, 20.0, 24.0))
_BLADDER = ((0.0, 42.0, -84.0), (42.0, 30.0, 26.0))
_RIGHT_KIDNEY, _LEFT_KIDNEY = (1.0, 62.0, 124.0), (-1.0, -62.0, 136.0)
_KIDNEY_BED = (42.0, 46.0, 72.0)
_KIDNEY_HALF = (27.0, 25.0, 56.0)
_PANCREAS = (
    Rod((38.0, 46.0, 118.0), (4.0, 54.0, 138.0), (13.0, 11.0), (9.0, 9.0)),
    Rod((4.0, 54.0, 138.0), (-72.0, 16.0, 168.0), (9.0, 9.0), (8.0, 10.0)),
)
_DUODENUM = (
    Rod((44.0, 58.0, 140.0), (50.0, 36.0, 104.0), (11.0, 12.0), (11.0, 12.0)),
    Rod((50.0, 36.0, 104.0), (-20.0, 44.0, 96.0), (10.0, 11.0), (9.0, 10.0)),
)
_COURSE = (
    ((92, 22, -8), (98, 8, 30), (98, 2, 70), (94, 6, 104), (80, 40, 112), (52, 74, 98), (18, 84, 84), (-20, 84, 84))
    + ((-58, 74, 108), (-88, 44, 148), (-102, 8, 150), (-106, -6, 108), (-104, -10, 62), (-96, 2, 20))
    + ((-84, 26, -16), (-52, 34, -42), (-18, 12, -40), (-4, -18, -60), (0, -34, -92))
)
_COURSE_MM = (22, 23, 23, 22, 19, 18, 17, 17, 17, 17, 15, 13, 12, 12, 12, 13, 13, 14, 16)
_STEP_MM = 9.0
_LOOP_MM = 11.5
SEED = 11
"""The bowel's course is anatomy, not noise: it is the same in every phantom."""


def paint_belly(slab: Slab, layers: Layers) -> None:
    """Paint mesentery, bowel and the solid organs into a slab."""
    if not slab.meets(-np.inf, BELLY_TOP_MM):
        return
    x, y, z = slab.place
    belly = np.maximum(layers.belly, z - np.maximum(dome_mm(x, y), 172) + 2)
    twigs = np.maximum(np.abs(slab.grain - np.float32(1.35)) * 3 - np.float32(0.8), belly + 12)
    slab.paint(twigs, BLOOD_HU, 0.45)
    _paint_bowel(slab, belly)
    _paint_organs(slab, belly)


def _paint_organs(slab: Slab, belly: np.ndarray) -> None:
    """Spleen, stomach, pancreas, duodenum, gall bladder, liver, kidneys, bladder, each in its own box."""
    _in_box(_paint_left_side, slab, belly, (-150, -90, 60), (10, 110, 260))
    _in_box(_paint_middle, slab, belly, (-90, 0, 80), (75, 100, 185))
    _in_box(_paint_right_side, slab, belly, (-80, -90, 40), (170, 130, 265))
    _in_box(_paint_bladder, slab, belly, (-50, 5, -115), (50, 80, -50))


def _in_box(
    work: Callable[[Slab, np.ndarray], None],
    slab: Slab,
    belly: np.ndarray,
    low: tuple[float, float, float],
    high: tuple[float, float, float],
) -> None:
    box = slab.axes.box(low, high)
    if box is not None:
        work(slab.part(box), belly[box])


def _paint_left_side(slab: Slab, belly: np.ndarray) -> None:
    bean, sinus = _kidney_distances(slab, *_LEFT_KIDNEY)
    spleen = smooth_intersection(smooth_intersection(_ellipsoid(slab, *_SPLEEN), belly + 3, 6.0), 6 - bean, 6.0)
    stomach = smooth_intersection(_ellipsoid(slab, *_STOMACH), belly + 4, 6.0)
    slab.paint(spleen, SPLEEN_HU, name="spleen")
    slab.paint(stomach, STOMACH_HU, name="stomach")
    content = np.where(slab.y > _STOMACH_LEVEL_MM, GUT_AIR_HU, GUT_HU + 10 * slab.grain)
    slab.paint(stomach + 4, content)
    slab.paint(smooth_intersection(bean, -sinus, 4.0), KIDNEY_HU, name="kidney_left")


def _paint_middle(slab: Slab, belly: np.ndarray) -> None:
    for name, (first, second) in (("pancreas", _PANCREAS), ("duodenum", _DUODENUM)):
        distance = smooth_union(first.distance(*slab.place), second.distance(*slab.place), 5.0) + slab.grain
        slab.paint(np.maximum(distance, belly), PANCREAS_HU + 8 * slab.grain, name=name)


def _paint_right_side(slab: Slab, belly: np.ndarray) -> None:
    gall = _ellipsoid(slab, *_GALL)
    slab.paint(np.maximum(gall, belly), GALL_HU, name="gallbladder")
    bed = ellipsoid_distance((slab.x - 54, slab.y + 30, slab.z - 126), _KIDNEY_BED)
    liver = np.maximum(_liver_distance(slab, belly), 2 - gall)
    liver = smooth_intersection(liver, -bed, 8.0)
    slab.paint(liver, LIVER_HU + 2 * slab.grain, name="liver")
    veins = np.hypot(slab.grain, slab.web) * np.float32(GRAIN_MM) - np.float32(1.8)
    slab.paint(np.maximum(veins, liver + 6), BLOOD_HU - 2)
    bean, sinus = _kidney_distances(slab, *_RIGHT_KIDNEY)
    slab.paint(smooth_intersection(bean, -sinus, 4.0), KIDNEY_HU, name="kidney_right")


def _paint_bladder(slab: Slab, belly: np.ndarray) -> None:
    slab.paint(np.maximum(_ellipsoid(slab, *_BLADDER), belly), URINE_HU, name="urinary_bladder")


def _liver_distance(slab: Slab, belly: np.ndarray) -> np.ndarray:
    """Under the right dome, down to a slanting edge; thinner towards the left, with a notch for the vessels."""
    x, y, z = slab.place
    edge = 70 + np.maximum(112 - x, 0) * np.float32(0.78) + np.maximum(18 - y, 0) * np.float32(0.5)
    hollow = 16 * np.exp(-(((x - 30) / 34) ** 2 + ((y - 30) / 26) ** 2))
    below = (edge + hollow - z) * np.float32(0.75)
    return smooth_intersection(smooth_intersection(belly + 3, below, 14.0), np.float32(-42.0) - y, 18.0)


def _kidney_distances(slab: Slab, side: float, middle: float, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to a kidney that leans along the psoas, and to the fat in its hollow."""
    x, y, z = slab.place
    out = side * (x - middle) + np.float32(0.22) * (z - height)
    bean = ellipsoid_distance((out, y + 12 + np.float32(0.12) * (height - z), z - height), _KIDNEY_HALF)
    return bean, ellipsoid_distance((out + 16, y + 6, z - height), (20.0, 9.0, 24.0)) + 2 * slab.grain


@cache
def _colon() -> Bundle:
    """The colon from caecum to rectum, with its haustra."""
    course = CubicSpline(range(len(_COURSE)), _COURSE)
    long = np.linalg.norm(np.diff(course(np.linspace(0, len(_COURSE) - 1, 200)), axis=0), axis=1).sum()
    at = np.linspace(0, len(_COURSE) - 1, int(long / _STEP_MM))
    wide = np.interp(at, range(len(_COURSE)), _COURSE_MM) * (1 + 0.16 * np.sin(np.arange(len(at)) * 1.9))
    return _chain(course(at), wide)


@cache
def _small_bowel() -> Bundle:
    """The small bowel: a line that winds to and fro through the middle of the belly."""
    rng = np.random.default_rng(SEED)
    places = []
    for row, z in enumerate(np.arange(112.0, -66.0, -24.0)):
        wide = 72 - 0.2 * max(20 - z, 0)
        across = np.linspace(-wide, wide, 6)[:: 1 if row % 2 else -1]
        places += [(x, 44.0 + 22 * (-1) ** n, z) for n, x in enumerate(across)]
    course = np.array(places) + rng.normal(0, 6.0, (len(places), 3))
    fine = CubicSpline(range(len(places)), course)(np.linspace(0, len(places) - 1, 3 * len(places)))
    return _chain(fine, _LOOP_MM * (1 + 0.15 * rng.standard_normal(len(fine)).clip(-2, 2)))


def _chain(points: np.ndarray, radii: np.ndarray) -> Bundle:
    links = zip(points[:-1].tolist(), points[1:].tolist(), radii[:-1].tolist(), radii[1:].tolist(), strict=True)
    up = (0.3, 0.5, 0.8)
    return bundle([Rod((a[0], a[1], a[2]), (b[0], b[1], b[2]), (r, r), (s, s), up=up) for a, b, r, s in links])


def _paint_bowel(slab: Slab, belly: np.ndarray) -> None:
    """Small bowel with fluid and a little gas, colon with stool and gas."""
    small, colon = (bowel.distance(slab.axes) for bowel in (_small_bowel(), _colon()))
    inside = belly + 3
    slab.paint(np.maximum(np.maximum(small, inside), 2 - colon), GUT_WALL_HU, name="small_bowel")
    slab.paint(np.maximum(np.maximum(small + 3, inside + 3), 2 - colon), GUT_HU + 8 * slab.grain)
    slab.paint(np.maximum(np.maximum(small + 4, inside + 4), (np.float32(1.9) - slab.grain) * 5), GUT_AIR_HU)
    slab.paint(np.maximum(colon, inside), GUT_WALL_HU, name="colon")
    lumen = np.maximum(colon + 2, inside + 2)
    slab.paint(lumen, FAT_HU / 3 + 60 * slab.grain)
    slab.paint(np.maximum(lumen, (np.float32(0.55) - np.abs(slab.grain)) * 5), GUT_AIR_HU, 0.75)


def _ellipsoid(slab: Slab, middle: tuple[float, float, float], half: tuple[float, float, float]) -> np.ndarray:
    return ellipsoid_distance((slab.x - middle[0], slab.y - middle[1], slab.z - middle[2]), half)
