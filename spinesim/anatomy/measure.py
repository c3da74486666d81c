"""Everything that is read off a spine: curves, sagittal angles, rotations, discs and heights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.curves import Curve, coronal_tilt, find_curves, sagittal_tilt
from spinesim.anatomy.levels import Level, levels_between
from spinesim.anatomy.vertebra import BodyHeights, Spine, Vector, Vertebra, unit

KYPHOSES = ((Level.T4, Level.T12), (Level.T5, Level.T12), (Level.T1, Level.T12))
LORDOSES = ((Level.L1, Level.S), (Level.T12, Level.L5), (Level.L1, Level.L5), (Level.T12, Level.S))

GENANT_LOSS = (0.20, 0.25, 0.40)
"""Loss of height from which Genant grades 1, 2 and 3 count (Genant 1993; Wang 2019)."""


@dataclass(frozen=True)
class Disc:
    """The space between two measured end plates: height in mm, wedge in radians.

    ``coronal_wedge`` is positive when the disc opens to the patient's right, ``sagittal_wedge`` when it opens forward.
    """

    upper: Level
    lower: Level
    height_mm: float
    coronal_wedge: float
    sagittal_wedge: float


@dataclass(frozen=True)
class Measures:
    """What was measured on a spine (radians and mm); keys are levels or pairs of levels.

    ``sagittal`` holds how far the upper and the lower plate of each level lean forward, seen from the side; ``slips``
    how far each level stands forward on the one below it, as a share of that one's depth; ``steps_mm`` the distance of
    neighbouring bodies' centres. ``masses_ml`` holds the volume of what grew in the scan, by its title.
    """

    curves: tuple[Curve, ...]
    kyphosis: dict[tuple[Level, Level], float]
    lordosis: dict[tuple[Level, Level], float]
    rotation: dict[Level, float]
    discs: tuple[Disc, ...]
    heights: dict[Level, BodyHeights]
    genant: dict[Level, int]
    sagittal: dict[Level, tuple[float, float]]
    slips: dict[Level, float]
    steps_mm: dict[tuple[Level, Level], float]
    unmeasured: tuple[Level, ...]
    masses_ml: Mapping[str, float] = field(default_factory=dict)

    def sagittal_angle(self, upper: Level, lower: Level) -> float:
        """Angle seen from the side, from a level's upper plate to another's lower one; positive for a kyphosis.

        Of the sacrum it is the upper plate; not a number where a level is not measured.
        """
        return _angle_between(self.sagittal, upper, lower)

    def curve_at(self, level: Level) -> Curve | None:
        """The largest curve that holds a level, if there is one."""
        return next((curve for curve in self.curves if curve.holds(level)), None)


def measure_spine(spine: Spine) -> Measures:
    """Measure a spine as far as its levels are there."""
    axes, sagittal = spine.patient_axes, _sagittal_tilts(spine)
    return Measures(
        curves=find_curves(spine),
        kyphosis=_named_angles(sagittal, KYPHOSES, sign=1.0),
        lordosis=_named_angles(sagittal, LORDOSES, sign=-1.0),
        sagittal=sagittal,
        rotation={v.level: axial_rotation(v, axes) for v in spine.whole},
        discs=measure_discs(spine),
        heights={v.level: v.heights for v in spine.whole if v.heights},
        genant={v.level: genant_grade(v, spine) for v in spine.whole},
        slips=measure_slips(spine),
        steps_mm=_measure_steps(spine),
        unmeasured=tuple(v.level for v in spine if not v.measured),
    )


def axial_rotation(vertebra: Vertebra, patient_axes: Float[np.ndarray, "3 3"]) -> float:
    """Rotation about the patient's long axis: radians, positive when the body's front turns to the patient's right.

    The vertebra's own anterior (from the centre of the canal to the centre of the body) is seen from above.
    """
    right, anterior, _ = patient_axes.T @ vertebra.axes[:, 1]
    return float(np.arctan2(right, anterior))


Tilts = Mapping[Level, tuple[float, float]]


def sagittal_angle(spine: Spine, upper: Level, lower: Level) -> float:
    """Measure one angle as :meth:`Measures.sagittal_angle` gives it."""
    return _angle_between(_sagittal_tilts(spine), upper, lower)


def _sagittal_tilts(spine: Spine) -> dict[Level, tuple[float, float]]:
    """How far the upper and the lower plate of each measured level lean forward."""
    axes = spine.patient_axes
    return {v.level: (sagittal_tilt(v.superior, axes), sagittal_tilt(v.inferior, axes)) for v in spine if v.measured}


def _angle_between(tilts: Tilts, upper: Level, lower: Level) -> float:
    """Angle from a level's upper plate to another's lower one (of the sacrum the upper one), if both are measured."""
    if upper not in tilts or lower not in tilts:
        return float("nan")
    return tilts[upper][0] - tilts[lower][0 if lower == Level.S else 1]


def _named_angles(
    tilts: Tilts, pairs: tuple[tuple[Level, Level], ...], sign: float
) -> dict[tuple[Level, Level], float]:
    """The angles between pairs of levels that are both measured."""
    return {(a, b): sign * _angle_between(tilts, a, b) for a, b in pairs if a in tilts and b in tilts}


def measure_discs(spine: Spine) -> tuple[Disc, ...]:
    """Measure the discs between neighbouring measured vertebrae."""
    axes = spine.patient_axes
    discs = []
    for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        if not (above.measured and below.measured):
            continue
        up = above.inferior.normal + below.superior.normal
        height = float((above.inferior.centre - below.superior.centre) @ up / np.linalg.norm(up))
        coronal = coronal_tilt(below.superior, axes) - coronal_tilt(above.inferior, axes)
        sagittal = sagittal_tilt(below.superior, axes) - sagittal_tilt(above.inferior, axes)
        discs.append(Disc(above.level, below.level, height, coronal, sagittal))
    return tuple(discs)


def measure_slips(spine: Spine) -> dict[Level, float]:
    """Measure how far each level's lower plate stands in front of the plate below it, as a share of the lower depth.

    From centre to centre along the lower plate; bodies of equal depth then stand as far apart with their back edges,
    which Meyerding measures.

    References
    ----------
    Meyerding HW (1932). Spondylolisthesis. Surg Gynecol Obstet 54:371-377.
    """
    slips = {}
    for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        if above.measured and below.measured and not levels_between(above.level, below.level):
            apart = above.inferior.centre - below.superior.centre
            slips[above.level] = float(apart @ forward_on(below) / below.depth_mm)
    return slips


def _measure_steps(spine: Spine) -> dict[tuple[Level, Level], float]:
    """Measure how far the centres of neighbouring whole bodies lie apart."""
    return {
        (above.level, below.level): float(np.linalg.norm(above.centre - below.centre))
        for above, below in pairwise(spine)
        if above.measured and below.measured and Level.S not in (above.level, below.level)
    }


def forward_on(vertebra: Vertebra) -> Vector:
    """The way forward along the upper plate of a vertebra (unit, world)."""
    normal = vertebra.superior.normal
    return unit(vertebra.axes[:, 1] - (vertebra.axes[:, 1] @ normal) * normal)


FractureType = Literal["none", "wedge", "biconcave", "crush"]

SUNKEN = 0.5
"""A body whose back lost this share of the greatest loss is crushed, not wedged or biconcave."""


@dataclass(frozen=True)
class HeightLoss:
    """Shares of its own healthy height that a body lost, and what Genant calls that (0 to 3, and a type)."""

    anterior: float
    middle: float
    posterior: float
    left: float
    right: float

    @property
    def worst(self) -> float:
        """The greatest of them."""
        return max(self.anterior, self.middle, self.posterior, self.left, self.right)

    @property
    def grade(self) -> int:
        """Genant grade of the greatest loss."""
        return grade_of(self.worst)

    @property
    def type(self) -> FractureType:
        """Type after Genant: crushed where the back sank too, else by where the loss is greatest."""
        if self.grade == 0:
            return "none"
        if self.posterior >= SUNKEN * self.worst and min(self.left, self.right) >= SUNKEN * self.worst:
            return "crush"
        return "biconcave" if self.middle >= max(self.anterior, self.left, self.right) else "wedge"


def height_loss(heights: BodyHeights, healthy: BodyHeights) -> HeightLoss:
    """Hold a body's heights against those that it had.

    References
    ----------
    Genant HK et al. (1993). J Bone Miner Res 8:1137-1148; six points, with the body's own healthy heights as reference.
    """
    places = ("anterior", "middle", "posterior", "left", "right")
    return HeightLoss(**{place: 1 - getattr(heights, place) / getattr(healthy, place) for place in places})


def genant_grade(vertebra: Vertebra, spine: Spine) -> int:
    """Grade a body's loss of height (0 to 3).

    Front and middle are held against the back, and the back against its neighbours' backs; the greatest loss counts.

    References
    ----------
    Genant HK et al. (1993). Vertebral fracture assessment using a semiquantitative technique.
    J Bone Miner Res 8:1137-1148.
    """
    heights = vertebra.heights
    if heights is None:
        return 0
    whole = spine.whole
    rank = whole.index(vertebra)
    beside = [w.heights.posterior for w in (*whole[max(rank - 1, 0) : rank], *whole[rank + 1 : rank + 2]) if w.heights]
    ratios = [heights.anterior / heights.posterior, heights.middle / heights.posterior]
    ratios += [float(heights.posterior / np.mean(beside))] if beside else []
    return grade_of(1 - min(ratios))


def grade_of(loss: float) -> int:
    """Genant grade (0 to 3) of a share of height that was lost."""
    return int(np.searchsorted(GENANT_LOSS, loss, side="right"))


def ball_volume_ml(diameter_mm: float) -> float:
    """Volume of a ball."""
    return float(np.pi / 6 * diameter_mm**3 / 1000)


def ball_diameter_mm(volume_ml: float) -> float:
    """Diameter of the ball of a volume."""
    return float(np.cbrt(6000 * volume_ml / np.pi))
