"""A pose model made of what is published about a population, where the spines themselves are not at hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.vertebra import Spine
from spinesim.errors import ConfigError
from spinesim.shape.chain import measure_chain
from spinesim.shape.latent import Gaussian, facing_up
from spinesim.shape.pose_model import MM_PER_RADIAN, PoseModel

SPREAD_ROUNDS, SPREAD_OFF = 1000, 1e-6
"""Rounds of the proportional fitting at most, and how far from its spread a sum may be, as a share of it."""


@dataclass(frozen=True, eq=False)
class Spread:
    """How the levels of a population's spines vary about their mean, from the head down.

    Parameters
    ----------
    tilt, nod, turn : (n, n) arrays
        Covariances of the levels' tilts to the right, forward leans and turns to the right (rad^2). Each is about an
        axis of the patient's; a turn about the level's own.
    turn_per_tilt : (n, n) array
        Turn of the levels that comes along with their tilts (a matrix; ``turn`` is what is left).
    size : float
        Standard deviation of the length of the spine, as a share of it.
    joint_mm : float
        Standard deviation of each number of a row that nothing else explains.
    """

    tilt: Float[np.ndarray, "n n"]
    nod: Float[np.ndarray, "n n"]
    turn: Float[np.ndarray, "n n"]
    turn_per_tilt: Float[np.ndarray, "n n"]
    size: float
    joint_mm: float


def build_pose_model(mean: Spine, spread: Spread, cases: int) -> PoseModel:
    """Make a pose model of a mean spine and the spread about it, to first order in the turns.

    Neighbours turn against each other about the middle of their disc. The modes are all of those that the spread has;
    the first ones are the widest.

    Parameters
    ----------
    mean : Spine
        Every level with its plates, in the patient's axes.
    cases : int
        Spines that the published numbers are of.
    """
    chain, count = measure_chain(mean), len(mean)
    levers = _levers(mean)
    blocks = [
        _along(mean, "tilt") @ _root(spread.tilt) + _along(mean, "turn") @ spread.turn_per_tilt @ _root(spread.tilt),
        _along(mean, "nod") @ _root(spread.nod),
        _along(mean, "turn") @ _root(spread.turn),
    ]
    rows = [levers @ block for block in blocks]
    longer = np.zeros((6 * (count - 1), 1))
    longer.reshape(count - 1, 6)[:, 3:] = spread.size * chain.lower_from_upper[:, :3, 3]
    directions, sizes, _ = np.linalg.svd(np.hstack([*rows, longer]), full_matrices=False)
    kept = sizes > 1e-6 * sizes[0]
    modes = (facing_up(directions) * sizes)[:, kept]
    gaussian = Gaussian(np.zeros(len(modes)), modes, spread.joint_mm**2)
    own = Spine(tuple(v.moved(np.linalg.inv(v.world_from_vertebra)) for v in mean))
    return PoseModel(chain.levels, chain.lower_from_upper, gaussian, cases, own)


def meet_spreads(
    covariance: Float[np.ndarray, "m m"], weights: Float[np.ndarray, "k m"], sd: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "m m"]:
    """The covariance nearest to one under which weighted sums have these standard deviations (least divergence).

    Each sum in turn is given its spread by the smallest change (iterative proportional fitting), until all have theirs.

    Raises
    ------
    ConfigError
        When the spreads do not go together.
    """
    for _ in range(SPREAD_ROUNDS):
        for row, wanted in zip(weights, sd, strict=True):
            along = covariance @ row
            variance = row @ along
            covariance = covariance + (wanted**2 / variance - 1) * np.outer(along, along) / variance
        got = np.sqrt(np.einsum("km,mn,kn->k", weights, covariance, weights))
        if np.abs(got / sd - 1).max() < SPREAD_OFF:
            return (covariance + covariance.T) / 2
    worst = int(np.abs(got / sd - 1).argmax())
    raise ConfigError(
        f"spreads: expected such as go together, got {sd[worst]:.3g} for sum {worst}, which the others leave at "
        f"{got[worst]:.3g}; leave one of them out"
    )


def _along(mean: Spine, way: str) -> Float[np.ndarray, "k n"]:
    """Rotation vectors of all levels (world, three numbers each) for a turn of one radian of each level."""
    right, anterior, _ = mean.patient_axes.T
    axes = {
        "tilt": [anterior for _ in mean],
        "nod": [-right for _ in mean],
        "turn": [-v.axes[:, 2] for v in mean],
    }[way]
    out = np.zeros((len(mean), 3, len(mean)))
    for rank, axis in enumerate(axes):
        out[rank, :, rank] = axis
    return out.reshape(3 * len(mean), len(mean))


def _levers(mean: Spine) -> Float[np.ndarray, "d k"]:
    """Rows of a model for rotation vectors of all levels: joints turn about the middles of their discs."""
    joints = list(zip(mean.vertebrae, mean.vertebrae[1:], strict=False))
    out = np.zeros((len(joints), 6, len(mean), 3))
    for rank, (upper, lower) in enumerate(joints):
        turn = np.zeros((3, len(mean), 3))
        turn[:, rank], turn[:, rank + 1] = lower.axes.T, -lower.axes.T
        disc = (upper.inferior.centre + lower.superior.centre) / 2
        x, y, z = lower.axes.T @ (upper.centre - disc)
        out[rank, :3] = MM_PER_RADIAN * turn
        out[rank, 3:] = np.einsum("ab,bnc->anc", np.array([[0, z, -y], [-z, 0, x], [y, -x, 0]]), turn)
    return out.reshape(6 * len(joints), 3 * len(mean))


def _root(covariance: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """A square root of a covariance that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))
