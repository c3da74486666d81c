"""Vertebral fracture: a body that lost height, the spine above that follows, and the bone that was impacted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator

from spinesim.anatomy.levels import Level, parse_level
from spinesim.anatomy.measure import GENANT_LOSS, HeightLoss, Measures, grade_of, height_loss
from spinesim.anatomy.plan import Anchor, Motion, Part, Plan, Squeezed, Tissue, Where, even_motion, hold_still
from spinesim.anatomy.vertebra import Spine, Vertebra
from spinesim.errors import OutOfReachError
from spinesim.pathology.crush import Break, BrokenBody, Displaced, break_body
from spinesim.pathology.lying import keep_lying
from spinesim.pathology.places import read_body_level, require_whole
from spinesim.pathology.proposal import (
    EVERYWHERE,
    Excuses,
    Goals,
    Limit,
    Pathology,
    Proposal,
    goals_of,
    limits_of,
    outcome_of,
    propose,
    read_goals,
    remarks_on,
    settle,
)
from spinesim.pathology.rules import MEASURED_MM, flexion_limit_deg

Type = Literal["wedge", "biconcave", "crush"]
Position = Literal["anterior", "left", "right", "central"]

AO_TYPES: dict[str, dict[str, Any]] = {
    "A1": {"type": "wedge", "plates": "superior"},
    "A2": {"type": "wedge", "plates": "both", "split_mm": 2.0},
    "A3": {"type": "wedge", "plates": "superior", "retropulsion_mm": 3.0},
    "A4": {"type": "crush", "plates": "both", "retropulsion_mm": 4.0},
}
"""What the types of the AO Spine classification mean here (Vaccaro 2013); the millimetres are assumed."""

MOST_LOST = 80.0
"""Greatest loss in percent: a flat vertebra (vertebra plana)."""

WITHIN_GRADE = 2.0
"""A loss drawn inside a grade keeps this far (percentage points) from its ends, so that it measures inside it."""

SEVEREST = 60.0
"""Greatest loss (percent) that is drawn for grade 3."""

REMODELLED_MONTHS = 2.0
"""Impacted bone remodels in 3 to 6 months: its density falls to 1/e of what it had in this time."""

WALL_SHARE = 0.10
"""What the posterior wall loses at most in a wedge fracture (Genant's types)."""

STANDS = {"anterior": "posterior", "left": "right", "right": "left"}
"""The edge of a wedge that stands, by where it is lowest."""

LOSS_STEP = 0.01
"""A share that leaves no room is lowered by so much more than it needs."""

DENSEST = 4.0
"""Compression above which no density is added: what is crushed further is expelled."""

FRACTURE_STRAIN_MM = 0.1
"""How far bones beside it may stray from rigid motions (RMS, promise 3)."""

COMPENSATING = 5
"""Joints above the fracture's neighbour over which the angulation is taken back."""

CLEFT_HU = {"fluid": 10.0, "gas": -700.0}
"""What fills a cleft."""


class Fracture(Pathology):
    """A fractured vertebra, as it is asked for.

    Parameters
    ----------
    level : str
        Vertebra (``L1``).
    type : {"wedge", "biconcave", "crush"}
        After Genant: the front (or a side), the middle, or the whole body is lower.
    ao : {"A1", "A2", "A3", "A4"}, optional
        Type of the AO Spine classification instead: sets type, plates, split and retropulsion where they are not given.
    loss_percent : float, optional
        Greatest loss of height to be measured on the result, against the vertebra's own healthy height, to 80.
    genant_grade : {1, 2, 3}, optional
        Instead of a loss: one is drawn inside the grade (20-25, 25-40, 40-60 percent) by the seed.
    position : {"anterior", "left", "right", "central"}, optional
        Where a wedge is lowest; biconcave and crush fractures are central.
    plates : {"superior", "inferior", "both"}, optional
        Which end plates broke; by default the superior one of a wedge, and both of the other types.
    retropulsion_mm : float
        How far the upper back corner is pushed into the canal.
    cortical_step_mm : float
        How far the upper front corner steps forward.
    split_mm : float
        Width of a coronal split of the body (pincer, AO A2).
    age_months : float
        Age of the fracture: the impacted bone is dense when it is fresh and remodels in months.
    cleft : {"none", "fluid", "gas"}
        What fills a cleft in the front of the impacted bone.
    compensation : float
        Share of the angulation that the discs above take back, as a lying patient's do (assumed).
    """

    kind: ClassVar[str] = "fracture"
    stage: ClassVar[int] = 5
    sized: ClassVar[bool] = True

    level: str
    type: Type = "wedge"
    ao: Literal["A1", "A2", "A3", "A4"] | None = None
    loss_percent: float | None = Field(default=None, gt=0, le=MOST_LOST)
    genant_grade: Literal[1, 2, 3] | None = None
    position: Position | None = None
    plates: Literal["superior", "inferior", "both"] | None = None
    retropulsion_mm: float = Field(default=0.0, ge=0, le=8)
    cortical_step_mm: float = Field(default=0.0, ge=0, le=4)
    split_mm: float = Field(default=0.0, ge=0, le=5)
    age_months: float = Field(default=0.0, ge=0)
    cleft: Literal["none", "fluid", "gas"] = "none"
    compensation: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _classified(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("ao") == "A0":
            raise ValueError(
                "expected an AO type of the body, got A0, which breaks a process; ask for process_fracture"
            )
        if not isinstance(data, Mapping) or str(data.get("ao")) not in AO_TYPES:
            return data
        meant = AO_TYPES[data["ao"]]
        given = {key: value for key, value in data.items() if value is not None}
        if given.get("type", meant["type"]) != meant["type"]:
            raise ValueError(f"expected the type {meant['type']} of AO {data['ao']}, got {given['type']}; leave it out")
        return meant | given

    @field_validator("level")
    @classmethod
    def _known_level(cls, text: str) -> str:
        return read_body_level(text).name

    @model_validator(mode="after")
    def _one_size(self) -> Fracture:
        loss, grade = self.loss_percent, self.genant_grade
        inside = None not in (loss, grade) and grade == grade_of((loss or 0) / 100)
        if (loss is None) == (grade is None) and not inside:
            raise ValueError("expected either a loss of height or a Genant grade, got none or two; give one of them")
        if (self.where == "central") != (self.type != "wedge"):
            raise ValueError(f"expected a {self.type} fracture {_USUAL[self.type]}, got {self.where}; leave it out")
        return self

    @property
    def place(self) -> str:
        """Where it is."""
        return self.level

    @property
    def joints_yield(self) -> None:
        """It leaves that to what it is combined with."""
        return

    @property
    def strain_mm(self) -> float:
        """What is promised: the broken bone gives way, and its neighbours stay as they are."""
        return FRACTURE_STRAIN_MM

    @property
    def excuses(self) -> Excuses:
        """A lower body shortens the spine, and what is pushed back narrows its canal."""
        narrowed = {"canal": frozenset({self.at})} if self.retropulsion_mm else {}
        return {"length": EVERYWHERE, **narrowed}

    def shortens(self, upper: Level, lower: Level) -> bool:
        """A lower body brings its centre nearer to both neighbours."""
        return self.at in (upper, lower)

    @property
    def at(self) -> Level:
        """The level."""
        return parse_level(self.level)

    @property
    def where(self) -> Position:
        """Where it is lowest, the usual place if none was asked."""
        return self.position or ("anterior" if self.type == "wedge" else "central")

    @property
    def broken(self) -> tuple[bool, bool]:
        """Whether the superior and the inferior end plate broke."""
        plates = self.plates or ("superior" if self.type == "wedge" else "both")
        return plates != "inferior", plates != "superior"

    @property
    def goal(self) -> str:
        """What its loss is called among the goals."""
        return f"loss_{self.level}_percent"


_USUAL = {"wedge": "anterior, left or right", "biconcave": "central", "crush": "central"}


@settle.register
def _(fracture: Fracture, seed: int) -> Fracture:
    if fracture.genant_grade is None or fracture.loss_percent is not None:
        return fracture
    ends = (*(100 * loss for loss in GENANT_LOSS), SEVEREST)
    low, high = ends[fracture.genant_grade - 1] + WITHIN_GRADE, ends[fracture.genant_grade] - WITHIN_GRADE
    drawn = np.random.default_rng((seed, fracture.at)).uniform(low, high)
    return fracture.model_copy(update={"loss_percent": round(float(drawn), 2)})


@goals_of.register
def _(fracture: Fracture) -> Goals:
    return {fracture.goal: fracture.loss_percent} if fracture.loss_percent is not None else {}


@read_goals.register
def _(fracture: Fracture, measures: Measures, native: Measures) -> Goals:
    loss = _loss(fracture, measures, native)
    return {fracture.goal: 100 * loss.worst if loss else float("nan")}


def _loss(fracture: Fracture, measures: Measures, native: Measures) -> HeightLoss | None:
    """What the body lost, where it can be measured before and after."""
    heights, healthy = measures.heights.get(fracture.at), native.heights.get(fracture.at)
    return height_loss(heights, healthy) if heights and healthy else None


@outcome_of.register
def _(fracture: Fracture, measures: Measures, native: Measures) -> Mapping[str, Any]:
    loss = _loss(fracture, measures, native)
    if loss is None:
        return {}
    lost = {
        f"{place}_loss_percent": 100 * getattr(loss, place)
        for place in ("anterior", "middle", "posterior", "left", "right")
    }
    return {"level": fracture.level, "type": loss.type, "genant_grade": loss.grade, **lost}


@remarks_on.register
def _(fracture: Fracture, measures: Measures, native: Measures) -> tuple[str, ...]:
    loss = _loss(fracture, measures, native)
    if loss is None:
        return ()
    remarks = []
    if loss.grade and loss.type != fracture.type:
        remarks.append(f"{fracture.level} is asked as a {fracture.type} fracture and measures as {loss.type}")
    if fracture.genant_grade and loss.grade != fracture.genant_grade:
        remarks.append(f"{fracture.level} is asked with Genant grade {fracture.genant_grade}, measured {loss.grade}")
    if fracture.where in ("anterior", "central") and measures.genant.get(fracture.at) not in (None, loss.grade):
        remarks.append(
            f"{fracture.level} has Genant grade {loss.grade} against its own healthy heights, and "
            f"{measures.genant[fracture.at]} by its front, middle and neighbours alone: it was not square before"
        )
    return tuple(remarks)


@limits_of.register
def _(fracture: Fracture, measures: Measures, native: Measures) -> tuple[Limit, ...]:
    loss = _loss(fracture, measures, native)
    if loss is None or fracture.type != "wedge":
        return ()
    edge = STANDS[fracture.where]
    return (
        Limit(
            "a wedge loses no more of its height at the edge that stands",
            f"the {edge} edge of {fracture.level}",
            100 * getattr(loss, edge),
            100 * (WALL_SHARE + MEASURED_MM / getattr(native.heights[fracture.at], edge)),
            "percent",
            hard=not fracture.retropulsion_mm,  # a burst breaks that wall
        ),
    )


@propose.register
def _(fracture: Fracture, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    vertebra = require_whole("fracture", fracture.at, spine)
    lost = aim[fracture.goal] / 100
    broken = _break(fracture, vertebra, lost)
    if broken.room_mm <= 0:
        nearest = np.floor(100 * _possible(fracture, vertebra, lost))
        raise OutOfReachError(f"fracture of {fracture.level}: expected room between its plates", nearest, "percent")
    motions = _follow(fracture, spine, broken)
    anchors = [Anchor(v.level, Part.WHOLE, Motion(v.centre, motions[v.level])) for v in spine if v.level != fracture.at]
    anchors += [
        Anchor(fracture.at, piece.part, Motion(vertebra.centre, piece.knots), piece.where, yields=True)
        for piece in broken.pieces
    ]
    tissue = Tissue(fracture.at, _impaction(fracture, broken.in_cleft))
    plates = broken.base[-1], broken.superior[-1], broken.inferior[-1]
    moved = tuple(v.moved(*plates) if v is vertebra else v.moved(motions[v.level][-1]) for v in spine)
    details = {"type": fracture.type, "loss_percent": fracture.loss_percent, "greatest_sink_mm": broken.sink_mm}
    details |= {"angulation_deg": float(np.rad2deg(np.linalg.norm(broken.turn)))}
    plan = Plan(tuple(sorted(anchors, key=lambda anchor: anchor.level)), (tissue,), broken.detail_mm, bends=True)
    return Proposal(*keep_lying(spine, plan, Spine(moved)), details)


def _break(fracture: Fracture, vertebra: Vertebra, lost: float) -> BrokenBody:
    how = Break(fracture.type, fracture.where, fracture.broken, lost)
    return break_body(vertebra, how, Displaced(fracture.retropulsion_mm, fracture.cortical_step_mm, fracture.split_mm))


def _possible(fracture: Fracture, vertebra: Vertebra, lost: float) -> float:
    """The share that can be lost with room between the plates, which are the thicker the less is lost."""
    while (broken := _break(fracture, vertebra, lost)).room_mm <= 0:
        lost = lost * (1 + broken.room_mm / broken.sink_mm) - LOSS_STEP
    return lost


def _follow(fracture: Fracture, spine: Spine, broken: BrokenBody) -> dict[Level, Float[np.ndarray, "k 4 4"]]:
    """How every other level moves: below the fracture not at all, above it as its plate, less what the discs take back.

    The joints above the neighbour share the compensation, each within its flexion limit.
    """
    rank = spine.levels.index(fracture.at)
    motions = dict.fromkeys(spine.levels, hold_still())
    moving, bending = broken.above, 0
    joints = min(COMPENSATING, max(rank - 1, 0))
    back = -fracture.compensation * broken.turn / max(joints, 1)
    for upper in range(rank - 1, -1, -1):
        if upper < rank - 1 and bending < joints:
            below = spine.vertebrae[upper + 1]
            most = np.deg2rad(flexion_limit_deg(below.level))
            turn = back * min(1.0, most / max(float(np.linalg.norm(back)), 1e-9))
            pivot = (spine.vertebrae[upper].inferior.centre + below.superior.centre) / 2
            moving, bending = moving @ even_motion(pivot, turn, None), bending + 1
        motions[spine.levels[upper]] = moving
    return motions


def _impaction(fracture: Fracture, in_cleft: Where) -> Callable[[Squeezed], Float[np.ndarray, " n"]]:
    """What the bone's CT becomes: as dense as its mass asks, as far as it has not remodelled, and the cleft filled."""
    fresh = float(np.exp(-fracture.age_months / REMODELLED_MONTHS))

    def become(seen: Squeezed) -> Float[np.ndarray, " n"]:
        hu = seen.condensed(np.clip(seen.density, 0.0, DENSEST), fresh)
        if fracture.cleft == "none":
            return hu
        inside = in_cleft(seen.rest)
        return np.where(inside, seen.filled(CLEFT_HU[fracture.cleft], inside), hu)

    return become
