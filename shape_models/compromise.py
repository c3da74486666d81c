"""One mean spine for many published means: its joints, what gives way, and the proof that it must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linprog, minimize

from spinesim.anatomy.levels import region
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.bend import Bend, bend_spine

from .alignment import Row, angle_of, name_of, numbers_of, sums_of  # noqa: TID251 - relative, as it must be
from .published import mean_tolerance  # noqa: TID251 - relative, as it must be

RECALLED = 0.5
"""Weight of a mean that is recalled, when one that was read weighs 1 (assumed)."""

INSIDE = 0.97
"""Share of its tolerance that a row is kept within: the mean of drawn spines is not quite that of the mean spine."""

ROUNDS, SETTLED_DEG = 20, 1e-6
"""Rounds of the compromise at most, for the slope is a sum of joints to first order only, and their last change."""

NONE = 1e-6
"""Tolerances that count as nothing."""


@dataclass(frozen=True, eq=False)
class Means:
    """Published means, told by how far the joints of a spine turn forward (degrees; the cervical ones stay).

    ``now + sums @ turns`` is to be ``aims`` within ``tolerances``, the more so the more a row ``weighs``.
    """

    names: tuple[str, ...]
    sums: Float[np.ndarray, "k m"]
    now: Float[np.ndarray, " k"]
    aims: Float[np.ndarray, " k"]
    tolerances: Float[np.ndarray, " k"]
    weighs: Float[np.ndarray, " k"]

    def misses(self, turns: Float[np.ndarray, " m"]) -> Float[np.ndarray, " k"]:
        """How far each row is missed, in its tolerance."""
        return (self.now + self.sums @ turns - self.aims) / self.tolerances

    @property
    def slopes(self) -> Float[np.ndarray, "k m"]:
        """What a turn changes of the misses."""
        return self.sums / self.tolerances[:, None]

    def within(
        self, kept: Bool[np.ndarray, " k"], share: float = 1.0
    ) -> tuple[Float[np.ndarray, "l m"], Float[np.ndarray, " l"]]:
        """Inequalities ``left @ turns <= right`` of the rows that are kept within a share of their tolerances."""
        left, start = self.slopes[kept], self.misses(np.zeros(self.sums.shape[1]))[kept]
        return np.vstack([left, -left]), np.concatenate([share - start, share + start])


def read_means(rows: Sequence[Row], spine: Spine, turns: Float[np.ndarray, " m"] | None = None) -> Means:
    """The rows about a spine whose joints have been turned already."""
    moved = [region(level) != "cervical" for level in spine.levels[:-1]]
    sums = np.stack([sums_of(row, spine)[moved] for row in rows])
    now = np.array([angle_of(row, spine) for row in rows])
    return Means(
        tuple(map(name_of, rows)),
        sums,
        now if turns is None else now - sums @ turns,
        np.array([numbers_of(row)[0] for row in rows]),
        np.array([mean_tolerance(*numbers_of(row)) for row in rows]),
        np.array([1.0 if row["confidence"] == "read" else RECALLED for row in rows]),
    )


def find_mean(spine: Spine, rows: Sequence[Row], sd_deg: Float[np.ndarray, " j"]) -> Spine:
    """The spine of these bodies and discs that meets published means: its joints turn, its bodies keep their wedges.

    Parameters
    ----------
    sd_deg : (j,) array
        What holds each joint to where it is in ``spine``: a turn by one standard deviation counts as much as a row that
        is missed by its tolerance.
    """
    moved = np.array([region(level) != "cervical" for level in spine.levels[:-1]])
    turns, stood = np.zeros(int(moved.sum())), spine
    for _ in range(ROUNDS):
        before, turns = turns, compromise(read_means(rows, stood, turns), sd_deg[moved])
        stood = _nodded(spine, moved, turns)
        if np.abs(turns - before).max() < SETTLED_DEG:
            break
    return stood


def _nodded(spine: Spine, moved: Bool[np.ndarray, " j"], turns: Float[np.ndarray, " m"]) -> Spine:
    joints, still = np.zeros(len(moved)), np.zeros(len(spine))
    joints[moved] = np.deg2rad(turns)
    nod = np.append(np.cumsum(joints[::-1])[::-1], 0.0)
    return bend_spine(spine, Bend(still, nod, still, still, still)).moved


def compromise(means: Means, sd_deg: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Turns of the joints (degrees): the least squares of what rows are missed by and joints turn by.

    Squares are in tolerances and standard deviations. Rows that can be met together are kept within their tolerances;
    the others, which exceed theirs where all exceed them least, only pull.
    """
    start, exceeds = least_excess(means)
    left, right = means.within(exceeds < NONE, INSIDE)

    def cost(turns: Float[np.ndarray, " m"]) -> tuple[float, Float[np.ndarray, " m"]]:
        misses, own = means.misses(turns), turns / sd_deg
        slope = 2 * (means.slopes.T @ (means.weighs * misses) + own / sd_deg)
        return float(means.weighs @ misses**2 + own @ own), slope

    kept = {"type": "ineq", "fun": lambda turns: right - left @ turns, "jac": lambda turns: -left}
    options = {"maxiter": 1000, "ftol": 1e-12}
    return minimize(cost, start, jac=True, method="SLSQP", constraints=kept, options=options).x


def least_excess(means: Means) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " k"]]:
    """Turns under which rows exceed their tolerances by the least in sum, as they weigh, and what each exceeds."""
    count, rows = means.sums.shape[1], len(means.aims)
    left, right = means.within(np.ones(rows, dtype=bool), INSIDE)
    left = np.hstack([left, -np.tile(np.eye(rows), (2, 1))])
    price = np.concatenate([np.zeros(count), means.weighs])
    found = linprog(price, left, right, bounds=[(None, None)] * count + [(0, None)] * rows).x
    return found[:count], found[count:]


@dataclass(frozen=True)
class Nearest:
    """How near any spine comes to a row while it keeps others (degrees), and which of them hold it there."""

    angle_deg: float
    holding: tuple[str, ...]


def nearest(means: Means, row: int, kept: Bool[np.ndarray, " k"]) -> Nearest | None:
    """How near to a row spines come that keep other rows within their tolerances; None when no spine keeps these."""
    left, right = means.within(kept)
    count, off = means.sums.shape[1], means.aims[row] - means.now[row]
    along = np.vstack([means.sums[row], -means.sums[row]])
    found = linprog(  # the last unknown is how far off it stays
        np.append(np.zeros(count), 1.0),
        np.vstack([np.pad(left, ((0, 0), (0, 1))), np.hstack([along, -np.ones((2, 1))])]),
        np.concatenate([right, [off, -off]]),
        bounds=(None, None),
    )
    if found.status != 0:
        return None
    pressed = np.abs(found.ineqlin.marginals[:-2]).reshape(2, -1).max(axis=0) > NONE
    holding = dict.fromkeys(name for name, held in zip(np.array(means.names)[kept], pressed, strict=True) if held)
    return Nearest(float(means.now[row] + means.sums[row] @ found.x[:-1]), tuple(map(str, holding)))
