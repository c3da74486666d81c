"""Condition a pose model: on what a patient's own spine says, and on what is asked of the chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.vertebra import Spine
from spinesim.errors import GeometryError, PathologyError
from spinesim.shape.chain import Chain, measure_chain, stack_joints
from spinesim.shape.constraints import Constraint, measure_posture
from spinesim.shape.pose_model import MM_PER_RADIAN, PoseModel

ROUNDS = 30
"""Most Gauss-Newton steps; five are usual."""

STEP_MM = 1e-4
"""Step of the central differences, in the numbers of a row."""


@dataclass(frozen=True)
class Hold:
    """How firmly a patient's own joints are kept: standard deviations about right, anterior and superior, and along.

    A joint that turns does so about the middle of its disc; ``shift_mm`` is what it shifts beyond that. Infinite
    numbers leave the model free. By default sizes and discs stay the patient's, the curve from the side stays near it,
    and tilt to the side and axial rotation are the model's.
    """

    turn_deg: tuple[float, float, float] = (3.0, np.inf, np.inf)
    shift_mm: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def spread(self, joints: int) -> Float[np.ndarray, " d"]:
        """Standard deviation of each number of a row."""
        one = [*np.deg2rad(self.turn_deg) * MM_PER_RADIAN, *self.shift_mm]
        return np.tile(one, joints)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What a model expects of one patient, before anything is asked: a Gaussian over rows of ``levels``' joints.

    Parameters
    ----------
    model : PoseModel
    anatomy : Spine
        The patient's vertebrae that the model knows; their plates go into what is measured.
    base : (4, 4) array
        Pose of the lowest of them.
    mean, covariance
        Of the rows.
    """

    model: PoseModel
    anatomy: Spine
    base: Float[np.ndarray, "4 4"]
    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]

    def solve(self, constraints: Sequence[Constraint]) -> Chain:
        """The most probable chain that meets what is asked.

        Raises
        ------
        PathologyError
            When no chain was found that does.
        """
        return self._chain(self._meet(self.mean, constraints))

    def sample(
        self, constraints: Sequence[Constraint], count: int, *, rng: np.random.Generator, variability: float = 1.0
    ) -> list[Chain]:
        """Draw chains that meet what is asked, each the nearest to a free draw (exact where constraints are linear).

        ``variability`` shrinks the draws towards the mean: 0 gives ``solve``.

        Raises
        ------
        PathologyError
            When no chain was found for one of them.
        """
        root = np.linalg.cholesky(self.covariance + 1e-9 * np.eye(len(self.mean)))
        draws = self.mean + variability * rng.standard_normal((count, len(self.mean))) @ root.T
        return [self._chain(self._meet(draw, constraints)) for draw in draws]

    def _chain(self, row: Float[np.ndarray, " d"]) -> Chain:
        return Chain(self.anatomy.levels, self.model.decode(row), self.base)

    def _meet(self, start: Float[np.ndarray, " d"], constraints: Sequence[Constraint]) -> Float[np.ndarray, " d"]:
        """Move a row as little as the covariance allows until it meets the constraints (Gauss-Newton).

        Each step solves the linearised problem from ``start``: ``start + S J' (J S J')^-1 (t - c + J (row - start))``.
        """
        if not constraints:
            return start
        target = np.array([constraint.target for constraint in constraints])
        tolerance = np.array([constraint.tolerance for constraint in constraints])
        row = start
        for _ in range(ROUNDS):
            missed = target - self._read(row[None], constraints)[0]
            if (np.abs(missed) <= tolerance / 2).all():
                return row
            slope = self._slope(row, constraints)
            gain = self.covariance @ slope.T
            weight = np.linalg.lstsq(slope @ gain, missed + slope @ (row - start), rcond=1e-10)[0]
            row = start + gain @ weight
        worst = int(np.argmax(np.abs(missed) / tolerance))
        raise PathologyError(
            f"shape model: expected a spine that meets {constraints[worst]}, got one that misses it by "
            f"{abs(missed[worst]):.3g} at best; ask for less, or for fewer things at once"
        )

    def _read(self, rows: Float[np.ndarray, "b d"], constraints: Sequence[Constraint]) -> Float[np.ndarray, "b c"]:
        """What is asked, as many rows have it."""
        posture = measure_posture(self.anatomy, stack_joints(self.model.decode(rows), self.base))
        return np.stack([constraint.read(posture) for constraint in constraints], axis=1)

    def _slope(self, row: Float[np.ndarray, " d"], constraints: Sequence[Constraint]) -> Float[np.ndarray, "c d"]:
        """Derivatives by central differences."""
        steps = STEP_MM * np.eye(len(row))
        read = self._read(np.concatenate([row + steps, row - steps]), constraints)
        return (read[: len(row)] - read[len(row) :]).T / (2 * STEP_MM)


def condition(model: PoseModel, spine: Spine, hold: Hold = Hold()) -> Posterior:
    """Take a patient's own spine into account: its joints are seen with the spread of ``hold``.

    Raises
    ------
    GeometryError
        When the spine's measured levels are no unbroken part of the model's.
    """
    levels = [v.level for v in spine if v.measured and v.level in model.levels]
    ranks = [model.levels.index(level) for level in levels]
    if len(levels) < 2 or ranks != list(range(ranks[0], ranks[0] + len(ranks))):
        raise GeometryError(
            f"shape model: expected an unbroken run of the levels {model.levels[0].name} to {model.levels[-1].name}, "
            f"got {', '.join(level.name for level in levels) or 'none of them'}; fit a model without what is missing"
        )
    chain = measure_chain(spine, levels)
    part = model.restricted(levels)
    anatomy, spread = Spine(tuple(spine[level] for level in levels)), hold.spread(len(levels) - 1)
    firm = np.isfinite(spread)
    seeing = _about_the_discs(anatomy, chain)[firm]
    mean, covariance = part.gaussian.mean, part.gaussian.covariance()
    cross = seeing @ covariance
    gain = np.linalg.solve(cross @ seeing.T + np.diag(spread[firm] ** 2), cross).T
    mean = mean + gain @ seeing @ (part.encode(chain) - mean)
    return Posterior(part, anatomy, chain.base, mean, covariance - gain @ cross)


def _about_the_discs(anatomy: Spine, chain: Chain) -> Float[np.ndarray, "d d"]:
    """Turn rows into rotations, and shifts less what a rotation about the middle of the disc explains.

    A small turn ``w`` about ``q`` shifts the origin ``t`` of the upper frame by ``w x (t - q)``.
    """
    below = anatomy.vertebrae[1:]
    seeing = np.eye(6 * len(below))
    for rank, (upper, lower) in enumerate(zip(anatomy, below, strict=False)):
        disc = (upper.inferior.centre + lower.superior.centre) / 2
        x, y, z = chain.lower_from_upper[rank, :3, 3] - lower.axes.T @ (disc - lower.centre)
        lever = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        seeing[6 * rank + 3 : 6 * rank + 6, 6 * rank : 6 * rank + 3] = lever / MM_PER_RADIAN
    return seeing
