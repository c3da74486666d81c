"""``spinesim phantom``: a folder with CT, vertebrae and all structures, whole or not at all."""

from __future__ import annotations

import json
import os

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from spinesim.anatomy.levels import Level
from spinesim.anatomy.reading import read_labels, read_scan
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.cli.main import main
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.phantom.table import read_dimensions
from spinesim.series import phantom_folder

CT, VERTEBRAE, TOTAL, ABOUT = (
    f"sub-phantom_{name}" for name in ("ct.nii.gz", "seg-vert_msk.nii.gz", "seg-total_msk.nii.gz", "about.json")
)
ASKED = "--upper T8 --lower T9 --spacing 3 3 3 --sex female --height 170 --age 70 --kernel bone --noise 20 --seed 4"


def run(line, *more):
    result = CliRunner().invoke(main, ["phantom", *line.split(), *more])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "out"
    code, said = run(ASKED, "--out", str(out))
    assert code == 0, said
    return out


def test_the_folder_holds_what_was_asked_for(made):
    assert sorted(os.listdir(made)) == sorted((CT, VERTEBRAE, TOTAL, ABOUT))
    asked = PhantomParameters(
        upper="T8",
        lower="T9",
        spacing_mm=(3.0, 3.0, 3.0),
        sex="female",
        height_cm=170,
        age_years=70,
        kernel="bone",
        noise_hu=20,
        seed=4,
    )
    scan = build_phantom(asked)
    read = read_scan(made / CT, made / VERTEBRAE)
    assert np.array_equal(read.image.hu(), scan.image.hu())
    assert np.array_equal(read.labels.voxels, scan.labels.voxels)
    assert read.labels.numbers == {Level.T8: 15, Level.T9: 16}


def test_both_masks_hold_the_same_vertebrae(made):
    vertebrae, total = read_labels(made / VERTEBRAE), read_labels(made / TOTAL, scheme="totalsegmentator")
    assert total.numbers.keys() == vertebrae.numbers.keys()
    for level, number in vertebrae.numbers.items():
        assert np.array_equal(total.voxels == total.numbers[level], vertebrae.voxels == number)


def test_the_description_says_what_it_was_made_from(made):
    about = json.loads((made / ABOUT).read_text())
    assert about["size_to_mean"] == pytest.approx(0.96 * 170 / 159, abs=1e-4)
    assert about["parameters"]["upper"] == "T8" and about["parameters"]["seed"] == 4
    assert about["dimensions_mm"].keys() == {"T8", "T9"}
    width = about["size_to_mean"] * read_dimensions()[Level.T9].w_inf
    assert about["dimensions_mm"]["T9"]["w_inf"] == pytest.approx(width, abs=0.01)
    numbers = {int(n) for n in np.unique(nib.load(made / TOTAL).dataobj)} - {0}
    assert set(about["structures"].values()) == numbers
    assert all(STRUCTURES[name] == number for name, number in about["structures"].items())


def test_a_run_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(phantom_folder, "write_labels", full)
    code, said = run("--upper T9 --lower T9 --spacing 3 3 3", "--out", str(tmp_path / "deep" / "out"))
    assert code == 2 and "no space left" in said
    assert os.listdir(tmp_path) == []


def test_nothing_is_replaced_unasked(made, tmp_path):
    before = (made / CT).stat().st_mtime_ns
    code, said = run(ASKED, "--out", str(made))
    assert code == 2 and "--overwrite" in said
    (tmp_path / "mine.txt").write_text("mine")
    code, said = run(ASKED, "--out", str(tmp_path), "--overwrite")
    assert code == 2 and "mine.txt" in said
    assert (made / CT).stat().st_mtime_ns == before and os.listdir(tmp_path) == ["mine.txt"]
    code, _ = run("--upper T9 --lower T10 --spacing 3 3 3 --quiet --overwrite", "--out", str(made))
    assert code == 0 and read_labels(made / VERTEBRAE).present == (16, 17)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--height 100", "--height: expected greater than or equal to 140, got 100.0"),
        ("--spacing 1 1 9", "--spacing: expected less than or equal to 3, got 9.0"),
        (
            "--upper C1",
            "--upper: phantom: expected a level from C3 to S without T13 and L6, got C1",
        ),
        ("--slice 1", "--slice: phantom: expected slices at least as thick as their distance of 1.5 mm, got 1"),
        ("--kernel sharp", "Invalid value for '--kernel'"),
        ("--sex x", "Invalid value for '--sex'"),
    ],
)
def test_what_it_cannot_make_is_refused_in_one_sentence(wrong, said, tmp_path):
    code, output = run(wrong, "--out", str(tmp_path / "out"))
    assert code == 2
    assert said in output and len(output.splitlines()) == 1
    assert not (tmp_path / "out").exists()
