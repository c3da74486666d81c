"""Compiled loops: the flow, the Jacobian, and looking voxels up through a field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

SOFT_MM = 10.0
"""Anchors softer than this make no fine detail: coming near them does not count as coming near an anchor."""


LANES = 16
"""Points that are carried side by side: loops over so many are what the compiler turns into vector instructions."""


@njit(inline="always")
def _trilinear(flat, offset, row, plane, last, x, y, z):
    """Value of one distance map at voxel coordinates inside it."""
    i, j, k = min(int(x), last[0]), min(int(y), last[1]), min(int(z), last[2])
    u, v, w = np.float32(x - i), np.float32(y - j), np.float32(z - k)
    base = np.uintp(offset + i * plane + j * row + k)
    row, plane, one = np.uintp(row), np.uintp(plane), np.uintp(1)
    a = flat[base] + w * (flat[base + one] - flat[base])
    b = flat[base + row] + w * (flat[base + row + one] - flat[base + row])
    base += plane
    c = flat[base] + w * (flat[base + one] - flat[base])
    d = flat[base + row] + w * (flat[base + row + one] - flat[base + row])
    a += v * (b - a)
    c += v * (d - c)
    return a + u * (c - a)


@njit(inline="always")
def _measure_distances(flat, offset, shape, spacing, m, points, place, distance):
    """Distance of each lane's point to one anchor; ``place`` is overwritten with its voxels in the anchor's map."""
    last = shape[0] - 2, shape[1] - 2, shape[2] - 2
    row, plane = shape[2], shape[1] * shape[2]
    for n in range(LANES):
        x = m[0, 0] * points[0, n] + m[0, 1] * points[1, n] + m[0, 2] * points[2, n] + m[0, 3]
        y = m[1, 0] * points[0, n] + m[1, 1] * points[1, n] + m[1, 2] * points[2, n] + m[1, 3]
        z = m[2, 0] * points[0, n] + m[2, 1] * points[1, n] + m[2, 2] * points[2, n] + m[2, 3]
        place[0, n] = min(max(x, 0.0), shape[0] - 1.0)
        place[1, n] = min(max(y, 0.0), shape[1] - 1.0)
        place[2, n] = min(max(z, 0.0), shape[2] - 1.0)
        ox = (x - place[0, n]) * spacing[0]
        oy = (y - place[1, n]) * spacing[1]
        oz = (z - place[2, n]) * spacing[2]
        distance[n] = np.sqrt(ox * ox + oy * oy + oz * oz)
    for n in range(LANES):
        distance[n] += _trilinear(flat, offset, row, plane, last, place[0, n], place[1, n], place[2, n])


@njit(parallel=True, cache=True)
def carry_back(points, nearest, flat, offsets, shapes, spacings, softness, rest_from_now, step_back, power):
    """Carry points from t = 1 to t = 0, in place.

    Compiled without fast-math, which lets the compiler choose the order of sums: then a kernel just compiled and the
    same one loaded from the cache give numbers that differ in their last bits.

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
        Weights fall as ``1 / (d^2 + epsilon^2)^power``, where the power is 2 or 1.5.
    """
    steps, anchors = rest_from_now.shape[0], rest_from_now.shape[1]
    square = power == 2.0
    for block in prange((points.shape[0] + LANES - 1) // LANES):
        lanes, place = np.empty((3, LANES)), np.empty((3, LANES))
        moved, total = np.empty((3, LANES)), np.empty(LANES)
        distance, least = np.empty(LANES), np.full(LANES, 1e9)
        for n in range(LANES):
            for axis in range(3):
                lanes[axis, n] = points[min(block * LANES + n, points.shape[0] - 1), axis]
        for step in range(steps):
            total[:] = 0.0
            moved[:] = 0.0
            for a in range(anchors):
                m, b = rest_from_now[step, a], step_back[step, a]
                _measure_distances(flat, offsets[a], shapes[a], spacings[a], m, lanes, place, distance)
                for n in range(LANES):
                    q = distance[n] * distance[n] + softness[a] * softness[a]
                    weight = 1.0 / (q * q) if square else 1.0 / (q * np.sqrt(q))
                    x, y, z = lanes[0, n], lanes[1, n], lanes[2, n]
                    total[n] += weight
                    moved[0, n] += weight * (b[0, 0] * x + b[0, 1] * y + b[0, 2] * z + b[0, 3])
                    moved[1, n] += weight * (b[1, 0] * x + b[1, 1] * y + b[1, 2] * z + b[1, 3])
                    moved[2, n] += weight * (b[2, 0] * x + b[2, 1] * y + b[2, 2] * z + b[2, 3])
                if softness[a] < SOFT_MM:
                    for n in range(LANES):
                        least[n] = min(least[n], distance[n])
            for n in range(LANES):
                for axis in range(3):
                    lanes[axis, n] += moved[axis, n] / total[n]
        for n in range(min(LANES, points.shape[0] - block * LANES)):
            for axis in range(3):
                points[block * LANES + n, axis] = lanes[axis, n]
            nearest[block * LANES + n] = least[n]


@njit(parallel=True, cache=True)
def blend_nodes(values, first_i, shares_i, first_j, shares_j, first_k, shares_k, out):
    """Refine a grid by a spline that is a product of one along each axis.

    ``first_*`` holds the first coefficient along an axis that counts for each node of ``out``, ``shares_*`` how much of
    it and of those that follow. ``values`` and ``out`` have one channel or more on their last axis.
    """
    channels = values.shape[3]
    for k in prange(out.shape[2]):
        row = np.empty((values.shape[0], channels))
        for j in range(out.shape[1]):
            row[:] = 0.0
            for b in range(shares_j.shape[1]):
                for c in range(shares_k.shape[1]):
                    share = shares_j[j, b] * shares_k[k, c]
                    for a in range(values.shape[0]):
                        for channel in range(channels):
                            row[a, channel] += share * values[a, first_j[j] + b, first_k[k] + c, channel]
            for i in range(out.shape[0]):
                for channel in range(channels):
                    total = 0.0
                    for a in range(shares_i.shape[1]):
                        total += shares_i[i, a] * row[first_i[i] + a, channel]
                    out[i, j, k, channel] = total


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
def between_rows(displacement, scale, shift, j, k, row):
    """Displacement along one line of nodes (axis 0) at the place of output row ``j, k``: ``row`` is overwritten."""
    y = j * scale[1] + shift[1]
    z = k * scale[2] + shift[2]
    b, c = int(y), int(z)
    v, w = y - b, z - c
    for a in range(row.shape[0]):
        for axis in range(3):
            row[a, axis] = (displacement[a, b, c, axis] * (1 - w) + displacement[a, b, c + 1, axis] * w) * (1 - v) + (
                displacement[a, b + 1, c, axis] * (1 - w) + displacement[a, b + 1, c + 1, axis] * w
            ) * v


@njit(inline="always")
def _source_on_row(row, scale, shift, world, i, j, k, axis):
    """One world coordinate of the point that output voxel ``i, j, k`` comes from; ``row`` is ``between_rows``."""
    x = i * scale[0] + shift[0]
    a = int(x)
    u = x - a
    return (
        row[a, axis] * (1 - u)
        + row[a + 1, axis] * u
        + world[axis, 0] * i
        + world[axis, 1] * j
        + world[axis, 2] * k
        + world[axis, 3]
    )


@njit(inline="always")
def source_voxel(row, scale, shift, world, voxel, i, j, k):
    """Voxel coordinates in the source that output voxel ``i, j, k`` comes from; ``row`` is ``between_rows``."""
    px = _source_on_row(row, scale, shift, world, i, j, k, 0)
    py = _source_on_row(row, scale, shift, world, i, j, k, 1)
    pz = _source_on_row(row, scale, shift, world, i, j, k, 2)
    x = voxel[0, 0] * px + voxel[0, 1] * py + voxel[0, 2] * pz + voxel[0, 3]
    y = voxel[1, 0] * px + voxel[1, 1] * py + voxel[1, 2] * pz + voxel[1, 3]
    z = voxel[2, 0] * px + voxel[2, 1] * py + voxel[2, 2] * pz + voxel[2, 3]
    return x, y, z


@njit(inline="always")
def lies_beyond(x, y, z, shape):
    """Whether voxel coordinates lie beyond the outermost voxels' edges."""
    low = x < -0.5 or y < -0.5 or z < -0.5
    return low or x > shape[0] - 0.5 or y > shape[1] - 0.5 or z > shape[2] - 0.5


@njit(parallel=True, cache=True)
def sample_linear(image, displacement, scale, shift, world, voxel, fill, whole, out, outside):
    """Fill the output: trilinear look-up of the image through the field.

    ``voxel`` is the source's voxel_from_world, ``whole`` tells whether numbers are rounded. ``outside`` is set where
    the source point lies beyond the outermost voxels' edges. The innermost loop runs along axis 0, along which files
    lie in memory.
    """
    ni, nj, nk = image.shape
    for k in prange(out.shape[2]):
        row = np.empty((displacement.shape[0], 3))
        for j in range(out.shape[1]):
            between_rows(displacement, scale, shift, j, k, row)
            for i in range(out.shape[0]):
                x, y, z = source_voxel(row, scale, shift, world, voxel, i, j, k)
                if lies_beyond(x, y, z, image.shape):
                    outside[i, j, k] = True
                    out[i, j, k] = fill
                    continue
                outside[i, j, k] = False
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
                out[i, j, k] = np.floor(value + 0.5) if whole else value


@njit(parallel=True, cache=True)
def sample_nearest(labels, kept, displacement, scale, shift, world, voxel, out):
    """Look a label map up through the field by nearest neighbour; 0 beyond its edges.

    ``kept`` tells for each number whether it is looked up; the others count as 0.
    """
    ni, nj, nk = labels.shape
    for k in prange(out.shape[2]):
        row = np.empty((displacement.shape[0], 3))
        for j in range(out.shape[1]):
            between_rows(displacement, scale, shift, j, k, row)
            for i in range(out.shape[0]):
                u, v, w = source_voxel(row, scale, shift, world, voxel, i, j, k)
                x, y, z = int(np.floor(u + 0.5)), int(np.floor(v + 0.5)), int(np.floor(w + 0.5))
                inside = 0 <= x < ni and 0 <= y < nj and 0 <= z < nk
                out[i, j, k] = labels[x, y, z] if inside and kept[labels[x, y, z]] else 0


@njit(parallel=True, cache=True)
def trace_voxels(displacement, scale, shift, world, voxel, start, out):
    """Source voxels (fractional indices) that a box of output voxels comes from; ``start`` is its first one.

    ``voxel`` is the source's voxel_from_world, ``out`` is (a, b, c, 3) float32.
    """
    for c in prange(out.shape[2]):
        row = np.empty((displacement.shape[0], 3))
        k = c + start[2]
        for b in range(out.shape[1]):
            j = b + start[1]
            between_rows(displacement, scale, shift, j, k, row)
            for a in range(out.shape[0]):
                i = a + start[0]
                x, y, z = source_voxel(row, scale, shift, world, voxel, i, j, k)
                out[a, b, c, 0], out[a, b, c, 1], out[a, b, c, 2] = x, y, z


@njit(parallel=True, cache=True)
def sample_density(low, high, scale, shift, out):
    """How many times the tissue of each output voxel was compressed, by the determinants of the cell it lies in."""
    for k in prange(out.shape[2]):
        c = int(k * scale[2] + shift[2])
        row, last = np.empty(low.shape[0], dtype=np.float32), -1
        for j in range(out.shape[1]):
            b = int(j * scale[1] + shift[1])
            if b != last:
                last = b
                for a in range(low.shape[0]):
                    row[a] = np.sqrt(low[a, b, c] * high[a, b, c])
            for i in range(out.shape[0]):
                out[i, j, k] = row[int(i * scale[0] + shift[0])]


@njit(nogil=True, cache=True)
def trace_sources(points, displacement, scale, shift, world, out):
    """World points that output voxels (rows of indices) come from; serial, for callers have a bone a thread."""
    for n in range(points.shape[0]):
        i, j, k = points[n, 0], points[n, 1], points[n, 2]
        x, y, z = i * scale[0] + shift[0], j * scale[1] + shift[1], k * scale[2] + shift[2]
        a, b, c = int(x), int(y), int(z)
        u, v, w = x - a, y - b, z - c
        for axis in range(3):
            near = (displacement[a, b, c, axis] * (1 - w) + displacement[a, b, c + 1, axis] * w) * (1 - v) + (
                displacement[a, b + 1, c, axis] * (1 - w) + displacement[a, b + 1, c + 1, axis] * w
            ) * v
            far = (displacement[a + 1, b, c, axis] * (1 - w) + displacement[a + 1, b, c + 1, axis] * w) * (1 - v) + (
                displacement[a + 1, b + 1, c, axis] * (1 - w) + displacement[a + 1, b + 1, c + 1, axis] * w
            ) * v
            out[n, axis] = (
                near * (1 - u) + far * u + world[axis, 0] * i + world[axis, 1] * j + world[axis, 2] * k + world[axis, 3]
            )


@njit(parallel=True, cache=True)
def follow_surface(points, goals, back, still, hold, steps, softness):
    """Carry points from t = 1 to t = 0 along the points of a surface, in place.

    Parameters
    ----------
    points : (n, 3) array
        Carried.
    goals, back : (m, 3) array
        Where the surface is at t = 1, and its way from there to t = 0.
    still : (k, 3) array
        Points that hold still.
    hold : (n,) array
        How much of the way each point goes along.
    steps : int
        In time.
    softness : float
        Distance below which two points of the surface count as one.
    """
    soft = softness * softness
    for n in prange(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for step in range(steps):
            share = step / steps
            total, u, v, w = 0.0, 0.0, 0.0, 0.0
            for m in range(goals.shape[0]):
                a = goals[m, 0] + share * back[m, 0] - x
                b = goals[m, 1] + share * back[m, 1] - y
                c = goals[m, 2] + share * back[m, 2] - z
                near = 1.0 / (a * a + b * b + c * c + soft)
                near *= near
                total += near
                u += near * back[m, 0]
                v += near * back[m, 1]
                w += near * back[m, 2]
            for m in range(still.shape[0]):
                a, b, c = still[m, 0] - x, still[m, 1] - y, still[m, 2] - z
                near = 1.0 / (a * a + b * b + c * c + soft)
                total += near * near
            part = hold[n] / (total * steps)
            x += part * u
            y += part * v
            z += part * w
        points[n, 0], points[n, 1], points[n, 2] = x, y, z
