"""Laws of ``spinesim shape``: what is measured stays measured, what is left out is named, scores mean what they say."""

from __future__ import annotations

import csv
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from spinesim.anatomy.curves import find_curves
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import measure_spine
from spinesim.cli.main import main
from spinesim.errors import ConfigError, LabelError
from spinesim.shape import cohort
from spinesim.shape.chain import Chain, measure_chain
from spinesim.shape.cohort import find_label_maps
from spinesim.shape.coverage import covered_chains, covered_levels, cut_chain, parse_run
from spinesim.shape.fitting import read_fit
from spinesim.shape.latent import Gaussian
from spinesim.shape.member import Member, average_vertebrae, read_member, write_member
from spinesim.shape.model_file import read_pose_model, write_pose_model
from spinesim.shape.pose_model import PoseModel, fit_pose_model
from spinesim.shape.samples import derived_angles, sample_spines, stand_up
from spinesim.shape.scores import compare_poses, measure_compactness, score_model

RECIPES = Path(__file__).resolve().parents[1] / "shape_models"
LEVELS = [Level[name] for name in ("T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1")]


def run(*args):
    return CliRunner().invoke(main, ["shape", *map(str, args)])


@pytest.fixture(scope="module")
def fitted(small_cohort, tmp_path_factory):
    """The model's file, and what the command said."""
    model = tmp_path_factory.mktemp("model") / "model.npz"
    done = run("fit", small_cohort, "--out", model, "--levels", "T1-L5", "--workers", 2)
    assert done.exit_code == 0, done.output
    return model, done.output


def test_a_broken_file_is_left_out_and_named_and_levels_are_what_the_cases_show(fitted, small_cohort):
    model, said = fitted
    assert "cases: 6 of 7 label maps, 6 measured in this run" in said
    assert "left out: " in said and "sub-9_seg-vert_msk.nii.gz: expected a NIfTI file" in said
    assert "The model has T6 to L1 only" in said
    report = json.loads(model.with_name("model_report.json").read_text(encoding="utf-8"))
    assert [case["label_map"] for case in report["left_out"]] == ["sub-9_seg-vert_msk.nii.gz"]
    assert [case["label_map"][:5] for case in report["used"]] == [f"sub-{rank}" for rank in range(6)]
    assert report["levels"] == [level.name for level in read_pose_model(model).levels] == [lv.name for lv in LEVELS]
    kept = {path.name for path in model.with_name("model_spines").iterdir()}
    assert kept == {case["spine"] for case in report["used"]}


def test_a_second_run_measures_nothing_anew_and_gives_the_same_bytes(fitted, small_cohort, tmp_path, monkeypatch):
    model, _ = fitted
    before = model.read_bytes()
    (again := tmp_path / "model_spines").mkdir()
    for file in model.with_name("model_spines").iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    measured = []
    monkeypatch.setattr(cohort, "_measured", lambda files, *_: measured.extend(files) or [])
    done = run("fit", small_cohort, "--out", tmp_path / "model.npz", "--levels", "T1-L5")
    assert done.exit_code == 0 and "0 measured in this run" in done.output, done.output
    assert [path.name for path in measured] == ["sub-9_seg-vert_msk.nii.gz"]
    assert (tmp_path / "model.npz").read_bytes() == before


def test_what_was_fitted_comes_back_and_stands_as_it_was_measured(fitted, small_phantom):
    fit = read_fit(fitted[0])
    straight = estimate_spine(small_phantom.labels)
    member = next(member for member in fit.members if member.source.startswith("sub-0"))
    assert_allclose(member.chain.lower_from_upper, measure_chain(straight).lower_from_upper, atol=1e-9)
    ends = [find_curves(stand_up(fit.model, chain.lower_from_upper)) for chain in fit.chains if len(chain.levels) == 8]
    asked = [curve[0] for member in fit.members if len(member.spine) == 8 if (curve := find_curves(member.spine))]
    assert_allclose([c[0].cobb for c in ends if c], [c.cobb for c in asked], atol=np.deg2rad(1.5))


def test_sample_show_and_score_write_their_files(fitted, tmp_path):
    model, out = fitted[0], tmp_path
    for args in (
        ("sample", model, "--count", 3, "--seed", 5, "--out", out / "samples.csv"),
        ("sample", model, "--count", 3, "--seed", 5, "--out", out / "samples.json"),
        ("show", model, "--out", out / "modes.png"),
        ("score", model, "--samples", 20, "--csv", out / "scores.csv", "--png", out / "scores.png"),
    ):
        done = run(*args)
        assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {
        "samples.csv",
        "samples.json",
        "modes.png",
        "scores.csv",
        "scores.png",
    }
    for picture in ("modes.png", "scores.png"):
        assert struct.unpack(">I", (out / picture).read_bytes()[16:20]) == (1600,)
    rows = read_table(out / "samples.csv")
    told = json.loads((out / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert [row["level"] for row in rows] == 3 * [level.name for level in LEVELS]
    assert float(rows[0]["centre_z_mm"]) == told[0]["vertebrae"][0]["centre_mm"][2] > 150
    scores = read_table(out / "scores.csv")
    assert [row["modes"] for row in scores] == list("01234")
    assert f"{float(scores[2]['generalisation_mm']):.2f} mm" in done.output


def read_table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["adult", "scoliosis", "morphology"])
def test_a_shipped_model_is_scored_by_name_with_what_its_card_lists(name, tmp_path):
    done = run("score", name, "--csv", tmp_path / "scores.csv")
    shipped = read_table(RECIPES.joinpath(f"{name}_scores.csv"))
    assert done.exit_code == 0 and read_table(tmp_path / "scores.csv") == shipped
    assert [line.split() for line in done.output.splitlines()] == [
        " ".join(row).split() for row in (shipped[0].keys(), *(row.values() for row in shipped))
    ]
    refused = run("score", name, "--png", tmp_path / "scores.png")
    assert refused.exit_code == 2 and f"got {name}, which ships; take --csv" in refused.stderr


def test_a_file_of_a_shipped_models_name_goes_before_it(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scoliosis").write_bytes(fitted[0].read_bytes())
    done = run("score", "scoliosis")
    assert done.exit_code == 2 and "expected the report that 'shape fit' wrote" in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("fit", "{few}", "--out", "{out}/m.npz"), "expected 3 or more spines that share levels, got 0"),
        (("fit", "{few}", "--out", "{out}/m.nii"), "expected a name that ends in .npz"),
        (("fit", "{few}", "--out", "{out}/no/m.npz"), "make the folder first"),
        (("fit", "{few}", "--out", "{out}/m.npz", "--levels", "L5-T1"), "the upper one first"),
        (("fit", "{out}/none", "--out", "{out}/m.npz"), "expected a folder of label maps"),
        (("show", "{out}/m.npz", "--out", "{out}/a.png"), "expected a pose model, got no file"),
        (("sample", "{model}", "--out", "{out}/a.txt"), "ends in .csv or .json"),
        (("score", "{model}", "--report", "{out}/none.json"), "expected the report that 'shape fit' wrote"),
        (("score", "{model}", "--modes", "5"), "from 1 to 4 modes, got 6 cases and 5 modes"),
        ((), "shape --help'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(fitted, small_cohort, tmp_path, given, said):
    (few := tmp_path / "few").mkdir()
    (few / "a.nii.gz").write_bytes(b"no label map")
    (out := tmp_path / "out").mkdir()
    done = run(*(arg.format(few=few, out=out, model=fitted[0]) for arg in given))
    assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output
    assert list(out.iterdir()) == []


def test_verse_is_known_by_its_names_and_other_folders_give_all_but_cts(tmp_path):
    for name in ("b/x.mha", "a.nrrd", "a_ct.nii.gz", ".hidden/c.nii", "._a.nii.gz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_label_maps(tmp_path) == ([tmp_path / "a.nrrd", tmp_path / "b" / "x.mha"], 0)
    (tmp_path / "sub-1_seg.nii.gz").touch()
    assert find_label_maps(tmp_path) == ([tmp_path / "sub-1_seg.nii.gz"], 2)
    with pytest.raises(LabelError, match="got no such folder"):
        find_label_maps(tmp_path / "none")


def straight(*names):
    """A chain of levels 25 mm apart."""
    joints = np.tile(np.eye(4), (len(names) - 1, 1, 1))
    joints[:, 2, 3] = 25.0
    return Chain(tuple(Level[name] for name in names), joints, np.eye(4))


def test_a_model_has_the_longest_run_that_two_cases_show():
    chains = [
        straight("T9", "T10", "T11", "T12"),
        straight("T10", "T11", "T12", "T13", "L1", "L2", "L3", "L4"),
        straight("L1", "L2", "L3", "L5"),
    ]
    assert [cut_chain(chain).levels[0].name for chain in chains] == ["T9", "L1", "L1"]  # T13 parts its neighbours
    assert [level.name for level in covered_levels(chains)] == ["L1", "L2", "L3"]
    run_of = covered_levels(chains, parse_run("T9-T12"))
    assert [level.name for level in run_of] == ["T10", "T11", "T12"]
    assert [piece and len(piece.levels) for piece in covered_chains(chains, run_of)] == [3, 3, None]
    with pytest.raises(ConfigError, match="expected two neighbours of L3 to L5"):
        covered_levels(chains, parse_run("L3-L5"))


def test_a_member_and_the_mean_vertebrae_come_back_from_their_files(small_phantom, tmp_path):
    spine = estimate_spine(small_phantom.labels)
    write_member(Member("a.nii", "00", spine, ("a doubt",)), tmp_path / "a.json")
    back = read_member(tmp_path / "a.json")
    assert (back.source, back.doubts) == ("a.nii", ("a doubt",))
    assert np.array_equal(back.chain.lower_from_upper, measure_chain(spine).lower_from_upper)

    chain = measure_chain(spine)
    gaussian = Gaussian(np.zeros(42), np.ones((42, 1)), 0.1)
    model = PoseModel(chain.levels, chain.lower_from_upper, gaussian, 3, average_vertebrae([spine], chain.levels))
    write_pose_model(model, tmp_path / "m.npz")
    part = read_pose_model(tmp_path / "m.npz").restricted(LEVELS[1:])
    here, there = measure_spine(stand_up(part, chain.lower_from_upper[1:])), measure_spine(spine)
    assert here.rotation.keys() == there.rotation.keys() - {Level.T6}
    whole = stand_up(read_pose_model(tmp_path / "m.npz"), chain.lower_from_upper)
    assert_allclose(whole[Level.T6].superior.centre, _upright(spine)[Level.T6].superior.centre, atol=1e-6)
    with pytest.raises(ConfigError, match="expected one with mean vertebrae"):
        stand_up(replace(model, anatomy=None), chain.lower_from_upper)


def _upright(spine):
    """A spine in its own patient axes, on its lowest vertebra."""
    motion = np.eye(4)
    motion[:3, :3] = spine.patient_axes.T
    motion[:3, 3] = -spine.patient_axes.T @ spine.vertebrae[-1].centre
    return type(spine)(tuple(vertebra.moved(motion) for vertebra in spine))


@pytest.fixture(scope="module")
def known():
    """A model of six levels that bend to the side in an arc and in an S, and turn; and noise."""
    mean = straight("T8", "T9", "T10", "T11", "T12", "L1")
    arc, s = np.sin(np.linspace(0, np.pi, 5)), np.sin(np.linspace(0, 2 * np.pi, 5))
    modes = np.zeros((5, 6, 3))
    modes[:, 1, 0], modes[:, 1, 1], modes[:, 2, 2] = 5 * arc, 3 * s, 2 * arc
    return PoseModel(mean.levels, mean.lower_from_upper, Gaussian(np.zeros(30), modes.reshape(-1, 3), 0.01), 100)


def test_scores_tell_how_many_modes_there_are(known):
    chains = known.sample(30, np.eye(4), rng=np.random.default_rng(0))
    short = [chain.part(1, 5) if rank % 5 == 0 else chain for rank, chain in enumerate(chains)]
    fitted = fit_pose_model(short, 5)
    assert_allclose(measure_compactness(fitted, short)[[0, -1]], [0.0, 1.0])
    scores = score_model(fitted, short, samples=200, rng=np.random.default_rng(1))
    left, drawn = scores.generalisation, scores.specificity
    assert (np.diff(scores.compactness) > 0).all() and scores.compactness[3] > 0.98
    assert (left[3] < left[2]).all() and (left[2] < left[1]).all() and (left[1] < left[0]).all()
    rebuilt = known.decode(np.stack([known.gaussian.inverse(known.transform(chain)) for chain in chains]))
    pairs = zip(rebuilt, chains, strict=True)
    floor = np.mean([compare_poses(Chain(c.levels, r, c.base).poses(), c.poses()) for r, c in pairs], axis=0)
    assert_allclose(left[3], floor, rtol=0.15)  # what noise leaves, to who knows the modes
    assert_allclose(left[5], left[3], rtol=0.15)
    assert (drawn[3] > drawn[1]).all()
    assert (scores.generalisation_error < 0.25 * left).all()


def test_spines_are_compared_wherever_they_lie(known):
    chain = known.sample(1, np.eye(4), rng=np.random.default_rng(2))[0]
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = Rotation.from_rotvec([0.4, -2.0, 1.1]).as_matrix(), (3.0, 80.0, -5.0)
    assert_allclose(compare_poses(motion @ chain.poses(), chain.poses()), 0.0, atol=1e-7)
    turned = chain.poses()
    turned[::2, :3, :3] = turned[::2, :3, :3] @ Rotation.from_rotvec([0, 0, 0.1]).as_matrix()
    assert compare_poses(turned, chain.poses())[1] == pytest.approx(0.05, rel=0.02)  # half each, laid between


def test_angles_of_samples_are_those_that_measure_reads(fitted):
    spines = sample_spines(read_pose_model(fitted[0]), 4, rng=np.random.default_rng(3))
    for spine in spines:
        told, curves = derived_angles(spine), find_curves(spine)
        assert told["cobb_deg"] == (round(np.rad2deg(curves[0].cobb), 4) if curves else None)
        assert_allclose(spine.patient_axes, np.eye(3), atol=1e-9)
        assert_allclose(spine.vertebrae[-1].centre, 0.0, atol=1e-9)


def test_the_report_of_another_model_is_refused(fitted, tmp_path):
    model = read_pose_model(fitted[0])
    write_pose_model(replace(model, cases=7), tmp_path / "model.npz")
    done = run("score", tmp_path / "model.npz", "--report", fitted[0].with_name("model_report.json"))
    assert done.exit_code == 2 and "got that of another model" in done.stderr
    assert Path(fitted[0]).is_file()
