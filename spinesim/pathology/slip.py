"""Spondylolisthesis: a level that slides on the one below it, with or without a defect of its arch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field, field_validator, model_validator

from spinesim.anatomy.levels import Level, levels_between, parse_level
from spinesim.anatomy.measure import Measures, forward_on, measure_slips
from spinesim.anatomy.plan import Anchor, Motion, Part, Plan, Points, Tissue, Where, even_motion, hold_still
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.errors import PathologyError
from spinesim.pathology.lying import keep_lying
from spinesim.pathology.places import read_body_level
from spinesim.pathology.proposal import (
    EVERYWHERE,
    Excuses,
    Goals,
    Pathology,
    Proposal,
    goals_of,
    outcome_of,
    propose,
    read_goals,
    settle,
)

GRADE_PERCENT = 25.0
"""Each Meyerding grade is a quarter of the lower plate's depth (Meyerding 1932)."""

SMALLEST_PERCENT = 10.0
"""Smallest slip that is drawn for grade 1."""

WITHIN_GRADE = 2.0
"""A slip drawn inside a grade keeps this far (percentage points) from its ends."""

INTACT_PERCENT = 30.0
"""With an intact arch the facets stop a slip: degenerative ones are rarely of more (Meyerding 1, early 2)."""

ISTHMIC_PERCENT = 25.0
"""Slips of more than this have a defect of the pars where nothing else is asked, and so have all of L5."""

PARS_MM, PARS_SLOPE = 9.0, 0.8
"""Where the pars breaks: so far behind the body's back at its middle, and farther back the higher (mm per mm)."""

LAMINA_MM, PARS_BELOW_MM = 10.0, 3.0
"""Farther from the middle, what lies higher than so far below the body's centre is superior facet or transverse
process, and goes with the body."""

GAP_MM, GAP_HU = 2.0, 40.0
"""Width of the defect, which belongs to neither side, and what fills it as it opens (fibrous tissue; assumed)."""

SHEARED = 2.0
"""Between pieces that slide along each other, what is drawn out to more than so many times its length is scar."""

FACETS_BEHIND_MM, FACETS_ASIDE_MM, FACETS_OVER_MM = 3.0, 4.0, 3.0
"""The facets of a joint lie so far behind the bodies and beside the middle, and begin so far before the plate
(assumed)."""

ENTERED_MM = 1.5
"""A plane may lie so far in the plate below it: plates are hollow."""

SLIPPED_STRAIN_MM = 0.1
"""How far the field may stray from the motions of bones and of the body that slips (RMS)."""

LEAST_PERCENT = 1.0
"""Smallest slip that may be proposed instead of one that is refused."""

DETAIL_MM = 1.5
"""Finest shape that a broken arch makes."""


class Spondylolisthesis(Pathology):
    """A slipped vertebra, as it is asked for.

    Parameters
    ----------
    level : str
        The vertebra that slips on the one below it (``L5`` on the sacrum).
    slip_percent : float, optional
        To be measured on the result, as a share of the depth of the plate below.
    meyerding_grade : {1, 2, 3, 4}, optional
        Instead: a slip is drawn inside the grade (a quarter of the depth each) by the seed.
    direction : {"forward", "backward"}
        Backward slips (retrolisthesis) are of grade 1.
    slip_angle_deg : float
        How far the level leans forward on the one below it as it slips; all above leans with it.
    pars_defect : bool, optional
        Whether the arch breaks and its back stays behind; by default in L5 and in slips of more than a quarter. With an
        intact arch the facets of the joint remodel, and all else of both bones stays as it is.
    """

    kind: ClassVar[str] = "spondylolisthesis"
    stage: ClassVar[int] = 3
    sized: ClassVar[bool] = True

    level: str
    slip_percent: float | None = Field(default=None, gt=0, le=90, allow_inf_nan=False)
    meyerding_grade: Literal[1, 2, 3, 4] | None = None
    direction: Literal["forward", "backward"] = "forward"
    slip_angle_deg: float = Field(default=0.0, ge=-10, le=40)
    pars_defect: bool | None = None

    @field_validator("level")
    @classmethod
    def _known_level(cls, text: str) -> str:
        return read_body_level(text).name

    @model_validator(mode="after")
    def _one_size(self) -> Spondylolisthesis:
        slip, grade = self.slip_percent, self.meyerding_grade
        inside = slip is not None and grade is not None and GRADE_PERCENT * (grade - 1) < slip <= GRADE_PERCENT * grade
        if (slip is None) == (grade is None) and not inside:
            raise ValueError(
                "expected either a slip in percent or a Meyerding grade, got none or two; give one of them"
            )
        least = self.slip_percent or GRADE_PERCENT * ((self.meyerding_grade or 1) - 1)
        if self.pars_defect is False and least > INTACT_PERCENT:
            raise ValueError(
                f"expected at most {INTACT_PERCENT:g} percent with an intact arch, whose facets stop a slip, got "
                f"{least:g} or more; ask for a defect of the pars"
            )
        if self.direction == "backward" and least >= GRADE_PERCENT:
            raise ValueError(
                f"expected less than {GRADE_PERCENT:g} percent backward, got {least:g} or more; ask for less"
            )
        return self

    @property
    def place(self) -> str:
        """Where it is."""
        return self.level

    @property
    def strain_mm(self) -> float:
        """Bones stay as rigid as a fracture leaves them."""
        return SLIPPED_STRAIN_MM

    @property
    def keeps_bones(self) -> bool:
        """A slip is a shift of bones that keep their form."""
        return True

    def smaller(self, share: float) -> Spondylolisthesis | None:
        """A slip of a share of the percent."""
        percent = math.floor(share * (self.slip_percent or 0.0))
        if percent < LEAST_PERCENT:
            return None
        return self.model_copy(update={"slip_percent": float(percent), "meyerding_grade": None})

    @property
    def excuses(self) -> Excuses:
        """It is a shift, its joint leans as far as is asked, and it narrows the canal there."""
        there = frozenset(level for level in Level if level >= self.at and not levels_between(self.at, level))
        return {"shift": frozenset({self.at}), "joints": frozenset({self.at}), "canal": there, "length": EVERYWHERE}

    def shortens(self, upper: Level, lower: Level) -> bool:
        """What slides along a plate is no measure of height."""
        return upper == self.at

    @property
    def at(self) -> Level:
        """The level that slips."""
        return parse_level(self.level)

    @property
    def isthmic(self) -> bool:
        """Whether the arch breaks, as asked or as is usual."""
        if self.pars_defect is not None:
            return self.pars_defect
        usual = self.at in (Level.L5, Level.L6) or (self.slip_percent or 0.0) > ISTHMIC_PERCENT
        return usual and self.direction == "forward"

    @property
    def goal(self) -> str:
        """What its slip is called among the goals."""
        return f"slip_{self.level}_percent"

    @property
    def sign(self) -> float:
        """1 forward, -1 backward."""
        return 1.0 if self.direction == "forward" else -1.0


@settle.register
def _(slip: Spondylolisthesis, seed: int) -> Spondylolisthesis:
    if slip.meyerding_grade is None or slip.slip_percent is not None:
        return slip
    low = max(SMALLEST_PERCENT, GRADE_PERCENT * (slip.meyerding_grade - 1) + WITHIN_GRADE)
    high = min(GRADE_PERCENT * slip.meyerding_grade - WITHIN_GRADE, 90.0)
    high = min(high, INTACT_PERCENT) if slip.pars_defect is False else high
    drawn = np.random.default_rng((seed, slip.at)).uniform(low, high)
    return slip.model_copy(update={"slip_percent": round(float(drawn), 2)})


@goals_of.register
def _(slip: Spondylolisthesis) -> Goals:
    return {slip.goal: slip.slip_percent} if slip.slip_percent is not None else {}


@read_goals.register
def _(slip: Spondylolisthesis, measures: Measures, native: Measures) -> Goals:
    return {slip.goal: 100 * slip.sign * measures.slips.get(slip.at, float("nan"))}


@outcome_of.register
def _(slip: Spondylolisthesis, measures: Measures, native: Measures) -> Mapping[str, Any]:
    percent = read_goals(slip, measures, native)[slip.goal]
    if not np.isfinite(percent):
        return {}
    return {"level": slip.level, "slip_percent": percent, "meyerding_grade": int(np.ceil(percent / GRADE_PERCENT))}


@propose.register
def _(slip: Spondylolisthesis, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    upper, lower = _pair(slip, spine)
    change = slip.sign * aim[slip.goal] / 100 - measure_slips(spine)[slip.at]
    shift_mm = change * lower.depth_mm * forward_on(lower)
    slid = _slide(upper, lower, shift_mm, np.deg2rad(slip.slip_angle_deg))
    _require_room(slip, upper.inferior.moved(slid[-1]), upper, lower)
    still = hold_still()
    anchors, tissues = [], []
    for vertebra in spine:
        motion = Motion(vertebra.centre, slid if vertebra.level <= slip.at else still)
        if vertebra not in ((upper,) if slip.isthmic else (upper, lower)):
            anchors.append(Anchor(vertebra.level, Part.WHOLE, motion))
            continue
        if not slip.isthmic:
            rigid = _all_but_facets(vertebra, below=vertebra is upper)
            anchors.append(Anchor(vertebra.level, Part.ARCH, motion, rigid))
            continue
        front, back, gap = _broken_arch(upper)
        anchors.append(Anchor(slip.at, Part.ARCH, motion, front))
        anchors.append(Anchor(slip.at, Part.FRAGMENT, Motion(vertebra.centre, still), back, yields=True))
        tissues += [Tissue(slip.at, lambda seen: seen.torn(GAP_HU), where) for where in (None, gap)]
        tissues.append(Tissue(slip.at, lambda seen: seen.scarred(GAP_HU), _beside(vertebra), stretched=SHEARED))
    moved = tuple(v.moved(slid[-1]) if v.level <= slip.at else v for v in spine)
    details = {
        "slip_percent": slip.slip_percent,
        "pars_defect": slip.isthmic,
        "slid_mm": float(np.linalg.norm(shift_mm)),
        "slip_angle_deg": slip.slip_angle_deg,
    }
    plan = Plan(tuple(anchors), tuple(tissues), DETAIL_MM, bends=True)
    return Proposal(*keep_lying(spine, plan, Spine(moved)), details)


def _pair(slip: Spondylolisthesis, spine: Spine) -> tuple[Vertebra, Vertebra]:
    """The level that slips and the one below it.

    Raises
    ------
    PathologyError
        When one of them is not whole in the scan.
    """
    possible = list(measure_slips(spine))
    if slip.at not in possible:
        names = ", ".join(level.name for level in possible) or "none"
        raise PathologyError(
            f"spondylolisthesis: expected a whole level with a whole one below it ({names} in this scan), "
            f"got {slip.level}; choose one of them"
        )
    rank = spine.levels.index(slip.at)
    return spine.vertebrae[rank], spine.vertebrae[rank + 1]


def _require_room(slip: Spondylolisthesis, plate: EndPlate, upper: Vertebra, lower: Vertebra) -> None:
    """Refuse a lean that drives the slipped plate into the one below it.

    Raises
    ------
    PathologyError
        Asking for a smaller slip angle.
    """
    along = np.linspace(-1, 1, 21)[:, None] * upper.depth_mm / 2
    forward = np.cross(plate.normal, lower.axes[:, 0])
    places = (plate.centre + along * forward - lower.superior.centre) @ np.column_stack(
        [np.cross(lower.superior.normal, lower.axes[:, 0]), lower.superior.normal]
    )
    over = np.abs(places[:, 0]) < lower.depth_mm / 2
    if slip.slip_angle_deg > 0 and over.any() and places[over, 1].min() < -ENTERED_MM:
        raise PathologyError(
            f"spondylolisthesis: expected bodies that do not enter each other, got {-places[over, 1].min():.1f} mm of "
            f"{slip.level} in {lower.level.name}; ask for a smaller slip angle than {slip.slip_angle_deg:g} degrees"
        )


def _slide(
    upper: Vertebra, lower: Vertebra, shift_mm: Float[np.ndarray, " 3"], angle: float
) -> Float[np.ndarray, "k 4 4"]:
    """The motion of what slides: along the plate below, leaning forward about the back edge of its own lower plate."""
    pivot = upper.inferior.centre + upper.back_mm * upper.axes[:, 1]
    return even_motion(pivot, -angle * lower.axes[:, 0], shift_mm)


def _all_but_facets(vertebra: Vertebra, *, below: bool) -> Where:
    """A vertebra without its lower or upper articular processes: they block a slip with an intact arch, and remodel."""
    plate = vertebra.inferior if below else vertebra.superior
    edge = float((vertebra.axes.T @ (plate.centre - vertebra.centre))[2])
    sign = -1.0 if below else 1.0

    def holds(points: Points) -> Bool[np.ndarray, " n"]:
        across, along, up = points.T
        behind = along < vertebra.back_mm - FACETS_BEHIND_MM
        return ~(behind & (np.abs(across) > FACETS_ASIDE_MM) & (sign * (up - edge) > -FACETS_OVER_MM))

    return holds


def _broken_arch(vertebra: Vertebra) -> tuple[Where, Where, Where]:
    """The front of a vertebra that slips, the back of its arch that stays, and the defect between them."""
    wall = vertebra.back_mm - PARS_MM

    def behind(points: Points) -> Float[np.ndarray, " n"]:
        across, along, up = points.T
        lamina = np.maximum(LAMINA_MM - np.abs(across), -up - PARS_BELOW_MM)
        return np.minimum(wall - PARS_SLOPE * up - along, lamina)

    def front(points: Points) -> Bool[np.ndarray, " n"]:
        return (points[:, 1] > vertebra.back_mm) | (behind(points) < -GAP_MM / 2)

    def back(points: Points) -> Bool[np.ndarray, " n"]:
        return ~front(points) & (behind(points) > GAP_MM / 2)

    def gap(points: Points) -> Bool[np.ndarray, " n"]:
        near = np.abs(points[:, [0, 2]]).max(axis=1) < vertebra.width_mm / 2
        return near & (points[:, 1] < vertebra.back_mm) & (np.abs(behind(points)) < GAP_MM)

    return front, back, gap


def _beside(vertebra: Vertebra) -> Where:
    """All that lies as near to a vertebra as its discs and its arch do."""
    reach = np.array([0.75 * vertebra.width_mm, np.inf, vertebra.body_mm])
    return lambda points: np.all(np.abs(points) < reach, axis=1)
