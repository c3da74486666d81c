"""Give back the noise that interpolation took: the scanner's own level and spectrum, without a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft, ndimage

from spinesim.anatomy.boxes import Box, bounding_boxes, padded
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import Volume
from spinesim.anatomy.threads import THREADS
from spinesim.inpaint.carried import draw_carried_noise
from spinesim.inpaint.kernels import add_lost_grain
from spinesim.inpaint.scanner import Noise

LEAST = 0.02
"""Noise that would have kept all but this share of its variance, were it white, is left as it is."""

SLAB_VOXELS = 4_000_000
"""About so many voxels are worked on at once."""

REACH = 4
"""Voxels beyond them that their noise rests on: two across, one for the difference, one for who has a source voxel."""

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
    out = image.voxels.copy(order="K")
    changed = np.zeros(image.grid.shape, dtype=bool, order="F")
    shift = source.to_voxel(image.grid.world_from_voxel[None, :3, 3])[0]
    for inner in _slabs(known, noise.axis):
        wide = padded(inner, image.grid.shape, REACH)
        added, lost = _lost_grain(trace(wide), noise, source.shape, wide, image.grid.shape, seed)
        i, j, k = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, wide, strict=True))
        mask = lost[i, j, k] & known[inner]
        levels = noise.level_at(*(np.arange(side.start, side.stop) + n for side, n in zip(inner, shift, strict=True)))
        hu = image.hu(image.voxels[inner]) + levels * added[i, j, k]
        out[inner][mask] = np.clip(image.stored(hu[mask]), *limits).astype(out.dtype)
        changed[inner] = mask
    return replace(image, voxels=out), changed


def _slabs(known: Bool[np.ndarray, "i j k"], axis: int) -> Iterator[Box]:
    """Slices, some at a time, of the box that holds all voxels that may change."""
    for box in bounding_boxes(known.view(np.uint8)).values():
        low, high = box[axis].start, box[axis].stop
        slice_voxels = math.prod(side.stop - side.start for side in box) // (high - low)
        some = max(2 * REACH, SLAB_VOXELS // slice_voxels)
        for first in range(low, high, some):
            i, j, k = (slice(first, min(first + some, high)) if rank == axis else box[rank] for rank in range(3))
            yield i, j, k


def _lost_grain(
    sources: Float[np.ndarray, "a b c 3"],
    noise: Noise,
    source_shape: tuple[int, int, int],
    box: Box,
    shape: tuple[int, int, int],
    seed: int,
) -> tuple[Float[np.ndarray, "a b c"], Bool[np.ndarray, "a b c"]]:
    """What a block lacks, for noise of variance 1, and where it lacks any."""
    start = tuple(side.start for side in box)
    grain = draw_carried_noise(sources, source_shape, start, shape, seed=seed, channels=3)
    n, m = (size for axis, size in enumerate(sources.shape[:3]) if axis != noise.axis)
    gain = np.sqrt(_resampled(noise.spectrum, n, m)).astype(np.float32)
    weights = _across(noise.across).astype(np.float32)
    for each in grain:
        each[...] = _coloured(each, noise.axis, gain, weights)
    added = np.empty(sources.shape[:3], dtype=np.float32, order="F")
    lost = np.empty(sources.shape[:3], dtype=bool, order="F")
    add_lost_grain(sources, grain, LEAST, added, lost)
    return added, lost


def _coloured(
    white: Float[np.ndarray, "a b c"], axis: int, gain: Float[np.ndarray, "n h"], weights: Float[np.ndarray, " 5"]
) -> Float[np.ndarray, "a b c"]:
    """White noise with a gain by frequency in the slices across an axis, and weighted sums of neighbouring slices."""
    slices = np.moveaxis(white, axis, 0)
    filtered = fft.irfft2(fft.rfft2(slices, workers=THREADS) * gain, slices.shape[1:], workers=THREADS)
    along = ndimage.convolve1d(filtered, weights, axis=0, mode="constant")
    norm = np.sqrt(ndimage.convolve1d(np.ones(len(along), dtype=np.float32), weights**2, mode="constant"))
    return np.moveaxis(along / norm[:, None, None], 0, axis)


def _resampled(spectrum: Float[np.ndarray, "n n"], n: int, m: int) -> Float[np.ndarray, "n h"]:
    """Power at the frequencies of another size, mean 1 over all of them (of the last axis half, as in ``rfft2``)."""
    size = len(spectrum)
    rows, columns = np.fft.fftfreq(n) * size, np.fft.rfftfreq(m) * size
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    power = ndimage.map_coordinates(spectrum, places, order=1, mode="grid-wrap")
    twice = np.where((columns == 0) | (columns == size / 2), 1.0, 2.0)
    return power / ((power * twice).sum() / (twice.sum() * n))


def _across(correlation: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 5"]:
    """Weights across slices that make white noise correlate so."""
    frequency = np.fft.fftfreq(16)
    power = 1 + 2 * sum(r * np.cos(2 * np.pi * lag * frequency) for lag, r in enumerate(correlation[1:], start=1))
    weights = np.fft.ifft(np.sqrt(np.maximum(power, 0.0))).real[[-2, -1, 0, 1, 2]]
    return weights / np.sqrt((weights**2).sum())
