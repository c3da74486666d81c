"""Compiled: where the rows of an output grid come from, through a trilinear field. Files lie in memory along rows."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(inline="always")
def place_voxels(scale, shift, start, count):
    """The node before each voxel of a row, from ``start`` on, and its share of the way to the next one (0 to 1)."""
    first, share = np.empty(count, dtype=np.uintp), np.empty(count)
    for i in range(count):
        x = (start + i) * scale[0] + shift[0]
        first[i] = np.uintp(x)
        share[i] = x - int(x)
    return first, share


@njit(inline="always")
def join_affines(voxel, world):
    """The (3, 4) affine that goes through ``world`` first and ``voxel`` then."""
    out = np.empty((3, 4))
    for axis in range(3):
        for column in range(4):
            x, y, z = world[0, column], world[1, column], world[2, column]
            out[axis, column] = voxel[axis, 0] * x + voxel[axis, 1] * y + voxel[axis, 2] * z
        out[axis, 3] += voxel[axis, 3]
    return out


@njit(inline="always")
def displace_layer(displacement, voxel, scale, shift, k, layer):
    """Displacement, in voxels of the source, of the nodes at the height of slice ``k``: ``layer`` is (b, 3, a)."""
    z = k * scale[2] + shift[2]
    c = int(z)
    w = z - c
    for a in range(displacement.shape[0]):
        for b in range(displacement.shape[1]):
            px = displacement[a, b, c, 0] * (1 - w) + displacement[a, b, c + 1, 0] * w
            py = displacement[a, b, c, 1] * (1 - w) + displacement[a, b, c + 1, 1] * w
            pz = displacement[a, b, c, 2] * (1 - w) + displacement[a, b, c + 1, 2] * w
            for axis in range(3):
                layer[b, axis, a] = voxel[axis, 0] * px + voxel[axis, 1] * py + voxel[axis, 2] * pz


@njit(inline="always")
def trace_row(layer, source, scale, shift, start, j, k, first, share, nodes, places):
    """Source voxels (fractional indices) of row ``j, k`` of the output, from its voxel ``start`` on.

    ``layer`` is that of slice ``k``, ``source`` goes from voxels of the output to those of the source where nothing is
    displaced. ``nodes`` (3, a) and ``places`` (3, n) are overwritten.
    """
    y = j * scale[1] + shift[1]
    b = int(y)
    v = y - b
    for axis in range(3):
        for a in range(nodes.shape[1]):
            nodes[axis, a] = layer[b, axis, a] * (1 - v) + layer[b + 1, axis, a] * v
        begin = source[axis, 0] * start + source[axis, 1] * j + source[axis, 2] * k + source[axis, 3]
        for i in range(places.shape[1]):
            a = first[i]
            along = nodes[axis, a] + share[i] * (nodes[axis, a + np.uintp(1)] - nodes[axis, a])
            places[axis, i] = along + (source[axis, 0] * i + begin)


@njit(inline="always")
def lies_beyond(x, y, z, shape):
    """Whether voxel coordinates lie beyond the outermost voxels' edges."""
    low = x < -0.5 or y < -0.5 or z < -0.5
    return low or x > shape[0] - 0.5 or y > shape[1] - 0.5 or z > shape[2] - 0.5
