"""The shape of one vertebra, as a signed distance in its own frame."""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level, region
from spinesim.phantom.individual import PLAIN, Variant
from spinesim.phantom.processes import FACET_GAP_MM, build_processes, canal_back, canal_touch, pedicle_line
from spinesim.phantom.solids import ellipse_distance, smooth_intersection, smooth_union, superellipse_distance
from spinesim.phantom.table import Dimensions

WAIST = 0.09
"""Share by which a body is narrower half-way up."""

BACK_HOLLOW_MM = 0.3
"""How far the back wall stands in half-way up."""

PLATE_HOLLOW_MM = 1.2
"""Depth of the end plate's hollow below its rim."""

RIM_MM = 2.0
"""Breadth of the flat rim round the hollow."""

VESSEL_MM = 2.6
"""Radius of the transverse foramen."""

UNEVEN = 0.15
"""How much a hollow's depth varies from place to place, as a share of it."""

SPINOUS_MM, WING_MM = 30.0, 22.0
"""Length over which a spinous process turns aside, and a transverse one up and back."""

FUSION_MM = 3.0
"""Fillet between the parts of a vertebra."""


def body_distance(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, dims: Dimensions, variant: Variant = PLAIN
) -> np.ndarray:
    """Signed distance to the vertebral body.

    A kidney-shaped section that runs from the upper to the lower end plate with a waist; the rims of the end
    plates lie in two planes, ``h_ant`` apart at the front and ``h_post`` at the back; their middles are hollow.

    Parameters
    ----------
    x, y, z : array
        Local coordinates in millimetres, broadcast together.
    """
    half = np.float32(dims.height / 2) + np.float32(dims.slope / 2) * y
    rise = np.clip(z / half, -1, 1)
    upper = (1 + rise) / 2
    bulge = (1 - rise * rise) ** np.float32(1.5)
    waist = 1 - np.float32(WAIST) * bulge
    half_w = waist * np.float32(0.5) * (np.float32(dims.w_inf) + np.float32(dims.w_sup - dims.w_inf) * upper)
    depth = np.float32(dims.d_inf) + np.float32(dims.d_sup - dims.d_inf) * upper
    beyond = np.float32(max(0.1 * dims.depth, 2.5))
    half_d = (depth + beyond) / 2 * (1 - np.float32(WAIST / 2) * bulge)
    side = superellipse_distance(x, y + beyond / 2, half_w, half_d, 2.3)
    back = -depth / 2 + np.float32(BACK_HOLLOW_MM) * bulge - np.minimum((x * np.float32(2 / dims.canal_w)) ** 2, 1)
    side = smooth_intersection(side, back - y, 2.0)
    rim = (x / (half_w - np.float32(RIM_MM))) ** 2 + (y / (depth / 2 - np.float32(RIM_MM))) ** 2
    hollow = np.clip(1 - rim * rim, 0, 1) * _hollow_mm(x, y, z > 0, dims, variant)
    cap = (np.abs(z) - half + hollow) * np.float32(np.cos(np.arctan(dims.slope / 2)))
    return smooth_intersection(side, cap, 0.8)


def _hollow_mm(x: np.ndarray, y: np.ndarray, above: np.ndarray, dims: Dimensions, variant: Variant) -> np.ndarray:
    """Depth of the end plates' hollows, were there no rim: deepest a little off their middle."""
    lower, upper = (
        np.float32(PLATE_HOLLOW_MM * deep)
        * (1 + np.float32(4 * aside / dims.w_sup**2) * x - np.float32(4 * back / dims.depth**2) * y)
        for deep, aside, back in zip(
            variant.hollow[::-1], variant.hollow_aside_mm[::-1], variant.hollow_back_mm[::-1], strict=True
        )
    )
    first, second = (np.float32(9 * deep) for deep in variant.hollow)
    wave = np.float32(14 / dims.w_sup)
    uneven = np.sin(x * wave + first) * np.sin(y * wave + second)
    return np.where(above, upper, lower) * (1 + np.float32(UNEVEN * (variant is not PLAIN)) * uneven)


def posterior_distance(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, dims: Dimensions, variant: Variant = PLAIN, *, vessels: bool = True
) -> np.ndarray:
    """Signed distance to pedicles, laminae and processes, before the canal is cut out; foramina only with vessels."""
    x, y, z = _mirrored(x, y, z, dims, variant)
    rods = build_processes(dims, variant)
    distance = rods[0].distance(x, y, z)
    for rod in rods[1:]:
        distance = smooth_union(distance, rod.distance(x, y, z), FUSION_MM)
    if region(dims.level) == "cervical":
        distance = smooth_union(distance, _pillar_distance(x, y, z, dims), FUSION_MM / 2)
        if vessels and dims.level is not Level.C7:
            distance = np.maximum(distance, -_vessel_distance(x, y, dims))
    return distance


def _mirrored(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, dims: Dimensions, variant: Variant
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carry points to the right half of the drawing, where the processes stand as they do on the right side of it."""
    if variant is PLAIN:
        return np.abs(x), y, z
    behind = np.clip((np.float32(canal_back(dims) - 5) - y) / np.float32(SPINOUS_MM), 0, 1)
    front, back, _ = pedicle_line(dims)
    beside = max(front[0], back[0]) + dims.pedicle_w / 2
    out = np.clip((np.abs(x) - np.float32(beside)) / np.float32(WING_MM), 0, 1)
    (left_up, right_up), (left_back, right_back) = variant.wings_up_mm, variant.wings_back_mm
    up, backward = (
        out * np.where(x > 0, np.float32(right), np.float32(left))
        for left, right in ((left_up, right_up), (left_back, right_back))
    )
    return np.abs(x - np.float32(variant.spinous_aside_mm) * behind), y + backward, z - up


def _pillar_distance(x: np.ndarray, y: np.ndarray, z: np.ndarray, dims: Dimensions) -> np.ndarray:
    """Articular pillar of the neck: a column between two facets that slope back and down at 45 degrees."""
    dx, dy = x - np.float32(dims.canal_w / 2 + 4.0), y - np.float32(dims.canal_y - 2.0)
    column = superellipse_distance(dx, dy, np.float32(5.5), np.float32(6.0), 2.3)
    pitch = dims.height + dims.disc_below
    facet = np.abs(z - dy) * np.float32(np.sqrt(0.5)) - np.float32((pitch * np.sqrt(0.5) - FACET_GAP_MM) / 2)
    return smooth_intersection(column + 0 * z, facet, 1.5)


def _vessel_distance(x: np.ndarray, y: np.ndarray, dims: Dimensions) -> np.ndarray:
    """Transverse foramen, where the vertebral artery runs, beside the pedicle."""
    _, _, outwards = pedicle_line(dims)
    x0, y0 = canal_touch(dims, outwards) + (dims.pedicle_w + VESSEL_MM) * outwards
    return np.hypot(x - np.float32(x0), y - np.float32(y0)) - np.float32(VESSEL_MM)


def canal_distance(x: np.ndarray, y: np.ndarray, dims: Dimensions) -> np.ndarray:
    """Signed distance to the canal, an elliptic tube along the vertebra's own z axis."""
    return ellipse_distance(x, y - np.float32(dims.canal_y), np.float32(dims.canal_w / 2), np.float32(dims.canal_d / 2))
