"""Laws of fitting morphology models to label maps: groups, what is kept, scores, refusals, and all of it at once."""

from __future__ import annotations

import builtins
import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_array_equal

from spinesim.anatomy.levels import Level
from spinesim.cli.main import main
from spinesim.errors import ConfigError
from spinesim.series.shape_picture import draw_group_scores
from spinesim.shape.cohort import LeftOut
from spinesim.shape.morphology import model_of
from spinesim.shape.morphology_file import read_morphology
from spinesim.shape.morphology_fitting import fit_groups
from spinesim.shape.morphology_scores import score_morphology
from spinesim.shape.procrustes import centroid_size
from spinesim.shape.shipped import read_shipped_morphology
from spinesim.shape.specimen import Specimen
from spinesim.shape.vertebra_cohort import Bones, read_bones, write_bones


def run(*args):
    return CliRunner().invoke(main, ["shape", *map(str, args)])


def drawn(number, levels):
    """A label map's vertebrae as they would be matched, drawn from the shipped model."""
    models, rng = read_shipped_morphology(), np.random.default_rng(number)
    specimens = []
    for level in levels:
        model = model_of(models, level)
        code = model.sample(level, rng=rng)
        specimens.append(
            Specimen(level, model.decode(code).vertices, model.measure(code), source=f"{number}", match={"a_mm": 0.1})
        )
    return Bones(f"{number}", "0" * 64, tuple(specimens), ())


@pytest.fixture(scope="module")
def cohort():
    """Twelve label maps with L2 and L3, one of them with T12 too."""
    return [drawn(number, [Level.T12] * (number == 0) + [Level.L2, Level.L3]) for number in range(12)]


def test_each_group_gets_a_model_and_a_rare_level_none(cohort):
    models, used, rare = fit_groups(cohort, modes=6)
    (model,) = models
    assert model.levels == (Level.L2, Level.L3) and model.cases == len(used) == 24
    assert [each.source for each in rare] == ["0"] and "label maps or more with T12, got 1" in rare[0].reason
    shipped = model_of(read_shipped_morphology(), Level.L2)
    for level in model.levels:
        sizes = [centroid_size(each.mean(level).vertices) for each in (model, shipped)]
        assert abs(sizes[0] / sizes[1] - 1) < 0.04
    with pytest.raises(ConfigError, match="modes: expected from 1 to"):
        fit_groups(cohort, modes=30)


def test_scores_leave_a_label_map_out_whole_and_say_where_none_can_be(cohort, tmp_path):
    models, used, _ = fit_groups(cohort, modes=6)
    rows = score_morphology(models, used, rng=np.random.default_rng(0))
    assert [row["modes"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {(row["levels"], row["vertebrae"]) for row in rows} == {("L2-L3", 24)}
    compactness, generalisation = ([row[name] for row in rows] for name in ("compactness", "generalisation_mm"))
    assert compactness[0] > 0.1 and np.all(np.diff(compactness) > 0) and compactness[-1] < 1
    assert np.all(np.diff(generalisation) < 0) and 0.1 < generalisation[-1] < 2
    assert all(0.1 < row["specificity_mm"] < 3 for row in rows)
    fewer = score_morphology(models, used, modes=2, rng=np.random.default_rng(0))
    assert [row["modes"] for row in fewer] == [1, 2] and fewer[0] == rows[0]
    draw_group_scores(rows, tmp_path / "scores.png")
    assert (tmp_path / "scores.png").read_bytes()[:4] == b"\x89PNG"
    models, used, _ = fit_groups([drawn(number, [Level.L2]) for number in range(3)], modes=1)
    (row,) = score_morphology(models, used, rng=np.random.default_rng(0))
    assert row["generalisation_mm"] is None


def test_what_is_kept_comes_back_to_the_last_digit(cohort, tmp_path):
    bones = Bones("a.nii.gz", "1" * 64, cohort[0].specimens, (LeftOut("a.nii.gz", "why"),), "a.npz")
    write_bones(bones, tmp_path / "a.npz")
    back = read_bones(tmp_path / "a.npz")
    assert (back.source, back.sha256, back.left_out, back.file) == ("a.nii.gz", "1" * 64, bones.left_out, "a.npz")
    for one, other in zip(back.specimens, bones.specimens, strict=True):
        assert_array_equal(one.vertices, other.vertices)
        assert (one.level, one.measures, one.match) == (other.level, other.measures, other.match)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-40])
    with pytest.raises(ConfigError, match="fit again"):
        read_bones(tmp_path / "a.npz")


def test_without_elastix_it_is_refused_before_any_work(small_cohort, tmp_path, monkeypatch):
    real = builtins.__import__

    def none(name, *args, **kwargs):
        if name.split(".")[0] == "itk":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    done = run("fit", small_cohort, "--morphology", "--out", tmp_path / "model.npz")
    assert done.exit_code == 2 and "spinesim[registration]" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("score", "shipped.npz"), "shape fit --morphology"),
        (("fit", ".", "--morphology", "--levels", "C1-C2", "--out", "a.npz"), "expected some of C3 to L5"),
        (("fit", ".", "--morphology", "--out", "a.txt"), "ends in .npz"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(args, said, tmp_path, monkeypatch):
    from spinesim.shape.morphology_file import write_morphology

    monkeypatch.chdir(tmp_path)
    write_morphology(read_shipped_morphology(), "shipped.npz")
    done = run(*args)
    assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["shipped.npz"]


@pytest.mark.slow
def test_label_maps_are_matched_fitted_resumed_and_scored(small_cohort, tmp_path):
    """Six bends of the phantom have the same vertebrae: what a model of them misses is what drawing anew does.

    It may be a third of their voxels of 3 mm.
    """
    pytest.importorskip("itk", reason="itk-elastix is not installed: pip install 'spinesim[registration]'")
    model = tmp_path / "model.npz"
    asked = ("fit", small_cohort, "--morphology", "--levels", "T9-T10", "--modes", 2, "--out", model, "--workers", 2)
    done = run(*asked)
    assert done.exit_code == 0, done.output
    assert "vertebrae: 12 of 6 label maps, 6 matched in this run" in done.output
    assert "left out: " in done.output and "sub-9_seg-vert_msk.nii.gz: expected a NIfTI file" in done.output
    report = json.loads(model.with_name("model_report.json").read_text(encoding="utf-8"))
    assert report["levels"] == {"T9": 6, "T10": 6} and len(report["left_out"]) == 1
    assert all(match["missed_95_mm"] < 1.5 for case in report["used"] for match in case["levels"].values())
    before = model.read_bytes()
    done = run(*asked)
    assert done.exit_code == 0 and "0 matched in this run" in done.output and model.read_bytes() == before
    done = run("score", model, "--csv", tmp_path / "scores.csv")
    assert done.exit_code == 0, done.output
    (row,) = csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines())
    assert row["levels"] == "T9-T10" and float(row["generalisation_mm"]) < 1.0
    assert run("show", model, "--level", "T9", "--out", tmp_path / "a.png").exit_code == 0
    (fitted,) = read_morphology(model)
    shipped = model_of(read_shipped_morphology(), Level.T9)
    sizes = [centroid_size(each.mean(Level.T9).vertices) for each in (fitted, shipped)]
    assert abs(sizes[0] / sizes[1] - 1) < 0.05  # labels of 3 mm keep 4.5 mm between bones, which cuts processes short
