"""Laws of ``spinesim shape`` for the morphology of vertebrae: it is known by its header, and seeds mean the same."""

from __future__ import annotations

import csv
from importlib.resources import files

import numpy as np
from click.testing import CliRunner

from spinesim.anatomy.levels import Level
from spinesim.cli.main import main
from spinesim.phantom.table import read_dimensions
from spinesim.shape.morphology import Code, model_of
from spinesim.shape.morphology_file import write_morphology
from spinesim.shape.procrustes import centroid_size
from spinesim.shape.shipped import read_shipped_morphology
from spinesim.shape.specimen import NOBODY, Person


def run(*args):
    return CliRunner().invoke(main, ["shape", *map(str, args)])


def test_the_shipped_model_is_drawn_and_sampled_by_name_and_by_file(tmp_path):
    write_morphology(read_shipped_morphology(), tmp_path / "own.npz")
    for name, model in (("a", "morphology"), ("b", tmp_path / "own.npz")):
        done = run("sample", model, "--level", "L2", "--count", 200, "--seed", 3, "--out", tmp_path / f"{name}.csv")
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    widths = {sex: np.mean([float(row["w_inf"]) for row in rows if row["sex"] == sex]) for sex in ("male", "female")}
    assert len(rows) == 200 and widths["male"] > widths["female"]
    table = read_dimensions()[Level.L2].w_inf
    assert abs(np.mean(list(widths.values())) / table - 1) < 0.03
    done = run("show", "morphology", "--level", "L2", "--out", tmp_path / "modes.png")
    assert done.exit_code == 0 and (tmp_path / "modes.png").read_bytes()[:4] == b"\x89PNG", done.output


def test_what_cannot_be_is_refused_in_one_sentence(tmp_path):
    for args, said in (
        (("sample", "morphology", "--level", "C2", "--out", tmp_path / "a.csv"), "expected a level of C3-C7"),
        (("sample", "morphology", "--out", tmp_path / "a.json"), "ends in .csv"),
        (("show", "morphology", "--level", "X9", "--out", tmp_path / "a.png"), "did you mean"),
    ):
        done = run(*args)
        assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_model_has_its_card_and_every_level_the_dimensions_of_the_table():
    folder = files("spinesim.shape_models")
    assert all(folder.joinpath(name).is_file() for name in ("morphology.md", "morphology_scores.csv"))
    models = read_shipped_morphology()
    assert [level for model in models for level in model.levels] == list(read_dimensions())
    for level, dims in read_dimensions().items():
        model = model_of(models, level)
        told = model.measure(Code(level, NOBODY, 0.0, np.zeros(model.gaussian.modes.shape[1])))
        for name in ("h_ant", "h_post", "w_sup", "w_inf", "d_sup", "d_inf", "canal_w", "canal_d", "tp_span"):
            assert abs(told[name] / getattr(dims, name) - 1) < 0.01, (level.name, name)
        assert model.mean(level).genus() == 1
        sizes = [centroid_size(model.mean(level, Person(sex)).vertices) for sex in ("male", "female")]
        assert 1.06 < sizes[0] / sizes[1] < 1.10  # Duman 2026, Yadav 2020
