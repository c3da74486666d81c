"""Laws of the built-in phantom: whole, apart, upright, as published, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError
from scipy.ndimage import binary_dilation, binary_erosion, label

from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.scan import Scan
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.phantom.column import body_wedge, build_column
from spinesim.phantom.drift import draw_drift
from spinesim.phantom.individual import sample_individual
from spinesim.phantom.organs import build_body_tube
from spinesim.phantom.raster import axes_of
from spinesim.phantom.skeleton import vertebra_distance
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


@pytest.mark.parametrize("level", list(read_dimensions()))
def test_a_vertebra_is_drawn_as_its_own_mirror_image_and_differs_from_it_in_a_person(level):
    x, y, z = np.arange(1, 50, 2, dtype=np.float32), np.arange(-80, 20, 3), np.arange(-40, 30, 3)
    half = np.concatenate([-x[::-1], x])[:, None, None]
    drawn, own = build_column(), build_column(sample_individual(rng=np.random.default_rng(0)).variants)
    pose = drawn.poses[level]
    place = half, np.float32(pose.y_mm) + y[:, None], np.float32(pose.z_mm) + z
    distance = vertebra_distance(level, *place, drawn)[0]
    assert_allclose(distance, distance[::-1], atol=1e-4)
    distance = vertebra_distance(level, *place, own)[0]
    assert 0.2 < np.abs(distance - distance[::-1]).max() < 12


@pytest.mark.parametrize("name", ["phantom", "whole"])
def test_the_spine_stands_upright_in_the_middle_of_the_grid(name, request):
    phantom = request.getfixturevalue(name)
    corners = phantom.grid.corners()
    assert_allclose(corners[:, 0].min(), -corners[:, 0].max(), atol=1e-9)
    for v in estimate_spine(phantom.labels).whole:
        assert abs(v.centre[0]) < phantom.grid.spacing_mm[0] / 2


@pytest.mark.parametrize("seed", range(2))
def test_a_healthy_spine_has_no_curve(seed):
    labels = build_phantom(PhantomParameters(upper="T1", lower="L5", spacing_mm=(2.0, 2.0, 2.0), seed=seed)).labels
    spine = estimate_spine(labels)
    tilt = [
        np.rad2deg(np.arctan2(plate.normal[0], plate.normal[2])) for v in spine for plate in (v.superior, v.inferior)
    ]
    assert np.ptp(tilt) < 2.0


def test_the_soft_tissue_is_no_mirror_image_and_the_spine_lies_where_its_labels_are():
    asked = PhantomParameters(upper="T6", lower="L2", spacing_mm=(2.0, 2.0, 2.0))
    column, axes = build_column(), axes_of(build_phantom(asked).grid)
    individual = sample_individual(rng=np.random.default_rng(asked.seed))
    moved = np.stack(draw_drift(axes, slice(0, axes.shape[2]), build_body_tube(column), individual))
    bone = build_phantom(asked).labels.voxels > 0
    assert np.abs(moved[:, bone]).max() == 0
    assert 2 < np.abs(moved).max() < 25
    for axis in range(3):
        assert np.abs(np.gradient(moved[axis], 2.0, axis=axis)).max() < 0.8  # it folds at 1


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


def test_a_person_is_as_large_as_sex_and_height_make_him():
    """Male over female 1.06 to 1.10 in every dimension (Duman, Yadav); 10 % taller is 10 % larger."""
    who = {"mean": {}, "him": {"sex": "male"}, "her": {"sex": "female"}, "tall": {"height_cm": 181.5}}
    size = {}
    for name, person in who.items():
        labels = build_phantom(PhantomParameters(upper="T12", lower="T12", spacing_mm=(2.0, 2.0, 2.0), **person)).labels
        size[name] = np.count_nonzero(labels.voxels) ** (1 / 3)
    assert 1.06 < size["him"] / size["her"] < 1.10
    assert_allclose(size["tall"] / size["mean"], 1.10, atol=0.015)


def test_age_thins_the_marrow_as_published():
    """226 HU at 25 years and -2.5 HU a year (Jang 2019), measured inside L1."""
    pose, marrow = build_column().poses[Level.L1], {}
    for age in (30, 70):
        scan = build_phantom(PhantomParameters(upper="L1", lower="L1", noise_hu=0.0, age_years=age))
        i, j, k = np.rint(scan.grid.to_voxel(np.array([[0.0, pose.y_mm + 3, pose.z_mm]]))[0]).astype(int)
        marrow[age] = scan.image.hu()[i - 6 : i + 7, j - 4 : j + 5, k - 4 : k + 5].mean()
    assert_allclose(marrow[30], 226 - 2.5 * 5, atol=12)
    assert_allclose(marrow[30] - marrow[70], 100, atol=2)


@pytest.mark.parametrize(
    ("kernel", "slice_mm"), [("soft", None), ("standard", None), ("bone", None), ("standard", 3.0)]
)
def test_the_noise_is_as_strong_as_asked(kernel, slice_mm):
    """In the air above the body, against the same phantom without noise."""
    small = PhantomParameters(
        upper="T9", lower="T9", spacing_mm=(2.0, 2.0, 1.5), noise_hu=10.0, kernel=kernel, slice_mm=slice_mm
    )
    noisy, quiet = (build_phantom(small.model_copy(update={"noise_hu": hu})).image.hu()[:, -10:] for hu in (10.0, 0.0))
    assert_allclose((noisy - quiet).std(), 10.0, rtol=0.05)


def test_a_sharper_kernel_has_finer_grain_and_steeper_edges():
    steepest, likeness = {}, {}
    for kernel in ("soft", "standard", "bone"):
        asked = PhantomParameters(upper="T9", lower="T9", spacing_mm=(1.5, 1.5, 3.0), noise_hu=20.0, kernel=kernel)
        quiet = build_phantom(asked.model_copy(update={"noise_hu": 0.0})).image.hu()
        noise = build_phantom(asked).image.hu() - quiet
        steepest[kernel] = np.percentile(np.abs(np.diff(quiet, axis=0)), 99.9)
        likeness[kernel] = np.mean(noise[1:] * noise[:-1]) / noise.var()
    assert steepest["soft"] < steepest["standard"] < steepest["bone"]
    assert likeness["soft"] > likeness["standard"] > likeness["bone"]


def test_a_thicker_slice_blurs_along_the_body():
    thin, thick = (
        build_phantom(PhantomParameters(upper="L2", lower="L2", noise_hu=0.0, slice_mm=mm)).image.hu()
        for mm in (1.5, 5.0)
    )
    steepest = [np.percentile(np.abs(np.diff(hu, axis=2)), 99.5) for hu in (thin, thick)]
    assert steepest[1] < 0.75 * steepest[0]


def test_same_seed_same_bytes_and_another_seed_another_person(phantom):
    again, other = build_phantom(SMALL), build_phantom(SMALL.model_copy(update={"seed": 1}))
    assert again.image.voxels.tobytes() == phantom.image.voxels.tobytes()
    assert other.image.voxels.tobytes() != phantom.image.voxels.tobytes()
    assert again.labels.voxels.tobytes() == phantom.labels.voxels.tobytes() != other.labels.voxels.tobytes()
    assert other.labels.numbers == phantom.labels.numbers


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"upper": "L1", "lower": "T5"}, "swap"),
        ({"upper": "C1"}, "C3 to S"),
        ({"lower": "T13"}, "C3 to S"),
        ({"upper": "T99"}, "did you mean"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "spacing_mm"),
        ({"noise_hu": -1.0}, "noise_hu"),
        ({"height_cm": 130.0}, "height_cm"),
        ({"sex": "other"}, "male"),
        ({"kernel": "sharp"}, "bone"),
        ({"slice_mm": 1.0}, "at least as thick"),
        ({"noise": 3.0}, "noise"),
        ({"morphology_seed": -1}, "morphology_seed"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, reason):
    with pytest.raises(ValidationError, match=reason):
        PhantomParameters(**wrong)
