"""Let joints give way where a plan presses neighbouring bones into each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import block_diag, solve_triangular
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.plan import Motion, Part, Plan, motions_about
from spinesim.anatomy.threads import map_threads
from spinesim.anatomy.vertebra import Spine, Vertebra
from spinesim.deform.solids import BEYOND_MM, Solid

PRESSED_MM = 0.5
"""How deep bones may be pressed into each other: labels are known no better."""

NEAR_MM = 5.0
"""Points of a bone that are watched are nearer than this to its neighbour, as planned."""

PUSH = 0.1
"""What a cubic millimetre of bone counts that is a millimetre too deep, against a spread of those below."""

NOD_RAD, TURN_RAD = float(np.deg2rad(2.0)), float(np.deg2rad(1.0))
"""How far joints give way by nodding and by turning (spread, assumed)."""

LEVEL_RAD = float(np.deg2rad(3.0))
"""How far levels nod and turn beside what was planned (spread, assumed)."""

SLIDE_MM = 0.8
"""How far joints slide to a side, and forward or back (spread, assumed)."""

SLIDE_MOST_MM = {"cervical": 1.0, "thoracic": 1.5, "lumbar": 2.0, "sacral": 2.0}
"""How far they slide at most each way, by the lower level: less than half of what is stable."""

ROUNDS = 10
"""Steps of Gauss and Newton."""

SETTLED = 1e-3
"""A step below this (radians, mm) is the last."""


def ease_contacts(plan: Plan, spine: Spine, solids: Mapping[Level, Solid]) -> Plan:
    """Lead bones apart that a plan presses into each other: levels nod and turn, joints slide along their discs.

    The least change that does it (least squares); the lowest level keeps its place. Where nothing is pressed deeper
    than ``PRESSED_MM`` nothing changes. Levels that the edge cuts go with their neighbours; of a divided bone only the
    arch is looked at.
    """
    ways = {anchor.level: anchor.motion.knots for anchor in plan.anchors if anchor.part in (Part.WHOLE, Part.ARCH)}
    knots = np.stack([ways[level] for level in spine.levels], axis=1)
    divided = {anchor.level for anchor in plan.anchors if anchor.part is not Part.WHOLE}
    bones = map_threads(lambda v: _Bone.of(solids[v.level], v, divided=v.level in divided), spine)
    uppers = range(len(bones) - 1)
    joints = map_threads(lambda upper: _Joint.of(upper, (bones[upper], bones[upper + 1]), knots[-1]), uppers)
    row = _solve(spine, joints, knots[-1])
    if not row.any():
        return plan
    times = np.linspace(0, 1, len(knots))
    extras = np.stack([_extras(spine, time * row, now) for time, now in zip(times, knots, strict=True)], axis=1)
    extra = dict(zip(spine.levels, extras, strict=True))
    anchors = (
        replace(anchor, motion=Motion(anchor.motion.pivot, extra[anchor.level] @ anchor.motion.knots))
        for anchor in plan.anchors
    )
    return replace(plan, anchors=tuple(anchors))


@dataclass(frozen=True, eq=False)
class _Bone:
    """A bone that moves as a whole, or, where it is ``divided``, its arch: its body goes other ways.

    ``points`` are its voxels, as points at rest.
    """

    solid: Solid
    vertebra: Vertebra
    divided: bool
    points: Float[np.ndarray, "n 3"]

    @classmethod
    def of(cls, solid: Solid, vertebra: Vertebra, *, divided: bool) -> _Bone:
        """The bone of a solid."""
        points = solid.grid.to_world(np.argwhere(solid.depth > 0).astype(float))
        bone = cls(solid, vertebra, divided, points)
        return replace(bone, points=points[bone.depth(points, np.eye(4)) > 0]) if divided else bone

    def depth(self, points: Float[np.ndarray, "n 3"], motion: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, " n"]:
        """Depth (mm) where a motion takes points, at rest; none in a body that goes other ways."""
        depth = self.solid.at(points, motion)
        if self.divided:
            forward = (apply_affine(motion, points) - self.vertebra.centre) @ self.vertebra.axes[:, 1]
            behind = forward < self.vertebra.back_mm
            depth = np.where(behind, depth, BEYOND_MM)
        return depth


@dataclass(frozen=True, eq=False)
class _Joint:
    """Two bones, the upper one first, and the points of each (at rest) that may come to lie in the other."""

    upper: int
    bones: tuple[_Bone, _Bone]
    points: tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "m 3"]]

    @classmethod
    def of(cls, upper: int, bones: tuple[_Bone, _Bone], poses: Float[np.ndarray, "n 4 4"]) -> _Joint:
        """The joint below the level of a rank, with the points that a plan brings near the other bone."""
        points = []
        for mine, other in ((0, 1), (1, 0)):
            inside = bones[mine].points
            other_from_mine = np.linalg.inv(poses[upper + other]) @ poses[upper + mine]
            points.append(inside[bones[other].solid.at(inside, other_from_mine) > -NEAR_MM])
        return cls(upper, bones, (points[0], points[1]))

    def pressed(
        self, poses: Float[np.ndarray, "n 4 4"]
    ) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p 3"], Float[np.ndarray, "p 3"]]:
        """How much too deep points lie in the other bone (mm), where (world), and what more a way of the upper adds."""
        found = []
        for mine, other, sign in ((0, 1, 1.0), (1, 0, -1.0)):
            here, there, bone = poses[self.upper + mine], poses[self.upper + other], self.bones[other]
            to_other = np.linalg.inv(there) @ here
            too_deep = bone.depth(self.points[mine], to_other) - PRESSED_MM
            inside = self.points[mine][too_deep > 0]
            slope = sign * _slope(bone.solid, apply_affine(to_other, inside)) @ there[:3, :3].T
            found.append((too_deep[too_deep > 0], apply_affine(here, inside), slope))
        depths, places, slopes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return depths, places, slopes


def _slope(solid: Solid, places: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Gradient of the depth of a solid at points at rest."""
    step = float(solid.grid.spacing_mm.max())
    ways = step * np.eye(3)
    return np.stack([(solid.at(places + way) - solid.at(places - way)) / (2 * step) for way in ways], axis=1)


def _solve(spine: Spine, joints: Sequence[_Joint], planned: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, " d"]:
    """How levels and joints yield (see ``_extras``); zeros where no bones are pressed."""
    count = len(spine)
    row = np.zeros(4 * count - 2)
    hold, most = _firmness(spine)
    for _ in range(ROUNDS):
        poses = _extras(spine, row, planned) @ planned
        axes, discs = _axes(spine, poses), _discs(spine, poses)
        square, wanted = hold.T @ hold, -hold.T @ hold @ row
        for joint in joints:
            depths, places, slopes = joint.pressed(poses)
            upper, lower = joint.upper, joint.upper + 1
            lever = np.cross(places - discs[upper], slopes)
            turned = [lever @ axes[upper][:, [0, 2]], -lever @ axes[lower][:, [0, 2]]]
            deeper = np.hstack([*turned, slopes @ axes[lower][:, :2]])
            weight = PUSH * joint.bones[0].solid.grid.voxel_volume_mm3
            slots = np.r_[2 * upper : 2 * upper + 4, 2 * count + 2 * upper : 2 * count + 2 * upper + 2]
            square[np.ix_(slots, slots)] += weight * deeper.T @ deeper
            wanted[slots] -= weight * deeper.T @ depths
        root = np.linalg.cholesky(square)
        step = lsq_linear(root.T, solve_triangular(root, wanted, lower=True), (-most - row, most - row), "bvls").x
        if np.abs(step).max() < SETTLED:
            break
        row = row + step
    return row


def _firmness(spine: Spine) -> tuple[Float[np.ndarray, "h d"], Float[np.ndarray, " d"]]:
    """What holds levels and joints (rows, over their spreads), and how far each may yield at most."""
    count = len(spine)
    levels = np.eye(2 * count) / LEVEL_RAD
    between = np.kron(np.diff(np.eye(count), axis=0), np.diag([1 / NOD_RAD, 1 / TURN_RAD]))
    slides = np.eye(2 * count - 2) / SLIDE_MM
    known = np.array([vertebra.measured for vertebra in spine])
    firm = np.where(known[:-1] & known[1:], 1.0, 1e3)
    between, slides = np.repeat(firm, 2)[:, None] * between, np.repeat(firm, 2)[:, None] * slides
    hold = block_diag(np.vstack([levels, between]), slides)
    most = [SLIDE_MOST_MM[region(level)] for level in spine.levels[1:]]
    turns = np.full((count, 2), 3 * LEVEL_RAD)
    turns[-1] = 1e-9
    return hold, np.concatenate([turns.ravel(), np.repeat(most, 2)])


def _extras(
    spine: Spine, row: Float[np.ndarray, " d"], poses: Float[np.ndarray, "n 4 4"]
) -> Float[np.ndarray, "n 4 4"]:
    """Motions in the world of levels in some poses that yield.

    ``row`` holds how far each level is turned about its own right and superior (radians, from the head down), then how
    far each joint slides to the right and forward along the lower level's axes (mm). Joints turn about the middle of
    their discs, which keep their heights.
    """
    count = len(spine)
    turns, slides = row[: 2 * count].reshape(-1, 2), row[2 * count :].reshape(-1, 2)
    axes, discs = _axes(spine, poses), _discs(spine, poses)
    rotations = Rotation.from_rotvec(np.einsum("nij,nj->ni", axes[:, :, [0, 2]], turns)).as_matrix()
    centres = np.einsum("nij,nj->ni", poses[:, :3, :3], [v.centre for v in spine]) + poses[:, :3, 3]
    above, below = (
        np.einsum("nij,nj->ni", turn, discs - at) + at
        for turn, at in ((rotations[:-1], centres[:-1]), (rotations[1:], centres[1:]))
    )
    steps = below - above + np.einsum("nij,nj->ni", axes[1:, :, :2], slides)
    shifts = np.vstack([np.cumsum(steps[::-1], axis=0)[::-1], np.zeros((1, 3))])
    return motions_about(rotations, centres, centres + shifts)


def _axes(spine: Spine, poses: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 3 3"]:
    """Own axes of levels in some poses."""
    return poses[:, :3, :3] @ np.array([vertebra.axes for vertebra in spine])


def _discs(spine: Spine, poses: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "m 3"]:
    """Middles of the discs between levels in some poses."""
    bottoms, tops = (np.array([getattr(v, plate).centre for v in spine]) for plate in ("inferior", "superior"))
    bottoms, tops = (np.einsum("nij,nj->ni", poses[:, :3, :3], ends) + poses[:, :3, 3] for ends in (bottoms, tops))
    return (bottoms[:-1] + tops[1:]) / 2
