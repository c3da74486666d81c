"""What the scanner makes of the tissues: partial volume, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

CORTEX_HU = 1400.0
"""Dense cortical bone without partial volume (working value); a 0.5 mm shell then reads about 450 HU at 1.5 mm."""

BLUR_MM = 0.7
"""Standard deviation of the point spread of a soft body kernel (working value)."""

NOISE_GRAIN_MM = 0.8
"""Standard deviation of the grain of the noise (working value)."""


def fill(distance: np.ndarray, voxel_mm: float) -> np.ndarray:
    """Share of each voxel that lies inside a solid, from the signed distance of its middle."""
    return np.clip(np.float32(0.5) - distance / np.float32(voxel_mm), 0, 1)


def paint(image: np.ndarray, share: np.ndarray, hu: np.ndarray | float) -> None:
    """Replace a share of each voxel of ``image``, in place, by a tissue."""
    image += share * (hu - image)


@dataclass(frozen=True, eq=False)
class Slab:
    """A piece of the image while it is painted, with the world coordinates of its voxels.

    The one value of the phantom whose array is written to: tissues are laid over each other as on a canvas.

    Parameters
    ----------
    image : (i, j, k) array
        HU, float32.
    x, y, z : array
        World RAS in millimetres, shaped to broadcast against each other.
    grain : (i, j, k) array
        Coarse texture of mean 0 and standard deviation 1.
    voxel_mm : float
        Width over which a solid's edge is spread.
    """

    image: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    grain: np.ndarray
    voxel_mm: float

    @property
    def place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World coordinates x, y, z."""
        return self.x, self.y, self.z

    def near_middle(self, half_width_mm: float) -> Slab:
        """Give the part within a distance of the mid-sagittal plane; it paints on the same image."""
        i = slice(*(int(end) for end in np.searchsorted(self.x.ravel(), (-half_width_mm, half_width_mm))))
        return replace(self, image=self.image[i], x=self.x[i], grain=self.grain[i])

    def meets(self, low_mm: float, high_mm: float) -> bool:
        """Tell whether the slab has a voxel between two heights."""
        return bool(self.z.min() <= high_mm and self.z.max() >= low_mm)

    def paint(self, distance: np.ndarray, hu: np.ndarray | float, strength: float = 1.0) -> None:
        """Lay a tissue over the inside of a solid, in place."""
        paint(self.image, fill(distance, self.voxel_mm) * np.float32(strength), hu)


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
    white = rng.standard_normal(shape, dtype=np.float32)
    sigma = [grain / step for grain, step in zip(grain_mm, spacing_mm, strict=True)]
    field = gaussian_filter(white, sigma, mode="wrap", truncate=3.0)
    return field / field.std()


def blurred(image: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Blur with the scanner's point spread."""
    return gaussian_filter(image, [BLUR_MM / step for step in spacing_mm], mode="nearest", truncate=3.0)
