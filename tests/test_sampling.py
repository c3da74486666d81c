"""Sections look numbers up as scipy does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from spinesim.anatomy.sampling import Sheet, mean_of_sheets, nearest_on_sheet


@given(st.tuples(*[st.integers(1, 6)] * 3), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_sheets_are_looked_up_as_scipy_does(shape, seed, sheets):
    """On volumes one voxel thick too, half-way between voxels, and outside."""
    rng = np.random.default_rng(seed)
    values = np.asfortranarray(rng.integers(0, 200, shape).astype(np.int16))
    starts, step = np.round(4 * rng.uniform(-2, 7, (5, 3))) / 4, np.round(4 * rng.uniform(-1, 1, 3)) / 4
    sheet, beside = Sheet(starts, step, 4), np.round(4 * rng.uniform(-1, 1, (sheets, 3))) / 4
    places = (starts[:, None] + np.arange(4)[:, None] * step).transpose(2, 0, 1)
    nearest = ndimage.map_coordinates(values, places, order=0, cval=0, prefilter=False)
    assert_array_equal(nearest_on_sheet(values, sheet), nearest)
    looked_up = [
        ndimage.map_coordinates(values.astype(float), places + shift[:, None, None], order=1, cval=-50, prefilter=False)
        for shift in beside
    ]
    assert_allclose(mean_of_sheets(values, sheet, beside, -50.0), np.mean(looked_up, axis=0), atol=1e-3)
