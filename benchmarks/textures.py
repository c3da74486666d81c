"""Texture of a CT: what is fast in it, and its power by frequency."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

FAST = 2.0
"""Texture is what is faster than this Gaussian (voxels)."""


def texture(hu: np.ndarray) -> np.ndarray:
    """What is fast."""
    return hu - ndimage.gaussian_filter(hu, FAST)


def power(hu: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Power of the texture inside a mask in seven bands of frequency."""
    spectrum = np.abs(np.fft.fftn(np.where(mask, texture(hu), 0.0))) ** 2 / mask.sum()
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in hu.shape), indexing="ij")))
    bands = np.digitize(radius, np.linspace(0, 0.5, 9)) - 1
    return np.array([spectrum[bands == band].mean() for band in range(1, 8)])


def neighbours() -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """What cuts a volume into voxels and their neighbours beyond, along each axis."""
    for axis in range(3):
        one, two = (tuple(cut if n == axis else slice(None) for n in range(3)) for cut in (slice(-1), slice(1, None)))
        yield one, two
