"""What a case leaves on disk: the input's own form, a field that other tools can use, the same bytes again."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from dataclasses import replace
from importlib.resources import files
from itertools import product
from pathlib import Path

import jsonschema
import numba
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal

from spinesim.anatomy.nifti import read_nifti
from spinesim.anatomy.reading import read_scan
from spinesim.anatomy.scan import Scan
from spinesim.anatomy.writing import digest, read_field
from spinesim.errors import OutputError
from spinesim.inpaint.mask import Reason
from spinesim.series import writer as writer_room
from spinesim.series.case import simulate
from spinesim.series.record import Record, record_schema
from spinesim.series.writer import build_record, check_target, file_names, subject_name, write_case


def refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def quick_picture(monkeypatch):
    """A picture that takes no time, for tests of folders."""
    monkeypatch.setattr(writer_room, "draw_case", lambda *args: args[-1].write_bytes(b"picture"))


@pytest.fixture
def older(small_written, tmp_path):
    """A folder that the small case was written to before."""
    return Path(shutil.copytree(small_written["record"].parent, tmp_path / "out"))


# --- names and form ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "subject"),
    [
        ("/data/sub-verse004_ct.nii.gz", "sub-verse004"),
        ("sub-verse004_dir-ax_seg-vert_msk.nii.gz", "sub-verse004"),
        ("case 12_ct.nii.gz", "sub-case12"),
        ("L-07_seg.nrrd", "sub-L07"),
        ("phantom", "sub-phantom"),
        ("_ct.nii.gz", "sub-scan"),
    ],
)
def test_the_subject_is_named_after_its_file(source, subject):
    assert subject_name(source) == subject


def test_files_are_named_after_the_subject(small_written):
    assert {key: path.name for key, path in small_written.items()} == {
        "ct": "sub-small_ct.nii.gz",
        "labels": "sub-small_seg-vert_msk.nii.gz",
        "unknown": "sub-small_desc-unknown_msk.nii.gz",
        "field": "sub-small_field.nrrd",
        "record": "sub-small_record.json",
        "picture": "sub-small_picture.png",
    }
    folder = small_written["record"].parent
    assert contents(folder).keys() == {path.name for path in small_written.values()}
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("which", ["ct", "labels"])
def test_type_geometry_and_scaling_of_the_input_come_back(which, small_files, small_written):
    given = read_nifti(small_files[which == "labels"])
    got = read_nifti(small_written[which])
    assert got.storage == given.storage
    assert got.voxels.dtype == given.voxels.dtype
    assert (got.slope, got.intercept) == (given.slope, given.intercept)
    assert_array_equal(got.grid.world_from_voxel, given.grid.world_from_voxel)
    assert got.grid.shape == given.grid.shape


# --- the files are the case -------------------------------------------------------------------------------------------


def test_volumes_written_then_read_are_those_of_the_case(small_case, small_written):
    after = small_case.after
    again = read_scan(small_written["ct"], small_written["labels"])
    assert_array_equal(again.image.voxels, after.image.voxels)
    assert_array_equal(again.labels.voxels, after.labels.voxels)
    assert again.labels.numbers == after.labels.numbers
    assert again.grid.matches(after.grid, tolerance_mm=1e-4)
    unknown = read_nifti(small_written["unknown"])
    assert unknown.voxels.dtype == np.uint8
    assert_array_equal(unknown.voxels, small_case.unknown.reasons)
    assert_array_equal(unknown.voxels == Reason.OUTSIDE, small_case.outside)
    assert (after.image.voxels[small_case.outside] == after.image.air).all()


def test_the_field_written_then_read_is_that_of_the_case(small_case, small_written):
    displacement, grid = read_field(small_written["field"])
    assert_array_equal(displacement, small_case.deformation.field.displacement)
    assert grid.matches(small_case.deformation.field.grid, tolerance_mm=1e-4)


def test_the_record_written_then_read_says_what_the_case_says(small_case, small_files, small_written):
    record = Record.model_validate(read_json(small_written["record"]))
    names = {key: path.name for key, path in small_written.items()}
    assert record == build_record(small_case, names, record.inputs, record.run)
    goal = record.goals["cobb_deg"]
    assert goal.asked == 30 and abs(goal.measured - 30) <= 1 and abs(goal.native) < 5
    assert record.inputs["ct"].name == small_files[0].name
    assert record.inputs["ct"].sha256 == digest(small_files[0])
    assert record.inputs["labels"].sha256 == digest(small_files[1])
    assert record.labels_in == record.labels_out == list(small_case.before.labels.present)
    assert record.unknown_voxels == np.count_nonzero(small_case.unknown.mask)
    assert sum(region.voxels for region in record.inpaint.regions) == record.unknown_voxels
    assert (record.inpaint.method, record.inpaint.noise_hu) == ("none", None)  # its voxels are too coarse
    assert record.run.seconds > 0 and record.run.started


def test_the_record_names_no_folder(small_written):
    text = small_written["record"].read_text(encoding="utf-8")
    assert str(small_written["record"].parent.parent) not in text and str(Path.home()) + os.sep not in text


def test_a_written_record_keeps_the_published_schema(small_written):
    schema = json.loads(files("spinesim.assets").joinpath("record.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    record = read_json(small_written["record"])
    validator.validate(record)
    assert not validator.is_valid({**record, "seed": "none"})
    assert not validator.is_valid({**record, "more": 1})
    for key in record:
        assert not validator.is_valid({name: value for name, value in record.items() if name != key}), key


def test_the_published_schema_is_that_of_the_code():
    file = Path(__file__).parents[1] / "assets" / "record.schema.json"
    assert file.read_text(encoding="utf-8") == json.dumps(record_schema(), indent=1) + "\n", (
        "write json.dumps(spinesim.series.record.record_schema(), indent=1) and a newline to assets/record.schema.json"
    )


# --- the same again ---------------------------------------------------------------------------------------------------


def test_the_same_request_gives_the_same_bytes_whatever_the_number_of_threads(
    small_files, small_scoliosis, small_written, tmp_path
):
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        again = write_case(simulate(read_scan(*small_files), small_scoliosis), tmp_path / "out")
    finally:
        numba.set_num_threads(threads)
    for key in ("ct", "labels", "unknown", "field", "picture"):
        assert digest(again[key]) == digest(small_written[key]), key
    first, second = read_json(small_written["record"]), read_json(again["record"])
    for record in (first, second):
        record.pop("run")
    assert first.pop("inputs") and second.pop("inputs") == {}
    assert first == second


def test_the_input_is_as_it_was(small_case, small_files, small_written):
    record = read_json(small_written["record"])
    again = read_scan(*small_files)
    assert {key: entry["sha256"] for key, entry in record["inputs"].items()} == {
        "ct": digest(small_files[0]),
        "labels": digest(small_files[1]),
    }
    assert_array_equal(small_case.before.image.voxels, again.image.voxels)
    assert_array_equal(small_case.before.labels.voxels, again.labels.voxels)


def test_arrays_of_a_case_cannot_be_written_through(small_case):
    arrays = [
        small_case.deformation.field.displacement,
        small_case.deformation.field.grid.world_from_voxel,
        small_case.after.grid.world_from_voxel,
    ]
    for scan in (small_case.before, small_case.after):
        arrays += [scan.image.voxels, scan.labels.voxels, scan.grid.world_from_voxel]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


# --- the field in other hands -----------------------------------------------------------------------------------------


def test_simpleitk_makes_the_output_of_the_input_with_the_written_field(small_case, small_files, small_written):
    given, got = sitk.ReadImage(small_files[0], sitk.sitkFloat64), sitk.ReadImage(small_written["ct"], sitk.sitkFloat64)
    field = sitk.Cast(sitk.ReadImage(small_written["field"]), sitk.sitkVectorFloat64)
    air = small_case.before.image.air + small_case.before.image.intercept
    made = sitk.Resample(given, got, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, air)
    off = np.abs(sitk.GetArrayViewFromImage(made) - sitk.GetArrayViewFromImage(got))
    assert np.mean(off <= 1.0) > 0.999
    assert np.abs(sitk.GetArrayViewFromImage(given) - sitk.GetArrayViewFromImage(got)).max() > 500


def test_the_written_field_never_folds(small_case, small_written):
    image = sitk.ReadImage(small_written["field"])
    shifts = sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(float)
    world_from_index = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    corners = min(determinants(shifts, world_from_index, place).min() for place in product((0, 1), repeat=3))
    assert corners > 0
    assert determinants(shifts, world_from_index, (0.5, 0.5, 0.5)).min() > 0
    assert_allclose(corners, small_case.deformation.jacobian[0], atol=1e-4)
    assert_allclose(corners, read_json(small_written["record"])["flow"]["jacobian_min"], atol=1e-4)


def determinants(shifts, world_from_index, place):
    """Jacobian determinant of a trilinear field at one place (0 to 1 along each axis) of every cell."""
    columns = []
    for axis in range(3):
        slope = np.diff(shifts, axis=axis)
        for other in {0, 1, 2} - {axis}:
            n = shifts.shape[other]
            low, high = np.take(slope, range(n - 1), axis=other), np.take(slope, range(1, n), axis=other)
            slope = (1 - place[other]) * low + place[other] * high
        columns.append(slope + world_from_index[:, axis])
    u, v, w = columns
    return np.einsum("...a,...a", np.cross(u, v), w) / np.linalg.det(world_from_index)


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_picture")
def test_labels_alone_are_written_without_a_ct(small_case, tmp_path):
    bare = replace(small_case, before=Scan(small_case.before.labels), after=Scan(small_case.after.labels))
    written = write_case(bare, tmp_path / "deep" / "out")
    assert {path.name for path in (tmp_path / "deep" / "out").iterdir()} == {path.name for path in written.values()}
    assert written.keys() == file_names("sub-small", with_image=True).keys() - {"ct", "unknown"}


@pytest.mark.usefixtures("quick_picture")
def test_without_compression_the_same_numbers_lie_unpacked(small_case, small_written, older):
    written = write_case(small_case, older, overwrite=True, compress=False)
    assert {path.name for path in older.iterdir()} == {path.name for path in written.values()}
    assert all(written[key].name.endswith(".nii") for key in ("ct", "labels", "unknown"))
    for key in ("ct", "labels", "unknown"):
        assert gzip.decompress(small_written[key].read_bytes()) == written[key].read_bytes(), key
    field, grid = read_field(written["field"])
    assert_array_equal(field, small_case.deformation.field.displacement)
    assert grid.matches(small_case.deformation.field.grid)
    again = write_case(small_case, older, overwrite=True)
    assert contents(older).keys() == {path.name for path in again.values()}


@pytest.mark.usefixtures("quick_picture")
def test_overwrite_replaces_all_of_an_older_case(small_case, older):
    for file in older.iterdir():
        if not file.name.endswith("_record.json"):
            file.write_bytes(b"older")
    bare = replace(small_case, before=Scan(small_case.before.labels), after=Scan(small_case.after.labels))
    written = write_case(bare, older, overwrite=True)
    now = contents(older)
    assert now.keys() == {path.name for path in written.values()}
    assert b"older" not in now.values()
    assert [path.name for path in older.parent.iterdir()] == ["out"]


def test_an_older_case_is_kept_unless_it_may_be_replaced(small_case, older):
    before = contents(older)
    with pytest.raises(OutputError, match="--overwrite"):
        write_case(small_case, older)
    assert contents(older) == before


@pytest.mark.usefixtures("quick_picture")
def test_a_run_killed_while_writing_is_cleared_by_the_next(small_case, tmp_path):
    partial = tmp_path / ".out.partial"
    partial.mkdir()
    (partial / "sub-small_ct.nii.gz").write_bytes(b"half")
    written = write_case(small_case, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert contents(tmp_path / "out").keys() == {path.name for path in written.values()}


def test_a_run_killed_while_replacing_gives_the_older_case_back(older):
    before = contents(older)
    older.rename(older.with_name(".out.aside"))
    shutil.copytree(older.with_name(".out.aside"), older.with_name(".out.partial"))
    with pytest.raises(OutputError, match="--overwrite"):
        check_target(older, overwrite=False)
    assert [path.name for path in older.parent.iterdir()] == ["out"]
    assert contents(older) == before


@pytest.mark.usefixtures("quick_picture")
def test_a_run_killed_while_replacing_is_resumed_by_running_it_again(small_case, older):
    shutil.copytree(older, older.with_name(".out.aside"))
    (older.with_name(".out.aside") / "sub-small_picture.png").write_bytes(b"older")
    write_case(small_case, older, overwrite=True)
    assert [path.name for path in older.parent.iterdir()] == ["out"]
    assert contents(older)["sub-small_picture.png"] == b"picture"


@pytest.mark.usefixtures("quick_picture")
def test_a_folder_that_cannot_take_its_name_gives_way_to_the_older_case(small_case, older, monkeypatch):
    before, rename = contents(older), Path.rename

    def fail(self, target):
        if self.name.endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="out: expected to write the case, got input/output error; "):
        write_case(small_case, older, overwrite=True)
    assert contents(older) == before
    assert [path.name for path in older.parent.iterdir()] == ["out"]


@pytest.mark.usefixtures("quick_picture")
def test_a_folder_may_be_named_from_within(small_case, older, monkeypatch):
    monkeypatch.chdir(older)
    with pytest.raises(OutputError, match="--overwrite"):
        write_case(small_case, ".")
    with pytest.raises(OutputError, match="nothing but a case"):
        write_case(small_case, "..", overwrite=True)
    assert [path.name for path in older.parent.iterdir()] == ["out"]
