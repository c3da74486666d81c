"""A plan: which parts of which bones move, and along which way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import read_only


class Part(Enum):
    """Part of a vertebra that moves as one."""

    WHOLE = "whole"
    SUPERIOR = "superior end plate"
    INFERIOR = "inferior end plate"
    ARCH = "posterior arch"


@dataclass(frozen=True, eq=False)
class Motion:
    """A rigid motion in the world (RAS, mm) from t = 0 (rest) to t = 1, given at even times.

    Parameters
    ----------
    pivot : (3,) array
        The point at rest whose way is followed between the knots (a vertebra's centre).
    knots : (n, 4, 4) array
        ``new_from_old`` at t = 0, 1/(n-1), ..., 1; the first is the identity.
    """

    pivot: Float[np.ndarray, " 3"]
    knots: Float[np.ndarray, "n 4 4"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", read_only(self.knots))

    @property
    def last(self) -> Float[np.ndarray, "4 4"]:
        """The whole motion, ``new_from_old`` at t = 1."""
        return self.knots[-1]

    def at(self, times: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m 4 4"]:
        """Interpolate between the knots: rotations along their geodesic, the pivot along straight lines."""
        even = np.linspace(0, 1, len(self.knots))
        places = apply_motions(self.knots, self.pivot)
        turns = Slerp(even, Rotation.from_matrix(self.knots[:, :3, :3]))(times).as_matrix()
        reached = np.column_stack([np.interp(times, even, column) for column in places.T])
        return motions_about(turns, self.pivot, reached)


@dataclass(frozen=True, eq=False)
class Anchor:
    """A part of a level and its motion."""

    level: Level
    part: Part
    motion: Motion


@dataclass(frozen=True, eq=False)
class Plan:
    """All anchors of a deformation; what is between them follows."""

    anchors: tuple[Anchor, ...]

    @property
    def travel_mm(self) -> float:
        """The farthest that a pivot of an anchor goes, along its way."""
        ways = [np.diff(apply_motions(a.motion.knots, a.motion.pivot), axis=0) for a in self.anchors]
        return max((float(np.linalg.norm(way, axis=1).sum()) for way in ways), default=0.0)

    def at_level(self, level: Level) -> dict[Part, Anchor]:
        """The anchors of a level by part."""
        return {anchor.part: anchor for anchor in self.anchors if anchor.level == level}


def apply_motions(new_from_old: Float[np.ndarray, "n 4 4"], point: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "n 3"]:
    """Carry one point through several motions."""
    return new_from_old[:, :3, :3] @ point + new_from_old[:, :3, 3]


def motions_about(
    turns: Float[np.ndarray, "n 3 3"], old: Float[np.ndarray, "*n 3"], new: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4 4"]:
    """Rigid motions that turn about old points (one for all, or one each) and carry them to new ones."""
    motions = np.tile(np.eye(4), (len(turns), 1, 1))
    motions[:, :3, :3] = turns
    motions[:, :3, 3] = new - np.einsum("nij,nj->ni", turns, np.broadcast_to(old, new.shape))
    return motions
