"""Where a plan presses bones into each other, joints give way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.deform.contact import ease_contacts
from spinesim.deform.deformation import carriages_of
from spinesim.deform.solids import build_solids
from spinesim.pathology.bend import Bend, plan_bend


@pytest.fixture(scope="module")
def column(small_phantom):
    """The spine of the small scan and its bones."""
    labels = small_phantom.labels
    solids = build_solids(labels)
    return estimate_spine(labels), {level: solids[number] for level, number in labels.numbers.items()}


def extended(spine, degrees: float) -> Bend:
    """T9 and all above lean back over T10."""
    nod = np.where([level <= Level.T9 for level in spine.levels], -np.deg2rad(degrees), 0.0)
    still = np.zeros(len(spine))
    return Bend(still, nod, still, still, still)


def pressed_mm3(plan, solids) -> float:
    """Volume of T9 that lies deeper than half a millimetre in T10."""
    upper, lower = solids[Level.T9], solids[Level.T10]
    ways = carriages_of(plan)
    points = upper.grid.to_world(np.argwhere(upper.depth > 0).astype(float))
    lower_from_upper = np.linalg.inv(ways[Level.T10].motion) @ ways[Level.T9].motion
    deep = lower.at(apply_affine(lower_from_upper, points)) > 0.5
    return float(np.count_nonzero(deep) * upper.grid.voxel_volume_mm3)


def test_where_no_bones_meet_the_plan_stays_as_it_is(column):
    spine, solids = column
    plan = plan_bend(spine, extended(spine, 0.0))
    assert ease_contacts(plan, spine, solids) is plan


def test_pressed_bones_are_led_apart_and_discs_keep_their_heights(column):
    spine, solids = column
    plan = plan_bend(spine, extended(spine, 14.0))
    eased = ease_contacts(plan, spine, solids)
    assert pressed_mm3(plan, solids) > 100
    assert pressed_mm3(eased, solids) < 0.4 * pressed_mm3(plan, solids)
    ways = {which: carriages_of(each) for which, each in (("plan", plan), ("eased", eased))}
    assert_allclose(ways["eased"][spine.levels[-1]].motion, np.eye(4), atol=1e-6)
    for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        heights = []
        for way in ways.values():
            top, bottom = above.moved(way[above.level].motion), below.moved(way[below.level].motion)
            heights.append((top.inferior.centre - bottom.superior.centre) @ bottom.axes[:, 2])
        assert heights[1] == pytest.approx(heights[0], abs=0.1)
    for anchor in eased.anchors:
        assert_allclose(anchor.motion.knots[0], np.eye(4), atol=1e-9)


def test_a_divided_bone_is_led_apart_by_its_arch(column):
    spine, solids = column
    bend = extended(spine, 14.0)
    plan = plan_bend(spine, replace(bend, wedge=np.full(len(spine), 0.01)))
    assert pressed_mm3(ease_contacts(plan, spine, solids), solids) < 0.6 * pressed_mm3(plan, solids)
