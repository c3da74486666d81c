"""Scoliosis: a coronal curve of a given Cobb angle and apex, with what comes along with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from spinesim.anatomy.curves import Side, coronal_tilt, find_curves
from spinesim.anatomy.levels import Level, levels_between, parse_level, region
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import LabelError, OutOfReachError, PathologyError
from spinesim.pathology.bend import plan_bend
from spinesim.pathology.curve import (
    APEX_TOLERANCE,
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
from spinesim.pathology.profile import CurveShape, smooth_trend
from spinesim.pathology.proposal import Goals, Proposal, goals_of, propose, read_goals, remarks_on
from spinesim.pathology.target import expect_patient
from spinesim.shape.course import no_turns

ROTATION_PER_COBB = {"cervical": 0.28, "thoracic": 0.28, "lumbar": 0.17}
"""Apical rotation per degree of Cobb, lying: thoracic 16/57, lumbar 6/35 (Brink 2017, n = 62, supine MRI)."""

KYPHOSIS_PER_COBB = -0.15
"""Change of T5-T12 kyphosis per degree of a thoracic Cobb: (24.9 - 32.9) / 52, scoliosis against controls (Scoliosis
Spinal Disord 2018, n = 458; the mean Cobb of 52 is assumed)."""

FEWEST_WHOLE = 4
"""Whole vertebrae that a curve needs at least."""

TREND_MM = 25.0
"""Width of the Gaussian that tells a spine's own curve from the measuring noise of its single levels."""


SWAY_SHARES, SWAY_MISS = (1.0, 0.7, 0.5, 0.3, 0.15), 2.0
"""Shares of a drawn sway that are tried, and how far from the request it may lead (``CurveSolution.miss``), or by half
more than the mean curve does."""


class Scoliosis(BaseModel):
    """A coronal curve, as it is asked for.

    Parameters
    ----------
    cobb_deg : float
        Cobb angle to be measured on the result, 0 to 90 degrees.
    apex : str
        Vertebra (``T9``) or disc (``T8/T9``).
    direction : {"right", "left"}, optional
        Side of the convexity; by default right for a thoracic apex and left for a lumbar one.
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    cobb_deg: float = Field(ge=0, le=90, allow_inf_nan=False)
    apex: str
    direction: Literal["right", "left"] | None = None
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
        return None if text is None else _parse(text).name

    @field_validator("apex")
    @classmethod
    def _known_apex(cls, text: str) -> str:
        levels = [_parse(name) for name in text.split("/")]
        disc = len(levels) == 2 and levels[0] < levels[1] and not levels_between(*levels)
        if len(levels) != 1 and not disc:
            raise ValueError(f"apex: expected a vertebra (T9) or a disc between two neighbours (T8/T9), got {text!r}")
        return "/".join(level.name for level in levels)

    @property
    def apex_levels(self) -> tuple[Level, ...]:
        """The apex as one level, or two for a disc."""
        return tuple(parse_level(name) for name in self.apex.split("/"))

    @property
    def side(self) -> Side:
        """Side of the convexity, the usual one if it was not asked."""
        return self.direction or ("left" if region(self.apex_levels[-1]) == "lumbar" else "right")


def _parse(text: str) -> Level:
    """Read a level for a validator, which knows only ValueError."""
    try:
        return parse_level(text)
    except LabelError as error:
        raise ValueError(str(error)) from None


@goals_of.register
def _(scoliosis: Scoliosis) -> Goals:
    return {"cobb_deg": scoliosis.cobb_deg}


@read_goals.register
def _(scoliosis: Scoliosis, measures: Measures) -> Goals:
    return {"cobb_deg": float(np.rad2deg(signed_cobb(measures.curves, scoliosis.apex_levels, scoliosis.side)))}


@remarks_on.register
def _(scoliosis: Scoliosis, measures: Measures) -> tuple[str, ...]:
    curve = curve_at(measures.curves, scoliosis.apex_levels)
    if curve is None:
        return ()
    whole = list(measures.rotation)
    gone = [level.name for level in scoliosis.apex_levels if level not in whole]
    if gone:
        return (f"the apex {' and '.join(gone)} lies partly beyond the field of view; --grid fit keeps all of it",)
    asked = np.mean([whole.index(level) for level in scoliosis.apex_levels])
    if abs(curve.apex_position - asked) <= APEX_TOLERANCE:
        return ()
    return (
        f"the apex is asked at {scoliosis.apex} and measured at {curve.apex_name}: "
        "what this spine's discs can give, or its own shape, moves it",
    )


@propose.register
def _(scoliosis: Scoliosis, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    task = _lay_out(scoliosis, spine)
    solution, share = _swayed(scoliosis, task, aim["cobb_deg"], seed)
    if solution.broken:
        reason = f"scoliosis of {scoliosis.cobb_deg:g} degrees at {scoliosis.apex}: expected that {solution.broken}"
        raise OutOfReachError(reason, nearest_deg(task, aim["cobb_deg"]), "degrees")
    warnings = tuple(map(str, solution.breaches))
    return Proposal(
        plan_bend(spine, solution.bend),
        solution.bent.moved,
        _details(task, solution) | {"variability_taken": share},
        warnings,
    )


def _swayed(scoliosis: Scoliosis, task: CurveTask, cobb_deg: float, seed: int) -> tuple[CurveSolution, float]:
    """The drawn patient's curve, and the share of the drawn sway that it has: as much as rules and request leave."""
    if scoliosis.variability == 0:
        return best_solution(task, cobb_deg), 0.0
    cobb = scoliosis.cobb_deg
    mean = best_solution(task, cobb)
    near, asked = replace(task, shape=mean.shape, free_ends=False), float(np.deg2rad(cobb))
    enough = max(SWAY_MISS, mean.miss(task, asked) + 0.5)
    drawn = task.target(mean.shape).drawn(np.random.default_rng(seed))
    for part in SWAY_SHARES:
        share = part * scoliosis.variability
        swayed = replace(near, sway=drawn.scaled(share))
        solution = best_solution(swayed, cobb)
        leads = curve_at(find_curves(solution.bent.moved)[:1], scoliosis.apex_levels)
        if leads and not solution.broken and solution.miss(task, asked) <= enough:
            return solution if cobb == cobb_deg else best_solution(swayed, cobb_deg), share
    return mean if cobb == cobb_deg else best_solution(task, cobb_deg), 0.0


def _lay_out(scoliosis: Scoliosis, spine: Spine) -> CurveTask:
    """Lay a scoliosis onto a spine."""
    _require_room(scoliosis, spine)
    axes = spine.patient_axes
    places = measure_places(spine)
    known = np.array([v.measured and v.level != Level.S for v in spine])
    tilts = np.array([(coronal_tilt(v.superior, axes) + coronal_tilt(v.inferior, axes)) / 2 for v in spine])
    own_tilt = smooth_trend(places, tilts, known, TREND_MM)
    upper, lower = _ends(scoliosis, spine)
    ranks = [spine.levels.index(level) for level in scoliosis.apex_levels]
    sign = 1.0 if scoliosis.side == "right" else -1.0
    shape = CurveShape(places, upper, float(np.mean(ranks)), lower, sign)
    whole = [v.level for v in spine.whole]
    return CurveTask(
        spine,
        scoliosis.apex_levels,
        scoliosis.side,
        _coupling(scoliosis),
        not (scoliosis.upper_end or scoliosis.lower_end),
        shape,
        expect_patient(spine),
        own_tilt,
        np.where(known, tilts - own_tilt, 0.0),
        signed_cobb(find_curves(spine), scoliosis.apex_levels, scoliosis.side),
        float(np.mean([whole.index(level) for level in scoliosis.apex_levels])),
        no_turns(len(spine)),
    )


def _coupling(scoliosis: Scoliosis) -> Coupling:
    """What comes along with the curve, the published values where nothing was asked."""
    place = region(scoliosis.apex_levels[0])
    rotation, kyphosis = scoliosis.rotation_per_cobb, scoliosis.kyphosis_per_cobb
    return Coupling(
        ROTATION_PER_COBB[place] if rotation is None else rotation,
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
    for level in scoliosis.apex_levels:
        if level not in possible:
            nearest = min(possible, key=lambda other: abs(other - level))
            raise PathologyError(
                "scoliosis: expected an apex with whole vertebrae on both sides of it "
                f"({possible[0].name} to {possible[-1].name}; the scan has {names}), "
                f"got {scoliosis.apex}; the nearest possible apex is {nearest.name}"
            )


def _ends(scoliosis: Scoliosis, spine: Spine) -> tuple[int, int]:
    """Ranks of the end vertebrae: asked, or usual for this size and apex, as far as whole levels go.

    Raises
    ------
    PathologyError
        When an asked end vertebra is not in the scan or lies on the wrong side of the apex.
    """
    levels, whole = spine.levels, [v.level for v in spine.whole]
    first, last = levels.index(whole[0]), levels.index(whole[-1])
    names = f"{whole[0].name} to {whole[-1].name}"
    above, below = usual_extent(scoliosis.cobb_deg, scoliosis.apex_levels[0])
    upper = max(levels.index(scoliosis.apex_levels[0]) - above, first)
    lower = min(levels.index(scoliosis.apex_levels[-1]) + below, last)
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
    """What the record says about the plan."""
    levels = task.spine.levels
    return {
        "direction": task.side,
        "planned_upper_end": levels[solution.shape.upper].name,
        "planned_lower_end": levels[solution.shape.lower].name,
        "predicted_cobb_deg": float(np.rad2deg(solution.cobb)),
        "apical_rotation_change_deg": float(np.rad2deg(solution.bend.turn[np.abs(solution.bend.turn).argmax()])),
        "top_over_bottom_mm": solution.offset_mm,
        "discs_opened_mm": float(solution.bent.opened_mm.sum()),
    }
