"""Sagittal change: a kyphosis or lordosis of a given angle between two levels, with wedged bodies if asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, NoReturn

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator

from spinesim.anatomy.levels import Level, levels_between, parse_level
from spinesim.anatomy.measure import Measures, sagittal_angle
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import OutOfReachError, PathologyError
from spinesim.pathology.bend import Bend, BentSpine, bend_spine, plan_bend
from spinesim.pathology.lying import rank_on_the_table
from spinesim.pathology.places import read_level
from spinesim.pathology.proposal import (
    Goals,
    Pathology,
    Proposal,
    goals_of,
    outcome_of,
    propose,
    read_goals,
    remarks_on,
)
from spinesim.pathology.rules import Breach, check_bend, first_hard, flexion_limit_deg
from spinesim.shape.course import Course, Joints, expect_course
from spinesim.shape.shipped import read_shipped_model

FEWEST_WEDGED = 3
"""Neighbouring bodies that are wedged in Scheuermann's disease (Sorensen 1964)."""

LEAST_WEDGE_DEG = 5.0
"""Wedge of each of them (Sorensen 1964)."""

WEDGE_MISS_DEG = 2.0
"""A wedge that measures so much less than it was asked is told."""

EASE = 0.8
"""Share of its flexion limit that no joint is bent past where its neighbours can take it."""

FIRMNESS = 0.5
"""Standard deviation of a joint's bend about the healthy one, as a share of its flexion limit (assumed)."""

SAGITTAL_STRAIN_MM = 0.1
"""How far bones may stray from rigid motions (RMS, promise 3)."""

NEAREST_STEPS = 12
"""Halvings in the search for the nearest angle that keeps the rules."""


class Sagittal(Pathology):
    """A sagittal angle, as it is asked for.

    Parameters
    ----------
    upper, lower : str
        Levels between which it is measured: from the upper plate of one to the lower plate of the other (of the sacrum
        its upper plate).
    angle_deg : float
        To be measured on the result; a kyphosis is positive, a lordosis negative.
    wedged : tuple of str
        Neighbouring bodies that become lower in front (Scheuermann's disease: three or more by 5 degrees or more).
    wedge_deg : float
        Sagittal wedge of each of them to be reached, if it has not more already.
    """

    kind: ClassVar[str] = "sagittal"
    stage: ClassVar[int] = 2

    upper: str = "T4"
    lower: str = "T12"
    angle_deg: float = Field(ge=-100, le=110)
    wedged: tuple[str, ...] = ()
    wedge_deg: float = Field(default=0.0, ge=0, le=20)

    @field_validator("upper", "lower")
    @classmethod
    def _known_level(cls, text: str) -> str:
        return read_level(text).name

    @field_validator("wedged", mode="before")
    @classmethod
    def _listed(cls, texts: Any) -> Any:
        return tuple(texts.replace(",", " ").split()) if isinstance(texts, str) else texts

    @field_validator("wedged")
    @classmethod
    def _known_bodies(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        levels = [read_level(text) for text in texts]
        for level in levels:
            if not Level.C3 <= level < Level.S:
                raise ValueError(f"expected levels with a body from C3 to L6, got {level.name}; leave it out")
        return tuple(level.name for level in levels)

    @model_validator(mode="after")
    def _fits(self) -> Sagittal:
        upper, lower = parse_level(self.upper), parse_level(self.lower)
        if upper >= lower:
            raise ValueError(f"expected an upper level above the lower one, got {self.upper} and {self.lower}")
        if bool(self.wedged) != (self.wedge_deg > 0):
            raise ValueError("expected wedged levels and their wedge together; give both or none")
        levels = sorted(map(parse_level, self.wedged))
        for above, below in zip(levels, levels[1:], strict=False):
            if levels_between(above, below):
                raise ValueError(f"expected neighbouring wedged levels, got {above.name} and {below.name}")
        return self

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.upper} to {self.lower}"

    @property
    def joints_yield(self) -> bool:
        """A lordosis that is straightened or deepened presses facets and spinous processes together: they give way."""
        return True

    @property
    def strain_mm(self) -> float:
        """What is promised."""
        return SAGITTAL_STRAIN_MM

    @property
    def ends(self) -> tuple[Level, Level]:
        """The levels between which it is measured."""
        return parse_level(self.upper), parse_level(self.lower)

    @property
    def goal(self) -> str:
        """What its angle is called among the goals."""
        return f"angle_{self.upper}_{self.lower}_deg"


@goals_of.register
def _(sagittal: Sagittal) -> Goals:
    return {sagittal.goal: sagittal.angle_deg}


@read_goals.register
def _(sagittal: Sagittal, measures: Measures, native: Measures) -> Goals:
    return {sagittal.goal: float(np.rad2deg(measures.sagittal_angle(*sagittal.ends)))}


@outcome_of.register
def _(sagittal: Sagittal, measures: Measures, native: Measures) -> Mapping[str, Any]:
    wedges = {
        level.name: float(np.rad2deg(measures.sagittal_angle(level, level)))
        for level in map(parse_level, sagittal.wedged)
    }
    enough = [name for name, wedge in wedges.items() if wedge >= LEAST_WEDGE_DEG]
    return {"wedge_deg": wedges, "scheuermann": len(enough) >= FEWEST_WEDGED} if wedges else {}


@remarks_on.register
def _(sagittal: Sagittal, measures: Measures, native: Measures) -> tuple[str, ...]:
    told = outcome_of(sagittal, measures, native)
    found = told.get("wedge_deg", {}).items()
    low = [f"{name} {wedge:.1f}" for name, wedge in found if wedge < sagittal.wedge_deg - WEDGE_MISS_DEG]
    return (f"a wedge of {sagittal.wedge_deg:g} degrees is asked and measured as {', '.join(low)}",) if low else ()


@propose.register
def _(sagittal: Sagittal, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    _require_levels(sagittal, spine)
    asked = np.deg2rad(aim[sagittal.goal])
    bend = _bend(sagittal, spine, asked)
    bent, breaches = _try(spine, bend)
    broken = first_hard(breaches)
    if broken and not sagittal.allow_implausible:
        _refuse(sagittal, spine, asked, broken)
    details = {
        "predicted_angle_deg": float(np.rad2deg(sagittal_angle(bent.moved, *sagittal.ends))),
        "wedge_given_deg": {
            level.name: float(np.rad2deg(wedge)) for level, wedge in zip(spine.levels, bend.front, strict=True) if wedge
        },
        "discs_opened_mm": float(bent.opened_mm.sum()),
    }
    return Proposal(replace(plan_bend(spine, bend), bends=True), bent.moved, details, tuple(map(str, breaches)))


def _refuse(sagittal: Sagittal, spine: Spine, asked: float, broken: Breach) -> NoReturn:
    """Refuse an angle (radians), and name the nearest that keeps the rules.

    Raises
    ------
    PathologyError
        Blaming the wedges, if they alone break a rule.
    """
    native, place = sagittal_angle(spine, *sagittal.ends), f"sagittal angle {sagittal.upper} to {sagittal.lower}"

    def breaks(share: float) -> Breach | None:
        return first_hard(_try(spine, _bend(sagittal, spine, native + share * (asked - native)))[1])

    if alone := breaks(0.0):
        raise PathologyError(f"{place}: expected that {alone}, with the wedges alone; ask for smaller wedges")
    low, high = 0.0, 1.0
    for _ in range(NEAREST_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if breaks(middle) else (middle, high)
    nearest = float(np.rad2deg(native + low * (asked - native)))
    raise OutOfReachError(f"{place}: expected that {broken}", nearest, "degrees")


def _require_levels(sagittal: Sagittal, spine: Spine) -> None:
    """Refuse levels that cannot be measured.

    Raises
    ------
    PathologyError
        Naming those that can.
    """
    measured = [v.level for v in spine if v.measured]
    for level in (*sagittal.ends, *map(parse_level, sagittal.wedged)):
        if level not in measured:
            raise PathologyError(
                f"sagittal angle: expected whole levels of the scan ({measured[0].name} to {measured[-1].name}), "
                f"got {level.name}; choose among them"
            )


def _bend(sagittal: Sagittal, spine: Spine, angle: float) -> Bend:
    """The most probable way of healthy adults' spines to another angle, the wedged bodies taking their part of it.

    The patient lies: a sacrum stays, and so does the level that lies deepest on the table, seen from the side.
    """
    front = _fronts(sagittal, spine)
    course = _healthy(spine.levels)
    count = len(spine)
    upper, lower = (spine.levels.index(level) for level in sagittal.ends)
    halves = (front[:-1] + front[1:]) / 2
    led = np.append(np.cumsum(halves[::-1])[::-1], 0.0)  # what levels nod when the wedges alone are stacked
    ends = np.eye(count)[upper] - np.eye(count)[lower]
    plates = (front[upper] + front[lower]) / 2
    over = _lying(spine)
    held = np.eye(count)[count - 1 :] if Level.S in spine else np.empty((0, count))
    weights = np.vstack([ends, over, held])
    change = angle - sagittal_angle(spine, *sagittal.ends)
    values = np.concatenate([[change - ends @ led - plates, -over @ led], -held @ led])
    most = np.deg2rad([flexion_limit_deg(level) for level in spine.levels[1:]])
    between = -np.diff(np.eye(count), axis=0)
    joints = Joints(course.weights(nod=between), np.zeros(count - 1), FIRMNESS * most, EASE * most)
    nod = led + _free(course).meet_gently(course.weights(nod=weights), values, joints).nod
    still = np.zeros(count)
    return Bend(still, nod, still, still, front)


def _lying(spine: Spine) -> Float[np.ndarray, " n"]:
    """Weights of the nods that carry the most dorsal thoracic level forward of the lowest; in a short spine, the top.

    Heights of the levels between them, as shares of their sum.
    """
    rank, up = rank_on_the_table(spine) or 0, np.array([v.centre for v in spine]) @ spine.patient_axes[:, 2]
    heights = np.where(np.arange(len(spine)) >= rank, np.gradient(-up), 0.0)
    return heights / heights.sum()


def _fronts(sagittal: Sagittal, spine: Spine) -> Float[np.ndarray, " n"]:
    """What each body is wedged further: to what was asked, from what it has."""
    front = np.zeros(len(spine))
    for level in map(parse_level, sagittal.wedged):
        own = sagittal_angle(spine, level, level)
        front[spine.levels.index(level)] = max(0.0, np.deg2rad(sagittal.wedge_deg) - own)
    return front


def _free(course: Course) -> Course:
    """The same about no change at all: the patient is where he is."""
    return Course(course.levels, np.zeros_like(course.mean), course.covariance)


@cache
def _healthy(levels: tuple[Level, ...]) -> Course:
    return expect_course(read_shipped_model("adult"), levels)


def _try(spine: Spine, bend: Bend) -> tuple[BentSpine, tuple[Breach, ...]]:
    """Bend a spine, and hold it against the rules."""
    bent = bend_spine(spine, bend)
    return bent, check_bend(bent, np.rad2deg(bend.wedge))
