import gzip
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.nifti import read_nifti
from spinesim.anatomy.reading import read_labels
from spinesim.anatomy.scan import LabelMap, Storage, Volume
from spinesim.anatomy.writing import digest, read_field, write_field, write_labels, write_volume
from spinesim.errors import OutputError, ScanError

same_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def grids(draw):
    """Any orientation, handedness, obliquity, spacing and origin that float32 holds."""
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=3, max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    tilt = Rotation.from_rotvec(rng.normal(scale=draw(st.sampled_from([0.0, 0.3])), size=3)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ axes * rng.uniform(0.3, 5.0, 3)
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return Grid(shape, affine.astype(np.float32))


@st.composite
def volumes(draw):
    grid = draw(grids())
    dtype = np.dtype(draw(st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(scale=900, size=grid.shape)
    if dtype.kind != "f":
        values = np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max)
    q_code, s_code = draw(st.sampled_from([(1, 1), (0, 2), (1, 0), (2, 4)]))
    storage = Storage(
        dtype.name, q_code, s_code, draw(st.sampled_from([0, 1, 2, 3])), "a scan", draw(st.sampled_from([0, 8]))
    )
    slope, intercept = draw(st.sampled_from([(1.0, 0.0), (1.0, -1024.0), (0.5, 3.25), (-2.0, 0.0)]))
    order = draw(st.sampled_from("CF"))
    return Volume(values.astype(dtype, order=order), grid, slope, intercept, storage)


@same_folder
@given(volume=volumes(), name=st.sampled_from(["a.nii.gz", "a.nii"]))
def test_written_then_read_is_equal(volume, name, tmp_path):
    write_volume(volume, tmp_path / name)
    again = read_nifti(tmp_path / name)
    assert again.voxels.dtype == volume.voxels.dtype
    assert np.array_equal(again.voxels, volume.voxels)
    assert (again.slope, again.intercept) == (volume.slope, volume.intercept)
    assert again.storage == volume.storage
    quaternion = volume.storage.sform_code == 0
    in_metres = {1, 3} & {volume.storage.spatial_units}
    assert_allclose(
        again.grid.world_from_voxel, volume.grid.world_from_voxel, atol=1e-3 if quaternion else 1e-4 if in_metres else 0
    )


@same_folder
@given(grid=grids())
def test_nibabel_and_simpleitk_place_the_file_where_we_do(grid, tmp_path):
    voxels = np.arange(grid.size, dtype=np.int16).reshape(grid.shape)
    write_volume(Volume(voxels, grid), tmp_path / "a.nii.gz")
    theirs = nib.load(tmp_path / "a.nii.gz")
    assert_allclose(theirs.affine, grid.world_from_voxel, atol=1e-6)
    assert np.array_equal(np.asarray(theirs.dataobj), voxels)
    image = sitk.ReadImage(tmp_path / "a.nii.gz")
    corner = [n - 1 for n in grid.shape]
    lps = np.array(image.TransformIndexToPhysicalPoint(corner))
    assert_allclose(lps * [-1, -1, 1], grid.to_world(np.array([corner], float))[0], atol=1e-2)
    assert image[corner] == voxels[tuple(corner)]


def test_labels_keep_their_numbers_and_the_type_of_their_file(tmp_path):
    voxels = np.zeros((4, 4, 90), np.uint8)
    voxels[:, :, 60:80], voxels[:, :, 20:40] = 20, 21
    labels = LabelMap(voxels, Grid(voxels.shape, np.eye(4)), {20: Level.L1}, storage=Storage("float64", 0, 2, 0))
    write_labels(labels, tmp_path / "seg.nii.gz")
    again = read_labels(tmp_path / "seg.nii.gz")
    assert again.numbers == {Level.L1: 20, Level.L2: 21}
    assert again.storage == labels.storage and again.voxels.dtype == np.uint8
    assert np.array_equal(again.voxels, voxels)


def test_the_same_data_gives_the_same_bytes(tmp_path):
    volume = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), Grid((3, 4, 5), np.eye(4)))
    write_volume(volume, tmp_path / "a.nii.gz")
    write_volume(volume, tmp_path / "b.nii.gz")
    assert digest(tmp_path / "a.nii.gz") == digest(tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes()[3:8] == b"\0" * 5  # no file name, no time


@same_folder
@given(grid=grids(), seed=st.integers(0, 99))
def test_a_field_written_then_read_is_equal(grid, seed, tmp_path):
    field = np.random.default_rng(seed).normal(scale=20, size=(*grid.shape, 3)).astype(np.float32)
    write_field(field, grid, tmp_path / "f.nrrd")
    again, where = read_field(tmp_path / "f.nrrd")
    assert again.dtype == np.float32 and np.array_equal(again, field)
    assert where.matches(grid, tolerance_mm=1e-6)


def test_simpleitk_pulls_the_image_through_the_field_as_we_mean_it(tmp_path):
    shape = (20, 22, 24)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.2, -0.1, 0.3]).as_matrix() @ np.diag([-1.0, 1.0, 2.0])
    affine[:3, 3] = 10, -20, 30
    grid = Grid(shape, affine)
    voxels = np.random.default_rng(1).integers(-1000, 1000, shape).astype(np.int16)
    # output voxel (i, j, k) takes input voxel (i + 2, j - 1, k + 3)
    shift_mm = affine[:3, :3] @ [2.0, -1.0, 3.0]
    field = np.broadcast_to(shift_mm.astype(np.float32), (*shape, 3))
    write_volume(Volume(voxels, grid), tmp_path / "ct.nii.gz")
    write_field(field, grid, tmp_path / "f.nrrd")
    image = sitk.ReadImage(tmp_path / "ct.nii.gz")
    displacement = sitk.Cast(sitk.ReadImage(tmp_path / "f.nrrd"), sitk.sitkVectorFloat64)
    moved = sitk.Resample(image, image, sitk.DisplacementFieldTransform(displacement), sitk.sitkNearestNeighbor, -5)
    warped = sitk.GetArrayFromImage(moved).transpose(2, 1, 0)
    assert np.array_equal(warped[:-2, 1:, :-3], voxels[2:, :-1, 3:])
    assert (warped[-2:] == -5).all()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("nowhere/a.nii.gz", "make the folder"), ("a.png", "rename"), ("folder.nii.gz", "no folder")],
)
def test_a_place_that_cannot_be_written_is_refused_in_one_sentence(name, remedy, tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(OutputError, match=f"{name}: expected .*{remedy}"):
        write_volume(Volume(np.zeros((2, 2, 2), np.int16), Grid((2, 2, 2), np.eye(4))), tmp_path / name)
    assert [file.name for file in tmp_path.rglob("*")] == ["folder.nii.gz"]


def test_a_failed_write_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    (tmp_path / "a.nii.gz").write_bytes(b"old")

    def full_disk(handle):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OutputError, match=r"a\.nii\.gz: .*free some space"):
        write_volume(Volume(np.zeros((2, 2, 2), np.int16), Grid((2, 2, 2), np.eye(4))), tmp_path / "a.nii.gz")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_numbers_that_do_not_fit_are_never_rounded(tmp_path):
    volume = Volume(np.full((2, 2, 2), 0.5, np.float32), Grid((2, 2, 2), np.eye(4)), storage=Storage("int16"))
    with pytest.raises(OutputError, match="fit int16"):
        write_volume(volume, tmp_path / "a.nii.gz")
    field = np.full((2, 2, 2, 3), np.nan, np.float32)
    with pytest.raises(OutputError, match="finite"):
        write_field(field, volume.grid, tmp_path / "f.nrrd")
    assert not list(tmp_path.iterdir())


def test_a_digest_sees_bytes_and_names(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"one")
    before = digest(folder)
    assert before == digest(folder)
    (folder / "1.dcm").rename(folder / "2.dcm")
    assert digest(folder) != before
    with pytest.raises(ScanError, match="nothing.dcm"):
        digest(folder / "nothing.dcm")


def test_the_file_is_plain_gzip(tmp_path):
    write_labels(LabelMap(np.ones((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)), {}), tmp_path / "m.nii.gz")
    assert len(gzip.decompress((tmp_path / "m.nii.gz").read_bytes())) == 352 + 8
