"""The trunk's outline goes along where the spine bends forward, and holds still where it bends to a side."""

from __future__ import annotations

import numpy as np
import pytest

from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.plan import apply_motions
from spinesim.anatomy.surroundings import find_surroundings
from spinesim.deform.outline import bending_belts
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.proposal import goals_of, propose
from spinesim.pathology.scoliosis import Scoliosis


@pytest.mark.parametrize("asked", [Scoliosis(cobb_deg=40, apex="T9"), Fracture(level="T11", loss_percent=50)])
def test_belts_follow_their_levels_seen_from_the_side_alone(small_phantom, asked):
    spine, around = estimate_spine(small_phantom.labels), find_surroundings(small_phantom.image)
    plan = propose(asked, spine, goals_of(asked)).plan
    belts = bending_belts(around.outside, around.grid, spine, plan)
    whole = np.zeros(around.outside.shape, dtype=int)
    for box, belt, _ in belts:
        whole[box] += belt
    assert np.array_equal(whole, around.outside)
    assert len(belts) >= 3
    right, forward, _ = spine.patient_axes.T
    ways = [apply_motions(motion.last[None], motion.pivot)[0] - motion.pivot for _, _, motion in belts]
    assert np.abs(ways @ right).max() < 1e-9
    moved = {a.level: a.motion for a in plan.anchors}
    farthest = max((apply_motions(m.last[None], m.pivot)[0] - m.pivot) @ forward for m in moved.values())
    assert (ways @ forward).max() == pytest.approx(farthest, abs=max(1.0, 0.35 * farthest))
