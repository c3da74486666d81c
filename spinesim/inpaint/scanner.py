"""The noise of a scanner: how strong it is where, and how its neighbours hang together; measured on a CT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft, ndimage

from spinesim.anatomy.scan import Volume, read_only
from spinesim.anatomy.threads import map_threads
from spinesim.inpaint.kernels import interpolate_lattice

SOFT_HU = (-160.0, 250.0)
"""Fat, muscle, organs, vessels with contrast: tissue that is even over some millimetres."""

SLICES = 24
"""At most so many threes of neighbouring slices are looked at, spread evenly."""

WAVE = 3.0
"""Slower than this Gaussian (voxels) is anatomy, not noise."""

EDGE_SMOOTHING, EVEN_VOXELS, EVEN_SHARE = 2.0, 9, 0.12
"""Voxels count as even when the slope of the smoothed CT, averaged over so many voxels, is among this share of the
smallest in the soft tissue of their slice."""

LAGS = 6
"""Noise is followed over so many voxels in a slice."""

WIDEST_MM = 1.7
"""On wider voxels it is not measured."""

LEAST_HU = 0.5
"""A CT with less has none that could be missed."""

FEWEST = 1000
"""Even voxels below which noise is not measured."""

CLIP = 4.0
"""Residues of more spreads than this are edges."""

NEAR_MM = 30.0
"""Width of the Gaussian over which its level is averaged."""

COARSE = 8
"""Its level is written down for every so many voxels in a slice."""

FEW = 0.01
"""The mean level counts as much as this share of the most even voxels at one place."""

Residue = tuple[Float[np.ndarray, "a b"], Bool[np.ndarray, "a b"]]
"""What is fast in a slice (HU), 0 where it is not even, and where it is."""

Stack = tuple[Residue, Residue, Residue]
"""Three neighbouring slices."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of a CT, in slices across ``axis`` of its array.

    Parameters
    ----------
    axis : int
        Across the slices: that of the array that runs most along the body.
    slices : (s,) array
        Slices that it was measured on.
    level_hu : (s, a, b) array
        Standard deviation, smoothed, on these slices for every ``COARSE`` voxels.
    spectrum : (n, n) array
        Power by frequency in a slice, mean 1, as ``numpy.fft`` orders it.
    across : (3,) array
        Correlation between slices that are 0, 1 and 2 apart.
    """

    axis: int
    slices: Float[np.ndarray, " s"]
    level_hu: Float[np.ndarray, "s a b"]
    spectrum: Float[np.ndarray, "n n"]
    across: Float[np.ndarray, " 3"]

    def __post_init__(self) -> None:
        for name in ("slices", "level_hu", "spectrum", "across"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @property
    def mean_hu(self) -> float:
        """Standard deviation over all."""
        return float(np.sqrt(np.mean(self.level_hu**2)))

    def level_at(self, i: np.ndarray, j: np.ndarray, k: np.ndarray) -> Float[np.ndarray, "n m t"]:
        """Standard deviation (HU, float32) on a lattice of voxels of the CT, given by its places along each axis."""
        shape = (len(i), len(j), len(k))
        places = [i, j, k]
        places.insert(0, places.pop(self.axis))
        cells = [np.interp(places[0], self.slices, np.arange(len(self.slices)))]
        cells += [(place - (COARSE - 1) / 2) / COARSE for place in places[1:]]
        cells.insert(self.axis, cells.pop(0))
        level = np.empty(shape, dtype=np.float32, order="F")
        interpolate_lattice(np.ascontiguousarray(np.moveaxis(self.level_hu, 0, self.axis)), *cells, level)
        return level

    @property
    def neighbours(self) -> Float[np.ndarray, " 3"]:
        """Correlation of neighbours along the axes of the array."""
        correlation = fft.ifft2(self.spectrum).real
        inside = (correlation[1, 0], correlation[0, 1])
        return np.insert(np.array(inside), self.axis, self.across[1])


def measure_noise(image: Volume, bone: Bool[np.ndarray, "i j k"]) -> Noise | None:
    """Measure the noise of a CT in even soft tissue; None where there is too little of either.

    What is slower than ``WAVE`` voxels in a slice is taken for anatomy, and so is what slices two apart have in common.
    The spectrum is the transform of the correlation over ``LAGS`` voxels in the slice (with a Hann window). Parts that
    are filled with one number are left out. None also for fewer than three slices, for voxels wider than ``WIDEST_MM``,
    on which anatomy is as fast as noise, and where there is less than ``LEAST_HU``.

    Parameters
    ----------
    image : Volume
        The CT as it came from the scanner.
    bone : (i, j, k) bool array
        Voxels that are bone.
    """
    axis = int(np.abs(image.grid.direction[2]).argmax())
    hu, solid = np.moveaxis(image.voxels, axis, 2), np.moveaxis(bone, axis, 2)
    if hu.shape[2] < 3 or np.delete(image.grid.spacing_mm, axis).max() > WIDEST_MM:
        return None
    threes = [range(first, first + 3) for first in np.unique(np.linspace(0, hu.shape[2] - 3, SLICES).astype(int))]
    looked = sorted({n for three in threes for n in three})
    found = map_threads(lambda n: _residue(image.hu(hu[:, :, n]), solid[:, :, n]), looked)
    residues = dict(zip(looked, found, strict=True))
    stacks = {b: (residues[a], residues[b], residues[c]) for a, b, c in threes}
    apart = {middle: _apart(stack) for middle, stack in stacks.items()}
    if sum(np.count_nonzero(even) for _, even in apart.values()) < FEWEST:
        return None
    level = _level(apart, image, axis)
    if level.mean() < LEAST_HU:
        return None
    return Noise(axis, np.array(list(stacks), dtype=float), level, _spectrum(apart.values()), _across(stacks.values()))


def _residue(hu: Float[np.ndarray, "a b"], solid: Bool[np.ndarray, "a b"]) -> Residue:
    """What is fast in the even soft tissue of a slice, 0 elsewhere, and where that is."""
    smooth = ndimage.gaussian_filter(hu, EDGE_SMOOTHING)
    hard = ndimage.binary_dilation(solid | _filled(hu), iterations=3)
    soft = (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]) & ~hard
    slope = ndimage.uniform_filter(np.hypot(*np.gradient(smooth)), EVEN_VOXELS)
    if not soft.any():
        return np.zeros_like(hu), soft
    even = soft & (slope < np.quantile(slope[soft], EVEN_SHARE))
    residue = np.where(even, hu - ndimage.gaussian_filter(hu, WAVE), 0.0)
    spread = 1.4826 * np.median(np.abs(residue[even])) if even.any() else 0.0
    even &= np.abs(residue) <= CLIP * spread
    return np.where(even, residue, 0.0), even


def _filled(hu: Float[np.ndarray, "a b"]) -> Bool[np.ndarray, "a b"]:
    """Where a pixel and all that touch it hold one number."""
    same = np.pad(hu[1:] == hu[:-1], ((1, 1), (0, 0)), constant_values=True)
    beside = np.pad(hu[:, 1:] == hu[:, :-1], ((0, 0), (1, 1)), constant_values=True)
    column = np.pad(same[1:] & same[:-1], ((0, 0), (1, 1)), constant_values=True)
    return column[:, :-2] & column[:, 1:-1] & column[:, 2:] & beside[:, 1:] & beside[:, :-1]


def _correlate(values: Float[np.ndarray, "a b"], size: int) -> Float[np.ndarray, "n n"]:
    """Sum of products over lags from -size/2 to size/2, as ``numpy.fft`` orders them."""
    shape = tuple(fft.next_fast_len(n + size, real=True) for n in values.shape)
    product = fft.irfft2(np.abs(fft.rfft2(values, shape)) ** 2, shape)
    lags = np.r_[0 : size // 2, -(size // 2) : 0]
    return product[np.ix_(lags, lags)]


def _summed(values: Float[np.ndarray, "a b"], shape: tuple[int, int]) -> Float[np.ndarray, "c d"]:
    """Sum over squares of ``COARSE`` voxels."""
    more = [(0, COARSE * n - m) for n, m in zip(shape, values.shape, strict=True)]
    return np.pad(values, more).reshape(shape[0], COARSE, shape[1], COARSE).sum(axis=(1, 3))


def _apart(stack: Stack) -> Residue:
    """What differs between slices two apart: anatomy that both have cancels, and their noise is hardly the same."""
    (one, even), _, (other, also) = stack
    both = even & also
    return np.where(both, (one - other) / np.sqrt(2), 0.0), both


def _level(slices: Mapping[int, Residue], image: Volume, axis: int) -> Float[np.ndarray, "s a b"]:
    """Standard deviation on each slice: that of the even tissue nearby, and the mean where none is near."""
    flat = tuple(n for rank, n in enumerate(image.grid.shape) if rank != axis)
    coarse = (-(-flat[0] // COARSE), -(-flat[1] // COARSE))
    squares = np.stack([_summed(residue**2, coarse) for residue, _ in slices.values()])
    counts = np.stack([_summed(even.astype(float), coarse) for _, even in slices.values()])
    apart = float(np.diff(list(slices)).mean()) if len(slices) > 1 else 1.0
    spacing = image.grid.spacing_mm
    sigma = NEAR_MM / np.array([apart * spacing[axis], *(COARSE * np.delete(spacing, axis))])
    mean, few = squares.sum() / counts.sum(), FEW * counts.max()
    near, seen = (ndimage.gaussian_filter(each, sigma, mode="constant") for each in (squares, counts))
    return np.sqrt((near + few * mean) / (seen + few))


def _spectrum(slices: Iterable[Residue]) -> Float[np.ndarray, "n n"]:
    """Power by frequency in a slice, mean 1, from a correlation that is faded out towards the largest lag."""
    size = 2 * LAGS + 2
    correlation, pairs = np.zeros((size, size)), np.zeros((size, size))
    for residue, even in slices:
        correlation += _correlate(residue, size)
        pairs += _correlate(even.astype(float), size)
    lags = np.fft.fftfreq(size, 1 / size)
    window = np.cos(np.pi * lags / size) ** 2
    power = np.maximum(fft.fft2(correlation / np.maximum(pairs, 1.0) * np.outer(window, window)).real, 0.0)
    return power / power.mean()


def _across(stacks: Iterable[Stack]) -> Float[np.ndarray, " 3"]:
    """Correlation between slices that are 0, 1 and 2 apart; that over two is taken for anatomy, and away."""
    products, pairs = np.zeros(3), np.zeros(3)
    for stack in stacks:
        residue, even = stack[0]
        for lag, (other, also) in enumerate(stack):
            products[lag] += float((residue * other).sum())
            pairs[lag] += np.count_nonzero(even & also)
    means = np.divide(products, pairs, out=np.zeros(3), where=pairs > 0)
    noise = means - means[2]
    return noise / noise[0] if noise[0] > 0 else np.array([1.0, 0.0, 0.0])
