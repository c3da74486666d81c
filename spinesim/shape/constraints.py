"""What can be asked of a chain: Cobb angles, apex, kyphosis, lordosis, rotation, balance; read off many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import GeometryError

ANGLE_TOLERANCE, LENGTH_TOLERANCE = float(np.deg2rad(0.1)), 0.1
"""How well an asked angle (rad) and an asked length (mm) are met."""


@dataclass(frozen=True, eq=False)
class Posture:
    """The poses of many spines of one anatomy, seen in each patient's own axes.

    ``centres`` are in those axes (right, anterior, superior; mm), ``coronal`` and ``sagittal`` hold the tilts of the
    upper and the lower plate of each level (radians; to the right, forward), ``turned`` the axial rotation of each
    level (radians, its front to the right).
    """

    levels: tuple[Level, ...]
    centres: Float[np.ndarray, "b n 3"]
    coronal: Float[np.ndarray, "b n 2"]
    sagittal: Float[np.ndarray, "b n 2"]
    turned: Float[np.ndarray, "b n"]

    def rank(self, level: Level) -> int:
        """Place of a level.

        Raises
        ------
        GeometryError
            When it is not there.
        """
        if level not in self.levels:
            raise GeometryError(
                f"constraint: expected a level from {self.levels[0].name} to {self.levels[-1].name}, "
                f"got {level.name}; choose one of them"
            )
        return self.levels.index(level)


def measure_posture(anatomy: Spine, poses: Float[np.ndarray, "b n 4 4"]) -> Posture:
    """Read what can be asked off the poses of ``anatomy.levels``, as ``find_curves`` and ``measure_spine`` would."""
    plates = np.stack([[v.axes.T @ v.superior.normal, v.axes.T @ v.inferior.normal] for v in anatomy])
    whole = [rank for rank, v in enumerate(anatomy) if v.measured and v.level != Level.S]
    centres, right = poses[:, :, :3, 3], poses[:, whole][:, :, :3, 0].sum(axis=1)
    superior = _unit(centres[:, whole[0]] - centres[:, whole[-1]])
    right = _unit(right - (right * superior).sum(axis=1, keepdims=True) * superior)
    axes = np.stack([right, np.cross(superior, right), superior], axis=2)
    normals = np.einsum("bki,bnkj,npj->bnpi", axes, poses[:, :, :3, :3], plates)
    forward = np.einsum("bki,bnk->bni", axes, poses[:, :, :3, 1])
    return Posture(
        anatomy.levels,
        np.einsum("bki,bnk->bni", axes, centres),
        np.arctan2(normals[..., 0], normals[..., 2]),
        np.arctan2(normals[..., 1], normals[..., 2]),
        np.arctan2(forward[..., 0], forward[..., 1]),
    )


def _unit(vectors: Float[np.ndarray, "b 3"]) -> Float[np.ndarray, "b 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Constraint(Protocol):
    """One number that is asked of a chain."""

    @property
    def target(self) -> float:
        """What it shall be: radians, or mm."""

    @property
    def tolerance(self) -> float:
        """How far from it is near enough."""

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """What it is."""


@dataclass(frozen=True)
class CoronalCobb:
    """Cobb angle from the upper plate of one level to the lower plate of another; positive when convex to the right."""

    upper: Level
    lower: Level
    target: float
    tolerance: float = ANGLE_TOLERANCE

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """Tilt of the lower one less tilt of the upper one."""
        return posture.coronal[:, posture.rank(self.lower), 1] - posture.coronal[:, posture.rank(self.upper), 0]


@dataclass(frozen=True)
class Kyphosis:
    """Angle seen from the side, upper plate of one level to lower plate of another; lordosis is negative."""

    upper: Level
    lower: Level
    target: float
    tolerance: float = ANGLE_TOLERANCE

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """Forward tilt of the upper one less that of the lower one (of a sacrum its upper plate)."""
        plate = 0 if self.lower == Level.S else 1
        upper, lower = posture.rank(self.upper), posture.rank(self.lower)
        return posture.sagittal[:, upper, 0] - posture.sagittal[:, lower, plate]


@dataclass(frozen=True)
class Apex:
    """A level stands as upright as the line between the ends of its curve: there the curve lies farthest from it."""

    level: Level
    upper: Level
    lower: Level
    target: float = 0.0
    tolerance: float = ANGLE_TOLERANCE

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """Tilt of the level's body less that of the line."""
        ends = posture.centres[:, posture.rank(self.upper)] - posture.centres[:, posture.rank(self.lower)]
        return posture.coronal[:, posture.rank(self.level)].mean(axis=1) - np.arctan2(ends[:, 0], ends[:, 2])


@dataclass(frozen=True)
class AxialRotation:
    """Turn of a level's front to the right, against the patient's axes."""

    level: Level
    target: float
    tolerance: float = ANGLE_TOLERANCE

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """The level's own."""
        return posture.turned[:, posture.rank(self.level)]


@dataclass(frozen=True)
class Offset:
    """How far one level stands to the right of another (mm): 0 between C7 and the sacrum is balance."""

    upper: Level
    lower: Level
    target: float = 0.0
    tolerance: float = LENGTH_TOLERANCE

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """From centre to centre, along the patient's right."""
        return (posture.centres[:, posture.rank(self.upper)] - posture.centres[:, posture.rank(self.lower)])[:, 0]
