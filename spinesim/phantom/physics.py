"""What the scanner makes of the tissues: partial volume, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

CORTEX_HU = 1400.0
"""Dense cortical bone without partial volume (working value); a 0.5 mm shell then reads about 450 HU at 1.5 mm."""


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel (working values, chosen so that edges and grain look like those of chest CTs).

    ``blur_mm`` is the standard deviation of the point spread in the slice, ``edge`` the share of a wider blur that
    is taken away again (0 for none), ``grain_mm`` the standard deviation of the finest grain of the noise.
    """

    blur_mm: float
    edge: float
    grain_mm: float


KERNELS = {"soft": Kernel(0.95, 0.0, 0.85), "standard": Kernel(0.7, 0.0, 0.6), "bone": Kernel(0.5, 0.35, 0.35)}

EDGE_MM = 1.2
"""Standard deviation of the wider blur that a sharp kernel takes away."""

RAMP = 0.85
"""Share of its own blur, three times as wide, that is taken from the noise: the ramp filter leaves no slow waves."""

LONGITUDINAL_BLUR_MM = 0.7
"""Standard deviation of the point spread across slices, for slices as thick as their distance (working value)."""


def fill(distance: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Share of each voxel that lies inside a solid, from the signed distance of its middle."""
    return np.clip(np.float32(0.5) - distance / np.float32(voxel_mm), 0, 1)


def paint_bone(
    image: np.ndarray,
    distance: np.ndarray,
    voxel_mm: float,
    marrow_hu: np.ndarray | float,
    cortex_mm: np.ndarray | float,
) -> None:
    """Paint a bone in place: a cortical shell of the given thickness around marrow."""
    whole = fill(distance, voxel_mm)
    inner = fill(distance + np.float32(cortex_mm), voxel_mm)
    image *= 1 - whole
    image += (whole - inner) * np.float32(CORTEX_HU) + inner * marrow_hu


def sample_grain(
    shape: tuple[int, int, int],
    grain_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sample a field of Gaussian grain with mean 0 and standard deviation 1, float32."""
    field = _gauss(rng.standard_normal(shape, dtype=np.float32), grain_mm, spacing_mm, mode="wrap")
    return field / field.std()


def reconstructed(
    image: np.ndarray,
    kernel: Kernel,
    spacing_mm: tuple[float, float, float],
    slice_mm: float,
    painted_mm: float,
) -> np.ndarray:
    """Blur, and sharpen, with the scanner's point spread.

    Parameters
    ----------
    image : array
        HU, with edges spread over ``painted_mm`` along every axis.
    kernel : Kernel
        Point spread in the slice.
    spacing_mm : (3,) tuple
        Voxel size.
    slice_mm : float
        Thickness of a slice; the profile is that of a box of this width, as wide a Gaussian.
    painted_mm : float
        Width over which edges are spread already.
    """
    across = np.sqrt(LONGITUDINAL_BLUR_MM**2 + max(slice_mm**2 - painted_mm**2, 0) / 12)
    sharp = _gauss(image, (kernel.blur_mm, kernel.blur_mm, across), spacing_mm)
    if not kernel.edge:
        return sharp
    wide = _gauss(sharp, (EDGE_MM, EDGE_MM, 0.0), spacing_mm)
    return sharp + np.float32(kernel.edge) * (sharp - wide)


def sample_noise(
    shape: tuple[int, int, int],
    kernel: Kernel,
    spacing_mm: tuple[float, float, float],
    slice_mm: float,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sample the grain of filtered back-projection, mean 0 and standard deviation 1, float32.

    The ramp filter takes the slow waves out of the noise of a slice; neighbouring slices share theirs as far as
    they overlap.
    """
    white = _gauss(rng.standard_normal(shape, dtype=np.float32), (0, 0, 0.35 * slice_mm), spacing_mm, mode="wrap")
    grain = kernel.grain_mm
    fine = _gauss(white, (grain, grain, 0), spacing_mm, mode="wrap")
    fine -= np.float32(RAMP) * _gauss(white, (3 * grain, 3 * grain, 0), spacing_mm, mode="wrap")
    return fine / fine.std()


def _gauss(
    image: np.ndarray,
    sigma_mm: tuple[float, float, float],
    spacing_mm: tuple[float, float, float],
    mode: str = "nearest",
) -> np.ndarray:
    sigma = [mm / step for mm, step in zip(sigma_mm, spacing_mm, strict=True)]
    return gaussian_filter(image, sigma, mode=mode, truncate=3.0)
