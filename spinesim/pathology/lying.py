"""A patient who lies on his back: what bends the spine forward does not lift his chest off the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.levels import Level
from spinesim.anatomy.plan import Motion, Part, Plan, apply_motions, motions_about
from spinesim.anatomy.vertebra import Spine

FEWEST_BELOW = 4
"""Levels below the most dorsal one that are needed to hold it where it lies."""


def rank_on_the_table(spine: Spine) -> int | None:
    """Rank, from the head down, of the thoracic level that lies deepest; None in a spine that ends near it."""
    anterior = np.array([vertebra.centre for vertebra in spine]) @ spine.patient_axes[:, 1]
    thoracic = [rank for rank, level in enumerate(spine.levels) if Level.T2 <= level <= Level.T12]
    rank = min(thoracic, key=lambda rank: anterior[rank], default=0)
    return rank if thoracic and len(spine) - rank >= FEWEST_BELOW else None


def keep_lying(spine: Spine, plan: Plan, moved: Spine) -> tuple[Plan, Spine]:
    """Nod a whole plan back about the centre of the lowest level, so that the chest stays on the table.

    The thoracic level that lies deepest keeps its place from front to back; seen from the side, the patient rests on it
    and on the lowest level, which turns where it is. In a scan without the chest nothing is nodded back:
    what he lies on is not seen.

    Parameters
    ----------
    spine : Spine
        At rest.
    plan : Plan
        Moves its levels; the lowest one stays.
    moved : Spine
        Where the plan leads.

    Returns
    -------
    Plan, Spine
        The plan nodded back, and where it leads.
    """
    rank = rank_on_the_table(spine)
    if rank is None:
        return plan, moved
    held, lowest = spine.vertebrae[rank], spine.vertebrae[-1]
    motion = next(a.motion for a in plan.anchors if a.level == held.level and a.part in (Part.WHOLE, Part.ARCH))
    right, front, up = spine.patient_axes.T
    arm = apply_motions(motion.knots, held.centre) - lowest.centre
    reach = np.hypot(arm @ front, arm @ up)
    nod = np.arctan2(arm @ front, arm @ up) - np.arcsin(
        np.clip((held.centre - lowest.centre) @ front / reach, -1.0, 1.0)
    )
    turns = Rotation.from_rotvec(nod[:, None] * right).as_matrix()
    back: Float[np.ndarray, "k 4 4"] = motions_about(turns, lowest.centre, np.tile(lowest.centre, (len(turns), 1)))
    anchors = tuple(replace(a, motion=Motion(a.motion.pivot, back @ a.motion.knots)) for a in plan.anchors)
    return replace(plan, anchors=anchors), Spine(tuple(vertebra.moved(back[-1]) for vertebra in moved))
