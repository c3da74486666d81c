"""The loops in which a phantom's time goes, compiled; without Python's lock, for callers have a slab a thread."""

from __future__ import annotations

import numpy as np
from numba import njit

from spinesim.anatomy.sampling import look_up_inside


@njit(nogil=True, cache=True)
def rod_distance(x, y, z, start, axis, up, length, start_side, end_side, start_up, end_up, out):
    """Fill ``out`` with first-order distances to a tapering elliptic rod; all float32, coordinates broadcast."""
    zero, one, tiny = np.float32(0), np.float32(1), np.float32(1e-6)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                dx, dy, dz = x[i, j, k] - start[0], y[i, j, k] - start[1], z[i, j, k] - start[2]
                along = min(max(dx * axis[0] + dy * axis[1] + dz * axis[2], zero), length)
                dx -= along * axis[0]
                dy -= along * axis[1]
                dz -= along * axis[2]
                rise = dx * up[0] + dy * up[1] + dz * up[2]
                rise *= rise
                rest = max(dx * dx + dy * dy + dz * dz - rise, zero)
                share = along / length
                side, high = start_side + share * (end_side - start_side), start_up + share * (end_up - start_up)
                across, upwards = one / (side * side), one / (high * high)
                level = np.sqrt(rest * across + rise * upwards + tiny)
                slope = np.sqrt(rest * across * across + rise * upwards * upwards + tiny * tiny)
                out[i, j, k] = level * (level - one) / slope


@njit(nogil=True, cache=True)
def superellipse_distance(u, v, half_u, half_v, power, out):
    """Fill ``out`` with first-order distances to a cylinder over a superellipse; all float32, broadcast."""
    one, tiny = np.float32(1), np.float32(1e-6)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                p = power[i, j, k]
                a, b = abs(u[i, j, k]) / half_u[i, j, k] + tiny, abs(v[i, j, k]) / half_v[i, j, k] + tiny
                high, wide = a**p, b**p
                radius = (high + wide) ** (one / p)
                whole = radius ** (p - one)
                du, dv = high / (a * whole * half_u[i, j, k]), wide / (b * whole * half_v[i, j, k])
                out[i, j, k] = (radius - one) / np.sqrt(du * du + dv * dv)


@njit(nogil=True, cache=True)
def lay(image, distance, hu, inverse_voxel, strength):
    """Replace the share of each voxel of ``image`` that lies inside a solid, in place; all float32, broadcast."""
    half, zero, one = np.float32(0.5), np.float32(0), np.float32(1)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            for k in range(image.shape[2]):
                share = min(half - distance[i, j, k] * inverse_voxel, one)
                if share > zero:
                    image[i, j, k] += share * strength * (hu[i, j, k] - image[i, j, k])


@njit(nogil=True, cache=True)
def look_up(image, dx, dy, dz, first, out):
    """Fill ``out``, slices of ``image`` from ``first`` on, with what lies displaced by so many voxels; trilinear."""
    ni, nj, nk = image.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                u, v, w = dx[i, j, k], dy[i, j, k], dz[i, j, k]
                if u == 0 and v == 0 and w == 0:
                    out[i, j, k] = image[i, j, first + k]
                    continue
                x = min(max(i + u, np.float32(0)), np.float32(ni - 1))
                y = min(max(j + v, np.float32(0)), np.float32(nj - 1))
                z = min(max(first + k + w, np.float32(0)), np.float32(nk - 1))
                out[i, j, k] = look_up_inside(image, x, y, z)


@njit(nogil=True, cache=True)
def look_up_nearest(image, dx, dy, dz, first, out):
    """Fill ``out`` as :func:`look_up` does, with the number of the nearest voxel."""
    ni, nj, nk = image.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                a = min(max(int(np.rint(i + dx[i, j, k])), 0), ni - 1)
                b = min(max(int(np.rint(j + dy[i, j, k])), 0), nj - 1)
                c = min(max(int(np.rint(first + k + dz[i, j, k])), 0), nk - 1)
                out[i, j, k] = image[a, b, c]
