"""Compiled loops: the flow, the Jacobian, and looking voxels up through a field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

SOFT_MM = 10.0
"""Anchors softer than this make no fine detail: coming near them does not count as coming near an anchor."""


@njit(inline="always")
def _trilinear(flat, offset, shape, x, y, z):
    """Value of one distance map at voxel coordinates inside it."""
    i, j, k = min(int(x), shape[0] - 2), min(int(y), shape[1] - 2), min(int(z), shape[2] - 2)
    u, v, w = np.float32(x - i), np.float32(y - j), np.float32(z - k)
    row, plane = shape[2], shape[1] * shape[2]
    base = offset + i * plane + j * row + k
    a = flat[base] + w * (flat[base + 1] - flat[base])
    b = flat[base + row] + w * (flat[base + row + 1] - flat[base + row])
    base += plane
    c = flat[base] + w * (flat[base + 1] - flat[base])
    d = flat[base + row] + w * (flat[base + row + 1] - flat[base + row])
    a += v * (b - a)
    c += v * (d - c)
    return a + u * (c - a)


@njit(parallel=True, cache=True, fastmath=True)
def carry_back(points, nearest, flat, offsets, shapes, spacings, softness, rest_from_now, step_back, power):
    """Carry points from t = 1 to t = 0, in place.

    Parameters
    ----------
    points : (n, 3) float64
        World points; overwritten with where they come from.
    nearest : (n,) float32
        Overwritten with the smallest distance to a firm anchor that a point met on its way (mm).
    flat, offsets, shapes, spacings, softness
        The anchors' distance maps, one after the other: values, starts, shapes, voxel sizes and softness (epsilon, mm).
    rest_from_now : (steps, anchors, 3, 4) float64
        World at the time of the step to voxels of the anchor's map.
    step_back : (steps, anchors, 3, 4) float64
        The anchor's own motion over one step back, less the identity.
    power : float
        Weights fall as ``1 / (d^2 + epsilon^2)^power``.
    """
    steps, anchors = rest_from_now.shape[0], rest_from_now.shape[1]
    square = power == 2.0
    for n in prange(points.shape[0]):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        least = 1e9
        for step in range(steps):
            total, mx, my, mz = 0.0, 0.0, 0.0, 0.0
            for a in range(anchors):
                m = rest_from_now[step, a]
                x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
                y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
                z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
                cx = min(max(x, 0.0), shapes[a, 0] - 1.0)
                cy = min(max(y, 0.0), shapes[a, 1] - 1.0)
                cz = min(max(z, 0.0), shapes[a, 2] - 1.0)
                distance = _trilinear(flat, offsets[a], shapes[a], cx, cy, cz)
                if cx != x or cy != y or cz != z:
                    ox = (x - cx) * spacings[a, 0]
                    oy = (y - cy) * spacings[a, 1]
                    oz = (z - cz) * spacings[a, 2]
                    distance += np.sqrt(ox * ox + oy * oy + oz * oz)
                if softness[a] < SOFT_MM:
                    least = min(least, distance)
                q = distance * distance + softness[a] * softness[a]
                weight = 1.0 / (q * q) if square else q ** (-power)
                total += weight
                b = step_back[step, a]
                mx += weight * (b[0, 0] * px + b[0, 1] * py + b[0, 2] * pz + b[0, 3])
                my += weight * (b[1, 0] * px + b[1, 1] * py + b[1, 2] * pz + b[1, 3])
                mz += weight * (b[2, 0] * px + b[2, 1] * py + b[2, 2] * pz + b[2, 3])
            px += mx / total
            py += my / total
            pz += mz / total
        points[n, 0], points[n, 1], points[n, 2] = px, py, pz
        nearest[n] = least


@njit(inline="always")
def _least_determinant(displacement, voxel_from_step, i, j, k, gradient):
    """Smallest and largest Jacobian determinant at the eight corners of one cell."""
    low, high = np.inf, -np.inf
    for corner in range(8):
        a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
        for axis in range(3):
            di = displacement[i + 1, j + b, k + c, axis] - displacement[i, j + b, k + c, axis]
            dj = displacement[i + a, j + 1, k + c, axis] - displacement[i + a, j, k + c, axis]
            dk = displacement[i + a, j + b, k + 1, axis] - displacement[i + a, j + b, k, axis]
            for col in range(3):
                gradient[axis, col] = (
                    di * voxel_from_step[0, col] + dj * voxel_from_step[1, col] + dk * voxel_from_step[2, col]
                )
            gradient[axis, axis] += 1.0
        g = gradient
        det = (
            g[0, 0] * (g[1, 1] * g[2, 2] - g[1, 2] * g[2, 1])
            - g[0, 1] * (g[1, 0] * g[2, 2] - g[1, 2] * g[2, 0])
            + g[0, 2] * (g[1, 0] * g[2, 1] - g[1, 1] * g[2, 0])
        )
        low, high = min(low, det), max(high, det)
    return low, high


@njit(parallel=True, cache=True)
def cell_determinants(displacement, voxel_from_step, low, high):
    """Smallest and largest Jacobian determinant of a trilinear field over the corners of each of its cells.

    Parameters
    ----------
    displacement : (i, j, k, 3) float32
        ``source - target`` in mm.
    voxel_from_step : (3, 3) float64
        Turns differences along the voxel axes into derivatives along the world's.
    low, high : (i - 1, j - 1, k - 1) float32
        Overwritten.
    """
    for i in prange(low.shape[0]):
        gradient = np.empty((3, 3))
        for j in range(low.shape[1]):
            for k in range(low.shape[2]):
                low[i, j, k], high[i, j, k] = _least_determinant(displacement, voxel_from_step, i, j, k, gradient)


@njit(inline="always")
def _source(displacement, scale, shift, world, i, j, k, out):
    """World point that an output voxel comes from (trilinear in the field, whose axes run along the output's)."""
    x = i * scale[0] + shift[0]
    y = j * scale[1] + shift[1]
    z = k * scale[2] + shift[2]
    a, b, c = int(x), int(y), int(z)
    u, v, w = x - a, y - b, z - c
    for axis in range(3):
        near = (displacement[a, b, c, axis] * (1 - w) + displacement[a, b, c + 1, axis] * w) * (1 - v) + (
            displacement[a, b + 1, c, axis] * (1 - w) + displacement[a, b + 1, c + 1, axis] * w
        ) * v
        far = (displacement[a + 1, b, c, axis] * (1 - w) + displacement[a + 1, b, c + 1, axis] * w) * (1 - v) + (
            displacement[a + 1, b + 1, c, axis] * (1 - w) + displacement[a + 1, b + 1, c + 1, axis] * w
        ) * v
        out[axis] = (
            near * (1 - u) + far * u + world[axis, 0] * i + world[axis, 1] * j + world[axis, 2] * k + world[axis, 3]
        )


@njit(parallel=True, cache=True)
def sample_linear(image, displacement, scale, shift, world, voxel, first, fill, whole, out, outside):
    """Fill a slab of the output: trilinear look-up of the image through the field.

    ``first`` is the output index of the slab's first plane (axis 0), ``voxel`` the source's voxel_from_world, ``whole``
    whether numbers are rounded. ``outside`` is set where the source point lies beyond the outermost voxels' edges.
    """
    ni, nj, nk = image.shape
    for row in prange(out.shape[0]):
        point = np.empty(3)
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                _source(displacement, scale, shift, world, row + first, j, k, point)
                x = voxel[0, 0] * point[0] + voxel[0, 1] * point[1] + voxel[0, 2] * point[2] + voxel[0, 3]
                y = voxel[1, 0] * point[0] + voxel[1, 1] * point[1] + voxel[1, 2] * point[2] + voxel[1, 3]
                z = voxel[2, 0] * point[0] + voxel[2, 1] * point[1] + voxel[2, 2] * point[2] + voxel[2, 3]
                if x < -0.5 or y < -0.5 or z < -0.5 or x > ni - 0.5 or y > nj - 0.5 or z > nk - 0.5:
                    outside[row, j, k] = True
                    out[row, j, k] = fill
                    continue
                outside[row, j, k] = False
                x, y, z = min(max(x, 0.0), ni - 1.0), min(max(y, 0.0), nj - 1.0), min(max(z, 0.0), nk - 1.0)
                a, b, c = int(x), int(y), int(z)
                d, e, f = min(a + 1, ni - 1), min(b + 1, nj - 1), min(c + 1, nk - 1)
                u, v, w = x - a, y - b, z - c
                near = (image[a, b, c] * (1 - w) + image[a, b, f] * w) * (1 - v) + (
                    image[a, e, c] * (1 - w) + image[a, e, f] * w
                ) * v
                far = (image[d, b, c] * (1 - w) + image[d, b, f] * w) * (1 - v) + (
                    image[d, e, c] * (1 - w) + image[d, e, f] * w
                ) * v
                value = near * (1 - u) + far * u
                out[row, j, k] = np.floor(value + 0.5) if whole else value


@njit(parallel=True, cache=True)
def sample_nearest(labels, displacement, scale, shift, world, voxel, out):
    """Look a label map up through the field by nearest neighbour; 0 beyond its edges."""
    ni, nj, nk = labels.shape
    for i in prange(out.shape[0]):
        point = np.empty(3)
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                _source(displacement, scale, shift, world, i, j, k, point)
                x = int(
                    np.floor(
                        voxel[0, 0] * point[0] + voxel[0, 1] * point[1] + voxel[0, 2] * point[2] + voxel[0, 3] + 0.5
                    )
                )
                y = int(
                    np.floor(
                        voxel[1, 0] * point[0] + voxel[1, 1] * point[1] + voxel[1, 2] * point[2] + voxel[1, 3] + 0.5
                    )
                )
                z = int(
                    np.floor(
                        voxel[2, 0] * point[0] + voxel[2, 1] * point[1] + voxel[2, 2] * point[2] + voxel[2, 3] + 0.5
                    )
                )
                inside = 0 <= x < ni and 0 <= y < nj and 0 <= z < nk
                out[i, j, k] = labels[x, y, z] if inside else 0


@njit(parallel=True, cache=True)
def trace_sources(points, displacement, scale, shift, world, out):
    """World points that output voxels (rows of indices) come from."""
    for n in prange(points.shape[0]):
        _source(displacement, scale, shift, world, points[n, 0], points[n, 1], points[n, 2], out[n])
