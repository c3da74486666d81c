"""How good a pose model is: compactness, generalisation and specificity by the number of its modes.

Spines are compared after one has been laid on the other by the rigid motion that turns their vertebrae alike (the least
sum of squared differences of rotation matrices) and brings their centroids together: in mm the mean distance of the
centres of their vertebrae, in degrees the mean angle between vertebrae.

References
----------
Davies RH et al. (2002). A minimum description length approach to statistical shape modeling. IEEE Trans Med Imaging
21:525-537.
Styner MA et al. (2003). Evaluation of 3D correspondence methods for model building. IPMI, LNCS 2732:63-75.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from spinesim.errors import ConfigError
from spinesim.shape.chain import Chain, stack_joints
from spinesim.shape.coverage import covered_chains, covered_levels
from spinesim.shape.pose_model import PoseModel, fit_pose_model

FOLDS = 20
"""Fits for generalisation: each case is left out alone, beyond so many cases in groups of equal size."""

SAMPLES = 1000
"""Draws for specificity, for each number of modes."""

Errors = Float[np.ndarray, "n modes 2"]
"""Mean distance of centres (mm) and mean angle (rad) for each case or sample and each number of modes, from none up."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores by the number of modes, from none (the mean spine) up; the last axis is mm, radians.

    Parameters
    ----------
    compactness : (q + 1,) array
        Share of the cases' variance in the first principal components of their rows.
    generalisation, generalisation_error : (q + 1, 2) array
        Mean distance of a case that was left out from what a model of the others makes of it, and the standard error
        of that mean.
    specificity, specificity_error : (q + 1, 2) array
        Mean distance of a sample from the nearest case, and its standard error.
    """

    compactness: Float[np.ndarray, " modes"]
    generalisation: Float[np.ndarray, "modes 2"]
    generalisation_error: Float[np.ndarray, "modes 2"]
    specificity: Float[np.ndarray, "modes 2"]
    specificity_error: Float[np.ndarray, "modes 2"]

    def rows(self) -> list[dict[str, Any]]:
        """One row a number of modes, in mm and degrees."""
        rows = []
        for modes, share in enumerate(self.compactness):
            row: dict[str, Any] = {"modes": modes, "compactness": round(float(share), 4)}
            for name in ("generalisation", "specificity"):
                values, errors = (getattr(self, key)[modes] for key in (name, f"{name}_error"))
                row |= {f"{name}_mm": _told(values[0]), f"{name}_mm_error": _told(errors[0])}
                row |= {f"{name}_deg": _told(np.rad2deg(values[1])), f"{name}_deg_error": _told(np.rad2deg(errors[1]))}
            rows.append(row)
        return rows


def score_model(
    model: PoseModel,
    chains: Sequence[Chain],
    *,
    modes: int | None = None,
    samples: int = SAMPLES,
    told: Callable[[str], None] = lambda stage: None,
    rng: np.random.Generator,
) -> Scores:
    """Score a pose model on the chains that it was fitted to.

    Parameters
    ----------
    modes : int, optional
        Most modes; by default the model's own.
    samples : int
        Draws for each number of modes.
    told : callable
        Hears how far the work is.

    Raises
    ------
    ConfigError
        When there are fewer than four chains, or too few for the modes.
    """
    most = model.gaussian.modes.shape[1] if modes is None else modes
    room = min(len(chains) - 2, model.gaussian.modes.shape[1])
    if len(chains) < 4 or not 1 <= most <= room:
        raise ConfigError(
            f"scores: expected four cases or more and from 1 to {max(room, 1)} modes, got {len(chains)} cases and "
            f"{most} modes; give fewer modes, or fit a model to more cases"
        )
    told("specificity")
    drawn = measure_specificity(model, chains, most, samples, rng=rng)
    left = measure_generalisation(chains, most, told=told)
    return Scores(measure_compactness(model, chains)[: most + 1], *_mean(left), *_mean(drawn))


def measure_compactness(model: PoseModel, chains: Sequence[Chain]) -> Float[np.ndarray, " modes"]:
    """Cumulative share of the variance of the chains' rows in their principal components, from none to all of them.

    Holes are filled with what the model expects there.
    """
    rows = _whole_rows(model, chains)
    variances = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[: len(rows) - 1] ** 2
    return np.concatenate([[0.0], np.cumsum(variances)]) / variances.sum()


def _whole_rows(model: PoseModel, chains: Sequence[Chain]) -> Float[np.ndarray, "n d"]:
    """The chains' rows, their holes filled with what the model expects there."""
    rows = np.stack([model.encode(chain) for chain in chains])
    expected = np.stack([model.gaussian.inverse(model.gaussian.transform(row)) for row in rows])
    return np.where(np.isfinite(rows), rows, expected)


def measure_generalisation(
    chains: Sequence[Chain], modes: int, told: Callable[[str], None] = lambda stage: None
) -> Errors:
    """How far models of the other chains are from each chain (cross-validation), by their number of modes.

    A model says of a chain what it expects of it (:meth:`PoseModel.transform` and back). Each is fitted once, with all
    modes, and cut down. NaN where the others do not show the chain's levels, or are too few for the modes.
    """
    errors = np.full((len(chains), modes + 1, 2), np.nan)
    folds = min(len(chains), FOLDS)
    for fold in range(folds):
        told(f"generalisation: {fold + 1} of {folds}")
        out = range(fold, len(chains), folds)
        others = [chain for rank, chain in enumerate(chains) if rank not in out]
        levels = covered_levels(others)
        others = [chain for chain in covered_chains(others, levels) if chain]
        fitted = fit_pose_model(others, min(modes, len(others) - 1))
        for rank, chain in zip(out, covered_chains([chains[rank] for rank in out], levels), strict=True):
            if chain:
                made = _rebuilt(fitted, chain)
                errors[rank, : len(made)] = made
    return errors


def measure_specificity(
    model: PoseModel, chains: Sequence[Chain], modes: int, samples: int, *, rng: np.random.Generator
) -> Errors:
    """How far samples are from the nearest chain, by the number of modes that they are drawn from.

    Weights are drawn, noise is not. The nearest is sought for mm and for degrees apart, over all levels of the model:
    what a chain does not show is what the model expects there.
    """
    cases = stack_joints(model.decode(_whole_rows(model, chains)), np.eye(4))
    weights = rng.standard_normal((samples, modes))
    errors = np.empty((samples, modes + 1, 2))
    for count in range(modes + 1):
        gaussian = model.gaussian.truncated(count)
        rows = gaussian.mean + weights[:, :count] @ gaussian.modes.T
        poses = stack_joints(model.decode(rows), np.eye(4))
        errors[:, count] = np.min([compare_poses(poses, case) for case in cases], axis=0)
    return errors


def compare_poses(poses: Float[np.ndarray, "*b n 4 4"], other: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "*b 2"]:
    """Mean distance of centres (mm) and mean angle (rad) between spines and another one, laid on each other."""
    across = np.swapaxes(poses[..., :3, :3], -1, -2)
    left, _, right = np.linalg.svd((other[:, :3, :3] @ across).sum(axis=-3))
    left[..., :, 2] *= np.linalg.det(left @ right)[..., None]  # a rotation, never a mirror
    laid = left @ right
    centres, goal = poses[..., :3, 3], other[:, :3, 3]
    moved = (centres - centres.mean(axis=-2, keepdims=True)) @ np.swapaxes(laid, -1, -2)
    lengths = np.linalg.norm(moved - (goal - goal.mean(axis=0)), axis=-1)
    apart = np.linalg.norm(laid[..., None, :, :] @ poses[..., :3, :3] - other[:, :3, :3], axis=(-2, -1))
    angles = 2 * np.arcsin(np.minimum(apart / np.sqrt(8), 1.0))
    return np.stack([lengths.mean(axis=-1), angles.mean(axis=-1)], axis=-1)


def _rebuilt(model: PoseModel, chain: Chain) -> Float[np.ndarray, "modes 2"]:
    """Distance of a chain from what a model makes of it, with none to all of its modes, over the chain's levels."""
    row, made = model.encode(chain), []
    for count in range(model.gaussian.modes.shape[1] + 1):
        gaussian = model.gaussian.truncated(count)
        made.append(model.decode(gaussian.inverse(gaussian.transform(row))))
    both = [level for level in chain.levels if level in model.levels]
    ours, theirs = ([levels.index(level) for level in both] for levels in (model.levels, chain.levels))
    return compare_poses(stack_joints(np.stack(made), np.eye(4))[:, ours], chain.poses()[theirs])


def _mean(errors: Errors) -> tuple[Float[np.ndarray, "modes 2"], Float[np.ndarray, "modes 2"]]:
    """Mean and its standard error over what is known; NaN where less than two are."""
    known = np.isfinite(errors)
    count = np.where(known.sum(axis=0) > 1, known.sum(axis=0), np.nan)
    mean = np.where(known, errors, 0.0).sum(axis=0) / count
    square = np.where(known, (errors - mean) ** 2, 0.0).sum(axis=0)
    return mean, np.sqrt(square / (count - 1) / count)


def _told(value: float) -> float | None:
    """A plain number to a thousandth; None for what is not known."""
    return round(float(value), 3) if np.isfinite(value) else None
