"""The course of a spine: what a pose model expects its levels to tilt, nod and turn when something is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import lsq_linear

from spinesim.anatomy.levels import USUAL, Level
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import GeometryError
from spinesim.shape.chain import stack_joints
from spinesim.shape.conditioning import STEP_MM
from spinesim.shape.constraints import measure_posture
from spinesim.shape.pose_model import PoseModel

LEAN_RAD = float(np.deg2rad(8.0))
"""How far a whole spine leans to a side: the model tells tilts from the spine's own long axis (assumed)."""

BEYOND_RAD, HEAD_RAD = float(np.deg2rad(3.0)), float(np.deg2rad(4.0))
"""What a joint beyond the model's levels bends each way, and how upright the first level is held (assumed)."""

GENTLE_ROUNDS, HOLD = 8, 2.0
"""Times that joints are made firmer at most, and how firm they are first (standard deviation over what they may)."""

FIRM, FLOOR = 1e4, 1e-8
"""Weight of what is asked against what is expected (per radian), and least variance of a direction of tilts, as a share
of the largest."""


@dataclass(frozen=True, eq=False)
class Turns:
    """What levels tilt to the right, nod forward and turn to the right, from the head down (radians)."""

    tilt: Float[np.ndarray, " n"]
    nod: Float[np.ndarray, " n"]
    turn: Float[np.ndarray, " n"]

    def scaled(self, share: float) -> Turns:
        """A part of it."""
        return Turns(self.tilt * share, self.nod * share, self.turn * share)

    def row(self) -> Float[np.ndarray, " d"]:
        """All of them, one after the other."""
        return np.concatenate([self.tilt, self.nod, self.turn])


def no_turns(count: int) -> Turns:
    """Levels that stay as they are."""
    return Turns(*np.zeros((3, count)))


@dataclass(frozen=True, eq=False)
class Joints:
    """How some joints bend (``weights`` of levels' turns): a spread about zero, and ``most`` that each leaves its own.

    All in radians.
    """

    weights: Float[np.ndarray, "k d"]
    own: Float[np.ndarray, " k"]
    spread: Float[np.ndarray, " k"]
    most: Float[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class Course:
    """What is known of the tilts, nods and turns of a spine's levels before anything is asked: a Gaussian.

    Numbers that can be asked for are weighted sums of them; ``weights`` are rows of ``3 n`` numbers, for the tilts, the
    nods and the turns.

    Parameters
    ----------
    levels : tuple of Level
        From the head down.
    mean : (3 n,) array
        Radians.
    covariance : (3 n, 3 n) array
        rad^2.
    """

    levels: tuple[Level, ...]
    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]

    def weights(self, **parts: Float[np.ndarray, "*k n"]) -> Float[np.ndarray, "k d"]:
        """Lay weights of the tilts, nods or turns (``tilt=``, ``nod=``, ``turn=``) out as rows."""
        count = len(self.levels)
        rows = {way: np.atleast_2d(part) for way, part in parts.items()}
        still = np.zeros((max(map(len, rows.values())), count))
        return np.hstack([rows.get(way, still) for way in ("tilt", "nod", "turn")])

    def seen(
        self, weights: Float[np.ndarray, "k d"], values: Float[np.ndarray, " k"], spread: Float[np.ndarray, " k"]
    ) -> Course:
        """The same once sums are known, each with its standard deviation (radians)."""
        cross = weights @ self.covariance
        gain = np.linalg.solve(cross @ weights.T + np.diag(spread**2), cross).T
        left = self.covariance - gain @ cross
        return Course(self.levels, self.mean + gain @ (values - weights @ self.mean), (left + left.T) / 2)

    def draw(self, *, rng: np.random.Generator) -> Turns:
        """Draw one spine's."""
        values, vectors = np.linalg.eigh(self.covariance)
        drawn = vectors @ (np.sqrt(np.maximum(values, 0.0)) * (vectors.T @ rng.standard_normal(len(values))))
        return Turns(*(self.mean + drawn).reshape(3, -1))

    def meet(
        self, weights: Float[np.ndarray, "k d"], values: Float[np.ndarray, " k"], start: Turns | None = None
    ) -> Turns:
        """What is expected when sums have these values; from ``start``, the most probable change that gives them.

        The Gaussian's mean under linear constraints, ``x + C W' (W C W')^-1 (v - W x)``.
        """
        first = self.mean if start is None else start.row()
        cross = self.covariance @ weights.T
        change = cross @ np.linalg.lstsq(weights @ cross, values - weights @ first, rcond=1e-10)[0]
        return Turns(*(first + change).reshape(3, -1))

    def meet_gently(self, weights: Float[np.ndarray, "k d"], values: Float[np.ndarray, " k"], joints: Joints) -> Turns:
        """What is expected when sums have these values and no joint leaves its own bend by more than it may.

        Joints that would are held to it ever more firmly (iteratively reweighted least squares), so that their
        neighbours take it; where the sums leave no way, all give about the same share of what they may.
        """
        free = self.seen(joints.weights, np.zeros(len(joints.own)), joints.spread)
        turns, hold = free.meet(weights, values), HOLD * joints.most
        held = np.zeros(len(hold), dtype=bool)
        for _ in range(GENTLE_ROUNDS):
            over = np.abs(joints.weights @ turns.row() - joints.own) / joints.most
            if over.max() <= 1.02:
                break
            held |= over > 1
            hold = hold / np.maximum(over, 1.0)
            turns = free.seen(joints.weights[held], joints.own[held], hold[held]).meet(weights, values)
        return turns

    def tilts_within(
        self,
        weights: Float[np.ndarray, "k d"],
        values: Float[np.ndarray, " k"],
        low: Float[np.ndarray, " m"],
        high: Float[np.ndarray, " m"],
    ) -> Float[np.ndarray, " n"]:
        """Most probable tilts when sums of them have these values and every joint bends within bounds.

        A joint's bend is the tilt of its lower level less that of its upper one (radians). Least squares of the
        whitened tilts, the sums among them with a large weight, bounded in the bends; where the bounds leave no way to
        the values, they are met as nearly as can be.
        """
        count = len(self.levels)
        summed = np.triu(np.ones((count, count - 1)))
        tilts_of = np.hstack([-summed, np.ones((count, 1))])  # of the bends and the lowest tilt
        sizes, vectors = np.linalg.eigh(self.covariance[:count, :count])
        whiten = (vectors / np.sqrt(np.maximum(sizes, FLOOR * sizes[-1]))).T
        rows = np.vstack([whiten, FIRM * weights[:, :count]]) @ tilts_of
        wanted = np.concatenate([whiten @ self.mean[:count], FIRM * values])
        bounds = (np.append(low, -np.inf), np.append(high, np.inf))
        return tilts_of @ lsq_linear(rows, wanted, bounds=bounds, method="bvls").x


def expect_course(model: PoseModel, levels: Sequence[Level]) -> Course:
    """What a model expects of some levels, its population's mirror images counted as well.

    Tilts and turns are told about zero (mirrored spines have mirrored courses); nods about the model's mean. Levels
    beyond the model's go on from its outermost ones, joint by joint, to a head that is held upright; T13 and L6 stand
    between their neighbours.

    Raises
    ------
    GeometryError
        When the model has no plates to measure angles with, or shares no level with these.
    """
    if model.anatomy is None or not set(model.levels) & set(levels):
        raise GeometryError(
            f"shape model: expected one with plates and some of {levels[0].name} to {levels[-1].name}, got one of "
            f"{model.levels[0].name} to {model.levels[-1].name}; fit it to label maps that show them"
        )
    whole = _with_the_ends(model.levels, _known_covariance(model, model.anatomy))
    return _between(whole, tuple(levels))


def _known_covariance(model: PoseModel, anatomy: Spine) -> Float[np.ndarray, "d d"]:
    """Second moments of the tilts and turns and covariance of the nods of a model's own levels, to first order."""
    zero = np.zeros((1, len(model.gaussian.mean)))
    steps = STEP_MM * np.eye(zero.size)
    mean, ahead, behind = (_read(model, anatomy, rows) for rows in (zero, zero + steps, zero - steps))
    slope = (ahead - behind).T / (2 * STEP_MM)
    count = len(model.levels)
    sides = np.repeat([1.0, 0.0, 1.0], count)
    covariance = slope @ model.gaussian.covariance() @ slope.T + np.outer(sides * mean[0], sides * mean[0])
    covariance *= np.equal.outer(sides, sides)
    covariance[:count, :count] += LEAN_RAD**2
    return covariance


def _read(model: PoseModel, anatomy: Spine, rows: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b e"]:
    """Tilts, nods and turns of a model's levels for some rows about its mean."""
    joints = model.decode(rows + model.gaussian.mean)
    seen = measure_posture(anatomy, stack_joints(joints, np.eye(4)))
    return np.concatenate([seen.coronal.mean(axis=2), seen.sagittal.mean(axis=2), seen.turned], axis=1)


def _with_the_ends(known: Sequence[Level], covariance: Float[np.ndarray, "d d"]) -> Course:
    """All usual levels: those beyond the known ones go on from them, and the first one is held upright."""
    first, last = USUAL.index(known[0]), USUAL.index(known[-1])
    ranks = np.arange(len(USUAL))
    follow = np.eye(len(known))[np.clip(ranks, first, last) - first]
    above, below = np.maximum(first - ranks, 0), np.maximum(ranks - last, 0)
    walk = BEYOND_RAD**2 * (np.minimum.outer(above, above) + np.minimum.outer(below, below))
    three = np.kron(np.eye(3), follow)
    wide = three @ covariance @ three.T + np.kron(np.eye(3), walk)
    top = np.kron(np.eye(3), np.eye(len(USUAL))[:1])
    return Course(USUAL, np.zeros(len(wide)), wide).seen(top, np.zeros(3), np.full(3, HEAD_RAD))


def _between(course: Course, levels: tuple[Level, ...]) -> Course:
    """The same of some levels; a rare one stands half-way between its usual neighbours."""
    pick = np.zeros((len(levels), len(course.levels)))
    for rank, level in enumerate(levels):
        if level in course.levels:
            pick[rank, course.levels.index(level)] = 1.0
            continue
        above = max((other for other in course.levels if other < level), default=course.levels[0])
        below = min((other for other in course.levels if other > level), default=course.levels[-1])
        pick[rank, [course.levels.index(above), course.levels.index(below)]] = 0.5
    three = np.kron(np.eye(3), pick)
    return Course(levels, three @ course.mean, three @ course.covariance @ three.T)
