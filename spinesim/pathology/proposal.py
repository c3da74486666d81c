"""What every pathology gives: a plan for a spine, and how to read its goals off the result.

A pathology is one file: a frozen parameter object, and functions registered for it here (``goals_of``,
``read_goals`` and ``propose``; the others if it has something to say). What deforms the scan knows none by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.plan import Plan
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Spine

Goals = Mapping[str, float]


Excuses = Mapping[str, frozenset[Level]]
"""Rules of plausibility that may be broken, and the levels at which."""

EVERYWHERE = frozenset(Level)

STRAIN_MM = 0.2
"""How far a field may stray from a rigid motion over a bone that moves as a whole (RMS), where nothing else is said."""


class Pathology(BaseModel):
    """Parameters of a pathology.

    ``kind`` is its name in configurations; of several on one spine, those of an earlier ``stage`` come first. One that
    ``resizes`` bones may come before one that is ``sized``, whose parts and goals are told by the sizes of the bones
    that it finds; not before one that is ``scanned``, told by sizes in the scan. There may be ``several`` at one place,
    told apart by a parameter ``nth``.

    Parameters
    ----------
    allow_implausible : bool
        Whether a rule of plausibility that is broken is told instead of refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: ClassVar[str]
    stage: ClassVar[int]
    resizes: ClassVar[bool] = False
    sized: ClassVar[bool] = False
    scanned: ClassVar[bool] = False
    several: ClassVar[bool] = False

    allow_implausible: bool = False

    @property
    def may_be_implausible(self) -> bool:
        """Whether broken rules are told, not refused."""
        return self.allow_implausible

    def allowed(self) -> Self:
        """The same, but allowed to be implausible."""
        return self.model_copy(update={"allow_implausible": True})

    @property
    def excuses(self) -> Excuses:
        """Rules of plausibility (``spinesim.series.plausibility``) that it is about to break, and at which levels."""
        return {}

    @property
    def joints_yield(self) -> bool | None:
        """Whether joints give way where it would press bones into each other: no, where joints are what it is about.

        None leaves it to what it is combined with.
        """
        return False

    @property
    def strain_mm(self) -> float:
        """How far the field may stray from rigid motions over bones that move as a whole (RMS)."""
        return STRAIN_MM

    @property
    def keeps_bones(self) -> bool:
        """Whether a bone that is strained farther, or changes its volume, refuses the result; else it is told."""
        return False

    def smaller(self, share: float) -> Self | None:
        """The same with whole numbers of about a share of what is asked; None where less cannot be told by a share."""
        return None

    @property
    def goes_alone(self) -> bool:
        """Whether it cannot be planned together with others."""
        return False

    @property
    def needs_structures(self) -> bool:
        """Whether a label map of vertebrae alone is not enough."""
        return False

    def shortens(self, upper: Level, lower: Level) -> bool:
        """Whether it brings the bodies of two neighbours nearer together, by what is lost of them or between them."""
        return False

    @property
    def place(self) -> str:
        """Where it is, if it can be at several places of one spine at once: one at each, by this name."""
        return ""

    def beside(self, others: Iterable[BaseModel]) -> Self:
        """The same, or, where there may be several, with the next ``nth`` that makes its title another than theirs."""
        titles, nth = {getattr(each, "title", "") for each in others}, getattr(self, "nth", 1)
        named = self
        while self.several and named.title in titles:
            named, nth = self.model_copy(update={"nth": nth + 1}), nth + 1
        return named

    @property
    def pinned(self) -> bool:
        """Whether its place is said to the millimetre; others make room for it."""
        return False

    @property
    def title(self) -> str:
        """What it is and where, in words."""
        return f"{self.kind} at {self.place}" if self.place else self.kind

    @property
    def key(self) -> str:
        """The same, as a key of the record."""
        return self.title.replace(" at ", "_").replace(" ", "_")


@dataclass(frozen=True, eq=False)
class Proposal:
    """A plan, the spine that it makes, and what is worth knowing about it (``details``, for the record as they are)."""

    plan: Plan
    moved: Spine
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@singledispatch
def goals_of(pathology: BaseModel) -> Goals:
    """Name what a pathology asks for, as numbers with their unit in the name (``cobb_deg``)."""
    raise TypeError(f"goals_of: expected a registered pathology, got {type(pathology).__name__}")


TOLERANCES = {"deg": 1.0, "percent": 2.0}
"""How far a goal may be missed, by the unit at the end of its name."""


@singledispatch
def tolerances_of(pathology: BaseModel) -> Goals:
    """How far each goal may be missed on the result, in its unit; the usual tolerance of that unit."""
    return {goal: TOLERANCES[goal.rpartition("_")[2]] for goal in goals_of(pathology)}


@singledispatch
def settle(pathology: BaseModel, seed: int) -> BaseModel:
    """Draw by a seed what a pathology leaves open among its own numbers (a loss inside a grade); most leave nothing."""
    return pathology


@singledispatch
def seat(
    pathology: BaseModel, labels: LabelMap, spine: Spine, seed: int, beside: Sequence[BaseModel] = ()
) -> BaseModel:
    """Choose the place in a scan where a pathology leaves it open; most are where their level is.

    ``beside`` are those that have their place in this scan already.

    Raises
    ------
    PathologyError
        When the scan has no such place, or too little room there.
    """
    return pathology


@singledispatch
def read_goals(pathology: BaseModel, measures: Measures, native: Measures) -> Goals:
    """Read the same numbers off a measured spine; ``native`` is what the spine measured before."""
    raise TypeError(f"read_goals: expected a registered pathology, got {type(pathology).__name__}")


@singledispatch
def outgrow(pathology: BaseModel, native: Measures) -> Measures:
    """What a spine measures once a pathology has changed its sizes, to hold later ones against; most change none."""
    return native


@singledispatch
def remarks_on(pathology: BaseModel, measures: Measures, native: Measures) -> tuple[str, ...]:
    """Say what came out otherwise than asked and is no goal; nothing, for a pathology that registers nothing."""
    return ()


@dataclass(frozen=True)
class Limit:
    """A rule of a pathology's own: what was measured at a place, and what it may be at most; a ``hard`` one refuses."""

    rule: str
    place: str
    value: float
    most: float
    unit: str
    hard: bool = True


@singledispatch
def limits_of(pathology: BaseModel, measures: Measures, native: Measures) -> tuple[Limit, ...]:
    """Hold what was measured against rules of the pathology's own; none, for a pathology that registers nothing."""
    return ()


@singledispatch
def outcome_of(pathology: BaseModel, measures: Measures, native: Measures) -> Mapping[str, Any]:
    """Tell what was measured of a pathology beside its goals, for the record (a fracture's type and grade)."""
    return {}


@singledispatch
def propose(pathology: BaseModel, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    """Plan a pathology for a spine so that the moved spine meets ``aim`` (what was asked, or that plus a correction).

    ``seed`` draws what the pathology leaves to chance; the same one draws the same, whatever the aim.

    Raises
    ------
    PathologyError
        When this spine cannot take it; the message names the rule and the nearest possible value.
    """
    raise TypeError(f"propose: expected a registered pathology, got {type(pathology).__name__}")
