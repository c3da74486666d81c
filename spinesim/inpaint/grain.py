"""Give back the noise that interpolation took: the scanner's own level and spectrum, without a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import fft, ndimage

from spinesim.anatomy.boxes import Box, bounding_boxes, padded
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import Volume
from spinesim.inpaint.carried import draw_carried_noise
from spinesim.inpaint.kernels import add_lost_grain, colour_grain
from spinesim.inpaint.rows import Rows
from spinesim.inpaint.scanner import Noise

LEAST = 0.02
"""Noise that would have kept all but this share of its variance, were it white, is left as it is."""

SLAB_VOXELS = 6_000_000
"""About so many voxels are worked on at once."""

SPREAD = 4
"""Voxels in a slice over which noise is coloured: it is told to 0.01 of its correlation by them."""

DEPTH = 2
"""The same across slices."""

SAMPLES = 64
"""Frequencies at which the spectrum is looked at."""

MORE = 2
"""Voxels around those whose noise counts: one for the difference, one for who has a source voxel."""

Trace = Callable[[Box], Float[np.ndarray, "a b c 3"]]
"""Source voxels (fractional) that a box of the output comes from, as (a, b, c, 3) float32."""


def restore_noise(
    image: Volume,
    noise: Noise,
    trace: Trace,
    source: Grid,
    known: Bool[np.ndarray, "i j k"],
    limits: tuple[float, float],
    *,
    seed: int,
) -> tuple[Volume, Bool[np.ndarray, "i j k"]]:
    """Add to a warped CT the noise that linear interpolation took away.

    Where a voxel comes from a place between the voxels of the scan, the mean of its neighbours has less noise than each
    of them, and slower noise. What is missing is drawn along each axis by itself, with the spectrum that is missing and
    as strong as it is missing there: what stays and what is added have the level and the spectrum of the scan. The
    noise added goes along with the tissue (``draw_carried_noise``).

    Parameters
    ----------
    image : Volume
        The warped CT.
    noise : Noise
        That of the scan before.
    trace : callable
        Where a box of the output comes from.
    source : Grid
        Of the scan before; that of the CT has voxels of the same size.
    known : (i, j, k) bool array
        Voxels that may change.
    limits : tuple of float
        Smallest and largest stored number that may come out.
    seed : int
        Of the noise.

    Returns
    -------
    Volume, (i, j, k) bool array
        The CT, and where noise was added; elsewhere it is the one that went in, bit for bit.
    """
    out = image.voxels.copy(order="F")
    changed = np.zeros(image.grid.shape, dtype=bool, order="F")
    shift = source.to_voxel(image.grid.world_from_voxel[None, :3, 3])[0]
    whole = bool(np.issubdtype(out.dtype, np.integer))
    if whole:
        limits = (max(limits[0], float(np.iinfo(out.dtype).min)), min(limits[1], float(np.iinfo(out.dtype).max)))
    colours = (_across(noise), _inside(noise))
    reach = np.insert([SPREAD + MORE] * 2, noise.axis, DEPTH + MORE)

    def give_back(inner: Box) -> None:
        wide = padded(inner, image.grid.shape, reach)
        start, before = (np.array([side.start for side in box]) for box in (inner, wide))
        lead, rows = start - before, Rows.holding(known[inner])
        sources = trace(wide)
        held = rows.placed(tuple(lead.tolist()), sources.shape[:3])
        grain = _coloured_grain(sources, colours, held, source.shape, wide, image.grid.shape, seed)
        level = noise.level_at(*(np.arange(side.start, side.stop) + n for side, n in zip(inner, shift, strict=True)))
        level /= np.float32(image.slope)
        where = (known, start, lead, rows.low, rows.high)
        add_lost_grain(sources, grain, level, *where, LEAST, limits, whole, out, changed)

    for inner in _slabs(known, noise.axis):
        give_back(inner)
    return replace(image, voxels=out), changed


def _slabs(known: Bool[np.ndarray, "i j k"], axis: int) -> Iterator[Box]:
    """Slices, some at a time, of the box that holds all voxels that may change."""
    for box in bounding_boxes(known.view(np.uint8)).values():
        low, high = box[axis].start, box[axis].stop
        slice_voxels = math.prod(side.stop - side.start for side in box) // (high - low)
        some = max(2 * (DEPTH + MORE), SLAB_VOXELS // slice_voxels)
        for first in range(low, high, some):
            i, j, k = (slice(first, min(first + some, high)) if rank == axis else box[rank] for rank in range(3))
            yield i, j, k


@dataclass(frozen=True, eq=False)
class Colour:
    """Neighbours (steps along the axes) and weights that give white noise a spectrum and keep its variance.

    There are three of them or a multiple of it, and ``reach`` is how far the farthest is along each axis.
    """

    steps: Int[np.ndarray, "n 3"]
    weights: Float[np.ndarray, " n"]
    reach: tuple[int, int, int]


def _coloured_grain(
    sources: Float[np.ndarray, "a b c 3"],
    colours: tuple[Colour, Colour],
    rows: Rows,
    source_shape: tuple[int, int, int],
    box: Box,
    shape: tuple[int, int, int],
    seed: int,
) -> tuple[Float[np.ndarray, "a b c"], ...]:
    """Three noises of variance 1 with the scanner's spectrum, in some rows of a block and one voxel around them."""
    near = rows.widened((1, 1, 1))
    wider = near.widened(colours[1].reach)
    widest = wider.widened(colours[0].reach)
    start = tuple(side.start for side in box)
    grain = draw_carried_noise(sources, source_shape, start, shape, seed=seed, channels=3, rows=widest)
    between = np.zeros(sources.shape[:3], dtype=np.float32, order="F")
    for each in grain:
        for colour, here, there, some in zip(colours, (each, between), (between, each), (wider, near), strict=True):
            colour_grain(here, colour.steps, colour.weights, np.array(colour.reach), some.low, some.high, there)
    return tuple(grain)


def _colour(steps: np.ndarray, weights: np.ndarray) -> Colour:
    """Scale weights, and fill them up with zeros to a multiple of three."""
    more = -len(weights) % 3
    weights = np.pad(weights, (0, more)).astype(np.float32)
    i, j, k = np.abs(steps).max(axis=0).tolist()
    return Colour(np.pad(steps, ((0, more), (0, 0))), weights / np.sqrt((weights**2).sum()), (i, j, k))


def _inside(noise: Noise) -> Colour:
    """Neighbours in a slice: the part near 0 of the sum that takes the root of the power at each frequency."""
    gain = np.sqrt(_resampled(noise.spectrum, SAMPLES, SAMPLES))
    sums = fft.irfft2(gain, (SAMPLES, SAMPLES))
    near = np.arange(-SPREAD, SPREAD + 1)
    steps = np.stack(np.meshgrid(near, near, indexing="ij"), axis=-1).reshape(-1, 2)
    return _colour(np.insert(steps, noise.axis, 0, axis=1), sums[tuple(steps.T)])


def _resampled(spectrum: Float[np.ndarray, "n n"], n: int, m: int) -> Float[np.ndarray, "n h"]:
    """Power at the frequencies of another size, mean 1 over all of them (of the last axis half, as in ``rfft2``)."""
    size = len(spectrum)
    rows, columns = np.fft.fftfreq(n) * size, np.fft.rfftfreq(m) * size
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    power = ndimage.map_coordinates(spectrum, places, order=1, mode="grid-wrap")
    twice = np.where((columns == 0) | (columns == size / 2), 1.0, 2.0)
    return power / ((power * twice).sum() / (twice.sum() * n))


def _across(noise: Noise) -> Colour:
    """Neighbours across slices, likewise."""
    frequency = np.fft.fftfreq(SAMPLES)
    lags = enumerate(noise.across[1:], start=1)
    power = 1 + 2 * sum(r * np.cos(2 * np.pi * lag * frequency) for lag, r in lags)
    near = np.arange(-DEPTH, DEPTH + 1)
    steps = np.zeros((len(near), 3), dtype=np.int64)
    steps[:, noise.axis] = near
    return _colour(steps, fft.ifft(np.sqrt(np.maximum(power, 0.0))).real[near])
