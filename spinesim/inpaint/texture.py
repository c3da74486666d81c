"""Texture of what is known around a mask: its strength and correlation, and noise that goes on with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

LAGS = 4
"""Texture is followed over so many voxels along each axis."""

SAMPLES = 32
"""Frequencies at which its spectrum is looked at; half as many neighbours, at most, give noise that spectrum."""

LEAST_POWER = 0.05
"""Its spectrum is nowhere below this share of the mean, so that it can be undone."""

FEWEST = 400
"""Voxels from which it is measured at least."""

CLIP = 3.0
"""What is known counts as texture up to so many times its level; beyond are edges."""

USUAL_LEVEL = 0.15
"""Where too little is known to measure it (in the network's numbers: marrow on most scans)."""


@dataclass(frozen=True, eq=False)
class Texture:
    """Texture as a stationary Gaussian process whose correlation is a product over the axes.

    ``level`` is its standard deviation; ``correlation`` holds that of voxels 0 to ``LAGS`` apart along each axis.
    """

    level: float
    correlation: Float[np.ndarray, "3 n"]

    def coloured(self, white: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
        """White noise with the correlation of the texture and its own variance, float32."""
        return self._filtered(white, 0.5)

    def whitened(self, texture: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
        """Undo ``coloured``."""
        return self._filtered(texture, -0.5)

    def _filtered(self, volume: Float[np.ndarray, "i j k"], exponent: float) -> Float[np.ndarray, "i j k"]:
        out = volume.astype(np.float32)
        for axis, correlation in enumerate(self.correlation):
            sums = np.fft.ifft(_power(correlation) ** exponent).real
            kernel = np.fft.fftshift(sums)[1:]  # as many before as after
            out = ndimage.convolve1d(out, kernel.astype(np.float32), axis=axis, mode="mirror")
        return out


def _power(correlation: Float[np.ndarray, " n"]) -> Float[np.ndarray, " s"]:
    """Power by frequency, mean 1, of a correlation that fades out towards the largest lag."""
    lags = np.arange(len(correlation))
    faded = correlation * np.cos(np.pi * lags / (2 * len(correlation))) ** 2
    frequency = np.fft.fftfreq(SAMPLES)
    power = 1 + 2 * (faded[1:, None] * np.cos(2 * np.pi * lags[1:, None] * frequency)).sum(axis=0)
    power = np.maximum(power, LEAST_POWER)
    return power / power.mean()


def measure_texture(fast: Float[np.ndarray, "i j k"], where: Bool[np.ndarray, "i j k"]) -> Texture:
    """Measure the texture of a volume whose slow part was taken away.

    Parameters
    ----------
    fast : (i, j, k) float32 array
        What is left of the volume.
    where : (i, j, k) bool array
        Voxels that are known, and no edges; where there are fewer than ``FEWEST``, the usual level is taken, and white.
    """
    correlation = np.zeros((3, LAGS + 1))
    correlation[:, 0] = 1
    if np.count_nonzero(where) < FEWEST:
        return Texture(USUAL_LEVEL, correlation)
    level = max(1.4826 * float(np.median(np.abs(fast[where]))), 1e-3)
    kept = where & (np.abs(fast) < CLIP * level)
    seen = np.where(kept, fast, np.float32(0))
    variance = max(float((seen[kept] ** 2).mean()), 1e-6)
    for axis in range(3):
        for lag in range(1, min(LAGS + 1, seen.shape[axis])):
            first, other = (
                tuple(cut if n == axis else slice(None) for n in range(3)) for cut in (slice(-lag), slice(lag, None))
            )
            pairs = kept[first] & kept[other]
            if pairs.any():
                correlation[axis, lag] = float((seen[first] * seen[other])[pairs].mean()) / variance
    return Texture(float(np.sqrt(variance)), np.clip(correlation, -1, 1))
