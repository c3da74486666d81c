"""Laws of the compiled loops that find holes and ends in solids: they are those of scipy, and of a ball."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from spinesim.anatomy.columns import find_ends, seen_along
from spinesim.anatomy.holes import fill_slices, find_holes
from spinesim.anatomy.surroundings import _widened
from spinesim.deform.kernels import list_nodes

VOLUMES = arrays.arrays(bool, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9))
SLICES = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(VOLUMES, st.integers(0, 2))
def test_what_slices_enclose_is_that_of_scipy(mask, axis):
    slices = np.moveaxis(mask, axis, 0)
    expected = np.stack([ndimage.binary_fill_holes(each) & ~each for each in slices])
    assert_array_equal(np.moveaxis(fill_slices(mask, axis), axis, 0), expected)


@given(VOLUMES, st.integers(1, 3))
def test_a_mask_is_widened_and_opened_as_scipy_does_it(mask, steps):
    assert_array_equal(_widened(mask, steps), ndimage.binary_dilation(mask, iterations=steps))
    beyond = np.pad(mask, steps, mode="edge")  # what lies at the edge goes on there
    opened = ndimage.binary_opening(beyond, iterations=steps)[(slice(steps, -steps),) * 3]
    assert_array_equal(_widened(~_widened(~mask, steps), steps), opened)


@given(VOLUMES)
def test_bricks_list_every_marked_node_once(mask):
    assert_array_equal(np.sort(list_nodes(mask)), np.flatnonzero(mask))


@given(SLICES)
def test_holes_of_a_slice_are_those_of_scipy(mask):
    pieces, count = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    numbers = np.arange(1, count + 1)
    sizes, centres = ndimage.sum_labels(pieces > 0, pieces, numbers), ndimage.center_of_mass(pieces, pieces, numbers)
    expected = np.column_stack([sizes, np.array(centres).reshape(-1, 2)])
    assert_allclose(find_holes(mask), expected, rtol=1e-12)


@given(st.floats(2.0, 6.0), arrays.arrays(float, 3, elements=st.floats(-1.5, 1.5)))
def test_columns_end_on_the_surface_of_a_ball(radius, middle):
    """The ball's occupancy falls from 1 to 0 within two voxels of its surface, linearly along every axis."""
    axes = np.indices((21, 21, 21)) - 10.0
    depth = radius - np.sqrt(((axes - middle[:, None, None, None]) ** 2).sum(axis=0))
    occupancy, heights = np.clip(0.5 + depth / 4, 0, 1).astype(np.float32), np.arange(21) - 10.0
    shadow = seen_along(occupancy, np.eye(4), (21, 21, 21))
    top, bottom = find_ends(occupancy, np.eye(4), np.ones((21, 21), dtype=bool), heights)
    assert_array_equal(np.isfinite(top), shadow)
    across = np.hypot(axes[0, :, :, 0] - middle[0], axes[1, :, :, 0] - middle[1])
    assert_array_equal(shadow[across > radius], False)
    inner = across < 0.7 * radius
    half = np.sqrt(radius**2 - across[inner] ** 2)
    assert_allclose([top[inner], bottom[inner]], [middle[2] + half, middle[2] - half], atol=0.15)
