"""The shape of a scoliotic curve along the spine: tilt and turn of each level for a Cobb angle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class CurveShape:
    """Where a curve lies on a spine, along its length.

    ``places`` are the positions of the levels in mm from the lowest one upwards, head first; ``upper``, ``apex`` and
    ``lower`` are positions on the same scale. ``sign`` is +1 for a convexity to the patient's right. ``top_tilt`` and
    ``bottom_tilt`` are the tilts that the ends of the spine shall have (radians); ``top_give`` and ``bottom_give`` how
    far the levels beyond the curve can lead back to them (radians): a short end keeps the rest of the tilt.
    """

    places: Float[np.ndarray, " n"]
    upper: float
    apex: float
    lower: float
    sign: float
    top_tilt: float
    bottom_tilt: float
    top_give: float = np.inf
    bottom_give: float = np.inf

    def with_apex(self, apex: float) -> CurveShape:
        """The same curve with its apex elsewhere between its ends."""
        room = 0.1 * (self.upper - self.lower)
        return replace(self, apex=float(np.clip(apex, self.lower + room, self.upper - room)))


def tilt_profile(shape: CurveShape, cobb: float, upper_share: float) -> Float[np.ndarray, " n"]:
    """Coronal tilt of each level (radians, positive to the right) for a curve of a Cobb angle.

    From the upper end vertebra, tilted by ``-sign * upper_share * cobb``, through the apex to the lower one,
    tilted by ``sign * (1 - upper_share) * cobb``, along two quarter waves that bend most at the apex; beyond the
    ends in half waves back to the tilts of the ends of the spine: the compensatory curves.
    """
    at_upper = -shape.sign * upper_share * cobb
    at_lower = at_upper + shape.sign * cobb
    middle = (at_upper + at_lower) / 2
    s = shape.places
    above = np.clip((s - shape.apex) / (shape.upper - shape.apex), 0, 1)
    below = np.clip((shape.apex - s) / (shape.apex - shape.lower), 0, 1)
    tilt = middle + (at_upper - middle) * _quarter_wave(above) + (at_lower - middle) * _quarter_wave(below)
    tilt = _return(tilt, s, shape.upper, s[0], _reached(at_upper, shape.top_tilt, shape.top_give))
    return _return(tilt, s, shape.lower, s[-1], _reached(at_lower, shape.bottom_tilt, shape.bottom_give))


def _reached(start: float, goal: float, give: float) -> float:
    """How far a tilt gets on its way to a goal when it can change by so much."""
    return goal + float(np.sign(start - goal)) * max(0.0, abs(start - goal) - give)


def _quarter_wave(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Rise from 0 to 1: half of it a sine, half a straight line, so that no single disc has to give too much."""
    return 0.5 * np.sin(np.pi / 2 * x) + 0.5 * x


def _return(
    tilt: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"], start: float, end: float, last: float
) -> Float[np.ndarray, " n"]:
    """Lead the tilt beyond an end vertebra back to that of the end of the spine (half a cosine)."""
    if np.isclose(start, end):
        return tilt
    x = np.clip((s - start) / (end - start), 0, 1)
    return tilt + (last - tilt) * (1 - np.cos(np.pi * x)) / 2


def turn_profile(
    shape: CurveShape, apical_turn: float, give: Float[np.ndarray, " m"], most: float = 0.5
) -> Float[np.ndarray, " n"]:
    """Axial rotation of each level: greatest at the apex, fading to both sides joint by joint.

    Parameters
    ----------
    apical_turn : float
        Rotation at the apex (radians, positive to the right; the body turns to the convexity).
    give : (n - 1,) array
        What each joint can turn at most (radians). Every joint takes its part of it, so that the rotation is gone at
        the end vertebra; where that would take more than the share ``most`` of what a joint can give, the rotation
        reaches farther.
    """
    s = shape.places
    apex = int(np.abs(s - shape.apex).argmin())
    turn = np.full_like(s, apical_turn)
    for side, end in ((range(apex - 1, -1, -1), shape.upper), (range(apex + 1, len(s)), shape.lower)):
        joints = np.cumsum([give[rank if rank < apex else rank - 1] for rank in side])
        within = [
            joint
            for rank, joint in zip(side, joints, strict=True)
            if abs(s[rank] - shape.apex) <= abs(end - shape.apex)
        ]
        rate = min(most, abs(apical_turn) / within[-1]) if within else most
        for rank, joint in zip(side, joints, strict=True):
            turn[rank] = np.sign(apical_turn) * max(0.0, abs(apical_turn) - rate * joint)
    return turn


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
