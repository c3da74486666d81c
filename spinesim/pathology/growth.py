"""Skeletal growth: vertebrae, spine and trunk get larger, from one age to another."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field, model_validator
from scipy.interpolate import PchipInterpolator

from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.plan import KNOTS, Anchor, Motion, Part, Plan, motions_about
from spinesim.anatomy.stretch import stretch_along
from spinesim.anatomy.vertebra import BodyHeights, Spine
from spinesim.errors import PathologyError
from spinesim.pathology.proposal import (
    EVERYWHERE,
    Excuses,
    Goals,
    Pathology,
    Proposal,
    goals_of,
    outgrow,
    propose,
    read_goals,
    tolerances_of,
)

Sex = Literal["female", "male"]

THORACIC_CM: dict[Sex, dict[float, float]] = {
    "female": {0: 11.0, 5: 18.0, 10: 22.0, 11.5: 23.1, 16: 26.5},
    "male": {0: 11.0, 5: 18.0, 10: 22.0, 13.5: 24.4, 18: 28.0},
}
LUMBAR_CM: dict[Sex, dict[float, float]] = {
    "female": {0: 7.0, 5: 10.5, 10: 12.5, 11.5: 13.5, 16: 15.5},
    "male": {0: 7.0, 5: 10.5, 10: 12.5, 13.5: 13.9, 18: 16.0},
}
"""Length of T1 to T12 and of L1 to L5 by age (Dimeglio; recalled). At the peak of height velocity, taken at 11.5 and
13.5 years, the spine has 87 % of its adult length (Sanders 2025)."""

YOUNGEST, OLDEST = 2.0, 25.0
"""Before the second birthday vertebrae have another form."""

BREADTH = 0.85
"""Bodies get broader as this power of how much they get higher: their height gains on their depth from the age of 4
(Brandner 1970; the power is assumed)."""

SKIN_DEPTHS = 2.2
"""The skin of the back, which keeps lying on the table, is so many depths of a body behind its centre (assumed)."""

TOLERANCE_PERCENT, TOLERANCE_SHARE = 0.5, 0.02
"""How far growth in length may be missed: in points, or as a share of a long growth."""


class Growth(Pathology):
    """Growing up, as it is asked for.

    Parameters
    ----------
    sex : {"female", "male"}
        Whose growth chart is followed.
    from_age, to_age : float
        In years, from 2; after 16 (female) or 18 (male) years nothing grows.
    """

    kind: ClassVar[str] = "growth"
    stage: ClassVar[int] = 0
    resizes: ClassVar[bool] = True

    sex: Sex
    from_age: float = Field(ge=YOUNGEST, le=OLDEST)
    to_age: float = Field(ge=YOUNGEST, le=OLDEST)

    @model_validator(mode="after")
    def _grows(self) -> Growth:
        if self.from_age >= self.to_age:
            raise ValueError(f"expected an age to grow to above {self.from_age:g}, got {self.to_age:g}; exchange them")
        grown_up = max(THORACIC_CM[self.sex])
        if self.from_age >= grown_up:
            raise ValueError(f"expected an age to grow from below {grown_up:g}, got {self.from_age:g}; nothing grows")
        return self

    @property
    def excuses(self) -> Excuses:
        """It lengthens the spine."""
        return {"length": EVERYWHERE}

    @property
    def percent(self) -> float:
        """What the spine gains in length."""
        return 100 * (spine_length_cm(self.to_age, self.sex) / spine_length_cm(self.from_age, self.sex) - 1)


def spine_length_cm(age: float, sex: Sex) -> float:
    """Length of the spine from T1 to L5 at an age (years), by the growth charts, monotone between them."""
    return float(sum(chart(min(age, chart.x[-1])) for chart in _charts(sex)))


@cache
def _charts(sex: Sex) -> tuple[PchipInterpolator, ...]:
    return tuple(PchipInterpolator(list(chart[sex]), list(chart[sex].values())) for chart in (THORACIC_CM, LUMBAR_CM))


@goals_of.register
def _(growth: Growth) -> Goals:
    return {"growth_percent": growth.percent}


@tolerances_of.register
def _(growth: Growth) -> Goals:
    return {"growth_percent": max(TOLERANCE_PERCENT, TOLERANCE_SHARE * growth.percent)}


@read_goals.register
def _(growth: Growth, measures: Measures, native: Measures) -> Goals:
    both = measures.steps_mm.keys() & native.steps_mm.keys()
    if not both:
        return {"growth_percent": float("nan")}
    after, before = (sum(each.steps_mm[pair] for pair in both) for each in (measures, native))
    return {"growth_percent": 100 * (after / before - 1)}


@outgrow.register
def _(growth: Growth, native: Measures) -> Measures:
    longer = 1 + growth.percent / 100
    heights = {
        level: BodyHeights(**{place: longer * mm for place, mm in asdict(own).items()})
        for level, own in native.heights.items()
    }
    discs = tuple(replace(disc, height_mm=longer * disc.height_mm) for disc in native.discs)
    steps = {pair: longer * mm for pair, mm in native.steps_mm.items()}
    return replace(native, heights=heights, discs=discs, steps_mm=steps)


@propose.register
def _(growth: Growth, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    if sum(v.measured for v in spine) < 2:
        raise PathologyError("growth: expected two whole vertebrae of the scan, got fewer; take a longer one")
    longer = 1 + aim["growth_percent"] / 100
    shares = np.linspace(0, 1, KNOTS)
    factors = np.column_stack([longer ** (power * shares) for power in (BREADTH, BREADTH, 1.0)])
    ways = _ways(spine, factors)
    stretches = {v.level: stretch_along(v.axes, factors) for v in spine}
    motions = {v.level: motions_about(stretches[v.level], v.centre, ways[v.level]) for v in spine}
    anchors = tuple(Anchor(v.level, Part.WHOLE, Motion(v.centre, motions[v.level])) for v in spine)
    moved = Spine(tuple(v.moved(motions[v.level][-1]) for v in spine))
    details: dict[str, Any] = {
        f"{name}_length_cm": spine_length_cm(age, growth.sex)
        for name, age in (("from", growth.from_age), ("to", growth.to_age))
    }
    details |= {"longer": longer, "broader": longer**BREADTH}
    return Proposal(Plan(anchors, around=_around(spine, factors)), moved, details)


def _ways(spine: Spine, factors: Float[np.ndarray, "k 3"]) -> dict[Level, Float[np.ndarray, "k 3"]]:
    """Where the centre of each level goes: bodies and discs are stacked again, each stretched along its own axes."""
    lowest = spine.vertebrae[-1]
    ways = {lowest.level: lowest.centre + (factors[:, :1] - 1) * (lowest.centre - _skin(spine))}
    for above, below in reversed(list(pairwise(spine))):
        middle = (above.axes + below.axes) / 2
        pieces = (
            (below.axes, below.superior.centre - below.centre),
            (middle, above.inferior.centre - below.superior.centre),
            (above.axes, above.centre - above.inferior.centre),
        )
        step = sum(stretch_along(axes, factors) @ piece for axes, piece in pieces)
        ways[above.level] = ways[below.level] + step
    return ways


def _skin(spine: Spine) -> Float[np.ndarray, " 3"]:
    """The point of the back's skin behind the lowest level."""
    lowest = spine.vertebrae[-1]
    return lowest.centre - SKIN_DEPTHS * lowest.depth_mm * spine.patient_axes[:, 1]


def _around(spine: Spine, factors: Float[np.ndarray, "k 3"]) -> Motion:
    """The trunk's outline grows as the spine does, from where the back lies."""
    pivot = _skin(spine)
    return Motion(pivot, motions_about(stretch_along(spine.patient_axes, factors), pivot, np.tile(pivot, (KNOTS, 1))))
