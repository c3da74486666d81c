"""What the recipes share: the spine of the published dimensions, and how neighbouring joints add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.phantom.column import Pose, body_wedge, build_column
from spinesim.phantom.table import Dimensions

REACH = 2.5
"""Levels over which neighbours vary together where nothing is published (assumed)."""


def published_spine(levels: Sequence[Level]) -> Spine:
    """The adult of the published dimensions and alignment, some of its levels (world RAS, mm)."""
    column = build_column()
    return Spine(tuple(_vertebra(level, column.poses[level], column.dimensions[level]) for level in levels))


def _vertebra(level: Level, pose: Pose, dims: Dimensions) -> Vertebra:
    c, s = np.cos(pose.lean), np.sin(pose.lean)
    axes = np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]])
    centre, half = np.array([0.0, pose.y_mm, pose.z_mm]), body_wedge(dims) / 2
    upper, lower = (
        EndPlate(centre + sign * dims.height / 2 * axes[:, 2], axes @ [0.0, np.sin(sign * half), np.cos(half)])
        for sign in (1, -1)
    )
    return Vertebra(level, centre, axes, upper, lower, dims.w_inf, dims.depth, measured=True)


def fading(count: int) -> Float[np.ndarray, "n n"]:
    """Correlation of neighbours that fades over ``REACH`` levels."""
    apart = np.subtract.outer(np.arange(count), np.arange(count))
    return np.exp(-0.5 * (apart / REACH) ** 2)


def add_up(joints: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "n n"]:
    """Covariance of the levels' turns, the lowest held, for that of the joints between them (from the head down)."""
    count = len(joints)
    summed = np.triu(np.ones((count + 1, count)))
    return summed @ joints @ summed.T
