"""Sagittal angles measure as they were asked, the back keeps lying, and bodies are wedged only where it is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import measure_spine
from spinesim.anatomy.reading import read_labels, read_scan
from spinesim.anatomy.scan import Scan
from spinesim.errors import PathologyError
from spinesim.pathology.proposal import goals_of, outcome_of, propose, read_goals
from spinesim.pathology.sagittal import Sagittal
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.series.case import simulate
from spinesim.series.fidelity import bone_fidelity

RMS_MM = 0.1

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def standing():
    """The spine of a phantom from T1 to the sacrum."""
    return estimate_spine(build_phantom(PhantomParameters(upper="T1", spacing_mm=(3.0, 3.0, 3.0))).labels)


def keep_promises(case) -> None:
    """Assert the promises of a case: goal, no folds, rigid bones but the wedged ones, whole labels."""
    for asked, measured, _ in case.goals.values():
        assert abs(asked - measured) <= 1.0
    assert case.deformation.jacobian[0] > 0
    whole = {vertebra.level.name for vertebra in case.before_spine.whole} - set(case.pathology.wedged)
    for level, (rms, _) in bone_fidelity(case).items():
        assert level not in whole or rms <= RMS_MM
    assert set(case.after.labels.present) == set(case.before.labels.present)


@given(angle=st.floats(10, 80))
def test_a_kyphosis_is_planned_as_it_is_asked_and_the_back_keeps_lying(standing, angle):
    asked = Sagittal(angle_deg=angle)
    proposal = propose(asked, standing, goals_of(asked))
    measures, native = measure_spine(proposal.moved), measure_spine(standing)
    assert read_goals(asked, measures, native)[asked.goal] == pytest.approx(angle, abs=1.0)
    assert measures.kyphosis[Level.T4, Level.T12] == pytest.approx(np.deg2rad(angle), abs=np.deg2rad(1.0))
    anterior = standing.patient_axes[:, 1]
    moved = np.array(
        [(after.centre - before.centre) @ anterior for before, after in zip(standing, proposal.moved, strict=True)]
    )
    dorsal = min(standing, key=lambda v: v.centre @ anterior if v.level <= Level.T12 else np.inf)
    assert abs(moved[standing.levels.index(dorsal.level)]) < 4.0
    assert moved[-1] == pytest.approx(0.0, abs=0.1)


def test_wedged_bodies_take_their_share(standing):
    plain, wedged = Sagittal(angle_deg=60), Sagittal(angle_deg=60, wedged=("T7", "T8", "T9"), wedge_deg=9)
    spines = [propose(asked, standing, goals_of(asked)).moved for asked in (plain, wedged)]
    wedges = [[np.rad2deg(measure_spine(s).sagittal_angle(level, level)) for level in s.levels] for s in spines]
    changed = {level.name for level, a, b in zip(standing.levels, *wedges, strict=True) if abs(a - b) > 0.5}
    assert changed <= {"T7", "T8", "T9"}
    told = outcome_of(wedged, measure_spine(spines[1]), measure_spine(standing))
    assert told["scheuermann"]
    assert min(told["wedge_deg"].values()) == pytest.approx(9.0, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"angle_deg": 65, "wedged": ("T7", "T8", "T9"), "wedge_deg": 9},
        {"angle_deg": 20},
        {"upper": "L1", "lower": "S", "angle_deg": -25},
        {"upper": "L1", "lower": "S", "angle_deg": -73},
    ],
)
def test_a_phantom_is_bent_as_asked(asked):
    scan = build_phantom(PhantomParameters(upper="T1", spacing_mm=(2.0, 2.0, 2.0)))
    keep_promises(simulate(scan, Sagittal(**asked)))


@pytest.mark.slow
def test_real_scans_are_bent_as_asked():
    ct, labels = REAL / "LIDC-IDRI-0001_ct.nii.gz", REAL / "LIDC-IDRI-0001_seg-vert_VerSe.nii.gz"
    lumbar = REAL / "verse_cc-by-sa" / "sub-verse004_seg-vert_msk.nii.gz"
    if not ct.is_file():
        pytest.skip("the real scans are not here (../shared/data)")
    keep_promises(simulate(read_scan(ct, labels), Sagittal(angle_deg=68)))
    keep_promises(simulate(Scan(read_labels(lumbar)), Sagittal(upper="T10", lower="L2", angle_deg=22)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"angle_deg": 200}, "less than or equal to 110"),
        ({"angle_deg": 60, "upper": "T12", "lower": "T4"}, "above the lower one"),
        ({"angle_deg": 60, "wedged": ("T7", "T9"), "wedge_deg": 8}, "neighbouring"),
        ({"angle_deg": 60, "wedged": ("T7", "T8")}, "both or none"),
        ({"angle_deg": 60, "wedged": (7, 8, 9), "wedge_deg": 8}, "valid string"),
        ({"angle_deg": 60, "wedged": ("L5", "S"), "wedge_deg": 8}, "from C3 to L6"),
    ],
)
def test_what_is_no_sagittal_angle_is_refused(asked, said):
    with pytest.raises(ValidationError, match=said):
        Sagittal(**asked)


def test_what_no_spine_can_take_names_the_nearest_angle(standing, small_phantom):
    asked = Sagittal(upper="T6", lower="T9", angle_deg=60)
    with pytest.raises(PathologyError, match=r"bent forward or back.*nearest possible value on this spine is \d+"):
        propose(asked, standing, goals_of(asked))
    with pytest.raises(PathologyError) as refused:
        propose(asked, standing, goals_of(asked))
    nearest = np.floor(float(str(refused.value).split(" is ")[-1].split()[0])) - 1
    propose(asked, standing, {asked.goal: nearest})
    wedged = Sagittal(upper="T7", lower="T9", angle_deg=10, wedged=("T7", "T8", "T9"), wedge_deg=20)
    with pytest.raises(PathologyError, match="smaller wedges|nearest possible value"):
        propose(wedged, standing, goals_of(wedged))
    short = Sagittal(angle_deg=50)
    with pytest.raises(PathologyError, match="T6 to L1.*got T4"):
        propose(short, estimate_spine(small_phantom.labels), goals_of(short))
