"""Coronal curves of a spine: end vertebrae, apex and Cobb angle, found and not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import EndPlate, Spine, Vector, Vertebra

SMALLEST_CURVE_RAD = np.deg2rad(5.0)
"""Curves below 5 degrees are within what two observers differ by, and are not listed."""

Side = Literal["right", "left"]


@dataclass(frozen=True)
class Curve:
    """A coronal curve; ``cobb`` in radians, ``side`` the patient's side of its convexity.

    ``apex`` names a vertebra, or two for the disc between them. ``apex_position`` is the same place on a scale of
    ranks among the measured levels (whole numbers are vertebrae, halves are discs). ``translation_mm`` is the apex's
    distance from the line between the lowest and the highest measured body.
    """

    upper: Level
    lower: Level
    apex: tuple[Level, ...]
    apex_position: float
    cobb: float
    side: Side
    translation_mm: float

    @property
    def apex_name(self) -> str:
        """The apex as it is said: ``T9``, or ``T8/T9`` for a disc."""
        return "/".join(level.name for level in self.apex)

    def holds(self, level: Level) -> bool:
        """Whether a level lies within the curve, end vertebrae included."""
        return self.upper <= level <= self.lower


def coronal_tilt(plate: EndPlate, patient_axes: Float[np.ndarray, "3 3"]) -> float:
    """Coronal tilt of an end plate: radians from level, positive when its normal leans to the patient's right."""
    right, _, superior = patient_axes.T @ plate.normal
    return float(np.arctan2(right, superior))


def sagittal_tilt(plate: EndPlate, patient_axes: Float[np.ndarray, "3 3"]) -> float:
    """Sagittal tilt of an end plate: radians from level, positive when its upward normal leans forward."""
    _, anterior, superior = patient_axes.T @ plate.normal
    return float(np.arctan2(anterior, superior))


def find_curves(spine: Spine) -> tuple[Curve, ...]:
    """Find the coronal curves of a spine, the largest first.

    The largest is the pair of vertebrae, upper end plate against lower end plate, with the greatest angle in the
    patient's coronal plane; the rest of the spine above and below it is searched in the same way.

    References
    ----------
    Cobb JR (1948). Outline for the study of scoliosis. Instr Course Lect 5:261-275.
    """
    axes = spine.patient_axes
    upper = np.array([coronal_tilt(v.superior, axes) for v in spine.whole])
    lower = np.array([coronal_tilt(v.inferior, axes) for v in spine.whole])
    ends = _search(lower[None, :] - upper[:, None], 0, len(upper) - 1)
    curves = [_curve(spine, first, last, angle) for first, last, angle in ends]
    return tuple(sorted(curves, key=lambda curve: -curve.cobb))


def _search(angles: Float[np.ndarray, "n n"], first: int, last: int) -> list[tuple[int, int, float]]:
    """List end vertebrae (ranks) and signed Cobb angles between two ranks: the largest curve, then both sides of it."""
    if last - first < 2:
        return []
    block = np.triu(angles[first : last + 1, first : last + 1], k=2)
    i, j = np.unravel_index(np.abs(block).argmax(), block.shape)
    if abs(block[i, j]) < SMALLEST_CURVE_RAD:
        return []
    i, j = int(i) + first, int(j) + first
    return [(i, j, float(angles[i, j])), *_search(angles, first, i), *_search(angles, j, last)]


def _curve(spine: Spine, first: int, last: int, angle: float) -> Curve:
    """Describe the curve between two ranks of the measured levels."""
    side: Side = "right" if angle > 0 else "left"
    whole = spine.whole
    position = apex_position(whole[first : last + 1], spine.patient_axes, side) + first
    apex = whole[int(np.floor(position))], whole[int(np.ceil(position))]
    levels = (apex[0].level,) if apex[0] is apex[1] else (apex[0].level, apex[1].level)
    points = np.stack([whole[0].centre, (apex[0].centre + apex[1].centre) / 2, whole[-1].centre])
    translation = float(np.abs(_deviation(points, spine.patient_axes)[1]))
    return Curve(whole[first].level, whole[last].level, levels, position, abs(angle), side, translation)


def apex_position(
    vertebrae: tuple[Vertebra, ...], patient_axes: Float[np.ndarray, "3 3"], side: Side, *, exact: bool = False
) -> float:
    """Find where a curve lies farthest from the line between its end vertebrae.

    Parameters
    ----------
    vertebrae : tuple of Vertebra
        The curve's vertebrae, end vertebrae included, from the head down.
    side : {"right", "left"}
        Side of the convexity.
    exact : bool
        Give the top of the parabola through the farthest body and its neighbours, not the nearest half rank.

    Returns
    -------
    float
        Rank from the upper end vertebra: whole numbers are vertebrae, halves discs.
    """
    sign = 1.0 if side == "right" else -1.0
    away = sign * _deviation(np.stack([v.centre for v in vertebrae]), patient_axes)
    top = int(np.clip(away.argmax(), 1, len(vertebrae) - 2))
    before, at, after = away[top - 1 : top + 2]
    bend = before - 2 * at + after
    position = top + (0.0 if bend >= 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)))
    return position if exact else round(2 * position) / 2


def _deviation(points: Float[np.ndarray, "n 3"], patient_axes: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " n"]:
    """Distance of points to the right of the line from the last to the first, seen from the front (mm)."""
    right, up = (points @ patient_axes[:, [0, 2]]).T
    length = np.hypot(right[0] - right[-1], up[0] - up[-1])
    return ((right - right[-1]) * (up[0] - up[-1]) - (up - up[-1]) * (right[0] - right[-1])) / length


def lateral_offset_mm(upper: Vector, lower: Vector, patient_axes: Float[np.ndarray, "3 3"]) -> float:
    """How far one point lies to the patient's right of another."""
    return float((upper - lower) @ patient_axes[:, 0])
