"""The flow: the field is what its points do, wherever the world begins."""

from dataclasses import replace

import numpy as np
import pytest

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.plan import Motion
from spinesim.deform import flow
from spinesim.deform.deformation import build_deformation
from spinesim.deform.flow import FlowSettings, follow_flow
from spinesim.deform.kernels import BRICK, LANES
from spinesim.deform.regions import measure_distances

SAME_MM = 1e-3


def test_splined_nodes_lie_where_the_flow_takes_them(small_case, monkeypatch):
    """To a tenth of a millimetre in bones, three anywhere; what the spline does alone, for both are one kernel's."""
    monkeypatch.setattr(flow, "ROUGH_MM", 1e-9)
    before, spine, plan = small_case.before, small_case.before_spine, small_case.proposal.plan
    followed = build_deformation(before, spine, plan, before.grid).field
    field = small_case.deformation.field
    apart = np.linalg.norm(field.displacement - followed.displacement, axis=-1)
    assert np.mean(apart > SAME_MM) > 0.1
    assert apart.max() < 0.3
    bones = np.argwhere(small_case.after.labels.voxels > 0)
    there, here = (each.sources(before.grid, bones) for each in (followed, field))
    assert np.linalg.norm(there - here, axis=1).max() < 0.1


def test_the_flow_does_not_depend_on_where_the_world_begins(small_case):
    """Single precision would not tell a thousandth of a millimetre at 20 m."""
    labels, spine, anchors = small_case.before.labels, small_case.before_spine, small_case.proposal.plan.anchors
    first, last = anchors[0], anchors[-1]
    moving, still = (measure_distances(labels, spine[anchor.level], anchor, 1.6) for anchor in (first, last))
    fields = []
    for begin_mm in (0.0, 20_000.0):
        world = np.eye(4)
        world[:3, 3] = begin_mm
        output, *grids = (Grid(g.shape, world @ g.world_from_voxel) for g in (labels.grid, moving.grid, still.grid))
        motion = Motion(first.motion.pivot + begin_mm, world @ first.motion.knots @ np.linalg.inv(world))
        held = [(replace(moving, grid=grids[0]), motion), (replace(still, grid=grids[1]), None)]
        fields.append(follow_flow(held, output, FlowSettings()).displacement)
    assert np.abs(fields[0]).max() > 1.0
    assert np.abs(fields[1] - fields[0]).max() < SAME_MM


@pytest.mark.parametrize("power", [1.5, 2.0])
def test_a_brick_of_points_goes_where_each_of_them_goes_alone(small_case, power):
    """Where anchors hardly count for a brick, it is told by a plane how far they are."""
    labels, spine, anchors = small_case.before.labels, small_case.before_spine, small_case.proposal.plan.anchors
    held = [(measure_distances(labels, spine[anchor.level], anchor, 1.6), anchor.motion) for anchor in anchors]
    middle = labels.grid.corners().mean(axis=0)
    carry = flow._carrier(held, FlowSettings(power=power), middle, flow.CPU)
    brick = 2.5 * np.argwhere(np.ones(BRICK))
    bones = labels.grid.to_world(np.argwhere(labels.voxels > 0).astype(float)) - middle
    starts = np.random.default_rng(0).choice(bones, 60) + np.random.default_rng(1).normal(0, 20, (60, 3))
    together = (starts[:, None] + brick).reshape(-1, 3).astype(np.float32)
    alone = np.repeat(together, LANES, axis=0)
    begun = together.copy()
    for points in (together, alone):
        carry(points, np.empty(len(points), dtype=np.float32))
    apart = np.linalg.norm(together - alone[::LANES], axis=1)
    assert np.linalg.norm(together - begun, axis=1).max() > 5.0
    assert 0 < apart.max() < 1e-2
