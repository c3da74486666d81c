"""Compiled loops: noise that is carried by a field and stays white, and the grain that interpolation lost."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

NOWHERE = np.int64(-1)
"""Source of a voxel that comes from beyond the scan."""


@njit(inline="always")
def _scramble(key):
    """Mix the bits of a number (splitmix64; Steele et al. 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@njit(parallel=True, cache=True)
def nearest_sources(sources, shape, found, apart):
    """Nearest source voxel of each voxel of a block (its number in the scan), and the square of how far it is."""
    for c in prange(sources.shape[2]):
        for b in range(sources.shape[1]):
            for a in range(sources.shape[0]):
                far = np.float32(0)
                number, inside = np.int64(0), True
                for axis in range(3):
                    place = np.floor(sources[a, b, c, axis] + np.float32(0.5))
                    inside = inside and 0 <= place < shape[axis]
                    number = number * shape[axis] + np.int64(place)
                    far += (sources[a, b, c, axis] - place) ** 2
                found[a, b, c] = number if inside else NOWHERE
                apart[a, b, c] = far


@njit(inline="always")
def _is_nearest(found, apart, a, b, c):
    """Whether none of its 26 neighbours looks up the same source voxel from nearer by (or as near, and earlier)."""
    mine, far = found[a, b, c], apart[a, b, c]
    for da in range(-1, 2):
        for db in range(-1, 2):
            for dc in range(-1, 2):
                x, y, z = a + da, b + db, c + dc
                if x < 0 or y < 0 or z < 0 or x >= found.shape[0] or y >= found.shape[1] or z >= found.shape[2]:
                    continue
                if found[x, y, z] == mine and (da, db, dc) != (0, 0, 0):
                    other = apart[x, y, z]
                    if other < far or (other == far and (da, db, dc) < (0, 0, 0)):
                        return False
    return True


@njit(parallel=True, cache=True)
def claim_sources(found, apart, start, shape, seed, keys):
    """Give each voxel of a block a key: that of its source voxel, or its own where another voxel is nearer to that.

    ``start`` is the first voxel of the block in the output, ``shape`` that of the output.
    """
    theirs = _scramble(np.uint64(seed))
    own = _scramble(theirs)
    for c in prange(found.shape[2]):
        for b in range(found.shape[1]):
            for a in range(found.shape[0]):
                if found[a, b, c] != NOWHERE and _is_nearest(found, apart, a, b, c):
                    keys[a, b, c] = _scramble(theirs ^ np.uint64(found[a, b, c]))
                else:
                    here = ((a + start[0]) * shape[1] + (b + start[1])) * shape[2] + c + start[2]
                    keys[a, b, c] = _scramble(own ^ np.uint64(here))


@njit(parallel=True, cache=True)
def draw_normals(keys, out):
    """Numbers from the normal distribution that belong to keys, two at a time (Box and Muller 1958).

    ``out`` has one channel or more on its first axis.
    """
    for c in prange(keys.shape[2]):
        for b in range(keys.shape[1]):
            for a in range(keys.shape[0]):
                for pair in range((out.shape[0] + 1) // 2):
                    first = _scramble(keys[a, b, c] + np.uint64(2 * pair))
                    second = _scramble(keys[a, b, c] + np.uint64(2 * pair + 1))
                    u = np.float32(first >> np.uint64(40)) * np.float32(2.0**-24) + np.float32(2.0**-25)
                    v = np.float32(second >> np.uint64(40)) * np.float32(2.0**-24)
                    far = np.sqrt(np.float32(-2.0) * np.log(u))
                    out[2 * pair, a, b, c] = far * np.cos(np.float32(2.0 * np.pi) * v)
                    if 2 * pair + 1 < out.shape[0]:
                        out[2 * pair + 1, a, b, c] = far * np.sin(np.float32(2.0 * np.pi) * v)


@njit(inline="always")
def _step(grain, a, b, c, axis):
    """Difference of a voxel and the one before it along an axis (mirrored at the edge)."""
    return grain[axis, a, b, c] - grain[axis, abs(a - (axis == 0)), abs(b - (axis == 1)), abs(c - (axis == 2))]


@njit(parallel=True, cache=True)
def add_lost_grain(sources, grain, least, out, lost):
    """Add up what interpolation took from the noise of each voxel, for noise of variance 1.

    Linear interpolation at a fraction u between two voxels keeps the share 1 - d of the power at the frequency w, where
    d = 2 u (1 - u) (1 - cos w); along three axes it keeps the product. What is lost is d_1 + (1 - d_1) d_2 +
    (1 - d_1) (1 - d_2) d_3: a difference of neighbours along the first axis, one along the second that is interpolated
    along the first, and one along the third that is interpolated along both, of independent noise.

    Parameters
    ----------
    sources : (a, b, c, 3) float32
        Fractional source voxels.
    grain : (3, a, b, c) float32
        Independent noise with the scanner's spectrum, one for each axis.
    least : float
        Share of the variance of white noise that must be lost for anything to be given back.
    out : (a, b, c) float32
        Overwritten with what is to be added.
    lost : (a, b, c) bool
        Overwritten: where anything is.
    """
    for c in prange(sources.shape[2]):
        for b in range(sources.shape[1]):
            for a in range(sources.shape[0]):
                u = sources[a, b, c, 0] - np.floor(sources[a, b, c, 0])
                v = sources[a, b, c, 1] - np.floor(sources[a, b, c, 1])
                w = sources[a, b, c, 2] - np.floor(sources[a, b, c, 2])
                first, second, third = u * (1 - u), v * (1 - v), w * (1 - w)
                lost[a, b, c] = 1.0 - (1 - 2 * first) * (1 - 2 * second) * (1 - 2 * third) > least
                out[a, b, c] = 0.0
                if not lost[a, b, c]:
                    continue
                x, y = abs(a - 1), abs(b - 1)
                along = (1 - u) * _step(grain, a, b, c, 1) + u * _step(grain, x, b, c, 1)
                near = (1 - u) * _step(grain, a, b, c, 2) + u * _step(grain, x, b, c, 2)
                far = (1 - u) * _step(grain, a, y, c, 2) + u * _step(grain, x, y, c, 2)
                out[a, b, c] = (
                    np.sqrt(first) * _step(grain, a, b, c, 0)
                    + np.sqrt(second) * along
                    + np.sqrt(third) * ((1 - v) * near + v * far)
                )


@njit(parallel=True, cache=True)
def mark_strained(density, labels, voxels, parted, limits, soft, broken, by_hu, body, marks, out):
    """Mark voxels of the body whose tissue was stretched or compressed too far.

    Parameters
    ----------
    density : (i, j, k) float32
        How many times it was compressed.
    labels, voxels : (i, j, k)
        Labels, and stored numbers of the CT.
    parted : (2,)
        The stored numbers that part gas, soft tissue and bone.
    limits, soft, broken : (n,)
        By label: the largest logarithm that is known, whether it goes by the CT instead, whether it is a broken bone.
    by_hu : (3,)
        The largest logarithm for gas, soft tissue and bone.
    body : (i, j, k) bool
        Elsewhere all is known.
    marks : (3,)
        For a broken bone, for what is stretched, for what is compressed.
    out : (i, j, k) uint8
        Overwritten where it applies.
    """
    for k in prange(out.shape[2]):
        for j in range(out.shape[1]):
            for i in range(out.shape[0]):
                if not body[i, j, k]:
                    continue
                label, strain = labels[i, j, k], np.log(density[i, j, k])
                limit = limits[label]
                if soft[label]:
                    value = voxels[i, j, k]
                    limit = by_hu[(value > parted[0]) + (value > parted[1])]
                if abs(strain) > limit:
                    if broken[label]:
                        out[i, j, k] = marks[0]
                    else:
                        out[i, j, k] = marks[1] if strain < 0 else marks[2]


@njit(parallel=True, cache=True)
def find_changed(reasons, labels, changed):
    """Set which labels have a voxel that is not known; threads only ever set, so they cannot disagree."""
    for k in prange(reasons.shape[2]):
        for j in range(reasons.shape[1]):
            for i in range(reasons.shape[0]):
                if reasons[i, j, k] != 0:
                    changed[labels[i, j, k]] = True


@njit(inline="always")
def _is_rim(reasons, i, j, k, seam):
    """Whether a voxel is unknown (and no seam) and has a neighbour across a face that is not."""
    if reasons[i, j, k] == 0 or reasons[i, j, k] == seam:
        return False
    for axis in range(3):
        for way in (-1, 1):
            a, b, c = i + way * (axis == 0), j + way * (axis == 1), k + way * (axis == 2)
            inside = 0 <= a < reasons.shape[0] and 0 <= b < reasons.shape[1] and 0 <= c < reasons.shape[2]
            if inside and (reasons[a, b, c] == 0 or reasons[a, b, c] == seam):
                return True
    return False


@njit(parallel=True, cache=True)
def mark_seam(reasons, labels, may, body, reach, seam):
    """Mark what is known in the body within so many steps of what is not, in place; ``may`` tells by label where.

    The way from what is unknown leaves it at its rim: only from there steps are counted. Threads only turn 0 into
    ``seam``, and read both as the same.
    """
    ni, nj, nk = reasons.shape
    for k in prange(nk):
        for j in range(nj):
            for i in range(ni):
                if not _is_rim(reasons, i, j, k, seam):
                    continue
                for c in range(max(k - reach, 0), min(k + reach + 1, nk)):
                    left = reach - abs(c - k)
                    for b in range(max(j - left, 0), min(j + left + 1, nj)):
                        more = left - abs(b - j)
                        for a in range(max(i - more, 0), min(i + more + 1, ni)):
                            if reasons[a, b, c] == 0 and body[a, b, c] and may[labels[a, b, c]]:
                                reasons[a, b, c] = seam
