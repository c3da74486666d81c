"""Scoliosis: a coronal curve of a given Cobb angle and apex, with what comes along with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from spinesim.anatomy.curves import Side, coronal_tilt, find_curves
from spinesim.anatomy.levels import Level, parse_level, region
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import OutOfReachError, PathologyError
from spinesim.pathology.bend import plan_bend
from spinesim.pathology.curve import (
    APEX_TOLERANCE,
    AskedCurve,
    Cobbs,
    Coupling,
    CurveSolution,
    CurveTask,
    best_solution,
    curve_at,
    measure_places,
    nearest_deg,
    signed_cobb,
)
from spinesim.pathology.patterns import usual_extent
from spinesim.pathology.places import read_level, read_neighbours
from spinesim.pathology.profile import CurveShape, smooth_trend
from spinesim.pathology.proposal import Goals, Pathology, Proposal, goals_of, propose, read_goals, remarks_on
from spinesim.pathology.target import expect_patient
from spinesim.shape.course import no_turns

ROTATION_PER_COBB = {"cervical": 0.28, "thoracic": 0.28, "lumbar": 0.17}
"""Apical rotation per degree of Cobb, lying: thoracic 16/57, lumbar 6/35 (Brink 2017, n = 62, supine MRI)."""

KYPHOSIS_PER_COBB = -0.15
"""Change of T5-T12 kyphosis per degree of a thoracic Cobb: (24.9 - 32.9) / 52, scoliosis against controls (Scoliosis
Spinal Disord 2018, n = 458; the mean Cobb of 52 is assumed)."""

APART = 3
"""Levels between the apices of two curves at least."""

OTHER_SIDE: dict[Side, Side] = {"right": "left", "left": "right"}

STRAIN_SMALL_MM, STRAIN_LARGE_MM, SMALL_DEG = 0.1, 0.2, 60.0
"""How far bones may stray from rigid motions (RMS) in curves up to 60 degrees, and in larger ones (promise 3)."""

LEAST_DEG = 5
"""The smallest curve that is told as one."""

FEWEST_WHOLE = 4
"""Whole vertebrae that a curve needs at least."""

TREND_MM = 25.0
"""Width of the Gaussian that tells a spine's own curve from the measuring noise of its single levels."""


SWAY_SHARES, SWAY_MISS = (1.0, 0.7, 0.5, 0.3, 0.15), 2.0
"""Shares of a drawn sway that are tried, and how far from the request it may lead (``CurveSolution.miss``), or by half
more than the mean curve does."""


def _or_said(schema: dict[str, Any]) -> None:
    """Let a schema of an object take it as text too, as ``30@L2``."""
    whole = dict(schema)
    schema.clear()
    schema["anyOf"] = [whole, {"type": "string", "pattern": "^[^@]+@[^@]+$"}]


class OtherCurve(BaseModel):
    """A curve beside the largest one, convex to the other side than its neighbour; also said as ``30@L2``.

    Parameters
    ----------
    cobb_deg : float
        Cobb angle to be measured on the result, 5 degrees or more.
    apex : str
        Vertebra or disc.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_or_said)

    cobb_deg: float = Field(ge=LEAST_DEG, le=90, allow_inf_nan=False)
    apex: str

    @model_validator(mode="before")
    @classmethod
    def _said(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        cobb, at, apex = data.partition("@")
        if not at:
            raise ValueError(f"expected an angle and an apex, as 30@L2, got {data!r}")
        return {"cobb_deg": cobb, "apex": apex}

    @field_validator("apex")
    @classmethod
    def _known_apex(cls, text: str) -> str:
        return _parse_apex(text)

    @property
    def apex_levels(self) -> tuple[Level, ...]:
        """The apex as one level, or two for a disc."""
        return _apex_levels(self.apex)


class Scoliosis(Pathology):
    """A coronal curve, as it is asked for, and others beside it.

    Parameters
    ----------
    cobb_deg : float
        Cobb angle to be measured on the result, 0 to 90 degrees.
    apex : str
        Vertebra (``T9``) or disc (``T8/T9``).
    direction : {"right", "left"}, optional
        Side of the convexity; by default right for a thoracic apex and left for a lumbar one.
    also : tuple of OtherCurve
        Other curves of a size and an apex (Lenke 2, 3, 4 and 6 have two or three); without them the compensatory curves
        are those that the model of scoliosis expects.
    upper_end, lower_end : str, optional
        End vertebrae; by default those of published curves of this size and apex.
    rotation_per_cobb : float, optional
        Apical axial rotation per degree of Cobb.
    kyphosis_per_cobb : float, optional
        Change of T5-T12 kyphosis per degree of Cobb; by default -0.15 for a thoracic apex and 0 for a lumbar one.
    vertebral_share : float
        Share of the curve that the vertebrae take by wedging (0: all in the discs, bones stay rigid). Published:
        thoracic 0.62, thoracolumbar 0.31, lumbar 0.23 (Ding 2011).
    variability : float
        0 for the mean curve of this size and apex; up to 1 for one of the patients who have it, drawn by the seed from
        the shipped model of scoliosis: other curves, kyphosis and rotation then differ as theirs do.
    offset_mm : float
        Where the top of the spine shall stand to the right of its lowest level, within 10 mm.
    """

    kind: ClassVar[str] = "scoliosis"
    stage: ClassVar[int] = 1

    cobb_deg: float = Field(ge=0, le=90)
    apex: str
    direction: Literal["right", "left"] | None = None
    also: tuple[OtherCurve, ...] = ()
    upper_end: str | None = None
    lower_end: str | None = None
    rotation_per_cobb: float | None = Field(default=None, ge=0, le=1)
    kyphosis_per_cobb: float | None = Field(default=None, ge=-0.5, le=0.5)
    vertebral_share: float = Field(default=0.0, ge=0, le=0.9)
    variability: float = Field(default=0.0, ge=0, le=1)
    offset_mm: float = Field(default=0.0, ge=-60, le=60)

    @field_validator("upper_end", "lower_end")
    @classmethod
    def _known_level(cls, text: str | None) -> str | None:
        return None if text is None else read_level(text).name

    @field_validator("apex")
    @classmethod
    def _known_apex(cls, text: str) -> str:
        return _parse_apex(text)

    @field_validator("also")
    @classmethod
    def _fit_together(cls, also: tuple[OtherCurve, ...], info: ValidationInfo) -> tuple[OtherCurve, ...]:
        if not {"cobb_deg", "apex"} <= info.data.keys():
            return also  # one of them is refused
        apices = sorted(_apex_levels(apex) for apex in (info.data["apex"], *(curve.apex for curve in also)))
        for above, below in zip(apices, apices[1:], strict=False):
            if below[0] - above[-1] < APART:
                raise ValueError(
                    f"expected apices {APART} levels apart or more, got {above[-1].name} and {below[0].name}; "
                    "ask for one curve there"
                )
        for curve in also:
            if curve.cobb_deg > info.data["cobb_deg"]:
                raise ValueError(
                    f"expected curves of {info.data['cobb_deg']:g} degrees at most, got {curve.cobb_deg:g} at "
                    f"{curve.apex}; ask for the largest curve by itself"
                )
        return also

    @property
    def joints_yield(self) -> bool:
        """A side bend of a turned vertebra closes its facets: they give way."""
        return True

    @property
    def strain_mm(self) -> float:
        """What is promised: half as much for curves of a usual size as for large ones."""
        return STRAIN_SMALL_MM if self.cobb_deg <= SMALL_DEG else STRAIN_LARGE_MM

    @property
    def keeps_bones(self) -> bool:
        """Bones stay rigid, or the curve is refused."""
        return True

    def smaller(self, share: float) -> Self | None:
        """All curves smaller by a share, none below what may be asked."""
        cobb_deg = math.floor(share * self.cobb_deg)
        if cobb_deg < LEAST_DEG:
            return None
        by = cobb_deg / self.cobb_deg
        also = tuple(each.model_copy(update={"cobb_deg": max(by * each.cobb_deg, LEAST_DEG)}) for each in self.also)
        return self.model_copy(update={"cobb_deg": float(cobb_deg), "also": also})

    @property
    def curves(self) -> tuple[Scoliosis | OtherCurve, ...]:
        """All curves, the largest first."""
        return (self, *self.also)

    @property
    def apex_levels(self) -> tuple[Level, ...]:
        """The apex as one level, or two for a disc."""
        return _apex_levels(self.apex)

    @property
    def side(self) -> Side:
        """Side of the convexity, the usual one if it was not asked."""
        return self.direction or ("left" if region(self.apex_levels[-1]) == "lumbar" else "right")

    def side_of(self, curve: Scoliosis | OtherCurve) -> Side:
        """Side of the convexity of one of the curves: they alternate along the spine."""
        ordered = sorted(self.curves, key=lambda other: other.apex_levels)
        apart = ordered.index(curve) - ordered.index(self)
        return self.side if apart % 2 == 0 else OTHER_SIDE[self.side]


def _parse_apex(text: str) -> str:
    """Read an apex for a validator: a vertebra, or the disc between two neighbours."""
    levels = read_neighbours(text) if "/" in text else (read_level(text),)
    if not levels:
        raise ValueError(f"apex: expected a vertebra (T9) or a disc between two neighbours (T8/T9), got {text!r}")
    return "/".join(level.name for level in levels)


def _apex_levels(apex: str) -> tuple[Level, ...]:
    return tuple(parse_level(name) for name in apex.split("/"))


def _goal(curve: Scoliosis | OtherCurve) -> str:
    """What a curve's angle is called among the goals."""
    return "cobb_deg" if isinstance(curve, Scoliosis) else f"cobb_{curve.apex.replace('/', '_')}_deg"


@goals_of.register
def _(scoliosis: Scoliosis) -> Goals:
    return {_goal(curve): curve.cobb_deg for curve in scoliosis.curves}


@read_goals.register
def _(scoliosis: Scoliosis, measures: Measures, native: Measures) -> Goals:
    return {
        _goal(curve): float(np.rad2deg(signed_cobb(measures.curves, curve.apex_levels, scoliosis.side_of(curve))))
        for curve in scoliosis.curves
    }


@remarks_on.register
def _(scoliosis: Scoliosis, measures: Measures, native: Measures) -> tuple[str, ...]:
    remarks = (_remark(curve, scoliosis.side_of(curve), measures) for curve in scoliosis.curves)
    return tuple(remark for remark in remarks if remark)


def _remark(asked: Scoliosis | OtherCurve, side: Side, measures: Measures) -> str:
    """What is to be said of where a curve's apex came out."""
    curve = curve_at(measures.curves, asked.apex_levels, side)
    if curve is None:
        return ""
    whole = list(measures.rotation)
    gone = [level.name for level in asked.apex_levels if level not in whole]
    if gone:
        return f"the apex {' and '.join(gone)} lies partly beyond the field of view; --grid fit keeps all of it"
    place = np.mean([whole.index(level) for level in asked.apex_levels])
    if abs(curve.apex_position - place) <= APEX_TOLERANCE:
        return ""
    return (
        f"the apex is asked at {asked.apex} and measured at {curve.apex_name}: "
        "what this spine's discs can give, or its own shape, moves it"
    )


@propose.register
def _(scoliosis: Scoliosis, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    task = _lay_out(scoliosis, spine)
    aimed = np.deg2rad([aim[_goal(curve)] for curve in scoliosis.curves])
    solution, share = _swayed(scoliosis, task, aimed, seed)
    if solution.broken and not scoliosis.allow_implausible:
        reason = f"scoliosis of {scoliosis.cobb_deg:g} degrees at {scoliosis.apex}: expected that {solution.broken}"
        raise OutOfReachError(reason, nearest_deg(task, aimed), "degrees")
    warnings = tuple(map(str, solution.breaches))
    return Proposal(
        plan_bend(spine, solution.bend),
        solution.bent.moved,
        _details(task, solution) | {"variability_taken": share},
        warnings,
    )


def _swayed(scoliosis: Scoliosis, task: CurveTask, aimed: Cobbs, seed: int) -> tuple[CurveSolution, float]:
    """The drawn patient's curve, and the share of the drawn sway that it has: as much as rules and request leave."""
    if scoliosis.variability == 0:
        return best_solution(task, aimed), 0.0
    asked = np.deg2rad([curve.cobb_deg for curve in scoliosis.curves])
    mean, as_asked = best_solution(task, asked), np.array_equal(aimed, asked)
    near = replace(task, shapes=mean.shapes, free_ends=False)
    enough = max(SWAY_MISS, mean.miss(task, asked) + 0.5)
    drawn = task.target(mean.shapes).drawn(np.random.default_rng(seed))
    for part in SWAY_SHARES:
        share = part * scoliosis.variability
        swayed = replace(near, sway=drawn.scaled(share))
        solution = best_solution(swayed, asked)
        leads = curve_at(find_curves(solution.bent.moved)[: len(asked)], scoliosis.apex_levels, scoliosis.side)
        if leads and not solution.broken and solution.miss(task, asked) <= enough:
            return solution if as_asked else best_solution(swayed, aimed), share
    return mean if as_asked else best_solution(task, aimed), 0.0


def _lay_out(scoliosis: Scoliosis, spine: Spine) -> CurveTask:
    """Lay a scoliosis onto a spine."""
    _require_room(scoliosis, spine)
    axes = spine.patient_axes
    places = measure_places(spine)
    known = np.array([v.measured and v.level != Level.S for v in spine])
    tilts = np.array([(coronal_tilt(v.superior, axes) + coronal_tilt(v.inferior, axes)) / 2 for v in spine])
    own_tilt = smooth_trend(places, tilts, known, TREND_MM)
    found, whole = find_curves(spine), [v.level for v in spine.whole]
    curves, shapes = [], []
    for curve, (upper, lower) in zip(scoliosis.curves, _extents(scoliosis, spine), strict=True):
        side, apex = scoliosis.side_of(curve), curve.apex_levels
        ranks = [spine.levels.index(level) for level in apex]
        firm = (bool(scoliosis.upper_end), bool(scoliosis.lower_end)) if curve is scoliosis else (False, False)
        shapes.append(CurveShape(places, upper, float(np.mean(ranks)), lower, 1.0 if side == "right" else -1.0, firm))
        own = signed_cobb(found, apex, side)
        rank = float(np.mean([whole.index(level) for level in apex]))
        curves.append(AskedCurve(apex, side, _rotation(scoliosis, apex[0]), own, rank))
    return CurveTask(
        spine,
        tuple(curves),
        tuple(shapes),
        _coupling(scoliosis),
        not (scoliosis.upper_end or scoliosis.lower_end),
        expect_patient(spine),
        own_tilt,
        np.where(known, tilts - own_tilt, 0.0),
        no_turns(len(spine)),
    )


def _rotation(scoliosis: Scoliosis, apex: Level) -> float:
    """Apical rotation per degree, the published one where nothing was asked."""
    return ROTATION_PER_COBB[region(apex)] if scoliosis.rotation_per_cobb is None else scoliosis.rotation_per_cobb


def _coupling(scoliosis: Scoliosis) -> Coupling:
    """What comes along with the curve, the published values where nothing was asked."""
    place, kyphosis = region(scoliosis.apex_levels[0]), scoliosis.kyphosis_per_cobb
    return Coupling(
        (KYPHOSIS_PER_COBB if place == "thoracic" else 0.0) if kyphosis is None else kyphosis,
        scoliosis.vertebral_share,
        scoliosis.offset_mm,
    )


def _require_room(scoliosis: Scoliosis, spine: Spine) -> None:
    """Refuse a spine that is too short for the curve, or does not hold its apex.

    Raises
    ------
    PathologyError
        Naming the levels that would do.
    """
    whole = [v.level for v in spine.whole]
    names = f"{whole[0].name} to {whole[-1].name}"
    if len(whole) < FEWEST_WHOLE:
        raise PathologyError(
            f"scoliosis: expected at least {FEWEST_WHOLE} whole vertebrae, got {len(whole)} ({names}); "
            "use a longer scan"
        )
    possible = whole[2:-2] or whole[1:-1]
    for curve in scoliosis.curves:
        for level in curve.apex_levels:
            if level not in possible:
                nearest = min(possible, key=lambda other: abs(other - level))
                raise PathologyError(
                    "scoliosis: expected an apex with whole vertebrae on both sides of it "
                    f"({possible[0].name} to {possible[-1].name}; the scan has {names}), "
                    f"got {curve.apex}; the nearest possible apex is {nearest.name}"
                )


def _extents(scoliosis: Scoliosis, spine: Spine) -> list[tuple[int, int]]:
    """Ranks of the end vertebrae of each curve; neighbours share one, half-way between where they usually end.

    Raises
    ------
    PathologyError
        As ``_ends``.
    """
    extents = {scoliosis.apex_levels: _ends(scoliosis, spine)}
    for other in scoliosis.also:
        extents[other.apex_levels] = _usual_ends(other, spine)
    ordered = sorted(extents)
    for above, below in zip(ordered, ordered[1:], strict=False):
        apices = spine.levels.index(above[-1]), spine.levels.index(below[0])
        shared = (extents[above][1] + extents[below][0]) / 2
        if scoliosis.apex_levels == above and scoliosis.lower_end:
            shared = extents[above][1]
        if scoliosis.apex_levels == below and scoliosis.upper_end:
            shared = extents[below][0]
        rank = int(np.clip(round(shared), apices[0] + 1, apices[1] - 1))
        extents[above], extents[below] = (extents[above][0], rank), (rank, extents[below][1])
    return [extents[curve.apex_levels] for curve in scoliosis.curves]


def _usual_ends(curve: Scoliosis | OtherCurve, spine: Spine) -> tuple[int, int]:
    """Ranks of the end vertebrae that are usual for a size and an apex, as far as whole levels go."""
    levels, whole = spine.levels, [v.level for v in spine.whole]
    above, below = usual_extent(curve.cobb_deg, curve.apex_levels[0])
    upper = max(levels.index(curve.apex_levels[0]) - above, levels.index(whole[0]))
    return upper, min(levels.index(curve.apex_levels[-1]) + below, levels.index(whole[-1]))


def _ends(scoliosis: Scoliosis, spine: Spine) -> tuple[int, int]:
    """Ranks of the end vertebrae: asked, or usual for this size and apex, as far as whole levels go.

    Raises
    ------
    PathologyError
        When an asked end vertebra is not in the scan or lies on the wrong side of the apex.
    """
    levels, whole = spine.levels, [v.level for v in spine.whole]
    names = f"{whole[0].name} to {whole[-1].name}"
    upper, lower = _usual_ends(scoliosis, spine)
    asked = {"upper": scoliosis.upper_end, "lower": scoliosis.lower_end}
    for which, name in asked.items():
        if name is None:
            continue
        level = parse_level(name)
        fits = level < scoliosis.apex_levels[0] if which == "upper" else level > scoliosis.apex_levels[-1]
        if level not in whole or not fits:
            raise PathologyError(
                f"scoliosis: expected the {which} end vertebra among the whole levels {names}, "
                f"{'above' if which == 'upper' else 'below'} the apex {scoliosis.apex}, got {name}"
            )
        upper, lower = (levels.index(level), lower) if which == "upper" else (upper, levels.index(level))
    return upper, lower


def _details(task: CurveTask, solution: CurveSolution) -> dict[str, Any]:
    """What the record says about the plan; of the other curves where they were planned."""
    levels = task.spine.levels
    shape, *others = solution.shapes
    details = {
        "direction": task.curves[0].side,
        "planned_upper_end": levels[shape.upper].name,
        "planned_lower_end": levels[shape.lower].name,
        "predicted_cobb_deg": float(np.rad2deg(solution.cobb[0])),
        "apical_rotation_change_deg": float(np.rad2deg(solution.bend.turn[np.abs(solution.bend.turn).argmax()])),
        "top_over_bottom_mm": solution.offset_mm,
        "discs_opened_mm": float(solution.bent.opened_mm.sum()),
    }
    for curve, other in zip(task.curves[1:], others, strict=True):
        name = "_".join(level.name for level in curve.apex)
        details[f"planned_ends_{name}"] = f"{levels[other.upper].name} to {levels[other.lower].name}"
        details[f"direction_{name}"] = curve.side
    return details
