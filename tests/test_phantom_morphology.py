"""Laws of phantoms whose vertebrae a morphology model drew: new vertebrae on the same spine, whole and apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose
from scipy.ndimage import binary_dilation, label

from spinesim.anatomy.boxes import overlap
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.cli.main import main
from spinesim.errors import ConfigError
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.phantom.column import build_column
from spinesim.phantom.raster import Axes
from spinesim.phantom.shapes import KEPT, OWN, sample_shapes
from spinesim.phantom.skeleton import draw_bones, vertebra_distance
from spinesim.phantom.table import read_dimensions
from spinesim.shape.habit import SHARED, sample_habit
from spinesim.shape.morphology import model_of
from spinesim.shape.shipped import read_shipped_morphology

SMALL = PhantomParameters(upper="T7", lower="T10", spacing_mm=(2.0, 2.0, 2.0), morphology_seed=5)


@pytest.fixture(scope="module")
def phantom():
    return build_phantom(SMALL)


@pytest.fixture(scope="module")
def column():
    return build_column(shapes=sample_shapes(5))


def test_a_habit_leaves_what_is_kept_and_neighbours_share_it_across_groups():
    models = read_shipped_morphology()
    told = {level: [] for level in read_dimensions()}
    for seed in range(150):
        for level, change in sample_habit(models, KEPT, OWN, rng=np.random.default_rng(seed)).items():
            changes = change.measures(model_of(models, level))
            assert_allclose([changes[name] for name in KEPT], 0, atol=1e-9)
            told[level].append([changes[name] for name in OWN])
    for upper, lower in ((Level.L2, Level.L3), (Level.T12, Level.L1), (Level.C7, Level.T1)):
        for rank in range(len(OWN)):
            one, other = (np.array(told[level])[:, rank] for level in (upper, lower))
            assert_allclose(np.corrcoef(one, other)[0, 1], SHARED, atol=0.12)
    with pytest.raises(ConfigError, match="that reads length"):
        sample_habit(models, ["length"], OWN, rng=np.random.default_rng(0))


def test_the_spine_is_the_same_and_its_vertebrae_are_not(column):
    drawn = build_column()
    assert column.poses == drawn.poses
    for level, dims in column.dimensions.items():
        own = {name: getattr(dims, name) / getattr(drawn.dimensions[level], name) for name in OWN}
        assert all(0.5 < share < 1.5 for share in own.values()) and len({1.0, *own.values()}) == 6
        y, z = (np.float32(part) for part in column.poses[level].to_world(-dims.depth / 2 - dims.canal_d - 3, -3))
        x = np.arange(-60, 60, 0.5, dtype=np.float32)
        assert np.abs(vertebra_distance(level, x, y, z, column)[0] - vertebra_distance(level, x, y, z, drawn)[0]).max()


@pytest.mark.parametrize("level", [Level.T1, Level.T4, Level.T11, Level.L3])
def test_bodies_have_the_size_of_the_table(column, level):
    """Walls and waist of the body in three sections, against the drawing's: within 2 % of its width and depth."""
    drawn, dims = build_column(), read_dimensions()[level]
    half = np.arange(-40, 40, 0.1, dtype=np.float32)
    for x, y, z, size in (
        (half, 0.0, 0.0, dims.w_sup),
        (half, 0.0, 0.4 * dims.height, dims.w_sup),
        (0.0, half, 0.0, dims.depth),
        (0.0, 0.45 * dims.depth, half, dims.h_ant),
        (0.0, -0.4 * dims.depth, half, dims.h_post),
    ):
        x, y, z = np.broadcast_arrays(*(np.asarray(part, dtype=np.float32) for part in (x, y, z)))
        pose = drawn.poses[level]
        c, s = np.float32(np.cos(pose.lean)), np.float32(np.sin(pose.lean))
        world = x.copy(), np.float32(pose.y_mm) + c * y + s * z, np.float32(pose.z_mm) - s * y + c * z
        ends = []
        for spine in (column, drawn):
            inside = vertebra_distance(level, *world, spine)[0] < 0
            run = label(inside)[0]
            ends.append(0.1 * np.count_nonzero(run == run[len(half) // 2]))
        assert abs(ends[0] - ends[1]) < 0.02 * size + 0.15


def test_each_vertebra_is_one_piece_and_touches_no_other(phantom):
    assert tuple(phantom.labels.numbers) == SMALL.levels
    for number in phantom.labels.present:
        mask = phantom.labels.voxels == number
        assert label(mask)[1] == 1
        assert set(np.unique(phantom.labels.voxels[binary_dilation(mask, np.ones((3, 3, 3)))])) == {0, number}


def test_same_seed_same_bytes_and_another_seed_other_vertebrae(phantom):
    again, other, plain = (
        build_phantom(SMALL.model_copy(update={"morphology_seed": seed})).labels.voxels.tobytes()
        for seed in (5, 6, None)
    )
    assert len({again, other, plain}) == 3 and again == phantom.labels.voxels.tobytes()


def test_the_folder_tells_the_persons_dimensions(tmp_path):
    line = "phantom --upper T8 --lower T9 --spacing 3 3 3 --morphology-seed"
    done = CliRunner().invoke(main, [*line.split(), "5", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "out" / "sub-phantom_about.json").read_text())
    assert about["parameters"]["morphology_seed"] == 5
    table, told = read_dimensions()[Level.T9], about["dimensions_mm"]["T9"]
    assert told["w_inf"] == table.w_inf and told["tp_span"] != table.tp_span
    done = CliRunner().invoke(main, [*line.split(), "-1", "--out", str(tmp_path / "none")])
    assert done.exit_code == 2 and not (tmp_path / "none").exists()
    assert done.stderr == "Error: --morphology-seed: expected greater than or equal to 0, got -1\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_joints_reach_into_each_other_no_deeper_than_those_that_are_drawn(seed):
    """Before bones are cut back from each other: the drawing's reach 2.6 mm into each other between L3 and L4."""
    axes = Axes(*(np.arange(*ends, 1.0, dtype=np.float32) for ends in ((-45, 46), (-110, 40), (-60, 500))))
    deepest = []
    for spine in (build_column(), build_column(shapes=sample_shapes(seed))):
        bones = draw_bones(spine, axes)
        pairs = [(bones[upper], bones[lower]) for upper, lower in zip(list(bones), list(bones)[1:], strict=False)]
        shared = [(one, other, overlap(one.box, other.box)) for one, other in pairs]
        deepest.append([-np.maximum(one.distance[a], other.distance[b]).min() for one, other, (a, b) in shared])
    assert (np.maximum(deepest[1], 0) - np.maximum(deepest[0], 0)).max() < 1.0
    assert np.max(deepest) < 3.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_whole_spine_is_straight_whole_and_apart(seed):
    labels = build_phantom(PhantomParameters(upper="C3", spacing_mm=(2.0, 2.0, 2.0), morphology_seed=seed)).labels
    for number in labels.present:
        mask = labels.voxels == number
        assert label(mask)[1] == 1
        assert set(np.unique(labels.voxels[binary_dilation(mask, np.ones((3, 3, 3)))])) == {0, number}
    tilts = [
        np.rad2deg(np.arctan2(plate.normal[0], plate.normal[2]))
        for vertebra in estimate_spine(labels)
        if Level.T1 <= vertebra.level <= Level.L5
        for plate in (vertebra.superior, vertebra.inferior)
    ]
    assert len(tilts) == 34 and np.ptp(tilts) < 2.0
