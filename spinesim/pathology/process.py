"""Fracture of a process: a spinous or transverse process breaks off, and the body is as it was (AO A0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, Field, field_validator

from spinesim.anatomy.levels import Level, parse_level
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.plan import Anchor, Motion, Part, Plan, Points, Tissue, even_motion, hold_still
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Spine, Vertebra
from spinesim.errors import PathologyError
from spinesim.pathology.places import read_body_level, require_whole
from spinesim.pathology.proposal import Goals, Pathology, Proposal, goals_of, outcome_of, propose, read_goals, seat

Process = Literal["spinous", "left transverse", "right transverse"]

WAYS: dict[Process, tuple[float, float, float]] = {
    "spinous": (0.0, -1.0, 0.0),
    "left transverse": (-1.0, 0.0, 0.0),
    "right transverse": (1.0, 0.0, 0.0),
}
"""Where a process points, in a vertebra's right, anterior and superior."""

BROKEN_SHARE = 0.5
"""Share of the process, from where it leaves the arch or the pedicle to its tip, that breaks off (assumed)."""

CANAL_MM = 18.0
"""The arch's back lies about so far behind the body's: there the spinous process begins."""

SHORTEST_MM = 6.0
"""A shorter process is not broken."""

GAP_MM = 1.5
"""Width of the fracture line before it opens, which belongs to neither side."""

BLOOD_HU = 50.0
"""Blood fills the line as it opens."""

ASIDE_MM = 40.0
"""So far from the axis of the process the line's surroundings are filled too."""

TURN_DEG = 5.0
"""Muscles pull the fragment away and down, and turn it (assumed)."""

DETAIL_MM = 1.5
"""Finest shape that a broken process makes."""


class ProcessFracture(Pathology):
    """A broken process, as it is asked for.

    Parameters
    ----------
    level : str
        Vertebra (``L1``).
    process : {"spinous", "left transverse", "right transverse"}
        Which one breaks.
    displacement_mm : float
        How far its fragment leaves its place.
    cut_mm : float, optional
        Where it breaks, from the body's centre towards the tip; by default half-way from its root to its tip.
    """

    kind: ClassVar[str] = "process_fracture"
    stage: ClassVar[int] = 5
    scanned: ClassVar[bool] = True

    level: str
    process: Process = "spinous"
    displacement_mm: float = Field(default=4.0, ge=1, le=12)
    cut_mm: float | None = Field(default=None, gt=0, le=120)

    @field_validator("level")
    @classmethod
    def _known_level(cls, text: str) -> str:
        return read_body_level(text).name

    @property
    def place(self) -> str:
        """Where it is."""
        return f"the {self.process} process of {self.level}"

    @property
    def joints_yield(self) -> None:
        """It leaves that to what it is combined with."""
        return

    @property
    def at(self) -> Level:
        """The level."""
        return parse_level(self.level)

    @property
    def way(self) -> Float[np.ndarray, " 3"]:
        """Where the process points, in the vertebra's frame."""
        return np.array(WAYS[self.process])


@seat.register
def _(
    fracture: ProcessFracture, labels: LabelMap, spine: Spine, seed: int, beside: Sequence[BaseModel] = ()
) -> ProcessFracture:
    vertebra = require_whole("fracture of a process", fracture.at, spine)
    number = labels.numbers[fracture.at]
    box = labels.boxes[number]
    voxels = np.argwhere(labels.voxels[box] == number) + [side.start for side in box]
    local = (labels.grid.to_world(voxels.astype(float)) - vertebra.centre) @ vertebra.axes
    tip, root = float((local @ fracture.way).max()), _root_mm(fracture, vertebra)
    if tip - root < SHORTEST_MM:
        raise PathologyError(
            f"fracture of {fracture.place}: expected a process of {SHORTEST_MM:g} mm or more, got "
            f"{max(tip - root, 0):.0f} mm in the labels; choose another"
        )
    cut = fracture.cut_mm if fracture.cut_mm is not None else round(tip - BROKEN_SHARE * (tip - root), 2)
    if not root < cut < tip - GAP_MM:
        raise PathologyError(
            f"fracture of {fracture.place}: expected a cut from {root:.0f} to {tip - GAP_MM:.0f} mm from the body's "
            f"centre, got {cut:g}; leave it out"
        )
    return fracture.model_copy(update={"cut_mm": cut})


def _root_mm(fracture: ProcessFracture, vertebra: Vertebra) -> float:
    """Where a process begins, from the body's centre."""
    return -vertebra.back_mm + CANAL_MM if fracture.process == "spinous" else vertebra.width_mm / 2


@goals_of.register
def _(fracture: ProcessFracture) -> Goals:
    return {}


@read_goals.register
def _(fracture: ProcessFracture, measures: Measures, native: Measures) -> Goals:
    return {}


@outcome_of.register
def _(fracture: ProcessFracture, measures: Measures, native: Measures) -> Mapping[str, Any]:
    return {"level": fracture.level, "ao": "A0"}


@propose.register
def _(fracture: ProcessFracture, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    vertebra, way, still = spine[fracture.at], fracture.way, hold_still()
    cut = fracture.cut_mm if fracture.cut_mm is not None else _root_mm(fracture, vertebra) + SHORTEST_MM / 2

    def beyond(points: Points) -> Float[np.ndarray, " n"]:
        return points @ way - cut

    def rest(points: Points) -> Bool[np.ndarray, " n"]:
        return beyond(points) < -GAP_MM / 2

    def fragment(points: Points) -> Bool[np.ndarray, " n"]:
        return beyond(points) > GAP_MM / 2

    shift = fracture.displacement_mm * vertebra.axes @ (way - np.array([0.0, 0.0, 1.0])) / np.sqrt(2)
    axis = vertebra.axes @ np.cross(way, [0.0, 0.0, -1.0])
    pivot = vertebra.centre + vertebra.axes @ (cut * way)
    broken = even_motion(pivot, np.deg2rad(TURN_DEG) * axis, shift)
    anchors = [Anchor(v.level, Part.WHOLE, Motion(v.centre, still)) for v in spine if v is not vertebra]
    anchors += [
        Anchor(fracture.at, Part.ARCH, Motion(vertebra.centre, still), rest),
        Anchor(fracture.at, Part.PROCESS, Motion(pivot, broken), fragment),
    ]
    ordered = tuple(sorted(anchors, key=lambda anchor: anchor.level))
    details = {"displacement_mm": fracture.displacement_mm, "cut_mm": cut}

    def line(points: Points) -> Bool[np.ndarray, " n"]:
        aside = np.linalg.norm(points - np.outer(points @ way, way), axis=1)
        return (np.abs(beyond(points)) < GAP_MM) & (aside < ASIDE_MM)

    tissues = tuple(Tissue(fracture.at, lambda seen: seen.torn(BLOOD_HU), where) for where in (None, line))
    return Proposal(Plan(ordered, tissues, DETAIL_MM), spine, details)
