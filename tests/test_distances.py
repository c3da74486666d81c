"""Laws of the compiled distances: they are those of scipy, and of a plane."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from numpy.testing import assert_allclose
from scipy import ndimage

from spinesim.anatomy.distances import distance_to, signed_depth

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9))
SPACINGS = st.tuples(*[st.floats(0.3, 6.0)] * 3).map(np.array)


@given(MASKS, SPACINGS)
def test_distances_are_those_of_scipy(mask, spacing_mm):
    if not mask.any():
        assert np.isposinf(distance_to(mask, spacing_mm)).all()
        return
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    assert_allclose(distance_to(mask, spacing_mm), expected, rtol=1e-12)


@given(st.integers(1, 7), SPACINGS)
def test_a_surface_lies_half_way_between_voxels(first, spacing_mm):
    mask = np.zeros((9, 4, 5), dtype=bool)
    mask[first:] = True
    ways = spacing_mm[0] * (np.arange(9) - first + 0.5)
    half = spacing_mm.min() / 2 - spacing_mm[0] / 2  # half of the finest voxel counts on every side
    expected = np.where(ways > 0, ways - half, ways + half)
    assert_allclose(signed_depth(mask, spacing_mm), np.broadcast_to(expected[:, None, None], mask.shape), rtol=1e-9)
