"""Compiled loops: the flow, the Jacobian, and looking voxels up through a field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from spinesim.deform.rows import displace_layer, join_affines, lies_beyond, place_voxels, trace_row

SOFT_MM = 10.0
"""Anchors softer than this make no fine detail: coming near them does not count as coming near an anchor."""


BRICK = (4, 4, 2)
"""Nodes of a grid are carried block by block of so many: neighbours look at the same numbers."""

LANES = BRICK[0] * BRICK[1] * BRICK[2]
"""Points that are carried side by side: loops over so many are what the compiler turns into vector instructions."""

ZERO, ONE = np.float32(0), np.float32(1)

PLANE_ERROR = np.float32(1e-5)
"""Over a brick of points the distance to an anchor may be taken for a plane where that is estimated to shift less than
this share of the motion from one anchor to another: 0.009 mm in all were measured in curves of 80 degrees."""


@njit(inline="always")
def _measure_distances(flat, offset, shape, spacing, m, points, base, share, distance):
    """Distance of each lane's point to one anchor: that in its map, and what the point lies beyond the map.

    ``base`` and ``share`` are overwritten with the first of the eight numbers that count, and the place between them.
    """
    end = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    wide, high = np.int32(shape[1]), np.int32(shape[2])
    for n in range(LANES):
        x = m[0, 0] * points[0, n] + m[0, 1] * points[1, n] + m[0, 2] * points[2, n] + m[0, 3]
        y = m[1, 0] * points[0, n] + m[1, 1] * points[1, n] + m[1, 2] * points[2, n] + m[1, 3]
        z = m[2, 0] * points[0, n] + m[2, 1] * points[1, n] + m[2, 2] * points[2, n] + m[2, 3]
        p, q, r = min(max(x, ZERO), end[0]), min(max(y, ZERO), end[1]), min(max(z, ZERO), end[2])
        ox, oy, oz = (x - p) * spacing[0], (y - q) * spacing[1], (z - r) * spacing[2]
        distance[n] = np.sqrt(ox * ox + oy * oy + oz * oz)
        i, j, k = np.floor(min(p, end[0] - ONE)), np.floor(min(q, end[1] - ONE)), np.floor(min(r, end[2] - ONE))
        share[0, n], share[1, n], share[2, n] = p - i, q - j, r - k
        base[n] = (np.int32(i) * wide + np.int32(j)) * high + np.int32(k)
    start, one, row, plane = np.uintp(offset), np.uintp(1), np.uintp(shape[2]), np.uintp(shape[1] * shape[2])
    for n in range(LANES):
        u, v, w = share[0, n], share[1, n], share[2, n]
        at = start + np.uintp(base[n])
        a = flat[at] + w * (flat[at + one] - flat[at])
        b = flat[at + row] + w * (flat[at + row + one] - flat[at + row])
        at += plane
        c = flat[at] + w * (flat[at + one] - flat[at])
        d = flat[at + row] + w * (flat[at + row + one] - flat[at + row])
        a += v * (b - a)
        c += v * (d - c)
        distance[n] += a + u * (c - a)


@njit(inline="always")
def _find_middle(points, middle):
    """Overwrite ``middle`` with the mean of the lanes' points; the square of how far from it they reach."""
    x, y, z, reach = ZERO, ZERO, ZERO, ZERO
    for n in range(LANES):
        x += points[0, n]
        y += points[1, n]
        z += points[2, n]
    middle[0], middle[1], middle[2] = x / np.float32(LANES), y / np.float32(LANES), z / np.float32(LANES)
    for n in range(LANES):
        u, v, w = points[0, n] - middle[0], points[1, n] - middle[1], points[2, n] - middle[2]
        reach = max(reach, u * u + v * v + w * w)
    return reach


@njit(inline="always")
def _lay_plane(flat, offset, shape, spacing, m, point, plane):
    """Overwrite ``plane`` with the distance of one point to one anchor, and with its gradient in the world."""
    end = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    x = m[0, 0] * point[0] + m[0, 1] * point[1] + m[0, 2] * point[2] + m[0, 3]
    y = m[1, 0] * point[0] + m[1, 1] * point[1] + m[1, 2] * point[2] + m[1, 3]
    z = m[2, 0] * point[0] + m[2, 1] * point[1] + m[2, 2] * point[2] + m[2, 3]
    p, q, r = min(max(x, ZERO), end[0]), min(max(y, ZERO), end[1]), min(max(z, ZERO), end[2])
    ox, oy, oz = (x - p) * spacing[0], (y - q) * spacing[1], (z - r) * spacing[2]
    beyond = np.sqrt(ox * ox + oy * oy + oz * oz)
    i, j, k = np.floor(min(p, end[0] - ONE)), np.floor(min(q, end[1] - ONE)), np.floor(min(r, end[2] - ONE))
    u, v, w = p - i, q - j, r - k
    one, row = np.uintp(1), np.uintp(shape[2])
    at = np.uintp(offset + (np.int64(i) * shape[1] + np.int64(j)) * shape[2] + np.int64(k))
    a, b = flat[at], flat[at + row]
    along = flat[at + one] - a, flat[at + row + one] - b
    at += np.uintp(shape[1] * shape[2])
    c, d = flat[at], flat[at + row]
    farther = flat[at + one] - c, flat[at + row + one] - d
    a, b, c, d = a + w * along[0], b + w * along[1], c + w * farther[0], d + w * farther[1]
    near, far = a + v * (b - a), c + v * (d - c)
    steep = along[0] + v * (along[1] - along[0]), farther[0] + v * (farther[1] - farther[0])
    gi = far - near if ox == ZERO else ox * spacing[0] / beyond
    gj = b - a + u * (d - c - b + a) if oy == ZERO else oy * spacing[1] / beyond
    gk = steep[0] + u * (steep[1] - steep[0]) if oz == ZERO else oz * spacing[2] / beyond
    plane[0] = beyond + near + u * (far - near)
    for axis in range(3):
        plane[axis + 1] = gi * m[0, axis] + gj * m[1, axis] + gk * m[2, axis]


@njit(inline="always")
def _weigh(squared, square):
    """The power of a squared distance by which weights fall."""
    return squared * squared if square else squared * np.sqrt(squared)


@njit(parallel=True, cache=True)
def carry_back(points, nearest, flat, offsets, shapes, spacings, softness, rest_from_now, step_back, power):
    """Carry points from t = 1 to t = 0, in place; all numbers are float32, those of ``offsets`` and ``shapes`` int64.

    The distance to an anchor that hardly counts for a brick of points is looked up once, in their middle, with its
    gradient. The distance to a convex anchor curves by no more than one over itself; the error of the weight is
    estimated from that (twice the square of reach over distance), and what it shifts is that times the weight's share
    of the nearest anchor's. A plane is never laid where it could fall below 0 within the brick.

    Compiled without fast-math, which lets the compiler choose the order of sums: then a kernel just compiled and the
    same one loaded from the cache give numbers that differ in their last bits.

    Parameters
    ----------
    points : (n, 3) array
        World points, counted from a place near them; overwritten with where they come from.
    nearest : (n,) array
        Overwritten with about the smallest distance to a firm anchor that a point met on its way (mm); far from all of
        them it may be off by some millimetres.
    flat, offsets, shapes, spacings, softness
        The anchors' distance maps, one after the other: values, starts, shapes, voxel sizes and softness (epsilon, mm).
    rest_from_now : (steps, anchors, 3, 4) array
        World at the time of the step to voxels of the anchor's map.
    step_back : (steps, anchors, 3, 4) array
        The anchor's own motion over one step back, less the identity.
    power : float
        Weights fall as ``1 / (d^2 + epsilon^2)^power``, where the power is 2 or 1.5.
    """
    steps, anchors = rest_from_now.shape[0], rest_from_now.shape[1]
    square, kind = power == 2.0, np.float32
    for block in prange((points.shape[0] + LANES - 1) // LANES):
        lanes, base, share = np.empty((3, LANES), kind), np.empty(LANES, np.int32), np.empty((3, LANES), kind)
        moved, total = np.empty((3, LANES), kind), np.empty(LANES, kind)
        distance, least = np.empty(LANES, kind), np.full(LANES, 1e9, kind)
        middle, planes = np.empty(3, kind), np.empty((anchors, 4), kind)
        for n in range(LANES):
            for axis in range(3):
                lanes[axis, n] = points[min(block * LANES + n, points.shape[0] - 1), axis]
        for step in range(steps):
            total[:] = ZERO
            moved[:] = ZERO
            squared_reach = _find_middle(lanes, middle)
            reach, least_power = np.sqrt(squared_reach), np.float32(1e30)
            for a in range(anchors):
                _lay_plane(flat, offsets[a], shapes[a], spacings[a], rest_from_now[step, a], middle, planes[a])
                farthest = planes[a, 0] + reach
                least_power = min(least_power, _weigh(farthest * farthest + softness[a] * softness[a], square))
            for a in range(anchors):
                m, b, soft = rest_from_now[step, a], step_back[step, a], softness[a] * softness[a]
                nearer = planes[a, 0] - reach
                q = nearer * nearer + soft
                shifted = (squared_reach + squared_reach) * least_power
                if nearer > reach and shifted < PLANE_ERROR * q * _weigh(q, square):
                    height, x, y, z = planes[a, 0], planes[a, 1], planes[a, 2], planes[a, 3]
                    height -= x * middle[0] + y * middle[1] + z * middle[2]
                    for n in range(LANES):
                        distance[n] = height + x * lanes[0, n] + y * lanes[1, n] + z * lanes[2, n]
                else:
                    _measure_distances(flat, offsets[a], shapes[a], spacings[a], m, lanes, base, share, distance)
                for n in range(LANES):
                    weight = ONE / _weigh(distance[n] * distance[n] + soft, square)
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


@njit(nogil=True, cache=True)
def list_nodes(marked):
    """Flat indices (the last axis fastest) of the marked nodes of a grid, brick by brick."""
    index, count = np.empty(marked.sum(), dtype=np.int64), 0
    rows, columns, lines = marked.shape
    for i in range(0, rows, BRICK[0]):
        for j in range(0, columns, BRICK[1]):
            for k in range(0, lines, BRICK[2]):
                for a in range(i, min(i + BRICK[0], rows)):
                    for b in range(j, min(j + BRICK[1], columns)):
                        for c in range(k, min(k + BRICK[2], lines)):
                            if marked[a, b, c]:
                                index[count] = (a * columns + b) * lines + c
                                count += 1
    return index


@njit(nogil=True, cache=True)
def mark_blocks(voxels, start, factor, number, firm, own, others):
    """Take voxels together in blocks: ``own`` is set where one of them has a number, ``others`` where a firm one.

    ``start`` is the first voxel of the first block, ``factor`` a block's size, ``firm`` tells for each number whether
    it counts. Beyond the edge the outermost voxels go on.
    """
    last = voxels.shape[0] - 1, voxels.shape[1] - 1, voxels.shape[2] - 1
    for k in range(own.shape[2] * factor[2]):
        z = min(max(start[2] + k, 0), last[2])
        for j in range(own.shape[1] * factor[1]):
            y = min(max(start[1] + j, 0), last[1])
            for i in range(own.shape[0] * factor[0]):
                found = voxels[min(max(start[0] + i, 0), last[0]), y, z]
                if found == number:
                    own[i // factor[0], j // factor[1], k // factor[2]] = True
                elif firm[found]:
                    others[i // factor[0], j // factor[1], k // factor[2]] = True


@njit(parallel=True, cache=True)
def place_nodes(index, shape, world, places):
    """World points of nodes of a grid (flat indices, the last axis fastest)."""
    for n in prange(len(index)):
        i, j, k = index[n] // (shape[1] * shape[2]), index[n] // shape[2] % shape[1], index[n] % shape[2]
        for axis in range(3):
            places[n, axis] = world[axis, 0] * i + world[axis, 1] * j + world[axis, 2] * k + world[axis, 3]


@njit(parallel=True, cache=True)
def blend_nodes(values, first_i, shares_i, first_j, shares_j, first_k, shares_k, out):
    """Refine a grid by a spline that is a product of one along each axis.

    ``first_*`` holds the first coefficient along an axis that counts for each node of ``out``, ``shares_*`` how much of
    it and of those that follow. ``values`` and ``out`` have one channel or more on their last axis.
    """
    channels = values.shape[3]
    for i in prange(out.shape[0]):
        plane, row = np.zeros(values.shape[1:]), np.empty((values.shape[2], channels))
        for a in range(shares_i.shape[1]):
            plane += shares_i[i, a] * values[first_i[i] + a]
        for j in range(out.shape[1]):
            row[:] = 0.0
            for b in range(shares_j.shape[1]):
                share, line = shares_j[j, b], plane[first_j[j] + b]
                for c in range(values.shape[2]):
                    for channel in range(channels):
                        row[c, channel] += share * line[c, channel]
            for k in range(out.shape[2]):
                for channel in range(channels):
                    total = 0.0
                    for c in range(shares_k.shape[1]):
                        total += shares_k[k, c] * row[first_k[k] + c, channel]
                    out[i, j, k, channel] = total


@njit(inline="always")
def _place_edges(displacement, step, i, j, k, edges):
    """Where the source goes along the twelve edges of a cell: ``edges[axis, at, :]``, by the place across the axis."""
    for b in range(2):
        for c in range(2):
            for axis in range(3):
                edges[0, 2 * b + c, axis] = step[axis, 0] + (
                    displacement[i + 1, j + b, k + c, axis] - displacement[i, j + b, k + c, axis]
                )
                edges[1, 2 * b + c, axis] = step[axis, 1] + (
                    displacement[i + b, j + 1, k + c, axis] - displacement[i + b, j, k + c, axis]
                )
                edges[2, 2 * b + c, axis] = step[axis, 2] + (
                    displacement[i + b, j + c, k + 1, axis] - displacement[i + b, j + c, k, axis]
                )


@njit(inline="always")
def _span_determinants(edges, volume):
    """Smallest and largest volume that the edges at the eight corners of a cell span, in parts of the cell's own."""
    low, high = np.inf, -np.inf
    for corner in range(8):
        a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
        p, q, r = edges[0, 2 * b + c], edges[1, 2 * a + c], edges[2, 2 * a + b]
        spanned = (
            p[0] * (q[1] * r[2] - q[2] * r[1]) + p[1] * (q[2] * r[0] - q[0] * r[2]) + p[2] * (q[0] * r[1] - q[1] * r[0])
        )
        low, high = min(low, spanned / volume), max(high, spanned / volume)
    return low, high


@njit(parallel=True, cache=True)
def cell_determinants(displacement, step, low, high):
    """Smallest and largest Jacobian determinant of a trilinear field over the corners of each of its cells.

    Parameters
    ----------
    displacement : (i, j, k, 3) float32
        ``source - target`` in mm.
    step : (3, 3) float64
        The way from a node to the next one along each axis, as columns (mm).
    low, high : (i - 1, j - 1, k - 1) float32
        Overwritten.
    """
    volume = (
        step[0, 0] * (step[1, 1] * step[2, 2] - step[1, 2] * step[2, 1])
        - step[0, 1] * (step[1, 0] * step[2, 2] - step[1, 2] * step[2, 0])
        + step[0, 2] * (step[1, 0] * step[2, 1] - step[1, 1] * step[2, 0])
    )
    for i in prange(low.shape[0]):
        edges = np.empty((3, 4, 3))
        for j in range(low.shape[1]):
            for k in range(low.shape[2]):
                _place_edges(displacement, step, i, j, k, edges)
                low[i, j, k], high[i, j, k] = _span_determinants(edges, volume)


@njit(parallel=True, cache=True)
def sample_linear(image, displacement, scale, shift, world, voxel, fill, whole, out, outside):
    """Fill the output: trilinear look-up of the image through the field.

    ``voxel`` is the source's voxel_from_world, ``whole`` tells whether numbers are rounded. ``outside`` is set where
    the source point lies beyond the outermost voxels' edges.
    """
    ni, nj, nk = image.shape
    source, (first, share) = join_affines(voxel, world), place_voxels(scale, shift, 0, out.shape[0])
    for k in prange(out.shape[2]):
        layer = np.empty((displacement.shape[1], 3, displacement.shape[0]))
        nodes, places = np.empty((3, displacement.shape[0])), np.empty((3, out.shape[0]))
        displace_layer(displacement, voxel, scale, shift, k, layer)
        for j in range(out.shape[1]):
            trace_row(layer, source, scale, shift, 0, j, k, first, share, nodes, places)
            for i in range(out.shape[0]):
                x, y, z = places[0, i], places[1, i], places[2, i]
                outside[i, j, k] = lies_beyond(x, y, z, image.shape)
                if outside[i, j, k]:
                    out[i, j, k] = fill
                    continue
                x, y, z = min(max(x, 0.0), ni - 1.0), min(max(y, 0.0), nj - 1.0), min(max(z, 0.0), nk - 1.0)
                p, q, r = int(x), int(y), int(z)
                u, v, w = x - p, y - q, z - r
                a, b, c = np.uintp(p), np.uintp(q), np.uintp(r)  # without a sign: no look at the other end of an axis
                d, e, f = np.uintp(min(p + 1, ni - 1)), np.uintp(min(q + 1, nj - 1)), np.uintp(min(r + 1, nk - 1))
                near = _between(image[a, b, c], image[d, b, c], u), _between(image[a, e, c], image[d, e, c], u)
                far = _between(image[a, b, f], image[d, b, f], u), _between(image[a, e, f], image[d, e, f], u)
                value = _between(_between(near[0], near[1], v), _between(far[0], far[1], v), w)
                out[i, j, k] = np.floor(value + 0.5) if whole else value


@njit(inline="always")
def _between(begin, end, share):
    """A number on the way from one to another: exactly one of them at either end."""
    return begin * (1 - share) + end * share


@njit(parallel=True, cache=True)
def sample_nearest(labels, kept, displacement, scale, shift, world, voxel, out):
    """Look a label map up through the field by nearest neighbour; 0 beyond its edges.

    ``kept`` tells for each number whether it is looked up; the others count as 0.
    """
    ni, nj, nk = labels.shape
    source, (first, share) = join_affines(voxel, world), place_voxels(scale, shift, 0, out.shape[0])
    for k in prange(out.shape[2]):
        layer = np.empty((displacement.shape[1], 3, displacement.shape[0]))
        nodes, places = np.empty((3, displacement.shape[0])), np.empty((3, out.shape[0]))
        displace_layer(displacement, voxel, scale, shift, k, layer)
        for j in range(out.shape[1]):
            trace_row(layer, source, scale, shift, 0, j, k, first, share, nodes, places)
            for i in range(out.shape[0]):
                u, v, w = places[0, i], places[1, i], places[2, i]
                x, y, z = int(np.floor(u + 0.5)), int(np.floor(v + 0.5)), int(np.floor(w + 0.5))
                inside = 0 <= x < ni and 0 <= y < nj and 0 <= z < nk
                out[i, j, k] = labels[x, y, z] if inside and kept[labels[x, y, z]] else 0


@njit(parallel=True, cache=True)
def trace_voxels(displacement, scale, shift, world, voxel, start, out):
    """Source voxels (fractional indices) that a box of output voxels comes from; ``start`` is its first one.

    ``voxel`` is the source's voxel_from_world, ``out`` is (a, b, c, 3) float32.
    """
    source, (first, share) = join_affines(voxel, world), place_voxels(scale, shift, start[0], out.shape[0])
    for c in prange(out.shape[2]):
        layer = np.empty((displacement.shape[1], 3, displacement.shape[0]))
        nodes, places = np.empty((3, displacement.shape[0])), np.empty((3, out.shape[0]))
        displace_layer(displacement, voxel, scale, shift, c + start[2], layer)
        for b in range(out.shape[1]):
            trace_row(layer, source, scale, shift, start[0], b + start[1], c + start[2], first, share, nodes, places)
            for a in range(out.shape[0]):
                out[a, b, c, 0], out[a, b, c, 1], out[a, b, c, 2] = places[0, a], places[1, a], places[2, a]


@njit(parallel=True, cache=True)
def sample_density(low, high, scale, shift, start, out):
    """How many times the tissue of a box of output voxels was compressed, by the determinants of the cells they lie in.

    ``start`` is its first voxel.
    """
    first, _ = place_voxels(scale, shift, start[0], out.shape[0])
    for k in prange(out.shape[2]):
        c = int((k + start[2]) * scale[2] + shift[2])
        row, last = np.empty(low.shape[0], dtype=np.float32), -1
        for j in range(out.shape[1]):
            b = int((j + start[1]) * scale[1] + shift[1])
            if b != last:
                last = b
                for a in range(low.shape[0]):
                    row[a] = np.sqrt(low[a, b, c] * high[a, b, c])
            for i in range(out.shape[0]):
                out[i, j, k] = row[first[i]]


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
