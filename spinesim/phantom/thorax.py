"""Ribs, their cartilages and the sternum.

World RAS. Ribs run in the wall of ``trunk.CAVITY``; lengths and slopes are working values drawn by eye.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from spinesim.anatomy.levels import Level
from spinesim.phantom.column import Column
from spinesim.phantom.processes import build_processes
from spinesim.phantom.raster import Axes
from spinesim.phantom.solids import Rod
from spinesim.phantom.trunk import CAVITY

RIB_LEVELS = tuple(Level(n) for n in range(Level.T1, Level.T12 + 1))
RIB_CORTEX_MM = 0.9
RIB_MARROW_HU = 110.0
CARTILAGE_HU = 115.0
STEP_MM = 7.0
FAR_MM = np.float32(20.0)
REACH_MM = 4.0
"""Room round a rod in which its distance is evaluated."""

_DROP_MM = dict(zip(RIB_LEVELS, (26, 42, 56, 66, 76, 86, 94, 96, 92, 84, 62, 42), strict=True))
_END_DEG = dict(zip(RIB_LEVELS, (140, 146, 148, 148, 147, 145, 142, 138, 132, 124, 100, 66), strict=True))
_JOINS_STERNUM = RIB_LEVELS[:7]
_STERNUM = (
    (0.0, 1.0, 395.0, 24.0, 6.5),
    (0.0, 2.0, 350.0, 14.0, 5.0),
    (0.0, 2.0, 285.0, 18.0, 5.0),
    (0.0, -2.0, 258.0, 7.0, 4.0),
)

_BLADE_NORMAL = (0.45, -0.9, 0.0)


def build_rib(level: Level, column: Column) -> tuple[list[Rod], list[Rod]]:
    """Give the right rib of a level as short rods, and its cartilage."""
    points = _rib_line(level, column)
    bone = _rods(points, (3.4, 6.0) if level > Level.T1 else (5.0, 4.0))
    return bone, _cartilage(level, points[-1])


def _rib_line(level: Level, column: Column) -> np.ndarray:
    """World points of a rib's axis, from its head to its front end."""
    dims, pose = column.dimensions[level], column.poses[level]
    own_body = level in (Level.T1, Level.T10, Level.T11, Level.T12)
    head_z = dims.h_post * (0.25 if own_body else 0.5)
    head = (dims.w_sup / 2 + 6.0, *pose.to_world(-dims.depth / 2 + 3, head_z))
    wing = build_processes(dims)[2].end
    tubercle = (wing[0] + 1.0, *pose.to_world(wing[1] + 9.5, wing[2] + 1.0))
    neck = tuple((np.array(head) + np.array(tubercle)) / 2 + (0.0, -1.0, 0.5))
    round_wall = [_wall_point(turn, tubercle[2], level) for turn in np.linspace(32, _END_DEG[level], 11)]
    knots = np.array([head, neck, tubercle, *round_wall])
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return CubicSpline(chord, knots)(np.linspace(0, chord[-1], max(int(chord[-1] / STEP_MM), 4)))


def _wall_point(turn_deg: float, start_z: float, level: Level) -> tuple[float, float, float]:
    """Point of the chest wall at an angle from the back (0) to the front (180)."""
    z = start_z - 4.0 - _DROP_MM[level] * ((turn_deg - 32) / (_END_DEG[level] - 32)) ** 1.15 * _END_DEG[level] / 148
    return *CAVITY.point(float(np.deg2rad(turn_deg)), z), float(z)


def _cartilage(level: Level, end: np.ndarray) -> list[Rod]:
    if level not in _JOINS_STERNUM:
        return []
    z = float(np.interp(level, (Level.T1, Level.T7), (388.0, 272.0)))
    goal = np.array([13.0, float(CAVITY.front(z)) + 1.0, z])
    middle = (end + goal) / 2 + (8.0, 6.0, -8.0)
    share = np.linspace(0, 1, 7)[:, None]
    return _rods((1 - share) ** 2 * end + 2 * share * (1 - share) * middle + share**2 * goal, (3.6, 5.6))


def _rods(points: np.ndarray, radii: tuple[float, float]) -> list[Rod]:
    return [Rod(tuple(a), tuple(b), radii, radii) for a, b in zip(points[:-1], points[1:], strict=True)]


def build_sternum() -> list[Rod]:
    """Give manubrium, body and xiphoid process as flat rods."""
    knots = [((x, float(CAVITY.front(z)) + y, z), (w, d)) for x, y, z, w, d in _STERNUM]
    return [
        Rod(start, end, start_radii, end_radii, up=(0.0, 1.0, 0.0))
        for (start, start_radii), (end, end_radii) in zip(knots[:-1], knots[1:], strict=True)
    ]


def build_scapula() -> list[Rod]:
    """Give the right shoulder blade, arms raised, as flat rods: blade, outer border and spine."""
    tip, inner, outer = (104.0, -68.0, 300.0), (78.0, -68.0, 394.0), (128.0, -40.0, 388.0)
    return [
        Rod(tip, inner, (5.0, 2.4), (6.0, 2.4), up=_BLADE_NORMAL),
        Rod(tip, ((inner[0] + outer[0]) / 2, -58.0, 391.0), (6.0, 2.0), (25.0, 2.0), up=_BLADE_NORMAL),
        Rod(tip, outer, (4.0, 4.0), (6.5, 6.5), up=_BLADE_NORMAL),
        Rod((82.0, -74.0, 378.0), (126.0, -62.0, 404.0), (5.0, 4.5), (6.0, 6.0), up=_BLADE_NORMAL),
    ]


def rods_box(rods: list[Rod]) -> tuple[np.ndarray, np.ndarray]:
    """Give the lowest and the highest corner of a box round rods, with room for their surface."""
    reach = max(max(rod.start_radii + rod.end_radii) for rod in rods) + REACH_MM
    ends = np.array([end for rod in rods for end in (rod.start, rod.end)])
    return ends.min(axis=0) - reach, ends.max(axis=0) + reach


def rods_distance(rods: list[Rod], axes: Axes) -> np.ndarray:
    """Signed distance to rods and their mirror images, capped at ``FAR_MM``."""
    distance = np.full(axes.shape, FAR_MM, dtype=np.float32)
    for rod in rods:
        low, high = rods_box([rod])
        for side in (1, -1):
            ends = sorted((side * low[0], side * high[0]))
            box = axes.box((ends[0], low[1], low[2]), (ends[1], high[1], high[2]))
            if box is not None:
                x, y, z = axes.open(box)
                np.minimum(distance[box], rod.distance(side * x, y, z), out=distance[box])
    return distance
