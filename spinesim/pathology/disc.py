"""Disc degeneration: discs that lost height, with vacuum, sclerotic end plates and osteophytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field, field_validator, model_validator

from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.plan import Anchor, Motion, Part, Plan, Points, Squeezed, Tissue, Where, even_motion, hold_still
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.errors import PathologyError
from spinesim.pathology.places import read_neighbours
from spinesim.pathology.proposal import (
    EVERYWHERE,
    Excuses,
    Goals,
    Pathology,
    Proposal,
    goals_of,
    propose,
    read_goals,
    tolerances_of,
)

Side = Literal["anterior", "left", "right"]
Vacuum = Literal["none", "partial", "full"]

LOSS_PERCENT = {3: 5.0, 4: 25.0, 5: 55.0}
"""Loss of height by Pfirrmann grade: normal to slightly, moderately decreased, collapsed (Pfirrmann 2001; assumed)."""

VACUUM_OF: dict[int, Vacuum] = {3: "none", 4: "partial", 5: "full"}
SCLEROSIS_HU_OF = {3: 0.0, 4: 100.0, 5: 250.0}
OSTEOPHYTE_MM_OF = {3: 0.0, 4: 2.0, 5: 4.0}
"""What usually comes along with a grade (assumed)."""

TOLERANCE_PERCENT = 6.0
"""How far a loss may be missed: half a millimetre of a lumbar disc."""

VACUUM_HU = -700.0
"""Gas with some disc in each voxel."""

VACUUM_SHARE: dict[str, tuple[float, float]] = {"partial": (0.45, 0.75), "full": (0.75, 0.95)}
"""Extent of a vacuum as shares of the half extents of the plates, and of the height that the disc had: as it sinks, its
middle is compressed the most."""

EDGE = 0.25
"""Half the width of the edge of a vacuum, as a share of its half extents."""

SCLEROSIS_MM = 5.0
"""Depth at which the density of a sclerotic plate has faded."""

LIP_SHARE, ROOT_SHARE = 0.8, 0.55
"""The rim that grows into an osteophyte begins at the first share of the half extents; behind the second the bone is
as it was."""

LIP_MM, ROOT_MM = 4.0, 9.0
"""The same below the plate: how deep the lip is, and how deep the bone that gives way."""

TOWARDS_DISC = 0.4
"""An osteophyte grows this many times as far towards the disc as outwards."""

DETAIL_MM = 1.5
"""Finest shape that growing rims make."""

BRIDGE_SHARES, BRIDGE_BREADTH = (0.86, 1.12), 0.5
"""A bridge of bone goes from rim to rim between these shares of the half extents, and so far aside."""

BRIDGE_EDGE, BRIDGE_HU = 0.08, 450.0
"""Half the width of its edge (share of the half extents), and its density: a shell with little marrow (assumed)."""

DIRECTIONS: dict[str, tuple[float, float]] = {"anterior": (0.0, 1.0), "left": (-1.0, 0.0), "right": (1.0, 0.0)}
"""In a vertebra's right and anterior."""


class DiscDegeneration(Pathology):
    """Degenerate discs, as they are asked for.

    Parameters
    ----------
    discs : tuple of str
        ``L4/L5``, one or more.
    pfirrmann_grade : {3, 4, 5}
        Sets what is not given below.
    loss_percent : float, optional
        Loss of each disc's height, to be measured on the result against its own before.
    wedge_deg : float
        How far each disc is wedged open to the patient's right (negative: to the left).
    vacuum : {"none", "partial", "full"}, optional
        Gas in the disc.
    sclerosis_hu : float, optional
        What the bone at the plates gains in density.
    osteophyte_mm : float, optional
        How far the rims grow out.
    osteophyte_sides : tuple of {"anterior", "left", "right"}
        Where they do.
    bridging : bool
        Whether those of both rims meet: bone fills what is left between them, and belongs to the nearer level.
    """

    kind: ClassVar[str] = "disc"
    stage: ClassVar[int] = 4
    sized: ClassVar[bool] = True

    discs: tuple[str, ...] = Field(min_length=1)
    pfirrmann_grade: Literal[3, 4, 5] = 4
    loss_percent: float | None = Field(default=None, gt=0, le=85)
    wedge_deg: float = Field(default=0.0, ge=-10, le=10)
    vacuum: Vacuum | None = None
    sclerosis_hu: float | None = Field(default=None, ge=0, le=600)
    osteophyte_mm: float | None = Field(default=None, ge=0, le=8)
    osteophyte_sides: tuple[Side, ...] = ("anterior", "left", "right")
    bridging: bool = False

    @field_validator("discs", mode="before")
    @classmethod
    def _listed(cls, discs: Any) -> Any:
        return (discs,) if isinstance(discs, str) else discs

    @field_validator("discs")
    @classmethod
    def _known_discs(cls, discs: tuple[str, ...]) -> tuple[str, ...]:
        named = tuple(sorted({_levels_of(disc) for disc in discs}))
        if len(named) < len(discs):
            raise ValueError(f"expected each disc once, got {', '.join(discs)}; leave one out")
        return tuple(f"{upper.name}/{lower.name}" for upper, lower in named)

    @model_validator(mode="after")
    def _fits(self) -> DiscDegeneration:
        if self.osteophyte_mm and not self.osteophyte_sides:
            raise ValueError("expected a side for the osteophytes, got none; name one or ask for 0 mm")
        if self.bridging and not self.osteophyte:
            raise ValueError("expected osteophytes that can meet, got none; give osteophyte_mm or no bridging")
        return self

    @property
    def place(self) -> str:
        """Where it is."""
        return ", ".join(self.discs)

    @property
    def excuses(self) -> Excuses:
        """Discs that sink shorten the spine, to less than healthy ones have."""
        return {"discs": frozenset(upper for upper, _ in self.pairs.values()), "length": EVERYWHERE}

    def shortens(self, upper: Level, lower: Level) -> bool:
        """What sinks is between these."""
        return (upper, lower) in self.pairs.values()

    @property
    def pairs(self) -> dict[str, tuple[Level, Level]]:
        """The levels above and below each disc."""
        return {disc: _levels_of(disc) for disc in self.discs}

    @property
    def loss(self) -> float:
        """Percent of its height that each disc loses, asked or usual."""
        return LOSS_PERCENT[self.pfirrmann_grade] if self.loss_percent is None else self.loss_percent

    @property
    def gas(self) -> Vacuum:
        """Vacuum, asked or usual."""
        return self.vacuum or VACUUM_OF[self.pfirrmann_grade]

    @property
    def sclerosis(self) -> float:
        """Gain of density at the plates (HU), asked or usual."""
        return SCLEROSIS_HU_OF[self.pfirrmann_grade] if self.sclerosis_hu is None else self.sclerosis_hu

    @property
    def osteophyte(self) -> float:
        """Length of osteophytes (mm), asked or usual."""
        return OSTEOPHYTE_MM_OF[self.pfirrmann_grade] if self.osteophyte_mm is None else self.osteophyte_mm


def _levels_of(disc: str) -> tuple[Level, Level]:
    """The levels above and below a disc, for a validator, which knows only ValueError."""
    levels = read_neighbours(disc)
    if not levels:
        raise ValueError(f"expected a disc between two neighbours (L4/L5), got {disc!r}")
    return levels[0], levels[1]


def _goal(disc: str) -> str:
    return f"loss_{disc.replace('/', '_')}_percent"


@goals_of.register
def _(degeneration: DiscDegeneration) -> Goals:
    return {_goal(disc): degeneration.loss for disc in degeneration.discs}


@tolerances_of.register
def _(degeneration: DiscDegeneration) -> Goals:
    return {_goal(disc): TOLERANCE_PERCENT for disc in degeneration.discs}


@read_goals.register
def _(degeneration: DiscDegeneration, measures: Measures, native: Measures) -> Goals:
    after, before = ({(disc.upper, disc.lower): disc.height_mm for disc in each.discs} for each in (measures, native))
    return {
        _goal(disc): 100 * (1 - after.get(pair, np.nan) / before.get(pair, np.nan))
        for disc, pair in degeneration.pairs.items()
    }


@propose.register
def _(degeneration: DiscDegeneration, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    _require_discs(degeneration, spine)
    motions = _sink(degeneration, spine, aim)
    anchors = [anchor for v in spine for anchor in _anchors(degeneration, v, motions[v.level])]
    tissues = tuple(
        tissue
        for upper, lower in degeneration.pairs.values()
        for tissue in _tissues(degeneration, spine[upper], spine[lower])
    )
    moved = tuple(v.moved(motions[v.level][-1]) for v in spine)
    details = {"loss_percent": degeneration.loss, "vacuum": degeneration.gas}
    details |= {"sclerosis_hu": degeneration.sclerosis, "osteophyte_mm": degeneration.osteophyte}
    details |= {"bridging": degeneration.bridging}
    return Proposal(Plan(tuple(anchors), tissues, DETAIL_MM), Spine(moved), details)


def _require_discs(degeneration: DiscDegeneration, spine: Spine) -> None:
    """Refuse a disc that the scan does not show whole.

    Raises
    ------
    PathologyError
        Naming those that it shows.
    """
    shown = [(a.level, b.level) for a, b in pairwise(spine) if a.measured and b.measured]
    for disc, pair in degeneration.pairs.items():
        if pair not in shown:
            names = ", ".join(f"{a.name}/{b.name}" for a, b in shown) or "none"
            raise PathologyError(f"disc: expected one between whole levels ({names} in this scan), got {disc}")


def _sink(degeneration: DiscDegeneration, spine: Spine, aim: Goals) -> dict[Level, Float[np.ndarray, "k 4 4"]]:
    """Motion of each level: all above a disc sinks with it, and leans as it is wedged."""
    moving = hold_still()
    lost = {pair: aim[_goal(disc)] / 100 for disc, pair in degeneration.pairs.items()}
    motions = {spine.vertebrae[-1].level: moving}
    for above, below in reversed(list(pairwise(spine))):
        if (above.level, below.level) in lost:
            up = above.inferior.normal + below.superior.normal
            up /= np.linalg.norm(up)
            across = above.inferior.centre - below.superior.centre
            pivot = (above.inferior.centre + below.superior.centre) / 2
            lean = np.deg2rad(degeneration.wedge_deg) * below.axes[:, 1]
            sunk = -lost[above.level, below.level] * float(across @ up) * up
            moving = moving @ even_motion(pivot, -lean, sunk)
        motions[above.level] = moving
    return motions


def _anchors(
    degeneration: DiscDegeneration, vertebra: Vertebra, motion: Float[np.ndarray, "k 4 4"]
) -> Iterator[Anchor]:
    """The bone as a whole, or, where rims grow, what stays of it and each lip."""
    plates = [
        (vertebra.inferior if vertebra.level == upper else vertebra.superior, -1.0 if vertebra.level == upper else 1.0)
        for upper, lower in degeneration.pairs.values()
        if vertebra.level in (upper, lower) and vertebra.level != Level.S
    ]
    if not plates or degeneration.osteophyte == 0:
        yield Anchor(vertebra.level, Part.WHOLE, Motion(vertebra.centre, motion))
        return
    rims = [(plate, up, side) for plate, up in plates for side in degeneration.osteophyte_sides]
    roots = [_rim(vertebra, plate, up, side, ROOT_SHARE, ROOT_MM) for plate, up, side in rims]

    def rest(points: Points) -> Bool[np.ndarray, " n"]:
        return ~np.any([root(points) for root in roots], axis=0)

    yield Anchor(vertebra.level, Part.ARCH, Motion(vertebra.centre, motion), rest)
    for plate, up, side in rims:
        out = vertebra.axes @ np.array([*DIRECTIONS[side], up * TOWARDS_DISC])
        grown = even_motion(np.zeros(3), None, degeneration.osteophyte * out)
        lip = _rim(vertebra, plate, up, side, LIP_SHARE, LIP_MM)
        yield Anchor(vertebra.level, Part.SIDE, Motion(vertebra.centre, motion @ grown), lip)


def _rim(vertebra: Vertebra, plate: EndPlate, up: float, side: str, share: float, deep_mm: float) -> Where:
    """The rim of a plate on one side, from a share of the half extent outwards and so deep below the plate."""
    half = np.array([vertebra.width_mm, vertebra.depth_mm]) / 2
    below = _below(vertebra, plate, up)
    outward = np.array(DIRECTIONS[side])

    def holds(points: Points) -> Bool[np.ndarray, " n"]:
        flat = points[:, :2] / half
        out = flat @ outward
        aside = np.abs(flat @ outward[::-1])
        behind = points[:, 1] < -half[1] * 0.9
        return (out > share) & (out > aside) & ~behind & (below(points) < deep_mm)

    return holds


def _below(vertebra: Vertebra, plate: EndPlate, up: float) -> Callable[[Points], Float[np.ndarray, " n"]]:
    """How far points of a vertebra's frame lie inside its body from a plate (``up`` is 1 for the superior one)."""
    centre = vertebra.axes.T @ (plate.centre - vertebra.centre)
    normal = vertebra.axes.T @ plate.normal
    return lambda points: -up * ((points - centre) @ normal)


def _tissues(degeneration: DiscDegeneration, upper: Vertebra, lower: Vertebra) -> Iterator[Tissue]:
    """Gas in the disc, denser bone at its plates, and bridges between its rims."""
    if degeneration.gas != "none":
        gas = _gas(degeneration.gas, upper, lower)
        yield Tissue(lower.level, lambda seen: seen.filled(VACUUM_HU, gas(seen.rest)), lambda points: gas(points) > 0)
    if degeneration.sclerosis:
        for vertebra, plate, up in ((upper, upper.inferior, -1.0), (lower, lower.superior, 1.0)):
            yield Tissue(vertebra.level, _denser(degeneration.sclerosis, vertebra, plate, up))

    for side in degeneration.osteophyte_sides if degeneration.bridging else ():
        for vertebra in (upper, lower):
            yield _bridge(vertebra, upper, lower, side)


def _bridge(vertebra: Vertebra, upper: Vertebra, lower: Vertebra, side: str) -> Tissue:
    """The half of a bridge that belongs to a vertebra."""
    half = np.array([vertebra.width_mm, vertebra.depth_mm]) / 2
    outward = np.array(DIRECTIONS[side])
    first, last = BRIDGE_SHARES

    def share(points: Points) -> Float[np.ndarray, " n"]:
        flat = points[:, :2] / half
        out, aside = flat @ outward, np.abs(flat @ outward[::-1])
        inside = np.minimum(np.minimum(out - first, last - out), BRIDGE_BREADTH - aside)
        return np.clip((inside + BRIDGE_EDGE) / (2 * BRIDGE_EDGE), 0.0, 1.0)

    def nearer(points: Points) -> Bool[np.ndarray, " n"]:
        places = vertebra.centre + points @ vertebra.axes.T
        below = (upper.inferior.centre - places) @ upper.inferior.normal
        above = (places - lower.superior.centre) @ lower.superior.normal
        between = (below > -LIP_MM) & (above > -LIP_MM)
        return between & ((below < above) if vertebra.level == upper.level else (above <= below))

    return Tissue(
        vertebra.level,
        lambda seen: seen.filled(BRIDGE_HU, share(seen.rest)),
        lambda points: nearer(points) & (share(points) > 0),
        lambda points: share(points) >= 0.5,
    )


def _gas(extent: str, upper: Vertebra, lower: Vertebra) -> Callable[[Points], Float[np.ndarray, " n"]]:
    """Share of gas: a flat ellipsoid in the middle of the disc, in the lower vertebra's frame, with a soft edge."""
    across, high = VACUUM_SHARE[extent]
    floor, roof = (lower.axes.T @ (plate.centre - lower.centre) for plate in (lower.superior, upper.inferior))
    up = lower.axes.T @ lower.superior.normal
    thick = float((roof - floor) @ up)  # what slid on the plate below has its gas over that plate
    middle = floor + thick / 2 * up
    axes = np.array([across * lower.width_mm / 2, across * lower.depth_mm / 2, high * thick / 2])
    return lambda points: np.clip((1 + EDGE - np.linalg.norm((points - middle) / axes, axis=1)) / (2 * EDGE), 0.0, 1.0)


def _denser(
    gain_hu: float, vertebra: Vertebra, plate: EndPlate, up: float
) -> Callable[[Squeezed], Float[np.ndarray, " n"]]:
    """Bone that gains density towards a plate, in front of the canal."""
    below, back = _below(vertebra, plate, up), vertebra.back_mm

    def become(seen: Squeezed) -> Float[np.ndarray, " n"]:
        near = np.clip(1 - below(seen.rest) / SCLEROSIS_MM, 0.0, 1.0) * (seen.rest[:, 1] > back)
        return seen.hu + gain_hu * near

    return become
