"""Look an image up through a field by cubic B-splines: edges and noise stay that a linear look-up averages away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from scipy import ndimage

from spinesim.deform.rows import displace_layer, join_affines, lies_beyond, place_voxels, trace_row


def spline_coefficients(voxels: np.ndarray) -> Float[np.ndarray, "i j k"]:
    """Coefficients (float32) of the cubic B-spline that passes through all voxels and is mirrored at the edges.

    References
    ----------
    Unser M (1999). Splines: a perfect fit for signal and image processing. IEEE Signal Process Mag 16(6):22-38.
    """
    out = np.empty(voxels.shape, dtype=np.float32, order="F")
    ndimage.spline_filter(voxels, order=3, output=out, mode="mirror")
    return out


@njit(inline="always")
def _shares(t, out):
    """Values of the four B-splines that reach a place ``t`` (0 to 1) behind the second one's middle."""
    out[0] = (1 - t) ** 3 / 6
    out[1] = 2 / 3 - t * t * (2 - t) / 2
    out[2] = 2 / 3 - (1 - t) * (1 - t) * (1 + t) / 2
    out[3] = t**3 / 6


@njit(inline="always")
def _mirrored(index, last):
    """An index on a line of voxels that goes on as its mirror image beyond both ends."""
    index = abs(index)
    return min(max(2 * last - index, 0), last) if index > last else index


@njit(parallel=True, cache=True)
def sample_spline(coefficients, displacement, scale, shift, world, voxel, limits, fill, whole, out, outside):
    """Fill the output: look a spline up through the field, as ``sample_linear`` does an image.

    ``limits`` are the smallest and the largest number of the image, which a spline would pass beside sharp edges.
    """
    ni, nj, nk = coefficients.shape
    source, (first, share) = join_affines(voxel, world), place_voxels(scale, shift, 0, out.shape[0])
    for k in prange(out.shape[2]):
        layer = np.empty((displacement.shape[1], 3, displacement.shape[0]))
        nodes, places = np.empty((3, displacement.shape[0])), np.empty((3, out.shape[0]))
        displace_layer(displacement, voxel, scale, shift, k, layer)
        su, sv, sw = np.empty(4), np.empty(4), np.empty(4)
        for j in range(out.shape[1]):
            trace_row(layer, source, scale, shift, 0, j, k, first, share, nodes, places)
            for i in range(out.shape[0]):
                x, y, z = places[0, i], places[1, i], places[2, i]
                if lies_beyond(x, y, z, coefficients.shape):
                    outside[i, j, k] = True
                    out[i, j, k] = fill
                    continue
                outside[i, j, k] = False
                x, y, z = min(max(x, 0.0), ni - 1.0), min(max(y, 0.0), nj - 1.0), min(max(z, 0.0), nk - 1.0)
                a, b, c = int(x), int(y), int(z)
                _shares(x - a, su)
                _shares(y - b, sv)
                _shares(z - c, sw)
                value = 0.0
                for n in range(4):
                    kk = _mirrored(c - 1 + n, nk - 1)
                    for m in range(4):
                        jj = _mirrored(b - 1 + m, nj - 1)
                        along = 0.0
                        for q in range(4):
                            along += su[q] * coefficients[_mirrored(a - 1 + q, ni - 1), jj, kk]
                        value += sw[n] * sv[m] * along
                value = min(max(value, limits[0]), limits[1])
                out[i, j, k] = np.floor(value + 0.5) if whole else value
