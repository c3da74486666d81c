"""A broken process leaves its arch with its label, by as much as was asked, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from spinesim.anatomy.levels import Level
from spinesim.errors import PathologyError
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.process import WAYS, ProcessFracture
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.series.case import simulate
from spinesim.series.fidelity import bone_fidelity


@pytest.fixture(scope="module")
def lumbar():
    """CT and labels of T12 to L3 at 1.5 mm."""
    return build_phantom(PhantomParameters(upper="T12", lower="L3", spacing_mm=(1.5, 1.5, 1.5)))


@pytest.mark.parametrize("process", list(WAYS))
def test_the_fragment_moves_as_far_as_asked_and_the_body_stays(lumbar, process):
    case = simulate(lumbar, ProcessFracture(level="L2", process=process, displacement_mm=5))
    assert case.deformation.jacobian[0] > 0
    for level, (rms, volume) in bone_fidelity(case).items():
        assert level == "L2" or (rms <= 0.1 and abs(volume - 1) <= 0.02), level
    vertebra, number = case.before_spine[Level.L2], case.after.labels.numbers[Level.L2]
    voxels = np.argwhere(case.after.labels.voxels == number)
    sources = case.deformation.field.sources(case.after.grid, voxels)
    off = (sources - vertebra.centre) @ vertebra.axes @ WAYS[process] > case.pathology.cut_mm + 1.0
    moved = case.after.grid.to_world(voxels.astype(float)) - sources
    shift = moved[off].mean(axis=0) @ vertebra.axes
    assert np.linalg.norm(shift) == pytest.approx(5, abs=1.0)
    assert shift[2] < -2
    assert shift @ WAYS[process] > 2
    assert np.abs(moved[~off]).mean() < 0.2
    assert 50 < off.sum() < 0.3 * len(off)
    assert len(voxels) / np.count_nonzero(lumbar.labels.voxels == number) == pytest.approx(1, abs=0.05)
    heights = case.after_measures.heights[Level.L2], case.before_measures.heights[Level.L2]
    assert heights[0].anterior == pytest.approx(heights[1].anterior, abs=0.1)


def test_ao_a0_is_a_broken_process(small_phantom):
    with pytest.raises(ValueError, match="ask for process_fracture"):
        Fracture(level="L1", ao="A0")
    with pytest.raises(PathologyError, match="expected a whole vertebra of the scan"):
        simulate(small_phantom, ProcessFracture(level="L4"))
