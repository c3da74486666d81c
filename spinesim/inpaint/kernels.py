"""Compiled loops: noise that is carried by a field and stays white, and the grain that interpolation lost."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

NOWHERE = np.int64(-1)
"""Source of a voxel that comes from beyond the scan."""

CELLS, OCTAVES = 32, 32
"""Pieces of a table of the normal distribution: so many for each time that the share of its tail halves."""

ONE, CELL_BITS, FIRST_CELL = np.uint64(1), np.uint64(52 - 5), np.uint64((1023 - 1) * CELLS)
CELL_REST, CELL_SCALE = np.uint64(2**47 - 1), np.float32(2.0**-47)
"""Bits of a float64 below its cell, and the cell of 0.5, where the table begins; what these bits are worth."""


@njit(inline="always")
def _scramble(key):
    """Mix the bits of a number (splitmix64; Steele et al. 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@njit(parallel=True, cache=True)
def find_rows(mask, low, high):
    """First voxel of each row along axis 0 that a mask holds, and the one after the last; the length and 0 for none."""
    for c in prange(mask.shape[2]):
        for b in range(mask.shape[1]):
            low[b, c], high[b, c] = mask.shape[0], 0
            for a in range(mask.shape[0]):
                if mask[a, b, c]:
                    low[b, c] = min(low[b, c], a)
                    high[b, c] = a + 1


@njit(parallel=True, cache=True)
def nearest_sources(sources, shape, low, high, found, apart):
    """Nearest source voxel of the voxels of some rows (its number in the scan), and the square of how far it is."""
    for c in prange(sources.shape[2]):
        for b in range(sources.shape[1]):
            for a in range(low[b, c], high[b, c]):
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
def _find_beaten(found, apart, low, high, b, c, first, last, beaten):
    """Set which voxels of a row look up a source voxel that one of their 26 neighbours is nearer to.

    Of two that are as near the earlier one has it. ``low`` and ``high`` tell where sources were found.
    """
    beaten[first:last] = False
    for db in range(-1, 2):
        for dc in range(-1, 2):
            y, z = b + db, c + dc
            if y < 0 or z < 0 or y >= found.shape[1] or z >= found.shape[2]:
                continue
            for da in range(-1, 2):
                if da == 0 and db == 0 and dc == 0:
                    continue
                earlier = da < 0 or (da == 0 and (db < 0 or (db == 0 and dc < 0)))
                start, stop = max(first, low[y, z] - da), min(last, high[y, z] - da)
                if start >= stop:
                    continue
                mine, other = found[start:stop, b, c], found[start + da : stop + da, y, z]
                far, near = apart[start:stop, b, c], apart[start + da : stop + da, y, z]
                here = beaten[start:stop]
                if earlier:
                    for n in range(len(here)):
                        here[n] |= (mine[n] == other[n]) & (near[n] <= far[n])
                else:
                    for n in range(len(here)):
                        here[n] |= (mine[n] == other[n]) & (near[n] < far[n])


@njit(parallel=True, cache=True)
def claim_sources(found, apart, seen, low, high, start, shape, seed, keys):
    """Give each voxel of some rows a key: that of its source voxel, or its own where another is nearer to that.

    ``seen`` is a pair like ``low`` and ``high``: the rows in which sources were found. ``start`` is the first voxel of
    the block in the output, ``shape`` that of the output.
    """
    theirs = _scramble(np.uint64(seed))
    own = _scramble(theirs)
    for c in prange(found.shape[2]):
        beaten = np.empty(found.shape[0], dtype=np.bool_)
        for b in range(found.shape[1]):
            _find_beaten(found, apart, seen[0], seen[1], b, c, low[b, c], high[b, c], beaten)
            for a in range(low[b, c], high[b, c]):
                if found[a, b, c] != NOWHERE and not beaten[a]:
                    keys[a, b, c] = _scramble(theirs ^ np.uint64(found[a, b, c]))
                else:
                    here = ((a + start[0]) * shape[1] + (b + start[1])) * shape[2] + c + start[2]
                    keys[a, b, c] = _scramble(own ^ np.uint64(here))


@njit(inline="always")
def _normal(word, quantiles):
    """A number from the normal distribution for 32 random bits: a sign, and 31 for how unlikely the number is.

    The tail's share halves from one octave to the next, each of which the table holds in ``CELLS`` pieces: so do the
    bits of a floating number, which are its place in the table.
    """
    bits = np.float64(np.float64(np.int64(word & np.uint64(0x7FFFFFFF))) + 0.5).view(np.uint64)
    place = (bits >> CELL_BITS) - FIRST_CELL
    share = np.float32(np.int64(bits & CELL_REST)) * CELL_SCALE
    far = quantiles[place] + share * (quantiles[place + ONE] - quantiles[place])
    return -far if word & np.uint64(0x80000000) else far


@njit(parallel=True, cache=True)
def draw_normals(keys, low, high, quantiles, out):
    """Numbers from the normal distribution that belong to keys, two at a time.

    ``out`` is (n, c, b, a): one channel or more, and the axes of the keys in turn, as they lie in memory.
    """
    for c in prange(keys.shape[2]):
        for b in range(keys.shape[1]):
            for pair in range((out.shape[0] + 1) // 2):
                one, two = 2 * pair, min(2 * pair + 1, out.shape[0] - 1)
                for a in range(low[b, c], high[b, c]):
                    word = _scramble(keys[a, b, c] + np.uint64(pair))
                    out[two, c, b, a] = _normal(word >> np.uint64(32), quantiles)
                    out[one, c, b, a] = _normal(word & np.uint64(0xFFFFFFFF), quantiles)


@njit(inline="always")
def _sum_at(grain, steps, weights, a, b, c):
    """Weighted sum about one voxel, as far as the block goes, scaled to the variance of the whole sum."""
    total, kept, whole = np.float32(0), np.float32(0), np.float32(0)
    for tap in range(len(weights)):
        x, y, z = a + steps[tap, 0], b + steps[tap, 1], c + steps[tap, 2]
        whole += weights[tap] * weights[tap]
        if 0 <= x < grain.shape[0] and 0 <= y < grain.shape[1] and 0 <= z < grain.shape[2]:
            total += weights[tap] * grain[x, y, z]
            kept += weights[tap] * weights[tap]
    return total * np.sqrt(whole / kept)


@njit
def _add_up(grain, steps, weights, start, stop, b, c, total):
    """Weighted sums about a piece of a row that is not near an edge.

    Pieces are cut out and counted from 0: so the compiler makes vectors of the loop.
    """
    total[:] = 0.0
    for tap in range(0, len(weights), 3):
        d, e, f = steps[tap], steps[tap + 1], steps[tap + 2]
        one = grain[start + d[0] : stop + d[0], b + d[1], c + d[2]]
        two = grain[start + e[0] : stop + e[0], b + e[1], c + e[2]]
        three = grain[start + f[0] : stop + f[0], b + f[1], c + f[2]]
        first, second, third = weights[tap], weights[tap + 1], weights[tap + 2]
        for n in range(len(total)):
            total[n] += first * one[n] + second * two[n] + third * three[n]


@njit(parallel=True, cache=True)
def colour_grain(grain, steps, weights, reach, low, high, out):
    """Weighted sums of the neighbours of each voxel of some rows, three at a time; near the edges those that are there.

    Parameters
    ----------
    grain : (a, b, c) float32
        White noise; rows that are added up must hold it.
    steps : (n, 3) int64
        Where the neighbours are; ``n`` is a multiple of three.
    weights : (n,) float32
        Their weights.
    reach : (3,) int64
        How far the farthest of them is along each axis.
    low, high : (b, c) int64
        Rows to work on: the first voxel, and the one after the last.
    out : (a, b, c) float32
        Overwritten there.
    """
    for c in prange(grain.shape[2]):
        for b in range(grain.shape[1]):
            inside = reach[1] <= b < grain.shape[1] - reach[1] and reach[2] <= c < grain.shape[2] - reach[2]
            first, last = low[b, c], high[b, c]
            start = min(max(first, reach[0]), last) if inside else last
            stop = max(min(last, grain.shape[0] - reach[0]), start)
            for a in range(first, start):
                out[a, b, c] = _sum_at(grain, steps, weights, a, b, c)
            for a in range(stop, last):
                out[a, b, c] = _sum_at(grain, steps, weights, a, b, c)
            _add_up(grain, steps, weights, start, stop, b, c, out[start:stop, b, c])


@njit(parallel=True, cache=True)
def interpolate_lattice(values, places_i, places_j, places_k, out):
    """Interpolate a coarse lattice linearly at places along its axes, in its cells; its ends reach on for ever."""
    last = np.array(values.shape) - 1
    for k in prange(out.shape[2]):
        row = np.empty(values.shape[0])
        z = min(max(places_k[k], 0.0), last[2])
        c = min(int(z), max(last[2] - 1, 0))
        f, w = min(c + 1, last[2]), z - c
        for j in range(out.shape[1]):
            y = min(max(places_j[j], 0.0), last[1])
            b = min(int(y), max(last[1] - 1, 0))
            e, v = min(b + 1, last[1]), y - b
            for a in range(len(row)):
                near = values[a, b, c] * (1 - w) + values[a, b, f] * w
                row[a] = near * (1 - v) + (values[a, e, c] * (1 - w) + values[a, e, f] * w) * v
            for i in range(out.shape[0]):
                x = min(max(places_i[i], 0.0), last[0])
                a = min(int(x), max(last[0] - 1, 0))
                out[i, j, k] = row[a] * (1 - (x - a)) + row[min(a + 1, last[0])] * (x - a)


@njit(inline="always")
def _step(grain, a, b, c, axis):
    """Difference of a voxel and the one before it along an axis (mirrored at the edge)."""
    return grain[a, b, c] - grain[abs(a - (axis == 0)), abs(b - (axis == 1)), abs(c - (axis == 2))]


@njit(inline="always")
def _lost_grain(one, two, three, u, v, w, a, b, c):
    """What interpolation took from the noise of a voxel at a fraction along each axis, for noise of variance 1.

    Linear interpolation at a fraction u between two voxels keeps the share 1 - d of the power at the frequency w, where
    d = 2 u (1 - u) (1 - cos w); along three axes it keeps the product. What is lost is d_1 + (1 - d_1) d_2 +
    (1 - d_1) (1 - d_2) d_3: a difference of neighbours along the first axis, one along the second that is interpolated
    along the first, and one along the third that is interpolated along both, of independent noise.
    """
    x, y = abs(a - 1), abs(b - 1)
    along = (1 - u) * _step(two, a, b, c, 1) + u * _step(two, x, b, c, 1)
    near = (1 - u) * _step(three, a, b, c, 2) + u * _step(three, x, b, c, 2)
    far = (1 - u) * _step(three, a, y, c, 2) + u * _step(three, x, y, c, 2)
    return (
        np.sqrt(u * (1 - u)) * _step(one, a, b, c, 0)
        + np.sqrt(v * (1 - v)) * along
        + np.sqrt(w * (1 - w)) * ((1 - v) * near + v * far)
    )


@njit(parallel=True, cache=True)
def add_lost_grain(sources, grain, level, known, start, lead, low, high, least, limits, whole, out, changed):
    """Add what interpolation took from the noise of the voxels of some rows, in place.

    Parameters
    ----------
    sources : (a, b, c, 3) float32
        Fractional source voxels of a block.
    grain : three of (a, b, c) float32
        Independent noise of variance 1 with the scanner's spectrum on the block, one for each axis.
    level : (x, y, z) float32
        How strong the noise is, in stored numbers, on the part of the block that is worked on.
    known, out, changed : (i, j, k)
        Of the whole output: voxels that may change, its stored numbers, and which of them were changed: overwritten.
    start, lead : (3,) int64
        First voxel of that part in the output, and in the block.
    low, high : (y, z) int64
        Its rows.
    least : float
        Share of the variance of white noise that must be lost for anything to be given back.
    limits : tuple of float
        Smallest and largest stored number that may come out.
    whole : bool
        Whether stored numbers are rounded.
    """
    one, two, three = grain
    for z in prange(level.shape[2]):
        for y in range(level.shape[1]):
            b, c, j, k = y + lead[1], z + lead[2], y + start[1], z + start[2]
            for x in range(low[y, z], high[y, z]):
                a, i = x + lead[0], x + start[0]
                if not known[i, j, k]:
                    continue
                u = sources[a, b, c, 0] - np.floor(sources[a, b, c, 0])
                v = sources[a, b, c, 1] - np.floor(sources[a, b, c, 1])
                w = sources[a, b, c, 2] - np.floor(sources[a, b, c, 2])
                kept = (1 - 2 * u * (1 - u)) * (1 - 2 * v * (1 - v)) * (1 - 2 * w * (1 - w))
                if 1 - kept <= least:
                    continue
                value = out[i, j, k] + level[x, y, z] * _lost_grain(one, two, three, u, v, w, a, b, c)
                value = np.rint(value) if whole else value
                out[i, j, k] = min(max(value, limits[0]), limits[1])
                changed[i, j, k] = True


@njit(parallel=True, cache=True)
def mark_strained(density, labels, voxels, parted, limits, soft, broken, by_hu, calm, body, marks, out):
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
    calm : float
        A density that is nearer to 1 than this is known.
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
                if not body[i, j, k] or abs(density[i, j, k] - 1) < calm:
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
def count_reasons(reasons, counts):
    """Count the voxels of each reason in each layer along the last axis."""
    for k in prange(reasons.shape[2]):
        for j in range(reasons.shape[1]):
            for i in range(reasons.shape[0]):
                counts[k, reasons[i, j, k]] += 1


@njit(parallel=True, cache=True)
def find_changed(reasons, labels, changed):
    """Set which labels have a voxel that is not known; threads only ever set, so they cannot disagree."""
    for k in prange(reasons.shape[2]):
        for j in range(reasons.shape[1]):
            for i in range(reasons.shape[0]):
                if reasons[i, j, k] != 0:
                    changed[labels[i, j, k]] = True


@njit(parallel=True, cache=True)
def mark_reasons(reasons, wanted, seam, reach, out):
    """Mark voxels of wanted reasons, and those of the seam that lie within so many steps of one along every axis."""
    ni, nj, nk = reasons.shape
    for k in prange(nk):
        for j in range(nj):
            for i in range(ni):
                found = wanted[reasons[i, j, k]]
                if reasons[i, j, k] == seam:
                    for c in range(max(k - reach, 0), min(k + reach + 1, nk)):
                        for b in range(max(j - reach, 0), min(j + reach + 1, nj)):
                            for a in range(max(i - reach, 0), min(i + reach + 1, ni)):
                                found = found or wanted[reasons[a, b, c]]
                out[i, j, k] = found


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
