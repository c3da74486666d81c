"""The noise of a scanner: how strong it is where, and how its neighbours hang together; measured on a CT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft, ndimage

from spinesim.anatomy.scan import Volume

SOFT_HU = (-160.0, 250.0)
"""Fat, muscle, organs, vessels with contrast: tissue that is even over some millimetres."""

SLICES = 48
"""At most so many pairs of slices are looked at, spread evenly."""

WAVE = 3.0
"""Slower than this Gaussian (voxels) is anatomy, not noise."""

EDGE_SMOOTHING, EVEN_VOXELS, EVEN_SHARE = 2.0, 9, 0.12
"""Voxels count as even when the slope of the smoothed CT, averaged over so many voxels, is among this share of the
smallest in the soft tissue of their slice."""

LAGS = 6
"""Noise is followed over so many voxels in a slice."""

FEWEST = 4000
"""Even voxels below which noise is not measured."""

CLIP = 4.0
"""Residues of more spreads than this are edges."""

NEAR_MM = 30.0
"""Width of the Gaussian over which its level is averaged."""

COARSE = 8
"""Its level is written down for every so many voxels in a slice."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise of a CT, in slices across ``axis`` of its array.

    Parameters
    ----------
    axis : int
        Across the slices: that of the array that runs most along the body.
    level_hu : (a, b) array
        Standard deviation, smoothed, for every ``COARSE`` voxels in a slice; the mean over the slices.
    spectrum : (n, n) array
        Power by frequency in a slice, mean 1, as ``numpy.fft`` orders it.
    across : (3,) array
        Correlation between slices that are 0, 1 and 2 apart.
    """

    axis: int
    level_hu: Float[np.ndarray, "a b"]
    spectrum: Float[np.ndarray, "n n"]
    across: Float[np.ndarray, " 3"]

    @property
    def mean_hu(self) -> float:
        """Standard deviation over the whole of a slice."""
        return float(np.sqrt(np.mean(self.level_hu**2)))

    @property
    def neighbours(self) -> Float[np.ndarray, " 3"]:
        """Correlation of neighbours along the axes of the array."""
        correlation = fft.ifft2(self.spectrum).real
        inside = (correlation[1, 0], correlation[0, 1])
        return np.insert(np.array(inside), self.axis, self.across[1])


def measure_noise(image: Volume, bone: Bool[np.ndarray, "i j k"]) -> Noise | None:
    """Measure the noise of a CT in even soft tissue, or None where there is too little of it.

    What is slower than ``WAVE`` voxels in a slice is taken for anatomy. The spectrum is the transform of the
    correlation over ``LAGS`` voxels in the slice (with a Hann window), and over two slices across.

    Parameters
    ----------
    image : Volume
        The CT as it came from the scanner.
    bone : (i, j, k) bool array
        Voxels that are bone.
    """
    axis = int(np.abs(image.grid.direction[2]).argmax())
    hu, solid = np.moveaxis(image.voxels, axis, 2), np.moveaxis(bone, axis, 2)
    size = 2 * LAGS + 2
    correlation, pairs = np.zeros((size, size)), np.zeros((size, size))
    between, near = np.zeros(3), np.zeros(3)
    coarse = tuple(-(-n // COARSE) for n in hu.shape[:2])
    squares, counts = np.zeros(coarse), np.zeros(coarse)
    for first in np.unique(np.linspace(0, max(hu.shape[2] - 3, 0), SLICES).astype(int)):
        stack = [_residue(image.hu(hu[:, :, n]), solid[:, :, n]) for n in range(first, min(first + 3, hu.shape[2]))]
        (residue, even), *_ = stack
        if np.count_nonzero(even) < size**2:
            continue
        correlation += _correlate(residue, residue, size)
        pairs += _correlate(even.astype(float), even.astype(float), size)
        for lag, (other, also) in enumerate(stack):
            between[lag] += float((residue * other).sum())
            near[lag] += np.count_nonzero(even & also)
        squares += _summed(residue**2, coarse)
        counts += _summed(even.astype(float), coarse)
    if counts.sum() < FEWEST:
        return None
    correlation = correlation / np.maximum(pairs, 1.0)
    across = np.divide(between, near, out=np.zeros(3), where=near > 0)
    return Noise(axis, _level(squares, counts, image, axis), _spectrum(correlation), across / max(across[0], 1e-6))


def _residue(
    hu: Float[np.ndarray, "a b"], solid: Bool[np.ndarray, "a b"]
) -> tuple[Float[np.ndarray, "a b"], Bool[np.ndarray, "a b"]]:
    """What is fast in the even soft tissue of a slice, 0 elsewhere, and where that is."""
    smooth = ndimage.gaussian_filter(hu, EDGE_SMOOTHING)
    soft = (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]) & ~ndimage.binary_dilation(solid, iterations=3)
    slope = ndimage.uniform_filter(np.hypot(*np.gradient(smooth)), EVEN_VOXELS)
    if not soft.any():
        return np.zeros_like(hu), soft
    even = soft & (slope < np.quantile(slope[soft], EVEN_SHARE))
    residue = np.where(even, hu - ndimage.gaussian_filter(hu, WAVE), 0.0)
    spread = 1.4826 * np.median(np.abs(residue[even])) if even.any() else 0.0
    even &= np.abs(residue) <= CLIP * spread
    return np.where(even, residue, 0.0), even


def _correlate(one: Float[np.ndarray, "a b"], other: Float[np.ndarray, "a b"], size: int) -> Float[np.ndarray, "n n"]:
    """Sum of products over lags from -size/2 to size/2, as ``numpy.fft`` orders them."""
    shape = tuple(fft.next_fast_len(n + size, real=True) for n in one.shape)
    product = fft.irfft2(fft.rfft2(one, shape) * np.conj(fft.rfft2(other, shape)), shape)
    lags = np.r_[0 : size // 2, -(size // 2) : 0]
    return product[np.ix_(lags, lags)]


def _summed(values: Float[np.ndarray, "a b"], shape: tuple[int, int]) -> Float[np.ndarray, "c d"]:
    """Sum over squares of ``COARSE`` voxels."""
    more = [(0, COARSE * n - m) for n, m in zip(shape, values.shape, strict=True)]
    return np.pad(values, more).reshape(shape[0], COARSE, shape[1], COARSE).sum(axis=(1, 3))


def _level(
    squares: Float[np.ndarray, "a b"], counts: Float[np.ndarray, "a b"], image: Volume, axis: int
) -> Float[np.ndarray, "a b"]:
    """Standard deviation over a slice: that of the even tissue nearby, and the mean where none is near."""
    spacing = np.delete(image.grid.spacing_mm, axis)
    sigma = NEAR_MM / (COARSE * spacing)
    mean = squares.sum() / counts.sum()
    few = 0.01 * counts.max()
    near, seen = (ndimage.gaussian_filter(each, sigma, mode="constant") for each in (squares, counts))
    return np.sqrt((near + few * mean) / (seen + few))


def _spectrum(correlation: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Power by frequency, mean 1, of a correlation that is faded out towards the largest lag."""
    lags = np.fft.fftfreq(len(correlation), 1 / len(correlation))
    window = np.cos(np.pi * lags / len(correlation)) ** 2
    power = np.maximum(fft.fft2(correlation * np.outer(window, window)).real, 0.0)
    return power / power.mean()
