"""The posterior elements of a vertebra, as rods; right half only (x >= 0), the left is its mirror.

Local frame of the vertebra: origin in the middle of the body, +x right, +y to the front, +z up.
Pedicles, canal and transverse span follow the table; the rest are working values drawn to look right on CT.
"""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level, region
from spinesim.phantom.individual import PLAIN, Variant
from spinesim.phantom.solids import Rod
from spinesim.phantom.table import Dimensions

FACET_GAP_MM = 2.0
"""Cartilage and joint space between two articular processes."""

SPINOUS_DEG = dict(
    zip(
        [Level(n) for n in range(Level.T1, Level.T12 + 1)],
        (25, 35, 44, 50, 54, 57, 58, 56, 50, 38, 25, 15),
        strict=True,
    )
)
"""How far a thoracic spinous process points down."""


def build_processes(dims: Dimensions, variant: Variant = PLAIN) -> tuple[Rod, ...]:
    """Give the rods of one vertebra's pedicle, lamina and processes."""
    draw = {"cervical": _cervical, "thoracic": _thoracic, "lumbar": _lumbar}[region(dims.level)]
    return (_pedicle(dims), *draw(dims, variant))


def pedicle_height(dims: Dimensions) -> float:
    """Local z of the pedicle's axis: near the upper end plate, but mid-way in the neck."""
    if region(dims.level) == "cervical":
        return 0.5
    return dims.h_post / 2 - dims.pedicle_h / 2 - (1.0 if region(dims.level) == "thoracic" else 2.0)


def canal_back(dims: Dimensions) -> float:
    """Local y of the posterior wall of the canal."""
    return -(dims.depth / 2 + dims.canal_d)


def _pedicle_x(dims: Dimensions) -> float:
    return (dims.canal_w + dims.pedicle_w) / 2


def pedicle_line(dims: Dimensions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local (x, y) of the pedicle's front and back ends, and its unit normal, pointing outwards.

    Where it runs obliquely it is moved outwards until the canal does not cut it.
    """
    radius = dims.pedicle_w / 2
    back = np.array([_pedicle_x(dims), dims.canal_y - 1])
    front = np.array([min(_pedicle_x(dims), (dims.w_sup + dims.w_inf) / 4 - 0.75 * radius), -dims.depth / 2 + 3])
    axis = (front - back) / np.linalg.norm(front - back)
    outwards = np.array([axis[1], -axis[0]])
    away = max(float((canal_touch(dims, outwards) - back) @ outwards) + radius, 0.0) * outwards
    return front + away, back + away, outwards


def canal_touch(dims: Dimensions, outwards: np.ndarray) -> np.ndarray:
    """Local (x, y) of the canal's ellipse where its unit normal is ``outwards``."""
    half = np.array([dims.canal_w / 2, dims.canal_d / 2])
    return np.array([0.0, dims.canal_y]) + half**2 * outwards / np.hypot(*(half * outwards))


def _pedicle(dims: Dimensions) -> Rod:
    front, back, _ = pedicle_line(dims)
    z, radii = pedicle_height(dims), (dims.pedicle_w / 2, dims.pedicle_h / 2)
    return Rod((*front.tolist(), z), (*back.tolist(), z), radii, radii)


def _thoracic(dims: Dimensions, variant: Variant) -> tuple[Rod, ...]:
    back, x, z = canal_back(dims), _pedicle_x(dims), pedicle_height(dims)
    joint = dims.height / 2 + dims.disc_below / 2
    away = FACET_GAP_MM / 2 + 2.3
    facet = dims.canal_w / 2 + 2.0
    down = np.deg2rad(SPINOUS_DEG[dims.level])
    length = (22.0 + 22.0 * np.sin(down)) * (1 + variant.spinous_longer)
    down += variant.spinous_down_rad
    tip = (0.0, back - 4 - length * np.cos(down), -5 - length * np.sin(down))
    wing = (dims.tp_span / 2 - 4, back - (7.0 if dims.level < Level.T11 else 3.0), z)
    return (
        Rod((x, dims.canal_y - 2, z - 3), (0.0, back - 3, -4.0), (3.0, 6.0), (3.0, dims.height * 0.46)),
        Rod((x, dims.canal_y - 3, z - 1), wing, (4.5, 5.5), (4.0, 4.6)),
        Rod((0.0, back - 4, -5.0), tip, (3.8, 6.0), (2.8, 3.6)),
        Rod((x, back + away + 2, z), (facet, back + away, joint + 3), (4.0, 3.0), (4.5, 2.3), up=(0.0, 1.0, 0.0)),
        Rod((facet, back - away, -4.0), (facet, back - away, -joint - 3), (5.0, 2.6), (4.5, 2.3), up=(0.0, 1.0, 0.0)),
    )


def _lumbar(dims: Dimensions, variant: Variant) -> tuple[Rod, ...]:
    back, x, z = canal_back(dims), _pedicle_x(dims), pedicle_height(dims)
    joint_x = dims.canal_w / 2 + (4.5 if dims.level is Level.L5 else 3.0)
    joint_z = dims.height / 2 + dims.disc_below / 2
    turn = np.deg2rad(40.0)
    m = np.array([-np.cos(turn), -np.sin(turn)])
    upper = np.array([joint_x - 0.6, back - 1.0]) - m * (FACET_GAP_MM / 2 + 4.2)
    lower = np.array([joint_x, back - 1.0]) + m * (FACET_GAP_MM / 2 + 4.2)
    thin = (float(m[0]), float(m[1]), 0.0)
    tall = 7.5 if dims.level is Level.L5 else 10.0
    wing = (dims.tp_span / 2 - 2.5, dims.canal_y - 5, z + 2)
    long = 21.0 * (1 + variant.spinous_longer)
    tip = (0.0, back - 6 - long, -9.5 - long * float(np.sin(variant.spinous_down_rad)))
    return (
        Rod((x - 1, dims.canal_y - 4, z - 7), (0.0, back - 3.5, -6.0), (3.5, 7.5), (3.2, dims.height * 0.36)),
        Rod((x, dims.canal_y, z), wing, (4.2, 6.0), (2.5, 4.5)),
        Rod((0.0, back - 6, -6.5), tip, (3.0, tall), (3.8, tall * (1 + variant.spinous_longer))),
        Rod((x, dims.canal_y - 3, z), (upper[0], upper[1], joint_z + 4), (5.0, 4.5), (6.0, 4.2), up=thin),
        Rod((lower[0], lower[1], -6.0), (lower[0], lower[1], -joint_z - 5), (5.5, 4.2), (5.5, 4.2), up=thin),
    )


def _cervical(dims: Dimensions, variant: Variant) -> tuple[Rod, ...]:
    back, front = canal_back(dims), -dims.depth / 2 + 2
    pillar = dims.canal_w / 2 + 3.5
    long = (34.0 if dims.level is Level.C7 else 15.0) * (1 + variant.spinous_longer)
    root, wing_y = (dims.w_sup / 2 - 1, front + 1, -1.0), front
    if dims.level is Level.C7:
        root, wing_y = (_pedicle(dims).end[0], dims.canal_y - 1, -2.0), dims.canal_y
    tip = (0.0, back - 3 - long, -2.0 - 0.42 * long)
    return (
        Rod((pillar, dims.canal_y - 3, 0.0), (0.0, back - 2.5, -2.0), (2.6, 5.0), (2.4, 5.8)),
        Rod(root, (dims.tp_span / 2 - 3, wing_y, root[2]), (5.0, 3.2), (3.6, 3.0)),
        Rod((0.0, back - 3, -2.0), tip, (3.0, 5.0), (3.6 if long < 20 else 3.2, 3.8)),
    )
