"""How the trunk's outline goes along where the spine bends forward or backward."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.boxes import Box, bounding_boxes, padded
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.plan import Motion, Part, Plan, apply_motions, motions_about
from spinesim.anatomy.vertebra import Spine, Vertebra

EVENED_MM = 40.0
"""The outline follows the mean of the levels about it, with weights that fall off like a Gaussian of this width: skin
and muscle run over many levels."""

BELT_MM = 45.0
"""Belts of the outline that follow levels lie so far apart at least."""

MARGIN = 8
"""Nodes around a belt in which the distance to it is known."""


def bending_belts(
    outside: Bool[np.ndarray, "i j k"], grid: Grid, spine: Spine, plan: Plan
) -> list[tuple[Box, Bool[np.ndarray, "a b c"], Motion]]:
    """Part the space around a patient into belts, each with the motion of the levels about it seen from the side.

    Parameters
    ----------
    outside : (i, j, k) bool array
        All that is not the patient, on ``grid``.
    spine, plan
        The spine at rest, and how its levels move.

    Returns
    -------
    list of (Box, (a, b, c) bool array, Motion)
        For each belt a box of the grid, where in it the belt is, and its motion.
    """
    arches = {a.level: a.motion for a in plan.anchors if a.part in (Part.WHOLE, Part.ARCH)}
    moving = [vertebra for vertebra in spine if vertebra.level in arches]
    up = spine.patient_axes[:, 2]
    heights = np.array([vertebra.centre @ up for vertebra in moving])
    chosen = _apart(heights)
    motions = [arches[vertebra.level] for vertebra in moving]
    i, j, k = np.ogrid[: outside.shape[0], : outside.shape[1], : outside.shape[2]]
    rise = up @ grid.world_from_voxel[:3]
    place = rise[0] * i + rise[1] * j + rise[2] * k + rise[3]
    bounds = (heights[chosen][:-1] + heights[chosen][1:]) / 2
    ranks = np.where(outside, len(chosen) - np.searchsorted(bounds[::-1], place), 0).astype(np.uint8)
    belts = []
    for rank, box in bounding_boxes(ranks).items():
        at = chosen[rank - 1]
        weights = np.exp(-0.5 * ((heights - heights[at]) / EVENED_MM) ** 2)
        motion = _seen_from_the_side(moving[at], motions, weights / weights.sum(), spine.patient_axes)
        around = padded(box, outside.shape, MARGIN)
        belts.append((around, ranks[around] == rank, motion))
    return belts


def _apart(heights: Float[np.ndarray, " n"]) -> list[int]:
    """Ranks of levels, from the head down, that lie ``BELT_MM`` apart or more."""
    chosen = [0]
    for rank, height in enumerate(heights):
        if heights[chosen[-1]] - height >= BELT_MM:
            chosen.append(rank)
    return chosen


def _seen_from_the_side(
    vertebra: Vertebra, motions: Sequence[Motion], weights: Float[np.ndarray, " n"], axes: Float[np.ndarray, "3 3"]
) -> Motion:
    """Mean of several motions at a vertebra's centre, less what they move it to a side and turn it out of its plane."""
    right = axes[:, 0]
    centre = vertebra.centre
    turned = np.stack([axes.T @ motion.knots[:, :3, :3] @ axes for motion in motions])
    nods = weights @ np.unwrap(np.arctan2(turned[:, :, 2, 1], turned[:, :, 1, 1]))
    shifts = np.tensordot(weights, [apply_motions(m.knots, centre) - centre for m in motions], axes=1)
    shifts -= (shifts @ right)[:, None] * right
    turns = Rotation.from_rotvec(nods[:, None] * right).as_matrix()
    return Motion(centre, motions_about(turns, centre, centre + shifts))
