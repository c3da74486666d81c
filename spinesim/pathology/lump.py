"""The form of a lump: a ball with irregular sides and spicules, and a mottle inside; drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.plan import Points

WAVES, SPIKES = 8, 14

BUMPS = 3.0
"""Wave number of the irregularities over a ball."""

SPIKE_RAD, SPIKE_LENGTH = 0.16, 0.9
"""Half width of a spicule, and its length as a share of the radius where it is strongest."""

NARROWEST = 0.5
"""No side is nearer to the centre than this share of the radius."""

MOTTLE_MM = 7.0
"""Length of the waves that mottle it."""


@dataclass(frozen=True, eq=False)
class Lump:
    """A form without a size.

    ``bumps`` and ``mottle`` are waves (vectors and phases), ``spikes`` unit vectors; ``irregular`` and ``spiculated``
    go from 0 to 1.
    """

    bumps: tuple[Float[np.ndarray, "w 3"], Float[np.ndarray, " w"]]
    mottles: tuple[Float[np.ndarray, "w 3"], Float[np.ndarray, " w"]]
    spikes: Float[np.ndarray, "s 3"]
    irregular: float
    spiculated: float

    def reach(self, points: Points) -> Float[np.ndarray, " n"]:
        """Size (mm) that the lump must have so that points (mm from its centre) lie on its surface."""
        far = np.linalg.norm(points, axis=1)
        toward = points / np.maximum(far, 1e-9)[:, None]
        side = 1 + 0.5 * self.irregular * _waves(toward, *self.bumps)
        if self.spiculated:
            angles = np.arccos(np.clip(toward @ self.spikes.T, -1, 1)).min(axis=1)
            side += self.spiculated * SPIKE_LENGTH * np.exp(-((angles / SPIKE_RAD) ** 2))
        return far / np.maximum(side, NARROWEST)

    def mottle(self, points: Points) -> Float[np.ndarray, " n"]:
        """A smooth field with mean 0 and variance 1."""
        return _waves(points, *self.mottles)


def draw_lump(irregular: float, spiculated: float, *, rng: np.random.Generator) -> Lump:
    """Draw a form."""
    bumps = BUMPS * _directions(WAVES, rng), rng.uniform(0, 2 * np.pi, WAVES)
    mottles = 2 * np.pi / MOTTLE_MM * _directions(3 * WAVES, rng), rng.uniform(0, 2 * np.pi, 3 * WAVES)
    return Lump(bumps, mottles, _directions(SPIKES, rng), irregular, spiculated)


def _directions(count: int, rng: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """Unit vectors to all sides."""
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _waves(
    points: Points, vectors: Float[np.ndarray, "w 3"], phases: Float[np.ndarray, " w"]
) -> Float[np.ndarray, " n"]:
    """Sum of waves, with variance 1."""
    return np.sqrt(2 / len(phases)) * np.cos(points @ vectors.T + phases).sum(axis=1)
