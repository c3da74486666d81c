"""How curves of one size and apex differ from patient to patient: drawn from the shipped model of scoliosis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import Spine
from spinesim.shape.conditioning import condition
from spinesim.shape.constraints import Apex, Constraint, CoronalCobb, Offset, measure_posture
from spinesim.shape.pose_model import PoseModel
from spinesim.shape.shipped import read_shipped_model


@dataclass(frozen=True, eq=False)
class Sway:
    """What each level of a spine tilts, nods and turns beside the mean curve, from the head down (radians)."""

    tilt: Float[np.ndarray, " n"]
    nod: Float[np.ndarray, " n"]
    turn: Float[np.ndarray, " n"]

    def scaled(self, share: float) -> Sway:
        """A part of it."""
        return Sway(self.tilt * share, self.nod * share, self.turn * share)


def no_sway(spine: Spine) -> Sway:
    """The mean curve itself."""
    still = np.zeros(len(spine))
    return Sway(still, still, still)


def draw_sway(spine: Spine, ends: tuple[Level, Level], apex: Level, cobb: float, *, rng: np.random.Generator) -> Sway:
    """Draw one patient of the model's population who has this curve, and tell how it differs from the mean one.

    The model is conditioned on the spine's own joints (sizes and discs stay, the curve from the side stays near) and on
    the curve. Levels beyond those that the model knows follow the outermost of them, but a sacrum holds still.

    Parameters
    ----------
    ends : tuple of Level
        Upper and lower end vertebra.
    apex : Level
    cobb : float
        Radians, positive when convex to the right.

    Raises
    ------
    GeometryError
        When the spine shows no unbroken run of the model's levels.
    PathologyError
        When no such patient was found.
    """
    posterior = condition(_model(), spine)
    known = posterior.anatomy.levels
    asked: list[Constraint] = [
        CoronalCobb(*ends, target=cobb),
        Apex(apex, *ends),
        Offset(known[0], known[-1]),
    ]
    mean, drawn = posterior.solve(asked), posterior.sample(asked, 1, rng=rng)[0]
    posture = measure_posture(posterior.anatomy, np.stack([mean.poses(), drawn.poses()]))
    seen: tuple[np.ndarray, ...] = (posture.coronal.mean(axis=2), posture.sagittal.mean(axis=2), posture.turned)
    at, places = [spine.levels.index(level) for level in known], np.arange(len(spine))
    if Level.S in spine:  # which holds still
        at, seen = [*at, len(spine) - 1], tuple(np.column_stack([each, [0.0, 0.0]]) for each in seen)
    return Sway(*(np.interp(places, at, there - here) for here, there in seen))


@cache
def _model() -> PoseModel:
    return read_shipped_model("scoliosis")
