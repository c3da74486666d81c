"""How the surface of a bone changes: the one thing that a shape model tells and a field is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.scan import read_only
from spinesim.errors import GeometryError


@dataclass(frozen=True, eq=False)
class SurfaceMotion:
    """Points of a bone's surface and where they go (world RAS, mm).

    Parameters
    ----------
    points, moved : (n, 3) array
        Source and target.
    within : (m, 3) array
        Points inside the bone, a few millimetres apart: what lies near them goes along.
    still : (k, 3) array
        Points that hold still: the surfaces of neighbours.
    """

    points: Float[np.ndarray, "n 3"]
    moved: Float[np.ndarray, "n 3"]
    within: Float[np.ndarray, "m 3"]
    still: Float[np.ndarray, "k 3"]

    def __post_init__(self) -> None:
        if self.points.shape != self.moved.shape or len(self.points) == 0:
            raise GeometryError(
                f"surface motion: expected as many moved points as points, got {self.moved.shape} and "
                f"{self.points.shape}; give one target a point"
            )
        for name in ("points", "moved", "within", "still"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @property
    def travel_mm(self) -> float:
        """The longest way of a point."""
        return float(np.linalg.norm(self.moved - self.points, axis=1).max())
