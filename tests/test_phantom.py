"""Laws of the built-in phantom: whole, apart, symmetric, as published, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError
from scipy.ndimage import binary_dilation, binary_erosion, label

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import Scan
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.phantom.column import body_wedge, build_column
from spinesim.phantom.table import read_dimensions
from spinesim.phantom.vertebra import body_distance

SMALL = PhantomParameters(upper="T7", lower="T10", spacing_mm=(2.0, 2.0, 2.0))


WHOLE = PhantomParameters(upper="C3", lower="S", spacing_mm=(2.5, 2.5, 2.5))


@pytest.fixture(scope="session")
def whole() -> Scan:
    return build_phantom(WHOLE)


@pytest.fixture(scope="session")
def phantom() -> Scan:
    return build_phantom(SMALL)


def test_the_levels_asked_for_are_there_and_no_others(phantom):
    assert tuple(phantom.labels.numbers) == SMALL.levels
    assert dict(phantom.labels.numbers) == {Level.T7: 14, Level.T8: 15, Level.T9: 16, Level.T10: 17}


@pytest.mark.parametrize("name", ["phantom", "whole"])
def test_each_vertebra_is_one_piece_inside_the_grid(name, request):
    phantom = request.getfixturevalue(name)
    for number in phantom.labels.present:
        mask = phantom.labels.voxels == number
        assert label(mask)[1] == 1
        assert not any(np.take(mask, edge, axis).any() for axis in range(3) for edge in (0, -1))


@pytest.mark.parametrize("name", ["phantom", "whole"])
def test_no_vertebra_touches_another(name, request):
    phantom = request.getfixturevalue(name)
    for number in phantom.labels.present:
        grown = binary_dilation(phantom.labels.voxels == number, np.ones((3, 3, 3)))
        assert set(np.unique(phantom.labels.voxels[grown])) == {0, number}


@pytest.mark.parametrize("name", ["phantom", "whole"])
def test_left_mirrors_right(name, request):
    phantom = request.getfixturevalue(name)
    assert np.array_equal(phantom.labels.voxels, phantom.labels.voxels[::-1])
    corners = phantom.grid.corners()
    assert_allclose(corners[:, 0].min(), -corners[:, 0].max(), atol=1e-9)


@pytest.mark.parametrize("level", list(read_dimensions()))
def test_bodies_have_the_published_size(level):
    dims = read_dimensions()[level]
    z = np.arange(-20, 20, 0.05, dtype=np.float32)
    rim = dims.depth / 2 - 1.2
    for y, published in ((rim, dims.h_ant), (-rim, dims.h_post)):
        inside = body_distance(np.float32(0), np.full(1, y, np.float32), z, dims) < 0
        at_the_edge = inside.sum() * 0.05 + dims.slope * 1.2 * np.sign(y)
        assert_allclose(at_the_edge, published, rtol=0.02)


def test_column_has_the_published_curvature():
    column = build_column()
    tilt = {
        level: (
            pose.lean + body_wedge(column.dimensions[level]) / 2,
            pose.lean - body_wedge(column.dimensions[level]) / 2,
        )
        for level, pose in column.poses.items()
        if level is not Level.S
    }
    kyphosis = np.rad2deg(tilt[Level.T1][0] - tilt[Level.T12][1])
    lordosis = np.rad2deg(column.poses[Level.S].lean - tilt[Level.L1][0])
    assert_allclose(kyphosis, 44.2, atol=0.1)  # Harrison 2002
    assert_allclose(lordosis, 50.5, atol=0.1)  # Sci Rep 2022 s41598-022-21840-x Table 2


def test_every_level_of_the_table_and_the_sacrum_can_be_had(whole):
    assert tuple(whole.labels.numbers) == WHOLE.levels == (*read_dimensions(), Level.S)


def test_labelled_bodies_have_the_published_height(phantom):
    column = build_column()
    for level, number in phantom.labels.numbers.items():
        dims = column.dimensions[level]
        world = phantom.grid.to_world(np.argwhere(phantom.labels.voxels == number).astype(float))
        y, z = column.poses[level].to_local(world[:, 1], world[:, 2])
        for middle, wall in ((0.42, dims.h_ant), (-0.42, dims.h_post)):
            near = (np.abs(world[:, 0]) < 0.3 * dims.w_sup) & (np.abs(y / dims.depth - middle) < 0.07)
            height = np.ptp(z[near]) + phantom.grid.spacing_mm[2]
            assert_allclose(height, wall, atol=phantom.grid.spacing_mm[2])


def test_tissues_have_published_hu(phantom):
    hu, labels = phantom.image.hu(), phantom.labels.voxels
    cancellous = np.mean([hu[binary_erosion(labels == n, iterations=3)].mean() for n in phantom.labels.present])
    assert 150 < cancellous < 280  # L1 at 40 y 188 +- 41 HU (Jang 2019), 1.2 times as much at T8
    cortex = hu[(labels > 0) & ~binary_erosion(labels > 0)]
    assert 250 < np.percentile(cortex, 90) < 1000
    assert_allclose(hu[:, -3:].mean(), -1000, atol=3)
    voxel = np.rint(phantom.grid.to_voxel(np.array([[80.0, 20.0, 300.0], [-28.0, -70.0, 280.0]]))).astype(int)
    lung, muscle = (hu[tuple(slice(v - 2, v + 3) for v in middle)].mean() for middle in voxel)
    assert -930 < lung < -700
    assert 35 < muscle < 80


def test_same_seed_same_bytes_and_another_seed_another_noise(phantom):
    again, other = build_phantom(SMALL), build_phantom(SMALL.model_copy(update={"seed": 1}))
    assert again.image.voxels.tobytes() == phantom.image.voxels.tobytes()
    assert other.image.voxels.tobytes() != phantom.image.voxels.tobytes()
    assert other.labels.voxels.tobytes() == again.labels.voxels.tobytes() == phantom.labels.voxels.tobytes()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"upper": "L1", "lower": "T5"}, "swap"),
        ({"upper": "C1"}, "C3 to S"),
        ({"lower": "T13"}, "C3 to S"),
        ({"upper": "T99"}, "did you mean"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "spacing_mm"),
        ({"noise_hu": -1.0}, "noise_hu"),
        ({"noise": 3.0}, "noise"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, reason):
    with pytest.raises(ValidationError, match=reason):
        PhantomParameters(**wrong)
