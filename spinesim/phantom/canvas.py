"""A piece of the image while it is painted, and the names of what was painted there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.phantom.kernels import lay
from spinesim.phantom.raster import Axes

GRAIN_MM = 6.5
"""Width of a grain: it changes by its standard deviation over this length."""


SEPTUM_MM = 1.3


@dataclass(frozen=True, eq=False)
class Slab:
    """A piece of the image while it is painted, with the places of its voxels.

    The one value of the phantom whose arrays are written to: tissues are laid over each other as on a canvas.

    Parameters
    ----------
    image : (i, j, k) array
        HU, float32.
    axes : Axes
        Places of its voxels along x, y and z; RAS, millimetres.
    grain, web : (i, j, k) array
        Two coarse textures of mean 0 and standard deviation 1; where ``web`` is 0 run the septa of fat and muscle.
    voxel_mm : float
        Width over which a solid's edge is spread.
    names : (i, j, k) array or None
        Number of the structure in each voxel (``schemes.STRUCTURES``); None where nobody asks.
    """

    image: np.ndarray
    axes: Axes
    grain: np.ndarray
    web: np.ndarray
    voxel_mm: float
    names: np.ndarray | None = None

    @property
    def place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates x, y, z, shaped to broadcast against each other."""
        return self.x, self.y, self.z

    @property
    def x(self) -> np.ndarray:
        """From left (negative) to right, (i, 1, 1)."""
        return self.axes.x[:, None, None]

    @property
    def y(self) -> np.ndarray:
        """From back to front, (1, j, 1)."""
        return self.axes.y[None, :, None]

    @property
    def z(self) -> np.ndarray:
        """From foot to head, (1, 1, k)."""
        return self.axes.z[None, None, :]

    @property
    def septa(self) -> np.ndarray:
        """How near a thin sheet of connective tissue runs: 1 in it, 0 off it."""
        return np.clip(1 - np.abs(self.web) * np.float32(GRAIN_MM / SEPTUM_MM), 0, 1)

    def part(self, box: Box) -> Slab:
        """Give a block of it; it paints on the same image."""
        i, j, k = box
        axes = Axes(self.axes.x[i], self.axes.y[j], self.axes.z[k])
        names = None if self.names is None else self.names[box]
        return replace(self, image=self.image[box], axes=axes, grain=self.grain[box], web=self.web[box], names=names)

    def near(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Slab | None:
        """Give the part inside a box of millimetres, or None where it misses the slab."""
        box = self.axes.box(low, high)
        return None if box is None else self.part(box)

    def near_middle(self, half_width_mm: float) -> Slab:
        """Give the part within a distance of the mid-sagittal plane."""
        i = slice(*(int(end) for end in np.searchsorted(self.axes.x, (-half_width_mm, half_width_mm))))
        return self.part((i, slice(None), slice(None)))

    def meets(self, low_mm: float, high_mm: float) -> bool:
        """Tell whether the slab has a voxel between two heights."""
        return bool(self.axes.z[0] <= high_mm and self.axes.z[-1] >= low_mm)

    def paint(self, distance: np.ndarray, hu: np.ndarray | float, strength: float = 1.0, name: str = "") -> None:
        """Lay a tissue over the inside of a solid, in place, and name it; without a name the old one stays."""
        distance, hu = (
            np.broadcast_to(np.asarray(part, dtype=np.float32), self.image.shape) for part in (distance, hu)
        )
        lay(self.image, distance, hu, np.float32(1 / self.voxel_mm), np.float32(strength))
        if name:
            self.mark(distance < 0, name)

    def mark(self, inside: np.ndarray, name: str) -> None:
        """Name voxels; ``{side}`` in a name is right where x > 0, else left, and ``nothing`` takes names away."""
        if self.names is None:
            return
        if name == "nothing":
            number: np.ndarray | int = 0
        elif "{side}" in name:
            left, right = (STRUCTURES[name.format(side=side)] for side in ("left", "right"))
            number = np.where(self.x > 0, np.uint8(right), np.uint8(left))
        else:
            number = STRUCTURES[name]
        np.copyto(self.names, np.broadcast_to(number, self.names.shape), where=inside, casting="unsafe")
