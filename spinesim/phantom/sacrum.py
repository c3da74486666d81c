"""The sacrum: a curved wedge of fused bodies, drawn straight and bent along an arc.

All measures but the S1 end plate's are working values, drawn by eye.
"""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.phantom.column import Column, Pose
from spinesim.phantom.solids import Rod, smooth_intersection, smooth_union, superellipse_distance
from spinesim.phantom.sweep import SweptLine, draw_line

LENGTH_MM = 105.0
"""From the promontory to the apex along the bone's middle (working value)."""

CURVE_RAD = 1.0
"""How far the apex turns to the front against S1 (working value)."""

_ALA = (
    Rod((16.0, -3.0, -15.0), (45.0, -15.0, -20.0), (13.0, 14.0), (14.0, 17.0)),
    Rod((14.0, -4.0, -36.0), (39.0, -16.0, -40.0), (9.0, 14.0), (11.0, 18.0)),
    Rod((10.0, -3.0, -58.0), (24.0, -9.0, -60.0), (6.0, 12.0), (7.0, 12.0)),
)
_BACK = (
    Rod((20.0, -20.0, -12.0), (0.0, -36.0, -22.0), (4.0, 9.0), (3.5, 10.0)),
    Rod((20.0, -18.0, -36.0), (0.0, -31.0, -42.0), (4.0, 12.0), (3.5, 12.0)),
    Rod((13.0, -13.0, -58.0), (0.0, -22.0, -64.0), (3.5, 11.0), (3.5, 12.0)),
    Rod((0.0, -38.0, -22.0), (0.0, -24.0, -66.0), (3.0, 5.0), (2.5, 3.5), up=(0.0, 1.0, 0.0)),
)
_HOLES = tuple(
    Rod((x, 30.0, h - 3), (x + 1, -50.0, h + 3), (r, r), (r, r))
    for x, h, r in ((17.0, -25.0, 4.5), (16.0, -43.0, 4.2), (14.5, -59.0, 3.6), (12.5, -73.0, 3.0))
)


def sacral_pose(plate: Pose, depth_mm: float) -> Pose:
    """Pose on the sacrum's middle line, ``depth_mm`` below the S1 end plate: an arc of a circle."""
    radius, turn = LENGTH_MM / CURVE_RAD, depth_mm / LENGTH_MM * CURVE_RAD
    return plate.moved(radius * (1 - np.cos(turn)), -radius * np.sin(turn), -turn)


def sacral_line(plate: Pose) -> SweptLine:
    """The sacrum's middle line, from the apex up to the S1 end plate and on."""
    poses = [sacral_pose(plate, depth) for depth in np.linspace(LENGTH_MM, 0.0, 22)]
    return draw_line(np.array([[pose.y_mm, pose.z_mm] for pose in poses]))


def sacrum_distance(x: np.ndarray, y: np.ndarray, z: np.ndarray, column: Column) -> np.ndarray:
    """Signed distance to the sacrum, before the canal is cut out; world coordinates."""
    forward, along = _unrolled(y, z, column)
    x = np.abs(x)
    depth = np.clip(-along, 0, LENGTH_MM)
    half_w = np.interp(depth, [0, 12, 30, 60, 105], [24.7, 22, 18, 13, 7]).astype(np.float32)
    half_d = np.interp(depth, [0, 12, 30, 60, 105], [16.6, 14, 10.5, 7.5, 4]).astype(np.float32)
    bodies = superellipse_distance(x, forward, half_w, half_d, 2.2)
    rim = (x / 21.5) ** 2 + (forward / 14.5) ** 2
    top = along + np.float32(1.3) * np.clip(1 - rim * rim, 0, 1)
    bodies = smooth_intersection(bodies, np.maximum(top, -along - np.float32(LENGTH_MM)), 1.0)
    for rod in _ALA + _BACK:
        bodies = smooth_union(bodies, rod.distance(x, forward, along), 6.0)
    bodies = smooth_intersection(bodies, along + np.maximum(x - 20, 0) * np.float32(0.3), 1.0)
    for rod in _HOLES:
        bodies = smooth_intersection(bodies, -rod.distance(x, forward, along), 2.0)
    return smooth_union(bodies, _facet(column).distance(x, forward, along), 3.0)


def _unrolled(y: np.ndarray, z: np.ndarray, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Offset to the front and height above the S1 end plate along the bent bone."""
    along, forward = sacral_line(column.poses[Level.S]).coordinates(y, z)
    return forward, along - np.float32(LENGTH_MM)


def _facet(column: Column) -> Rod:
    """Articular process that meets L5."""
    dims = column.dimensions[Level.L5]
    back = -(dims.depth / 2 + dims.canal_d)
    turn = np.deg2rad(40.0)
    thin = (-float(np.cos(turn)), -float(np.sin(turn)), 0.0)
    x, y = dims.canal_w / 2 + 4.0 - thin[0] * 5.2, back + 1.5 - thin[1] * 5.2
    return Rod((x + 2, y + 3, -12.0), (x, y, dims.disc_below / 2 + 4), (7.0, 6.0), (5.5, 4.0), up=thin)
