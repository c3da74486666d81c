"""Lesion: a growth inside a labelled structure, by its size at a time, its law of growth, its matter and its form."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, Field, field_validator, model_validator

from spinesim.anatomy.levels import Level, parse_level
from spinesim.anatomy.measure import Measures, ball_diameter_mm, ball_volume_ml
from spinesim.anatomy.plan import (
    Anchor,
    Mass,
    Motion,
    Part,
    Plan,
    Points,
    Region,
    Squeezed,
    Where,
    even_motion,
    hold_still,
)
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import LabelError, PathologyError
from spinesim.pathology.lump import draw_lump
from spinesim.pathology.proposal import (
    Excuses,
    Goals,
    Pathology,
    Proposal,
    goals_of,
    outcome_of,
    propose,
    read_goals,
    seat,
    tolerances_of,
)
from spinesim.pathology.site import CORTEX_MM, Neighbour, find_site, structure_number

Law = Literal["exponential", "gompertz", "power"]
Type = Literal["lytic", "sclerotic", "mixed", "solid", "part-solid"]
Position = Literal["anterior", "posterior", "central", "superior", "inferior"]
Side = Literal["right", "left"]

DOUBLING_DAYS: dict[Type, float] = {"lytic": 120, "sclerotic": 200, "mixed": 160, "solid": 267, "part-solid": 598}
"""Time in which the volume doubles: solid and part-solid lung nodules as read (PMC5945695), the others assumed."""

HU: dict[str, tuple[float, float]] = {
    "lytic": (40.0, 20.0),
    "sclerotic": (600.0, 100.0),
    "solid": (40.0, 10.0),
    "ground glass": (-600.0, 60.0),
}
"""HU and their mottle (recalled; the ground glass of part-solid nodules is assumed)."""

SOLID_CORE = 0.6
"""Share of a part-solid lesion's radius that is solid."""

CARRYING_CAPACITY = 1000.0
"""A Gompertz lesion ends at so many times the volume at which it doubles as fast as is said (assumed)."""

DAYS_A_MONTH = 365.25 / 12

PUSHED, CORE_FROM = 20, 0.6
"""The sides of an expanding lesion's core that are carried outwards, from this share of its radius. (A core that were
scaled as one would pull at tissue the more, the farther away it is.)"""

CORE_VOXELS = 2.0
"""The core of an expanding lesion has a radius of so many voxels at least."""

DETAIL_MM = 1.5
"""Finest shape that an expanding lesion makes."""

ROUNDED_MM = 0.02
"""How far apart centres may have come by the rounding of their millimetres."""

RIM = 1.3
"""A vertebra gives way to an expanding lesion as far out as so many of its radii."""


class Lesion(Pathology):
    """A lesion, as it is asked for.

    Parameters
    ----------
    structure : str
        A level (``L1``), a structure of TotalSegmentator (``lung_upper_lobe_left``, ``liver``) in a label map that has
        it, or ``label 57`` for any other number.
    diameter_mm, volume_ml : float
        One of the two: its size when it has grown, to be measured on the result; the diameter is that of a ball of the
        same volume.
    type : {"lytic", "sclerotic", "mixed", "solid", "part-solid"}, optional
        What it is made of; by default lytic in a vertebra and solid elsewhere.
    side, position : optional
        Where in the structure: the patient's left or right, and anterior, posterior, central, superior or inferior.
        What is left open is drawn by the seed. In a vertebra it is in the body.
    offset_mm, centre_mm : (3,) floats, optional
        Instead: its centre from the middle of a vertebra's body (right, anterior, superior), or in the world (RAS).
    over_months, months : float
        It has its size after growing for so long; ``months`` is the time to simulate, by default then.
    law : {"exponential", "gompertz", "power"}
        How its volume grows; ``power`` by its surface.
    doubling_days : float, optional
        In which its volume has doubled at last; by default usual for the type.
    irregularity, spiculation : float
        From 0 to 1: uneven sides, and rays.
    expansion : float
        Share of its volume that pushes its structure apart instead of taking its place: what lies around is pressed
        together, and where the surface is near it bulges. In other structures than vertebrae only by itself.
    breach : bool
        Whether it grows through the cortex or the boundary of its structure.
    label : int, optional
        Number of the structure in the label map; found by itself.
    nth : int
        Which of several in its structure it is; found by itself, in the order given.
    """

    kind: ClassVar[str] = "lesion"
    stage: ClassVar[int] = 6
    several: ClassVar[bool] = True

    structure: str
    diameter_mm: float | None = Field(default=None, gt=0, le=150)
    volume_ml: float | None = Field(default=None, gt=0, le=1000)
    type: Type | None = None
    side: Side | None = None
    position: Position | None = None
    offset_mm: tuple[float, float, float] | None = None
    centre_mm: tuple[float, float, float] | None = None
    over_months: float = Field(default=0.0, ge=0, le=240)
    months: float | None = Field(default=None, ge=0, le=240)
    law: Law = "exponential"
    doubling_days: float | None = Field(default=None, ge=5, le=5000)
    irregularity: float = Field(default=0.2, ge=0, le=1)
    spiculation: float = Field(default=0.0, ge=0, le=1)
    expansion: float = Field(default=0.0, ge=0, le=0.8)
    breach: bool = False
    label: int | None = Field(default=None, ge=1)
    nth: int = Field(default=1, ge=1, le=200)

    @field_validator("structure")
    @classmethod
    def _known(cls, text: str) -> str:
        name = "_".join(text.strip().lower().split())
        if name in STRUCTURES and not name.startswith("vertebrae_"):
            return name
        if name.startswith("label_") and name[6:].isdigit() and int(name[6:]) > 0:
            return f"label {int(name[6:])}"
        try:
            return parse_level(name.removeprefix("vertebrae_")).name
        except LabelError as error:
            near = difflib.get_close_matches(name, STRUCTURES, n=1)
            raise ValueError(
                f"expected a level (L1), a structure of TotalSegmentator (liver) or a label (label 57), got {text!r}; "
                f"{f'did you mean {near[0]!r}?' if near else 'name one'}"
            ) from error

    @model_validator(mode="after")
    def _fits(self) -> Lesion:
        if (self.diameter_mm is None) == (self.volume_ml is None):
            raise ValueError("expected either a diameter or a volume, got none or both; give one of them")
        if self.offset_mm is not None and self.at is None:
            raise ValueError(f"expected an offset in vertebrae only, got one in {self.structure}; give centre_mm")
        if sum([self.offset_mm is not None, self.centre_mm is not None, bool(self.side or self.position)]) > 1:
            raise ValueError("expected one way to say where it is, got more; leave all but one out")
        if self.months is not None and self.months > self.over_months:
            raise ValueError(
                f"expected a time within the {self.over_months:g} months of its growth, got {self.months:g}; "
                "raise over_months"
            )
        return self

    @property
    def place(self) -> str:
        """Where it is, with its number from the second one on (``L3-2``)."""
        return self.structure if self.nth == 1 else f"{self.structure}-{self.nth}"

    @property
    def pinned(self) -> bool:
        """Whether its centre is given."""
        return self.offset_mm is not None or self.centre_mm is not None

    @property
    def at(self) -> Level | None:
        """The level that it is in, if it is in one."""
        return Level[self.structure] if self.structure in Level.__members__ else None

    @property
    def matter(self) -> Type:
        """What it is made of, asked or usual."""
        return self.type or ("solid" if self.at is None else "lytic")

    @property
    def goes_alone(self) -> bool:
        """What it pushes apart is no vertebra, which a curve would move."""
        return bool(self.expansion) and self.at is None

    @property
    def joints_yield(self) -> None:
        """It leaves that to what it is combined with."""
        return

    @property
    def excuses(self) -> Excuses:
        """What leaves its bone may grow into the canal."""
        if self.at is None or not (self.breach or self.expansion):
            return {}
        return {"canal": frozenset({self.at})}

    @property
    def needs_structures(self) -> bool:
        """Whether a label map of vertebrae alone does not hold its structure."""
        return self.at is None

    @property
    def grown_ml(self) -> float:
        """Volume when it has grown."""
        return self.volume_ml if self.volume_ml is not None else ball_volume_ml(self.diameter_mm or 0.0)

    @property
    def doubling(self) -> float:
        """Days in which its volume doubles, asked or usual."""
        return self.doubling_days or DOUBLING_DAYS[self.matter]

    @property
    def volume(self) -> float:
        """Volume (ml) at the time to simulate."""
        return self.volume_at(self.over_months if self.months is None else self.months)

    @property
    def cortex_mm(self) -> float:
        """How far it keeps from the surface of its structure."""
        return 0.0 if self.at is None or self.breach else CORTEX_MM

    def volume_at(self, months: float) -> float:
        """Volume (ml) at a time of its growth."""
        left = (self.over_months - months) * DAYS_A_MONTH
        doubling = self.doubling
        if self.law == "exponential":
            return self.grown_ml * 2 ** (-left / doubling)
        if self.law == "power":
            return self.grown_ml * max(0.0, 1 - (1 - 2 ** (-1 / 3)) * left / doubling) ** 3
        first = np.log(2) / doubling  # the rate at the end of the time, which slows towards the capacity
        fade = first / np.log(CARRYING_CAPACITY)
        return float(self.grown_ml * np.exp(-np.log(CARRYING_CAPACITY) * (np.exp(fade * left) - 1)))

    @property
    def goal(self) -> str:
        """What its size is called among the goals."""
        size = "volume_{}_ml" if self.diameter_mm is None else "diameter_{}_mm"
        return size.format(self.place.replace(" ", "_"))

    @property
    def entropy(self) -> tuple[int, ...]:
        """What its draws are told apart by from those of others with the same seed."""
        return (*self.structure.encode(), *((self.nth,) if self.nth > 1 else ()))


@goals_of.register
def _(lesion: Lesion) -> Goals:
    volume = lesion.volume
    return {lesion.goal: volume if lesion.diameter_mm is None else ball_diameter_mm(volume)}


@tolerances_of.register
def _(lesion: Lesion) -> Goals:
    return {name: 0.05 * asked for name, asked in goals_of(lesion).items()}


@read_goals.register
def _(lesion: Lesion, measures: Measures, native: Measures) -> Goals:
    volume = measures.masses_ml.get(lesion.title, 0.0)
    return {lesion.goal: volume if lesion.diameter_mm is None else ball_diameter_mm(volume)}


@outcome_of.register
def _(lesion: Lesion, measures: Measures, native: Measures) -> Mapping[str, Any]:
    volume = measures.masses_ml.get(lesion.title, 0.0)
    return {"structure": lesion.structure, "volume_ml": volume, "diameter_mm": ball_diameter_mm(volume)}


@seat.register
def _(lesion: Lesion, labels: LabelMap, spine: Spine, seed: int, beside: Sequence[BaseModel] = ()) -> Lesion:
    number = structure_number(lesion.structure, labels)
    if lesion.at is None and number in labels.levels:
        lesion = lesion.model_copy(update={"structure": labels.levels[number].name})
    lesion = lesion.beside(beside)
    radius = ball_diameter_mm(lesion.grown_ml) / 2
    others = [_as_neighbour(each, spine) for each in beside if isinstance(each, Lesion) and each.label == number]
    site = find_site(lesion.title, number, labels, spine, lesion.cortex_mm)
    if lesion.centre_mm is not None:
        centre = np.array(lesion.centre_mm)
    elif lesion.offset_mm is not None:
        centre = site.middle + site.axes @ np.array(lesion.offset_mm)
    else:
        ways = tuple(way for way in (lesion.side, lesion.position) if way)
        centre = site.draw(ways, radius, others, rng=np.random.default_rng((seed, *lesion.entropy)))
    _require_apart(lesion.title, centre, radius, others)
    site.require(centre, lesion.volume, breach=lesion.breach)
    least_mm = 2 * CORE_VOXELS * float(labels.grid.spacing_mm.max()) / (1 - lesion.expansion) ** (1 / 3)
    if lesion.expansion and ball_diameter_mm(lesion.volume) < least_mm:
        raise PathologyError(
            f"{lesion.title}: expected an expanding one of {least_mm:.0f} mm or more on these voxels, got "
            f"{ball_diameter_mm(lesion.volume):.0f} mm; ask for more, for no expansion, or take smaller voxels"
        )
    place = site.axes.T @ (centre - site.middle) if site.level else centre
    at = tuple(round(float(mm), 2) for mm in place)
    found = {"offset_mm": at, "centre_mm": None} if site.level else {"offset_mm": None, "centre_mm": at}
    return lesion.model_copy(update={"side": None, "position": None, "label": number, **found})


def _as_neighbour(lesion: Lesion, spine: Spine) -> Neighbour:
    """A lesion with its place, as others of its structure find it."""
    centre = np.array(lesion.centre_mm if lesion.at is None else lesion.offset_mm)
    if lesion.at is not None:
        centre = spine[lesion.at].centre + spine[lesion.at].axes @ centre
    return Neighbour(lesion.title, centre, ball_diameter_mm(lesion.grown_ml) / 2)


def _require_apart(title: str, centre: Float[np.ndarray, " 3"], radius_mm: float, others: Sequence[Neighbour]) -> None:
    """Refuse a centre from which a ball reaches into that of another one.

    Raises
    ------
    PathologyError
        Naming both.
    """
    for other in others:
        apart, least = float(np.linalg.norm(centre - other.centre)), radius_mm + other.radius_mm
        if apart < least - ROUNDED_MM:
            raise PathologyError(
                f"{title}: expected its centre {least:.1f} mm or more from that of the {other.title}, for they are "
                f"{2 * radius_mm:.1f} and {2 * other.radius_mm:.1f} mm wide, got {apart:.1f} mm; "
                "move one, or ask for smaller ones"
            )


@propose.register
def _(lesion: Lesion, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    size = aim[lesion.goal]
    volume = size if lesion.diameter_mm is None else ball_volume_ml(size)
    lump = draw_lump(lesion.irregularity, lesion.spiculation, rng=np.random.default_rng((seed, 1, *lesion.entropy)))
    centre = np.array(lesion.offset_mm if lesion.at is not None else lesion.centre_mm)
    mass = Mass(
        lesion.title,
        lesion.at or lesion.label or 0,
        centre,
        volume,
        lambda points: lump.reach(points - centre),
        lambda seen, reach: _matter(lesion.matter, seen, reach, lump.mottle(seen.rest)),
        lesion.cortex_mm,
        lesion.breach,
    )
    details = {"type": lesion.matter, "volume_ml": volume, "doubling_days": lesion.doubling}
    still = tuple(Anchor(v.level, Part.WHOLE, Motion(v.centre, hold_still())) for v in spine)
    plan = Plan(still, masses=(mass,))
    if lesion.expansion:
        plan = _expanding(lesion, plan, spine, centre, ball_diameter_mm(volume) / 2)
    return Proposal(plan, spine, details)


def _expanding(lesion: Lesion, plan: Plan, spine: Spine, centre: Float[np.ndarray, " 3"], radius_mm: float) -> Plan:
    """Make room for a lesion: the sides of its core are carried outwards; a vertebra's bone stays beyond its rim."""
    core_mm = radius_mm * (1 - lesion.expansion) ** (1 / 3)
    origin, axes = np.zeros(3), np.eye(3)
    if lesion.at is not None:
        origin, axes = spine[lesion.at].centre, spine[lesion.at].axes
    sides = _even_directions(PUSHED)

    def pushed(side: int) -> Where:
        """Outline what is nearest to a side of the core."""

        def where(points: Points) -> Bool[np.ndarray, " n"]:
            far = np.linalg.norm(points - centre, axis=1)
            nearest = ((points - centre) @ sides.T).argmax(axis=1) == side
            return nearest & (far > CORE_FROM * core_mm) & (far < core_mm)

        return where

    def motion(outward: Float[np.ndarray, " 3"]) -> Motion:
        pivot = origin + axes @ (centre + core_mm * outward)
        return Motion(pivot, even_motion(pivot, None, (radius_mm - core_mm) * axes @ outward))

    if lesion.at is None:
        regions = tuple(Region(centre, core_mm, pushed(side), motion(way)) for side, way in enumerate(sides))
        return replace(plan, regions=regions, detail_mm=DETAIL_MM)

    def beyond(points: Points) -> Bool[np.ndarray, " n"]:
        return np.linalg.norm(points - centre, axis=1) > RIM * radius_mm

    others = [anchor for anchor in plan.anchors if anchor.level != lesion.at]
    own = [Anchor(lesion.at, Part.ARCH, Motion(origin, hold_still()), beyond)]
    own += [Anchor(lesion.at, Part.SIDE, motion(way), pushed(side)) for side, way in enumerate(sides)]
    anchors = tuple(sorted([*others, *own], key=lambda anchor: anchor.level))
    return replace(plan, anchors=anchors, detail_mm=DETAIL_MM)


def _even_directions(count: int) -> Float[np.ndarray, "n 3"]:
    """Unit vectors evenly to all sides (a Fibonacci lattice)."""
    rank = np.arange(count) + 0.5
    height, turn = 1 - 2 * rank / count, np.pi * (1 + 5**0.5) * rank
    flat = np.sqrt(1 - height**2)
    return np.column_stack([flat * np.cos(turn), flat * np.sin(turn), height])


def _matter(
    matter: Type, seen: Squeezed, reach: Float[np.ndarray, " n"], mottle: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """HU inside a lesion; ``reach`` goes from 0 at its centre to 1 at its surface."""

    def of(name: str) -> Float[np.ndarray, " n"]:
        mean, spread = HU[name]
        return mean + spread * mottle

    if matter == "mixed":
        share = np.clip(0.5 + mottle, 0.0, 1.0)
        return share * of("sclerotic") + (1 - share) * of("lytic")
    if matter == "part-solid":
        return np.where(reach < SOLID_CORE, of("solid"), of("ground glass"))
    return of(matter)
