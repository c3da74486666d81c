"""An image looked up by cubic B-splines: the numbers are those of scipy and SimpleITK, and noise and edges stay."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner
from numpy.testing import assert_allclose
from scipy import ndimage
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import Volume
from spinesim.cli.main import main
from spinesim.deform.deformation import warp_scan
from spinesim.deform.field import Field, field_grid
from spinesim.deform.solids import build_solids
from spinesim.deform.warp import warp_image
from spinesim.errors import ConfigError
from spinesim.series.case import OutputGrid

SHIFT_MM = (0.31, -0.4, 1.1)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_a_field_that_moves_nothing_leaves_every_number(dtype):
    turn = Rotation.from_euler("xyz", (11, -7, 23), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 0.81, 2.5), (-83.1, 40.7, -1210.3)
    grid = Grid((17, 14, 9), affine)
    most = 3e4 if dtype is np.int16 else 1.9e9
    voxels = np.asfortranarray(np.random.default_rng(0).uniform(-most, most, grid.shape).astype(dtype))
    nodes = field_grid(grid, 2.5)
    warped, outside = warp_image(Volume(voxels, grid), Field(np.zeros((*nodes.shape, 3), np.float32), nodes), grid)
    assert not outside.any()
    assert_allclose(warped.voxels, voxels, rtol=0, atol=0 if np.issubdtype(dtype, np.integer) else 1.0)


@pytest.mark.parametrize("shape", [(24, 20, 18), (9, 2, 7)])
def test_numbers_are_those_of_scipy(shape):
    grid = Grid(shape, np.diag([0.7, 0.8, 2.5, 1.0]))
    voxels = np.asfortranarray(np.random.default_rng(0).normal(0, 100, shape).astype(np.float32))
    nodes = field_grid(grid, 5.0)
    field = Field(np.full((*nodes.shape, 3), SHIFT_MM, np.float32), nodes)
    warped, outside = warp_image(Volume(voxels, grid), field, grid, interpolation="bspline")
    sources = grid.to_voxel(grid.to_world(np.indices(shape).reshape(3, -1).T.astype(float)) + SHIFT_MM)
    inside = np.clip(sources, 0, np.array(shape) - 1).T
    theirs = ndimage.map_coordinates(voxels.astype(float), inside, order=3, mode="mirror").reshape(shape)
    assert outside.any() and not outside.all()
    off = np.abs(np.clip(theirs, voxels.min(), voxels.max()) - warped.voxels)[~outside]
    assert off.max() < 1e-3


def test_simpleitk_makes_the_same_image_with_the_written_field(small_case, small_files, small_written):
    before = small_case.before
    warped, outside, _ = warp_scan(before, build_solids(before.labels), small_case.deformation, "bspline")
    given, like = sitk.ReadImage(small_files[0], sitk.sitkFloat64), sitk.ReadImage(small_written["ct"])
    field = sitk.DisplacementFieldTransform(sitk.Cast(sitk.ReadImage(small_written["field"]), sitk.sitkVectorFloat64))
    made = sitk.GetArrayFromImage(sitk.Resample(given, like, field, sitk.sitkBSpline)).transpose(2, 1, 0)
    hu = warped.image.hu()
    limits = before.image.hu().min(), before.image.hu().max()
    off = np.abs(np.clip(made, *limits) - hu)[~outside & (made != 0)]
    assert np.mean(off <= 1) > 0.998  # beyond the outermost voxel centres, ITK goes on where we stop
    assert hu.min() >= limits[0] and hu.max() <= limits[1]


def test_more_noise_stays_than_by_linear_look_up():
    grid = Grid((40, 40, 40), np.eye(4))
    noise = Volume(np.asfortranarray(np.random.default_rng(1).normal(0, 12, grid.shape).astype(np.float32)), grid)
    nodes = field_grid(grid, 5.0)
    shifts = np.random.default_rng(2).uniform(0, 1, (*nodes.shape, 3)).astype(np.float32)
    kept = {}
    for way in ("linear", "bspline"):
        warped, outside = warp_image(noise, Field(shifts, nodes), grid, interpolation=way)
        kept[way] = warped.voxels[~outside].std() / 12
    assert kept["bspline"] > 1.5 * kept["linear"]


def test_the_command_looks_up_by_splines_and_says_so(small_files, tmp_path):
    ct, labels = map(str, small_files)
    asked = ["deform", ct, "--labels", labels, "--cobb", "20", "--apex", "T9", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*asked, "--interpolation", "bspline", "--no-compress"])
    assert result.exit_code == 0, result.output
    record = json.loads(next((tmp_path / "out").glob("*_record.json")).read_text(encoding="utf-8"))
    assert record["flow"]["interpolation"] == "bspline"
    assert record["inpaint"]["method"] == "none"


def test_another_interpolation_is_refused():
    with pytest.raises(ConfigError, match="interpolation: expected one of linear, bspline, got 'cubic'"):
        OutputGrid(interpolation="cubic")
