"""The target of a curve: what the shipped model of scoliosis expects of a spine that has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.bend import wedge_room
from spinesim.pathology.profile import CurveShape
from spinesim.pathology.rules import WEDGE_LIMIT_DEG, WEDGE_REFUSED, joint_turns_deg
from spinesim.shape.course import Course, Joints, Turns, expect_course
from spinesim.shape.pose_model import PoseModel
from spinesim.shape.shipped import read_shipped_model

FIRMNESS = 0.6
"""Spread of a disc's wedge in scoliosis, as a share of what is usual (``WEDGE_LIMIT_DEG``; assumed)."""

GENTLE_WEDGE_DEG = {"cervical": 6.0, "thoracic": 7.0, "lumbar": 9.0, "sacral": 9.0}
"""Wedge that discs are given where it can be chosen: rigid bones with more of it meet at their facets."""

LEAST_SHARE = 0.25
"""What a disc may be wedged at least where its rims all but meet, as a share of what the rules leave (assumed)."""

NOD_RAD = float(np.deg2rad(3.0))
"""How far a joint's bend seen from the side differs from the patient's own."""

TURN_SHARE, TURN_MOST = 0.15, 0.3
"""Share of what a joint can turn about the long axis that is usual in a curve, and that is most (assumed)."""

BACK_SHARE = 0.05
"""Share of its Cobb angle by which the level beyond a firm end is tilted less."""

GROUND_RAD = float(np.deg2rad(2.0))
"""How far the lowest level turns about the long axis, where no sacrum holds it (assumed)."""


class Filling(NamedTuple):
    """How far discs are wedged at most: as shares of what the rules leave, and of where their rims would meet."""

    of_rule: float
    of_rims: float


@dataclass(frozen=True, eq=False)
class Target:
    """Curves of some shapes on one spine, and what the model expects of the spine's levels.

    Parameters
    ----------
    spine : Spine
    course : Course
        The model's, of the spine's levels.
    shapes : tuple of CurveShape
        Of the curves that are asked for.
    own_tilt : (n,) array
        The slow course of the spine's own tilts (radians).
    gentleness : float or Filling
        How far past ``GENTLE_WEDGE_DEG`` discs are led (infinite leaves all to the model), or bounds that none exceeds.
    disc_share : float
        Share of a joint's bend to the side that its disc takes; its bodies are wedged by the rest.
    """

    spine: Spine
    course: Course
    shapes: tuple[CurveShape, ...]
    own_tilt: Float[np.ndarray, " n"]
    gentleness: float | Filling
    disc_share: float

    def tilts(self, cobb: Float[np.ndarray, " c"], offset_mm: float) -> Float[np.ndarray, " n"]:
        """Tilt of each level when curves have these angles (radians) and the top stands so far to the right."""
        still, turning = self._still("tilt"), [shape.turning() for shape in self.shapes]
        weights = np.vstack([self._curves(), still, self.course.weights(tilt=np.vstack(turning))])
        back = np.repeat(BACK_SHARE * cobb, [len(rows) for rows in turning])
        own = np.full(len(still), self.own_tilt[-1])
        values = np.concatenate([cobb, np.zeros(len(cobb)), [offset_mm / self._height], own, back])
        if isinstance(self.gentleness, Filling):
            return self._free().tilts_within(weights, values, *self._bounds(self.gentleness))
        most = self.gentleness * np.array([GENTLE_WEDGE_DEG[region(level)] for level in self.spine.levels[1:]])
        return self.course.meet_gently(weights, values, self._discs(most)).tilt

    def along(self, tilted: Float[np.ndarray, " n"], apical_turns: Float[np.ndarray, " c"], kyphosis: float) -> Turns:
        """What levels nod and turn when they tilt, their apices turn and the kyphosis changes (all changes, radians).

        Apices turn less where joints would have to turn past what they can.
        """
        settled, joints = self._settled(), self._facets()
        span = kyphosis_ranks(self.spine) or (0, 0)
        upper, lower = np.eye(len(self.spine))[list(span)]
        signs = np.array([shape.sign for shape in self.shapes])
        at_apices = np.stack([shape.at_apex() for shape in self.shapes])
        tilts = self.course.weights(tilt=np.eye(len(tilted)))
        apart = [self.course.weights(nod=upper - lower), self.course.weights(turn=at_apices)]
        weights = np.vstack([tilts, settled, *apart])
        values = np.concatenate([tilted, np.zeros(len(settled)), [kyphosis * (span != (0, 0))]])
        can, share = np.deg2rad(joint_turns_deg(self.spine.levels)), 1.0
        for _ in range(2):
            turns = self.course.meet_gently(weights, np.append(values, share * signs * apical_turns), joints)
            past = np.abs(joints.weights @ turns.row())[: len(can)] / can
            if past.max() <= 1:
                break
            share = 1 / float(past.max())  # as near a sacrum, which does not turn
        return turns

    def drawn(self, rng: np.random.Generator) -> Turns:
        """How one patient of the model's population who has these curves differs from the mean one."""
        weights, joints = np.vstack([self._curves(), self._still("tilt"), self._settled()]), self._facets()
        course = self._free().seen(joints.weights, np.zeros(len(joints.own)), joints.spread)
        return course.meet(weights, np.zeros(len(weights)), course.draw(rng=rng))

    def _free(self) -> Course:
        """The model's course once discs are known to be wedged as they are in scoliosis."""
        discs = self._discs(np.ones(len(self.spine) - 1))
        return self.course.seen(discs.weights, np.zeros(len(discs.own)), discs.spread)

    def _discs(self, most_deg: Float[np.ndarray, " m"]) -> Joints:
        """Discs as they are wedged: near the patient's own, the higher ones farther from it than the thin ones."""
        between = _between(len(self.spine))
        spread = FIRMNESS * np.array([_usual(level) for level in self.spine.levels[1:]]) * _room(self.spine)
        spread, most = (np.deg2rad(each) / self.disc_share for each in (spread, most_deg))
        return Joints(self.course.weights(tilt=between), between @ self.own_tilt, spread, most)

    def _bounds(self, filling: Filling) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """What joints may bend to either side: as far as their discs give, and in a curve to the curve's side only."""
        rule = filling.of_rule * WEDGE_REFUSED * np.deg2rad([_usual(level) for level in self.spine.levels[:-1]])
        rims = np.maximum(filling.of_rims * wedge_room(self.spine), LEAST_SHARE * rule)
        most = np.minimum(rule, rims) / self.disc_share
        ways = np.sum([shape.ways() for shape in self.shapes], axis=0)
        return np.where(ways > 0, 0.0, -most), np.where(ways < 0, 0.0, most)

    def _facets(self) -> Joints:
        """Joints as they turn about their own long axes; where they lean, a tilt about the patient's axis does so too.

        The ground under a spine without a sacrum hardly turns.
        """
        count, between = len(self.spine), _between(len(self.spine))
        give = np.deg2rad(joint_turns_deg(self.spine.levels))
        leaning = np.array([v.axes[:, 2] for v in self.spine]) @ self.spine.patient_axes[:, 1]
        leaning = (leaning[:-1] + leaning[1:]) / 2
        turn = np.vstack([between, np.eye(count)[-1:]])
        tilt = np.vstack([-leaning[:, None] * between, np.zeros((1, count))])
        spread, most = np.append(TURN_SHARE * give, GROUND_RAD), np.append(TURN_MOST * give, np.inf)
        return Joints(self.course.weights(turn=turn, tilt=tilt), np.zeros(count), spread, most)

    @property
    def _sacrum(self) -> bool:
        return Level.S in self.spine

    @property
    def _ends(self) -> tuple[int, int]:
        """Ranks of the highest and the lowest measured level, which stand over each other."""
        known = [rank for rank, vertebra in enumerate(self.spine) if vertebra.measured]
        return known[0], known[-1]

    @property
    def _height(self) -> float:
        return float(self._lengths().sum())

    def _lengths(self) -> Float[np.ndarray, " n"]:
        return self.shapes[0].lengths(*self._ends)

    def _curves(self) -> Float[np.ndarray, "k d"]:
        """Their angles, their apices against the lines between their ends, and the top over the bottom by the way."""
        rows = [shape.over() for shape in self.shapes] + [shape.off_line() for shape in self.shapes]
        return self.course.weights(tilt=np.stack([*rows, self._lengths() / self._height]))

    def _settled(self) -> Float[np.ndarray, "k d"]:
        """What stays: the top over the bottom seen from the side, and the nod and turn of a sacrum."""
        shift = self._lengths() / self._height
        return np.vstack([self.course.weights(nod=shift), self._still("nod"), self._still("turn")])

    def _still(self, way: str) -> Float[np.ndarray, "k d"]:
        count = len(self.spine)
        held = np.eye(count)[count - 1 if self._sacrum else count :]
        return self.course.weights(**{way: held})


def expect_patient(spine: Spine) -> Course:
    """What the shipped model of scoliosis expects of a patient's levels; from the side they stay near their own."""
    course, between = expect_course(_model(), spine.levels), _between(len(spine))
    return course.seen(course.weights(nod=between), np.zeros(len(between)), np.full(len(between), NOD_RAD))


def _between(count: int) -> Float[np.ndarray, "m n"]:
    """Weights that read the bend of each joint: its lower level over its upper one."""
    return np.diff(np.eye(count), axis=0)


def _usual(level: Level) -> float:
    """Usual wedge of a disc of a level's region in scoliosis (degrees)."""
    return WEDGE_LIMIT_DEG.get(region(level), 15.0)


def _room(spine: Spine) -> Float[np.ndarray, " m"]:
    """How far each disc can be wedged: its height for its width, over the median of the spine's."""
    pairs = list(zip(spine.vertebrae, spine.vertebrae[1:], strict=False))
    heights = np.array(
        [(above.inferior.centre - below.superior.centre) @ above.inferior.normal for above, below in pairs]
    )
    heights /= [above.width_mm + below.width_mm for above, below in pairs]
    return np.clip(heights / np.median(heights), 0.5, 1.5)


@cache
def _model() -> PoseModel:
    return read_shipped_model("scoliosis")


def kyphosis_ranks(spine: Spine) -> tuple[int, int] | None:
    """Ranks of T4 and T12, or the outermost levels between them that are there; None below five levels."""
    ranks = [rank for rank, level in enumerate(spine.levels) if Level.T4 <= level <= Level.T12]
    return (ranks[0], ranks[-1]) if len(ranks) >= 5 else None
