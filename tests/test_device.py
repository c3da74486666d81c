"""Flow and image look-up on a device of PyTorch give the numbers of the compiled loops."""

import numpy as np
import pytest

from spinesim.deform.deformation import build_deformation, warp_scan
from spinesim.deform.solids import build_solids
from spinesim.deform.torch_kernels import open_device
from spinesim.errors import ConfigError

MOVED_MM, AGREED_MM = 5.0, 1e-2
"""The field moves something by more than the first; both paths agree on it to the second."""


@pytest.fixture(scope="module")
def torch_path(small_case):
    """The small case's plan, carried out by PyTorch on its own CPU device; CUDA runs the same lines."""
    before, spine = small_case.before, small_case.before_spine
    deformation = build_deformation(before, spine, small_case.proposal.plan, before.grid, device="cpu:0")
    return deformation, *warp_scan(before, build_solids(before.labels), deformation)[:2]


def test_the_field_is_the_same(small_case, torch_path):
    ours, theirs = small_case.deformation.field.displacement, torch_path[0].field.displacement
    assert np.abs(ours).max() > MOVED_MM
    assert np.abs(ours - theirs).max() < AGREED_MM


def test_image_labels_and_mask_are_the_same_but_for_rounding(small_case, torch_path):
    _, after, outside = torch_path
    ours, _, _ = warp_scan(small_case.before, build_solids(small_case.before.labels), small_case.deformation)
    apart = np.abs(ours.image.voxels.astype(int) - after.image.voxels)
    assert np.count_nonzero(small_case.before.image.voxels != after.image.voxels) > 0.1 * apart.size
    assert apart.max() <= 1
    assert np.count_nonzero(apart) < 1e-3 * apart.size
    assert np.count_nonzero(small_case.after.labels.voxels != after.labels.voxels) < 1e-4 * apart.size
    assert np.count_nonzero(small_case.outside != outside) < 1e-4 * apart.size


@pytest.mark.parametrize("name", ["abacus", "cuda:97"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match=f"expected a device that PyTorch .* can use, got '{name}'"):
        open_device(name)
