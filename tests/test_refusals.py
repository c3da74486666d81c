"""Bad input of ``spinesim deform`` ends in one sentence and exit code 2, before the flow, and leaves nothing behind."""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.nifti import encode_header
from spinesim.anatomy.scan import LabelMap, Scan, Storage
from spinesim.anatomy.writing import write_labels, write_volume
from spinesim.cli.main import main
from spinesim.pathology.proposal import goals_of, propose
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.series import case as case_room
from spinesim.series import job as job_room
from spinesim.series import writer as writer_room

ASKED = ("--cobb", 30, "--apex", "T10")
REMEDY = re.compile(r"; |[Dd]id you mean")


def deform(*args):
    return CliRunner().invoke(main, ["deform", *map(str, args)])


def listed(folder):
    return sorted(folder.rglob("*"))


@pytest.fixture
def refused(tmp_path):
    """Run a command that must be refused, and give its sentence."""

    def run(*args, out=None):
        before = listed(tmp_path)
        done = deform(*args, "--out", out or tmp_path / "out")
        assert done.exit_code == 2, done.exception or done.output
        assert done.stdout == ""
        assert listed(tmp_path) == before
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith("Error: ")
        return sentence.removeprefix("Error: ")

    return run


@pytest.fixture
def no_flow(monkeypatch):
    """A refusal comes before the long computation."""

    def blunder(*args, **more):
        pytest.fail("the flow was followed")

    monkeypatch.setattr(case_room, "build_deformation", blunder)


@pytest.fixture
def no_reading(monkeypatch):
    """A refusal comes before any file is read or the phantom is built."""

    def blunder(*args, **more):
        pytest.fail("the scan was read")

    monkeypatch.setattr(job_room, "read_scan", blunder)
    monkeypatch.setattr("spinesim.phantom.build_phantom", blunder)


@pytest.fixture
def ready_made(monkeypatch, small_case):
    """The shared case instead of a new one; gives the scans that were to be simulated."""
    scans = []

    def simulate(scan, *args, **more):
        scans.append(scan)
        return small_case

    monkeypatch.setattr(job_room, "simulate", simulate)
    return scans


def cut(scan: Scan, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Scan:
    """Cut a block out of a scan."""
    grid = scan.grid.cropped(start, stop)
    block = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    image = scan.image and replace(scan.image, voxels=scan.image.voxels[block], grid=grid)
    return Scan(scan.labels.with_voxels(scan.labels.voxels[block], grid), image)


def relabelled(labels: LabelMap, voxels: np.ndarray, dtype: str | None = None) -> LabelMap:
    """Put other numbers on the grid of a label map."""
    return replace(labels, voxels=voxels, storage=replace(labels.storage, dtype=dtype or voxels.dtype.name))


def save_header(volume, path, **fields):
    """Write a volume whose header says what no writer would."""
    header = nib.Nifti1Header(encode_header(volume.grid, volume.storage, volume.slope, volume.intercept)[:348])
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 4 + volume.voxels.tobytes(order="F"), 1))
    return path


# --- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--cobb", -1, "--apex", "T10"), "--cobb: expected greater than or equal to 0, got -1.0"),
        (("--cobb", 91, "--apex", "T10"), "--cobb: expected less than or equal to 90, got 91.0"),
        (("--cobb", "nan", "--apex", "T10"), "--cobb: expected a finite number, got nan"),
        (("--cobb", "inf", "--apex", "T10"), "--cobb: expected a finite number, got inf"),
        ((*ASKED, "--also", "20"), "--also: expected an angle and an apex, as 30@L2, got '20'"),
        (
            (*ASKED, "--also", "many@L3"),
            "--also: expected a valid number, unable to parse string as a number, got 'many'",
        ),
        (
            (*ASKED, "--also", "40@L3"),
            "--also: expected curves of 30 degrees at most, got 40 at L3; ask for the largest curve by itself",
        ),
        (
            (*ASKED, "--also", "20@T11"),
            "--also: expected apices 3 levels apart or more, got T10 and T11; ask for one curve there",
        ),
        ((*ASKED, "--rotation-per-cobb", 2), "--rotation-per-cobb: expected less than or equal to 1, got 2.0"),
        ((*ASKED, "--vertebral-share", -1), "--vertebral-share: expected greater than or equal to 0, got -1.0"),
        ((*ASKED, "--offset", 100), "--offset: expected less than or equal to 60, got 100.0"),
        ((*ASKED, "--steps", 0), "--steps: expected a whole number from 1 to 1000, got 0; give another"),
        ((*ASKED, "--repaint", 101), "--repaint: expected a whole number from 1 to 100, got 101; give another"),
    ],
)
@pytest.mark.usefixtures("no_reading")
def test_a_number_out_of_range_names_its_option_and_the_range(args, said, refused):
    assert refused(*args) == said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--cobb", 30, "--apex", "T99"), "--apex: .* got 'T99'; did you mean T9?"),
        ((*ASKED, "--also", "20@Q3"), "--also: .* got 'Q3'; did you mean "),
        (("--cobb", 30, "--apex", "X"), "--apex: .*expected .*C1 to C7.* got 'X'; did you mean "),
        (("--cobb", 30, "--apex", ""), "--apex: .*expected .* got ''; did you mean "),
        ((*ASKED, "--upper-end", "T0"), "--upper-end: .* got 'T0'; did you mean T"),
        ((*ASKED, "--lower-end", "L9"), "--lower-end: .* got 'L9'; did you mean "),
        (("--cobb", "many", "--apex", "T10"), "'--cobb': 'many' is not a valid float; see 'main deform --help'"),
        (("--apex", "T10"), "Missing option '--cobb'; see 'main deform --help'"),
        (("--cobb", 30), "Missing option '--apex'; see 'main deform --help'"),
        ((*ASKED, "--direction", "up"), "'--direction': 'up' is not one of 'right', 'left'; see 'main deform --help'"),
        ((*ASKED, "--grid", "big"), "'--grid': 'big' is not one of 'same', 'fit'; see 'main deform --help'"),
        ((*ASKED, "--seed", -1), "'--seed': -1 is not in the range .*; see 'main deform --help'"),
        ((*ASKED, "--spacing", 1, 1), "'--spacing': .* is not a valid float; see 'main deform --help'"),
        ((*ASKED, "--frobnicate"), "No such option '--frobnicate'; see 'main deform --help'"),
        ((*ASKED, "--overwrit"), "No such option '--overwrit'.* Did you mean .*'--overwrite'"),
        ((*ASKED, "a.nii.gz", "b.nii.gz"), r"unexpected extra argument \(b\.nii\.gz\); see 'main deform --help'"),
    ],
)
@pytest.mark.usefixtures("no_reading")
def test_an_option_that_cannot_be_read_is_refused_by_its_name(args, said, refused):
    sentence = refused(*args)
    assert re.search(said, sentence), sentence
    assert REMEDY.search(sentence)


def test_a_near_miss_of_the_command_is_offered():
    done = CliRunner().invoke(main, ["defrom", "--cobb", "30"])
    assert (done.exit_code, done.stderr) == (2, "Error: No such command 'defrom'. Did you mean 'deform'?\n")


# --- files -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_flow")
def test_a_file_that_is_not_there_is_named(refused, small_files, tmp_path):
    ct, labels = small_files
    nothing = tmp_path / "nothing.nii.gz"
    for args in ((nothing, "--labels", labels), (ct, "--labels", nothing), ("--labels", nothing)):
        assert refused(*args, *ASKED) == (
            f"{nothing}: expected a file or a DICOM folder, got nothing there; check the path"
        )


@pytest.mark.usefixtures("no_flow")
def test_a_ct_without_labels_is_refused_before_it_is_read(refused, small_files, no_reading):
    ct, _ = small_files
    assert refused(ct, *ASKED) == f"{ct}: expected a label map for this CT, got none; pass it with --labels"


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize("name", ["scan.png", "scan", "scan.nii.bz2"])
def test_another_extension_is_refused_with_the_known_ones(name, refused, small_files, tmp_path):
    ct, labels = small_files
    file = tmp_path / name
    file.write_bytes(b"no scan")
    for args in ((file, "--labels", labels), (ct, "--labels", file)):
        assert re.fullmatch(
            rf".*{re.escape(name)}: expected \.nii\.gz, .*got .*; convert the file", refused(*args, *ASKED)
        )


@pytest.mark.usefixtures("no_flow")
def test_weights_that_are_not_there_are_refused_before_anything_is_warped(refused, small_files):
    ct, labels = small_files
    assert refused(ct, "--labels", labels, *ASKED, "--weights", "none.safetensors") == (
        "none.safetensors: expected weights (.safetensors), got no such file; train some: spinesim train inpaint"
    )
    assert refused(ct, "--labels", labels, *ASKED, "--inpaint", "pix2pix") == (
        "inpaint: expected weights for pix2pix, got none that ship; train some, and pass --weights"
    )


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize("content", [b"", b"no scan", b"\x1f\x8b no scan"])
def test_a_file_that_is_no_nifti_is_refused(content, refused, small_files, tmp_path):
    file = tmp_path / "scan.nii.gz"
    file.write_bytes(content)
    sentence = refused(file, "--labels", small_files[1], *ASKED)
    assert re.fullmatch(r".*scan\.nii\.gz: expected .*, got .*; .*(convert|copy).*", sentence)


@pytest.mark.usefixtures("no_flow")
def test_a_shortened_file_is_refused(refused, small_files, tmp_path):
    ct, labels = small_files
    half = tmp_path / "half.nii.gz"
    half.write_bytes(ct.read_bytes()[: ct.stat().st_size // 2])
    assert re.fullmatch(r".*half\.nii\.gz: expected a whole .*; copy .*", refused(half, "--labels", labels, *ASKED))


@pytest.mark.usefixtures("no_flow")
def test_four_axes_are_refused(refused, small_files, tmp_path):
    ct, labels = small_files
    file = tmp_path / "four.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4)), file)
    for args in ((file, "--labels", labels), (ct, "--labels", file)):
        assert refused(*args, *ASKED) == (
            f"{file}: expected a volume with three axes, got shape (4, 4, 4, 3); save one volume a file"
        )


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_counted(value, refused, small_phantom, small_files, tmp_path):
    hu = small_phantom.image.voxels.astype(np.float32)
    hu[:2, 3, 4] = value
    file = tmp_path / "holes.nii.gz"
    write_volume(replace(small_phantom.image, voxels=hu, storage=Storage("float32")), file)
    sentence = refused(file, "--labels", small_files[1], *ASKED)
    assert sentence.startswith(f"{file}: expected finite numbers, got 2 voxels of NaN or infinity; fill them ")
    assert f"{file}: expected finite numbers" in refused("--labels", file, *ASKED)


@pytest.mark.usefixtures("no_flow")
def test_a_singular_or_sheared_affine_is_refused(refused, small_phantom, small_files, tmp_path):
    image, row = small_phantom.image, small_phantom.grid.world_from_voxel[0]
    flat = save_header(image, tmp_path / "flat.nii.gz", qform_code=0, srow_z=0)
    sheared = save_header(image, tmp_path / "sheared.nii.gz", qform_code=0, srow_x=row + [0, 0.6, 0, 0])
    empty = save_header(image, tmp_path / "empty.nii.gz", qform_code=0, srow_x=np.nan)
    rule = "expected voxel axes at right angles, got a shear of"
    for file, said in (
        (flat, "expected an invertible affine, got determinant 0; mend the header"),
        (sheared, f"{rule} 0.196; resample the scan to a grid without shear"),
        (empty, "expected a finite 4x4 affine, got NaN or infinity in it; mend the header"),
    ):
        assert refused(file, "--labels", small_files[1], *ASKED) == f"{file}: {said}"
        assert refused("--labels", file, *ASKED) == f"{file}: {said}"


@pytest.mark.usefixtures("no_flow")
def test_another_grid_is_refused_with_both_geometries_and_resampled_when_asked(
    refused, ready_made, small_phantom, small_files, tmp_path
):
    whole = small_phantom
    ct, labels = tmp_path / "a_ct.nii.gz", tmp_path / "a_labels.nii.gz"
    smaller = cut(whole, (20, 4, 1), tuple(n - 1 for n in whole.grid.shape))
    write_volume(whole.image, ct)
    write_labels(smaller.labels, labels)
    sentence = refused(ct, "--labels", labels, *ASKED)
    assert sentence == (
        f"{labels}: expected the grid of {ct} ({whole.grid.describe()}), got {smaller.grid.describe()}; "
        "resample one to the other, or pass --resample-labels"
    )
    done = deform(ct, "--labels", labels, *ASKED, "--resample-labels", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (resampled,) = ready_made
    assert resampled.grid.matches(whole.grid)
    assert np.array_equal(resampled.labels.voxels, whole.labels.voxels)


# --- labels ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_flow")
def test_labels_that_name_no_vertebra_are_refused(refused, small_phantom, tmp_path):
    labels, voxels = small_phantom.labels, small_phantom.labels.voxels
    strange = np.where(voxels > 0, voxels.astype(np.uint16) + 300, 0).astype(np.uint16)
    for name, wrong, said in (
        ("empty", np.zeros_like(voxels), "expected labelled vertebrae, got an empty map; check the file"),
        ("strange", strange, "got numbers 313, 314, .*; pass --scheme or a mapping file"),
    ):
        file = tmp_path / f"{name}.nii.gz"
        write_labels(relabelled(labels, wrong), file)
        assert re.fullmatch(rf".*{name}\.nii\.gz: .*{said}", refused("--labels", file, *ASKED))
    sentence = refused("--labels", tmp_path / "strange.nii.gz", "--scheme", "verse", *ASKED)
    assert re.fullmatch(r".*strange\.nii\.gz: expected numbers of vertebrae \(verse: .*; pass --scheme or .*", sentence)


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize("shift", [0.5, -7])
def test_labels_that_are_no_whole_numbers_from_0_are_refused(shift, refused, small_phantom, tmp_path):
    file = tmp_path / "odd.nii.gz"
    numbers = small_phantom.labels.voxels.astype(np.float32)
    numbers[0, 0, 0] = shift
    write_volume(replace(small_phantom.image, voxels=numbers, storage=Storage("float32")), file)
    assert re.fullmatch(
        r".*odd\.nii\.gz: expected (whole )?label numbers.*, got .*; .+", refused("--labels", file, *ASKED)
    )


@pytest.mark.usefixtures("no_flow")
def test_levels_that_run_upward_are_refused(refused, small_phantom, tmp_path):
    labels, file = small_phantom.labels, tmp_path / "upward.nii.gz"
    write_labels(relabelled(labels, labels.voxels[:, :, ::-1]), file)
    sentence = refused("--labels", file, "--scheme", "verse", *ASKED)
    assert re.fullmatch(r".*upward\.nii\.gz: expected levels numbered from head to foot, got T6 below L1; .*", sentence)


@pytest.mark.usefixtures("no_flow")
def test_an_unknown_scheme_or_mapping_is_refused(refused, small_files, tmp_path):
    labels, lines = small_files[1], tmp_path / "lines.yaml"
    assert "did" not in refused("--labels", labels, "--mapping", tmp_path / "none.yaml", *ASKED)
    assert re.match(
        r"scheme: expected one of auto, verse, .*; ", refused("--labels", labels, "--scheme", "mine", *ASKED)
    )
    lines.write_text("22: Q3\n", encoding="utf-8")
    sentence = refused("--labels", labels, "--mapping", lines, *ASKED)
    assert re.fullmatch(r".*lines\.yaml: level: expected .* got 'Q3'; did you mean .*", sentence)


@pytest.mark.usefixtures("no_flow")
def test_a_scan_without_a_whole_vertebra_is_refused(refused, small_phantom, tmp_path):
    wide, deep, high = small_phantom.grid.shape
    file = tmp_path / "half.nii.gz"
    write_labels(cut(small_phantom, (0, 0, 0), (wide // 2, deep, high)).labels, file)
    sentence = refused("--labels", file, *ASKED)
    assert re.fullmatch(
        r".*half\.nii\.gz: expected at least one vertebra with its whole body inside the volume, got none among .*; "
        r"use a scan with a larger field of view",
        sentence,
    )


@pytest.mark.usefixtures("no_flow")
def test_fewer_than_four_whole_vertebrae_are_refused(refused, small_phantom, tmp_path):
    labels = small_phantom.labels
    high = {level: np.flatnonzero((labels.voxels == n).any(axis=(0, 1))) for level, n in labels.numbers.items()}
    wide, deep, _ = labels.grid.shape
    file = tmp_path / "three.nii.gz"
    write_labels(
        cut(small_phantom, (0, 0, high[Level.T11].min() - 1), (wide, deep, high[Level.T9].max() + 2)).labels, file
    )
    sentence = refused("--labels", file, *ASKED)
    assert re.fullmatch(
        r".*three\.nii\.gz: scoliosis: expected at least 4 whole vertebrae, got 3 \(T9 to T11\); use a longer scan",
        sentence,
    )


# --- what a spine can take -------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize(("apex", "nearest"), [("T2", "T8"), ("L3", "T11"), ("T6", "T8"), ("T11/T12", "T11")])
def test_an_apex_that_the_scan_cannot_have_is_refused_with_the_nearest(apex, nearest, refused, small_files):
    ct, labels = small_files
    sentence = refused(ct, "--labels", labels, "--cobb", 30, "--apex", apex)
    assert sentence == (
        f"{labels}: scoliosis: expected an apex with whole vertebrae on both sides of it "
        f"(T8 to T11; the scan has T6 to L1), got {apex}; the nearest possible apex is {nearest}"
    )


@pytest.mark.usefixtures("no_flow")
@pytest.mark.parametrize(
    ("end", "level", "where"),
    [("upper", "T12", "above"), ("upper", "T10", "above"), ("upper", "C7", "above"), ("lower", "T8", "below")],
)
def test_an_end_vertebra_on_the_wrong_side_is_refused(end, level, where, refused, small_files):
    _, labels = small_files
    assert refused("--labels", labels, *ASKED, f"--{end}-end", level) == (
        f"{labels}: scoliosis: expected the {end} end vertebra among the whole levels T6 to L1, "
        f"{where} the apex T10, got {level}"
    )


@pytest.mark.usefixtures("no_flow")
def test_a_cobb_angle_that_the_spine_cannot_take_is_refused_with_the_rule_and_a_value_that_it_takes(
    refused, small_files, small_phantom
):
    ct, labels = small_files
    ends = {"upper_end": "T9", "lower_end": "T11"}
    sentence = refused(ct, "--labels", labels, "--cobb", 85, "--apex", "T10", "--upper-end", "T9", "--lower-end", "T11")
    found = re.fullmatch(
        rf"{re.escape(str(labels))}: scoliosis of 85 degrees at T10: expected that .+, got .+; "
        r"the nearest possible value on this spine is (\d+) degrees",
        sentence,
    )
    assert found, sentence
    nearest = Scoliosis(cobb_deg=float(found[1]), apex="T10", **ends)
    assert 10 <= nearest.cobb_deg < 85
    propose(nearest, estimate_spine(small_phantom.labels), goals_of(nearest))


# --- where to write --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_reading")
def test_a_folder_that_exists_is_refused_unless_it_may_be_replaced(refused, tmp_path):
    (tmp_path / "out").mkdir()
    sentence = refused(*ASKED)
    assert sentence == (
        f"{tmp_path / 'out'}: expected a folder that does not exist yet, got one; "
        "choose another --out, or pass --overwrite"
    )


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("with_a_case", [False, True])
def test_overwrite_never_takes_files_of_others(with_a_case, refused, small_written, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work", encoding="utf-8")
    if with_a_case:
        shutil.copy(small_written["record"], out)
    sentence = refused(*ASKED, "--overwrite")
    assert re.fullmatch(r".*out: expected a folder with nothing but a case .*, got one with thesis\.txt; .*", sentence)
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "years of work"


@pytest.mark.usefixtures("no_reading")
def test_overwrite_never_takes_two_cases_at_once(refused, small_written, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("sub-a_record.json", "sub-b_record.json"):
        shutil.copy(small_written["record"], out / name)
    assert "expected a folder with nothing but a case" in refused(*ASKED, "--overwrite")


@pytest.mark.usefixtures("no_reading")
def test_the_input_is_never_overwritten(refused, small_written, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(small_written["record"].parent, out)
    ct, labels = out / small_written["ct"].name, out / small_written["labels"].name
    sentence = refused(ct, "--labels", labels, *ASKED, "--overwrite")
    assert sentence == f"{out}: expected a folder without the input, got the one of {ct}; choose another --out"
    assert "expected a folder without the input" in refused("--labels", labels, *ASKED, "--overwrite")


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_place_that_can_hold_no_folder_is_refused(overwrite, refused, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert (
        refused(*ASKED, *overwrite, out=file)
        == f"{file}: expected a folder to write to, got a file; choose another --out"
    )
    sentence = refused(*ASKED, *overwrite, out=file / "a" / "out")
    assert (
        sentence == f"{file / 'a' / 'out'}: expected a folder to make it in, got the file {file}; choose another --out"
    )
    assert refused(*ASKED, *overwrite, out="/").startswith("/: expected a folder to make, got the root")
    monkeypatch.chdir(tmp_path)
    assert refused(*ASKED, *overwrite, out=".").startswith(".: expected a folder ")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    sentence = refused(*ASKED, *overwrite, out=tmp_path / "a" / "b")
    assert re.fullmatch(rf".*a.b: expected to be allowed to write in {tmp_path}, got no permission; .*--out", sentence)


def full_disk(*args, **more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_disk_after(files):
    """A disk on which so many files find room."""
    left = [files]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            full_disk()

    return fsync


@pytest.mark.usefixtures("ready_made")
@pytest.mark.parametrize("room", [0, 2, "picture"])
def test_a_full_disk_leaves_nothing_behind(room, refused, small_files, tmp_path, monkeypatch):
    if room == "picture":
        monkeypatch.setattr(writer_room, "draw_case", full_disk)
    else:
        monkeypatch.setattr(os, "fsync", fill_disk_after(room))
    ct, labels = small_files
    sentence = refused(ct, "--labels", labels, *ASKED, out=tmp_path / "new" / "folder" / "out")
    assert re.fullmatch(r".*new.folder.out.*: expected .*, got no space left on device; free some space.*", sentence)
    assert ".partial" not in sentence


@pytest.mark.usefixtures("ready_made")
def test_a_full_disk_leaves_the_older_case_as_it_was(refused, small_files, small_written, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(small_written["record"].parent, out)
    before = {file: file.read_bytes() for file in out.iterdir()}
    monkeypatch.setattr(writer_room, "draw_case", full_disk)
    refused("--labels", small_files[1], *ASKED, "--overwrite")
    assert {file: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.usefixtures("ready_made")
def test_ctrl_c_while_writing_leaves_nothing_behind(small_files, tmp_path, monkeypatch):
    def interrupt(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(writer_room, "draw_case", interrupt)
    done = deform("--labels", small_files[1], *ASKED, "--out", tmp_path / "out")
    assert (done.exit_code, done.stderr, listed(tmp_path)) == (130, "Interrupted.\n", [])
