"""Laws of the report: measures are said in degrees and millimetres, oddities in sentences; disorder is refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from spinesim.anatomy.findings import check_order, findings
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import measure_spine
from spinesim.anatomy.report import report_measures, report_rows, write_csv, write_json
from spinesim.anatomy.schemes import VERSE
from spinesim.errors import LabelError, OutputError
from spinesim.phantom import PhantomParameters, build_phantom

SMALL = PhantomParameters(upper="T9", lower="L1", spacing_mm=(2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def labels():
    return build_phantom(SMALL).labels


@pytest.fixture(scope="module")
def spine(labels):
    return estimate_spine(labels)


@pytest.fixture(scope="module")
def measures(spine):
    return measure_spine(spine)


def relabelled(labels, **names):
    """The same voxels under other numbers; ``T9="T10"`` says that what was T9 is called T10, ``T9=None`` drops it."""
    number = {level: n for n, level in VERSE.items()}
    table = np.arange(256, dtype=np.uint8)
    for old, new in names.items():
        table[number[Level[old]]] = number[Level[new]] if new else 0
    return replace(labels, voxels=table[labels.voxels], levels=VERSE)


def test_the_report_says_degrees_and_survives_json(spine, measures):
    report = report_measures(measures, spine)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["axial_rotation_deg"] == {
        level.name: pytest.approx(np.rad2deg(angle), abs=0.006) for level, angle in measures.rotation.items()
    }
    assert [disc["levels"] for disc in report["discs"]] == ["T9/T10", "T10/T11", "T11/T12", "T12/L1"]
    assert report["heights_mm"]["T12"]["left"] == pytest.approx(measures.heights[Level.T12].left, abs=0.006)
    assert report["genant_grade"] == dict.fromkeys(["T9", "T10", "T11", "T12", "L1"], 0)
    assert report["not_measured"] == []
    assert report["vertebrae"]["L1"]["centre_mm"] == pytest.approx(spine[Level.L1].centre, abs=0.006)
    assert report["vertebrae"]["L1"]["axes"]["anterior"] == pytest.approx(spine[Level.L1].axes[:, 1], abs=1e-6)


def test_what_could_not_be_read_is_none(spine, measures):
    heights = {level: replace(h, left=float("nan")) for level, h in measures.heights.items()}
    report = report_measures(replace(measures, heights=heights), spine)
    assert report["heights_mm"]["T9"]["left"] is None


def test_rows_and_report_say_the_same(spine, measures):
    report, rows = report_measures(measures, spine), report_rows(measures, spine)
    assert [row["level"] for row in rows] == [level.name for level in spine.levels]
    for row in rows:
        assert row["axial_rotation_deg"] == report["axial_rotation_deg"][row["level"]]
        assert row["height_middle_mm"] == report["heights_mm"][row["level"]]["middle"]
    assert {row["disc_below"]: row["disc_height_mm"] for row in rows[:-1]} == {
        disc["levels"]: disc["height_mm"] for disc in report["discs"]
    }
    assert rows[-1]["disc_below"] is None


def test_written_then_read_is_equal(tmp_path, spine, measures):
    report, rows = report_measures(measures, spine), report_rows(measures, spine)
    write_json(report, tmp_path / "report.json")
    write_csv(rows, tmp_path / "rows.csv")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    assert read == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.json", "rows.csv"]


def test_a_place_that_is_not_there_is_refused(tmp_path, spine, measures):
    with pytest.raises(OutputError, match="make the folder first"):
        write_json(report_measures(measures, spine), tmp_path / "nowhere" / "report.json")


def test_a_usual_spine_has_no_findings(labels, spine):
    check_order(labels)
    assert findings(labels, spine) == ()


def test_a_missing_level_is_told(labels):
    gap = relabelled(labels, T11=None)
    said = findings(gap, estimate_spine(gap))
    assert said == ("T11 is missing between T10 and T12.",)


def test_a_step_of_two_levels_under_neighbouring_names_is_told(labels):
    skipped = relabelled(labels, T9="T10", T10="T11", T11=None)
    said = findings(skipped, estimate_spine(skipped))
    assert any("T11 and T12" in sentence and "may have no label" in sentence for sentence in said)


def test_a_rare_level_is_told(labels):
    rare = relabelled(labels, L1="T13")
    assert findings(rare, estimate_spine(rare)) == ("T13 is present: a level that few people have.",)


def test_a_label_in_two_pieces_is_told_with_their_sizes(labels, spine):
    voxels = labels.voxels.copy()
    voxels[:2, :2, :2] = dict(labels.numbers)[Level.T10]
    sentence = next(s for s in findings(labels.with_voxels(voxels), spine) if "pieces" in s)
    assert sentence.startswith("T10 is in 2 pieces, of ") and sentence.endswith(", 64 mm³.")


def test_a_cut_level_is_told(labels):
    low = np.flatnonzero((labels.voxels == labels.numbers[Level.L1]).any(axis=(0, 1)))[0]
    start = (0, 0, int(low) + 14)
    cut = labels.with_voxels(labels.voxels[:, :, start[2] :], labels.grid.cropped(start, labels.grid.shape))
    said = findings(cut, estimate_spine(cut))
    assert "L1 is cut by the edge of the volume: it moves with its neighbours and is not measured." in said


def test_a_vertebra_with_two_labels_is_told(labels, spine):
    voxels = labels.voxels.copy()
    t10, t11 = (labels.numbers[level] for level in (Level.T10, Level.T11))
    height = np.argwhere(voxels == t10)[:, 2]
    voxels[voxels == t11] = 0
    upper = voxels[:, :, : int(height.mean())]
    upper[upper == t10] = t11
    assert any("may bear two labels" in sentence for sentence in findings(labels.with_voxels(voxels), spine))


def test_levels_numbered_upward_are_refused(labels):
    with pytest.raises(LabelError, match="numbered from head to foot, got T9 below L1"):
        check_order(relabelled(labels, T9="L1", T10="T12", T12="T10", L1="T9"))


def test_levels_out_of_turn_are_refused(labels):
    with pytest.raises(LabelError, match="in order from head to foot, got T12 above T11"):
        check_order(relabelled(labels, T11="T12", T12="T11"))
