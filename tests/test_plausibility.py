"""Every result is held against rules of plausibility: told in its record, refused where a hard one is broken."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from spinesim.anatomy.canal import measure_canals
from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.plan import Mass
from spinesim.anatomy.scan import Scan
from spinesim.cli.main import main
from spinesim.deform.flow import FlowSettings
from spinesim.errors import OutOfReachError, PathologyError
from spinesim.pathology.combination import Combination
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.lesion import Lesion
from spinesim.pathology.sagittal import Sagittal
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.phantom import PhantomParameters, build_whole_phantom
from spinesim.series.case import OutputGrid, simulate
from spinesim.series.plausibility import check_case


def broken(case) -> dict[str, bool]:
    """The rules that a case breaks, and whether they are hard."""
    return {check.rule: check.hard for check in check_case(case) if not check.kept}


def test_a_plausible_case_keeps_every_rule_and_its_record_tells_them(small_case, small_written):
    assert broken(small_case) == {}
    told = json.loads(small_written["record"].read_text(encoding="utf-8"))["plausibility"]
    assert len(told) >= 8
    assert all(rule["kept"] for rule in told)


def test_what_breaks_a_rule_is_refused_and_on_demand_told_instead(small_phantom):
    asked = Sagittal(upper="T8", lower="T11", angle_deg=50)
    with pytest.raises(OutOfReachError, match="no joint is bent forward"):
        simulate(small_phantom, asked)
    case = simulate(small_phantom, asked.allowed())
    assert any(warning.startswith("implausible: no joint is bent forward") for warning in case.warnings)


def test_bones_that_would_lie_in_each_other_break_a_hard_rule_though_no_label_can_show_it(small_phantom):
    scan = Scan(small_phantom.labels)
    case = simulate(scan, Sagittal(upper="T8", lower="T11", angle_deg=-15, allow_implausible=True))
    assert broken(case)["no bones overlap"]
    upper, lower = (case.deformation.carriages[level].motion for level in (Level.T10, Level.T11))
    lying = scan.labels.grid.to_world(np.argwhere(scan.labels.voxels == scan.labels.numbers[Level.T10]).astype(float))
    there = scan.labels.grid.to_voxel(apply_affine(np.linalg.inv(lower) @ upper, lying)).round().astype(int)
    inside = scan.labels.voxels[tuple(there.T)] == scan.labels.numbers[Level.T11]
    assert case.overlaps[Level.T10, Level.T11] == pytest.approx(inside.mean(), abs=0.004)  # carried voxel by voxel


def test_a_curve_that_strains_bones_is_refused_with_a_smaller_one_that_does_not(small_phantom, monkeypatch):
    scan, asked = Scan(small_phantom.labels), Scoliosis(cobb_deg=40, apex="T9")
    monkeypatch.setattr("spinesim.pathology.scoliosis.STRAIN_SMALL_MM", 0.004)
    with pytest.raises(
        PathologyError, match=r"bones that move as a whole stay rigid .* at T\d+; ask for less \(36 deg"
    ):
        simulate(scan, asked)
    case = simulate(scan, asked.allowed())
    assert any(warning.startswith("implausible: bones that move as a whole") for warning in case.warnings)
    assert case.deformation.settings.spacing_mm == FlowSettings().spacing_mm  # nodes are never closer than voxels
    finer = simulate(scan, asked.allowed(), output=OutputGrid(spacing_mm=(2.0, 2.0, 2.0)))
    assert finer.deformation.settings.spacing_mm == 2.0


def test_what_strains_bones_more_may_beside_a_curve():
    curve, disc = (
        {"kind": "scoliosis", "cobb_deg": 20, "apex": "T9"},
        {"kind": "disc", "discs": ["L4/L5"]},
    )
    assert Combination(pathologies=[curve]).strain_mm == 0.1
    both = Combination(pathologies=[curve, disc])
    assert both.strain_mm == 0.2
    assert both.keeps_bones


def test_the_command_line_allows_it_too(small_files, tmp_path):
    ct, labels = map(str, small_files)
    asked = tmp_path / "asked.yaml"
    asked.write_text("pathologies: [{kind: sagittal, upper: T8, lower: T11, angle_deg: 50}]")
    args = ["simulate", ct, "--labels", labels, "--config", str(asked), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, args)
    assert refused.exit_code == 2
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(main, [*args, "--allow-implausible"])
    assert done.exit_code == 0, done.output
    assert "implausible: no joint is bent forward" in done.stderr


def test_all_parts_of_a_combination_are_allowed():
    parts = Combination(pathologies=[{"kind": "fracture", "level": "T9", "genant_grade": 1}]).allowed()
    one = {"kind": "fracture", "level": "T9", "genant_grade": 1, "allow_implausible": True}
    assert Combination(pathologies=[one, {"kind": "fracture", "level": "T7", "genant_grade": 1}]).may_be_implausible
    assert parts.allow_implausible
    assert all(part.allow_implausible for part in parts.pathologies)


def test_a_closed_canal_is_seen(small_case):
    labels, vertebra = small_case.after.labels, small_case.after_spine[Level.T9]
    voxels = labels.voxels.copy()
    points = labels.grid.to_world(np.argwhere(voxels >= 0).astype(float))
    local = (points - vertebra.centre) @ vertebra.axes
    depth = measure_canals(labels, small_case.after_spine)[Level.T9]
    wall = (np.abs(local[:, 0]) < 6) & (np.abs(local[:, 2]) < 5)
    wall &= (local[:, 1] < vertebra.back_mm) & (local[:, 1] > vertebra.back_mm - 0.7 * depth)
    voxels.reshape(-1)[np.flatnonzero(wall)] = labels.numbers[Level.T9]
    case = replace(small_case, after=replace(small_case.after, labels=labels.with_voxels(voxels)))
    assert broken(case).get("no canal is closed") is True
    there, elsewhere = (Fracture(level=level, loss_percent=20, retropulsion_mm=4) for level in ("T9", "T8"))
    assert broken(replace(case, pathology=elsewhere)).get("no canal is closed") is True
    meant = broken(replace(case, pathology=there))
    assert "no canal is closed" not in meant
    assert meant["no canal that is to be narrowed is closed"] is False


@pytest.mark.parametrize(("position", "edge"), [("anterior", "posterior"), ("left", "right"), ("right", "left")])
def test_a_wedge_that_lost_the_edge_that_stands_is_refused_unless_it_burst(small_case, position, edge):
    native = small_case.before_measures.heights[Level.T9]
    lower = replace(native, **{position: 0.7 * getattr(native, position), edge: 0.85 * getattr(native, edge)})
    measures = replace(small_case.after_measures, heights={**small_case.before_measures.heights, Level.T9: lower})
    rule = "a wedge loses no more of its height at the edge that stands"
    for asked, hard in (({}, True), ({"retropulsion_mm": 3}, False), ({"type": "crush", "position": None}, None)):
        fracture = Fracture(**{"level": "T9", "loss_percent": 30, "position": position, **asked})
        case = replace(small_case, pathology=fracture, after_measures=measures)
        assert broken(case).get(rule) is hard
        assert broken(replace(case, pathology=Combination(pathologies=[fracture]))).get(rule) is hard


def test_canals_are_as_deep_as_the_phantom_was_built():
    phantom = build_whole_phantom(PhantomParameters(upper="T11", lower="L3", spacing_mm=(1.0, 1.0, 1.0)))
    canals = measure_canals(phantom.scan.labels, estimate_spine(phantom.scan.labels))
    assert len(canals) == 5
    for level, depth in canals.items():
        assert depth == pytest.approx(phantom.parameters.size * phantom.dimensions[level].canal_d, abs=2.0), level


def test_a_lesion_outside_its_structure_is_seen(small_phantom):
    case = simulate(small_phantom, Lesion(structure="T9", diameter_mm=12))
    assert broken(case) == {}
    (mass,) = case.proposal.plan.masses
    elsewhere = Mass(**{**mass.__dict__, "structure": Level.T10})
    proposal = replace(case.proposal, plan=replace(case.proposal.plan, masses=(elsewhere,)))
    assert broken(replace(case, proposal=proposal)) == {"a lesion lies inside its structure": True}


def test_a_shrunken_bone_and_a_fold_are_seen(small_case):
    number = small_case.after.labels.numbers[Level.T9]
    voxels = small_case.after.labels.voxels.copy()
    bone = np.argwhere(voxels == number)
    voxels[tuple(bone[: len(bone) // 10].T)] = 0
    shrunk = replace(small_case, after=replace(small_case.after, labels=small_case.after.labels.with_voxels(voxels)))
    assert "bones keep their volume" in broken(shrunk)
    folded = replace(small_case, deformation=replace(small_case.deformation, jacobian=(-0.1, 2.0)))
    assert broken(folded) == {"the field folds nowhere": True}
