"""The shape of a scoliotic curve along the spine: where it lies, and what is asked of the levels for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class CurveShape:
    """Where a curve lies on a spine.

    ``places`` are the positions of the levels in mm from the lowest one upwards, head first. ``upper`` and ``lower``
    are the ranks of its end vertebrae from the head down, ``apex`` is a place between them on the same scale; ``sign``
    is +1 for a convexity to the patient's right. ``firm`` tells whether the upper and the lower end shall be where the
    curve is measured to end: there the tilt turns back.
    """

    places: Float[np.ndarray, " n"]
    upper: int
    apex: float
    lower: int
    sign: float
    firm: tuple[bool, bool] = (False, False)

    def with_apex(self, apex: float) -> CurveShape:
        """The same curve with its apex elsewhere, a level or more from its ends."""
        middle = (self.upper + self.lower) / 2
        return replace(self, apex=float(np.clip(apex, min(self.upper + 1, middle), max(self.lower - 1, middle))))

    def inside(self) -> np.ndarray:
        """Which levels lie in the curve, its end vertebrae among them."""
        ranks = np.arange(len(self.places))
        return (ranks >= self.upper) & (ranks <= self.lower)

    def over(self) -> Float[np.ndarray, " n"]:
        """Weights of the tilts that sum up to the tilt of the lower end over the upper one's: the Cobb angle."""
        return self.sign * (_at(self.lower, len(self.places)) - _at(self.upper, len(self.places)))

    def off_line(self) -> Float[np.ndarray, " n"]:
        """Weights of the tilts that sum up to the apex's against the line between the ends: 0 where it is farthest."""
        stretch = self.lengths(self.upper, self.lower)
        return _at(self.apex, len(self.places)) - stretch / stretch.sum()

    def turning(self) -> Float[np.ndarray, "k n"]:
        """Weights of the tilts that sum up to how far it leads back beside each firm end."""
        count, (upper, lower) = len(self.places), self.firm
        rows = [self.sign * (_at(self.upper - 1, count) - _at(self.upper, count))] * (upper and self.upper > 0)
        rows += [self.sign * (_at(self.lower, count) - _at(self.lower + 1, count))] * (lower and self.lower < count - 1)
        return np.reshape(rows, (-1, count))

    def ways(self) -> Float[np.ndarray, " m"]:
        """Which way each joint bends: the curve's own (its sign), back beside its ends, either elsewhere (0)."""
        ranks = np.arange(len(self.places) - 1)
        beside = np.isin(ranks, (self.upper - 1, self.lower))
        return self.sign * (1.0 * ((ranks >= self.upper) & (ranks < self.lower)) - beside)

    def at_apex(self) -> Float[np.ndarray, " n"]:
        """Weights that read a number at the apex, between two levels in parts."""
        return _at(self.apex, len(self.places))

    def lengths(self, first: int, last: int) -> Float[np.ndarray, " n"]:
        """How long each level stands for on the way from one rank to another (mm), half of the way to its neighbours.

        As weights of the tilts (radians) they sum up to the shift of the one over the other.
        """
        steps = -np.diff(self.places)
        steps[: max(first, 0)] = steps[last:] = 0.0
        return (np.append(steps, 0.0) + np.append(0.0, steps)) / 2


def _at(place: float, count: int) -> Float[np.ndarray, " n"]:
    """Weights that read a number at a place between ranks."""
    return np.maximum(1.0 - np.abs(np.arange(count) - place), 0.0)


def smooth_trend(
    places: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"], known: np.ndarray, width_mm: float
) -> Float[np.ndarray, " n"]:
    """Follow the slow course of values along the spine: around each place a straight line, weighted by a Gaussian."""
    trend = np.empty_like(places)
    for rank, place in enumerate(places):
        root = np.sqrt(np.exp(-0.5 * ((places[known] - place) / width_mm) ** 2) + 1e-9)
        design = np.column_stack([np.ones(known.sum()), places[known] - place])
        trend[rank] = np.linalg.lstsq(design * root[:, None], values[known] * root, rcond=None)[0][0]
    return trend
