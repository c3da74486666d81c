"""A spine as a chain: how each vertebra stands on the one below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import GeometryError

Joint = tuple[Level, Level]
"""Two neighbouring levels, the upper one first."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Rigid poses of neighbouring vertebrae, each in the frame of the one below it.

    Frames have their origin at the centre of the body and axes right, anterior, superior: those of ISO 2631 and the SRS
    (forward, left, up) turned by 90 degrees about superior. Moving the patient moves ``base`` alone.

    Parameters
    ----------
    levels : tuple of Level
        From the head down.
    lower_from_upper : (n - 1, 4, 4) array
        Pose of each level but the lowest in the frame of the next, mm.
    base : (4, 4) array
        Pose of the lowest level in the world (RAS, mm).

    Raises
    ------
    GeometryError
        When the numbers of levels and poses do not fit, or a pose is not rigid.
    """

    levels: tuple[Level, ...]
    lower_from_upper: Float[np.ndarray, "m 4 4"]
    base: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        if len(self.lower_from_upper) != len(self.levels) - 1:
            raise GeometryError(
                f"chain: expected {len(self.levels) - 1} poses for {len(self.levels)} levels, "
                f"got {len(self.lower_from_upper)}; give one for each level but the lowest"
            )
        turns = np.concatenate([self.lower_from_upper, self.base[None]])[:, :3, :3]
        off = np.abs(turns @ np.swapaxes(turns, 1, 2) - np.eye(3)).max()
        if off > 1e-5 or np.linalg.det(turns).min() < 0:
            raise GeometryError(f"chain: expected rigid poses, got one that strains by {off:.2g}; give rotations")

    @property
    def joints(self) -> tuple[Joint, ...]:
        """The neighbours, from the head down."""
        return tuple(zip(self.levels[:-1], self.levels[1:], strict=True))

    def poses(self) -> Float[np.ndarray, "n 4 4"]:
        """Pose of each level in the world, from the head down."""
        return stack_joints(self.lower_from_upper, self.base)

    def part(self, first: int, last: int) -> Chain:
        """The chain of the levels of rank ``first`` to ``last``, both included, where they stand."""
        return Chain(self.levels[first : last + 1], self.lower_from_upper[first:last], self.poses()[last])


def stack_joints(
    lower_from_upper: Float[np.ndarray, "*b m 4 4"], base: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "*b n 4 4"]:
    """Pose of each level in the world, from the head down, for one chain or for many at once."""
    poses = [np.broadcast_to(base, (*lower_from_upper.shape[:-3], 4, 4))]
    for rank in reversed(range(lower_from_upper.shape[-3])):
        poses.append(poses[-1] @ lower_from_upper[..., rank, :, :])
    return np.stack(poses[::-1], axis=-3)


def measure_chain(spine: Spine, levels: Sequence[Level] | None = None) -> Chain:
    """Read the chain of a spine's measured levels, or of some of them.

    Raises
    ------
    GeometryError
        When fewer than two levels are there, or one of those asked is not.
    """
    wanted = tuple(levels or (v.level for v in spine if v.measured))
    missing = [level.name for level in wanted if level not in spine]
    if missing or len(wanted) < 2:
        raise GeometryError(
            f"chain: expected two or more levels of {', '.join(level.name for level in spine.levels)}, "
            f"got {', '.join(missing) or len(wanted)}; use a scan that shows them"
        )
    poses = np.stack([spine[level].world_from_vertebra for level in wanted])
    return Chain(wanted, np.linalg.inv(poses[1:]) @ poses[:-1], poses[-1])


def pose_spine(spine: Spine, chain: Chain) -> Spine:
    """Put a spine's vertebrae, with their own plates and sizes, where a chain says; others are left out."""
    motions = chain.poses() @ np.linalg.inv(np.stack([spine[level].world_from_vertebra for level in chain.levels]))
    moved = (spine[level].moved(motion) for level, motion in zip(chain.levels, motions, strict=True))
    return replace(spine, vertebrae=tuple(moved))
