"""Scoliosis: a coronal curve of a given Cobb angle and apex, with what comes along with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy.optimize import brentq

from spinesim.anatomy.curves import Side, apex_position, coronal_tilt, find_curves, lateral_offset_mm
from spinesim.anatomy.levels import Level, levels_between, parse_level, region
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import LabelError, PathologyError
from spinesim.pathology.bend import Bend, BentSpine, bend_spine, plan_bend
from spinesim.pathology.patterns import usual_extent
from spinesim.pathology.profile import CurveShape, smooth_trend, tilt_profile, turn_profile
from spinesim.pathology.proposal import Goals, Proposal, goals_of, propose, read_goals
from spinesim.pathology.rules import Breach, check_bend, joint_turns_deg

ROTATION_PER_COBB = {"cervical": 0.28, "thoracic": 0.28, "lumbar": 0.17}
"""Apical rotation per degree of Cobb, lying: thoracic 16/57, lumbar 6/35 (Brink 2017, n = 62, supine MRI)."""

KYPHOSIS_PER_COBB = -0.15
"""Change of T5-T12 kyphosis per degree of a thoracic Cobb: (24.9 - 32.9) / 52, scoliosis against controls (Scoliosis
Spinal Disord 2018, n = 458; the mean Cobb of 52 is assumed)."""

FEWEST_WHOLE = 4
"""Whole vertebrae that a curve needs at least."""

TREND_MM = 25.0
"""Width of the Gaussian that tells a spine's own curve from the measuring noise of its single levels."""

RETURN_RAD = float(np.deg2rad(6.0))
"""Tilt that one level beyond the curve leads back at most (compensatory curves bend less than the curve itself)."""

GENTLE_WEDGE_DEG = {"cervical": 6.0, "thoracic": 7.0, "lumbar": 10.0, "sacral": 10.0}
"""Wedge that discs are given where it can be chosen: rigid bones with more of it meet at their facets."""

APEX_TOLERANCE = 0.75
"""Distance, in levels, between the apex asked and the apex found that still counts as met."""

WIDENINGS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 1))
"""Levels by which a curve may be made longer above and below, when it does not fit in its usual length."""


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


@dataclass(frozen=True, eq=False)
class _Task:
    """A scoliosis laid onto one spine: its shape, and the spine's own course."""

    spine: Spine
    scoliosis: Scoliosis
    shape: CurveShape
    sagittal: CurveShape | None
    own_tilt: Float[np.ndarray, " n"]
    deviation: Float[np.ndarray, " n"]
    own_cobb: float
    apex_rank: float

    @property
    def side(self) -> Side:
        """Side of the convexity."""
        return self.scoliosis.side


@dataclass(frozen=True, eq=False)
class _Solution:
    """A bend, what the moved spine then measures (radians; rank of the apex), and the rules it breaks."""

    bend: Bend
    bent: BentSpine
    shape: CurveShape
    cobb: float
    apex_rank: float
    breaches: tuple[Breach, ...]

    @property
    def broken(self) -> Breach | None:
        """The first hard rule that it breaks."""
        return next((breach for breach in self.breaches if breach.hard), None)

    def miss(self, task: _Task, cobb: float) -> float:
        """How far it is from what is wanted (1 is tolerable): hard rules most, then size, apex and harsh discs."""
        size = abs(np.rad2deg(self.cobb - cobb))
        apex = abs(self.apex_rank - task.apex_rank) / APEX_TOLERANCE
        return 1000.0 * bool(self.broken) + 10.0 * max(size - 0.1, 0) + apex + self.harshness()

    def harshness(self) -> float:
        """How much steeper discs are wedged than is gentle, in units of two degrees."""
        tilt = np.rad2deg(self.bend.tilt)
        limits = np.array([GENTLE_WEDGE_DEG[region(level)] for level in self.bent.spine.levels[1:]])
        return float(np.maximum(np.abs(np.diff(tilt)) - limits, 0).max() / 2)


@goals_of.register
def _(scoliosis: Scoliosis) -> Goals:
    return {"cobb_deg": scoliosis.cobb_deg}


@read_goals.register
def _(scoliosis: Scoliosis, measures: Measures) -> Goals:
    return {"cobb_deg": float(np.rad2deg(_signed_cobb(measures.curves, scoliosis)))}


def _signed_cobb(curves: tuple, scoliosis: Scoliosis) -> float:
    """Cobb angle of the largest curve at the apex: negative when it is convex to the other side, 0 without one."""
    for curve in curves:
        if all(curve.holds(level) for level in scoliosis.apex_levels):
            return curve.cobb if curve.side == scoliosis.side else -curve.cobb
    return 0.0


@propose.register
def _(scoliosis: Scoliosis, spine: Spine, aim: Goals) -> Proposal:
    task = _lay_out(scoliosis, spine)
    solution = _best_solution(task, aim["cobb_deg"])
    if solution.broken:
        nearest = _nearest_deg(task, aim["cobb_deg"])
        raise PathologyError(
            f"scoliosis of {scoliosis.cobb_deg:g} degrees at {scoliosis.apex}: expected that {solution.broken}; "
            f"the nearest possible value on this spine is {nearest:.0f} degrees"
        )
    warnings = [*map(str, solution.breaches), *_apex_warning(task, solution)]
    return Proposal(plan_bend(spine, solution.bend), solution.bent.moved, _details(task, solution), tuple(warnings))


def _lay_out(scoliosis: Scoliosis, spine: Spine) -> _Task:
    """Lay a scoliosis onto a spine."""
    _require_room(scoliosis, spine)
    axes = spine.patient_axes
    places = _places(spine)
    known = np.array([v.measured and v.level != Level.S for v in spine])
    tilts = np.array([(coronal_tilt(v.superior, axes) + coronal_tilt(v.inferior, axes)) / 2 for v in spine])
    own_tilt = smooth_trend(places, tilts, known, TREND_MM)
    upper, lower = _ends(scoliosis, spine)
    ranks = [spine.levels.index(level) for level in scoliosis.apex_levels]
    sign = 1.0 if scoliosis.side == "right" else -1.0
    apex = float(places[ranks].mean())
    bottom_tilt = own_tilt[-1] if Level.S in spine else 0.0
    shape = CurveShape(places, places[upper], apex, places[lower], sign, 0.0, bottom_tilt)
    whole = [v.level for v in spine.whole]
    return _Task(
        spine,
        scoliosis,
        shape,
        _sagittal_shape(spine, places),
        own_tilt,
        np.where(known, tilts - own_tilt, 0.0),
        _signed_cobb(find_curves(spine), scoliosis),
        float(np.mean([whole.index(level) for level in scoliosis.apex_levels])),
    )


def _places(spine: Spine) -> Float[np.ndarray, " n"]:
    """Position of each level along the spine, in mm from the lowest one."""
    centres = np.array([v.centre for v in spine])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    return np.append(np.cumsum(steps[::-1])[::-1], 0.0)


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


def _sagittal_shape(spine: Spine, places: Float[np.ndarray, " n"]) -> CurveShape | None:
    """Where thoracic kyphosis lies on this spine (T4 to T12, as far as they are there); None below five levels."""
    ranks = [rank for rank, level in enumerate(spine.levels) if Level.T4 <= level <= Level.T12]
    if len(ranks) < 5:
        return None
    upper, lower = places[ranks[0]], places[ranks[-1]]
    return CurveShape(places, upper, (upper + lower) / 2, lower, 1.0, 0.0, 0.0)


def _best_solution(task: _Task, cobb_deg: float) -> _Solution:
    """Solve with the usual end vertebrae; where that will not do, widen the curve or smooth single levels out.

    Of the tries the first that keeps the hard rules and meets size and apex is taken, else the one that comes closest.
    """
    cobb = float(np.deg2rad(cobb_deg))
    best = _solve(_widened(task, 0, 0, by_room=False), cobb, 0.0)
    for by_room in (False, True):
        for widen in WIDENINGS if not (task.scoliosis.upper_end or task.scoliosis.lower_end) else WIDENINGS[:1]:
            wider = _widened(task, *widen, by_room=by_room)
            for smooth in (0.0, 0.5, 1.0):
                tried = _solve(wider, cobb, smooth)
                if tried.miss(task, cobb) < best.miss(task, cobb) - 0.05:
                    best = tried
                if tried.miss(task, cobb) <= 1.0 or tried.harshness() > 1.0:
                    break
            if best.miss(task, cobb) <= 1.0:
                return best
    return best


def _widened(task: _Task, above: int, below: int, *, by_room: bool) -> _Task:
    """The same task with end vertebrae some levels farther from the apex, as far as whole levels go.

    ``by_room`` measures the way along the spine by what each disc can give instead of by millimetres, so that thin
    discs are wedged less than high ones.
    """
    shape, spine = task.shape, task.spine
    whole = [rank for rank, v in enumerate(spine) if v.measured and v.level != Level.S]
    upper = max(int(np.flatnonzero(shape.places == shape.upper)[0]) - above, whole[0])
    lower = min(int(np.flatnonzero(shape.places == shape.lower)[0]) + below, whole[-1])
    places = _room(spine) if by_room else shape.places
    apex = float(np.interp(shape.apex, shape.places[::-1], places[::-1]))
    give = (upper * RETURN_RAD, np.inf if Level.S in spine else (len(places) - 1 - lower) * RETURN_RAD)
    return replace(
        task,
        shape=replace(
            shape,
            places=places,
            upper=places[upper],
            apex=apex,
            lower=places[lower],
            top_give=give[0],
            bottom_give=give[1],
        ),
    )


def _room(spine: Spine) -> Float[np.ndarray, " n"]:
    """Position of each level along the spine when a step is as long as its disc is high for its width."""
    steps = -np.diff(_places(spine))
    heights = np.array(
        [
            (above.inferior.centre - below.superior.centre) @ above.inferior.normal / (above.width_mm + below.width_mm)
            for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False)
        ]
    )
    room = np.maximum(heights, 0.25 * np.median(heights))
    return np.append(np.cumsum((room * steps.sum() / room.sum())[::-1])[::-1], 0.0)


def _solve(task: _Task, cobb: float, smooth: float) -> _Solution:
    """Correct size and apex of the curve until the moved spine measures both (0.05 degrees; a quarter level).

    ``smooth`` is the share of each level's own deviation from the spine's slow course that is taken away.
    """
    size, shape, tries = cobb, task.shape, []
    task = replace(task, own_tilt=task.own_tilt + smooth * task.deviation)
    spacing = float(-np.diff(task.shape.places).mean())
    for _ in range(12):
        bend = _bend(task, shape, size)
        bent = bend_spine(task.spine, bend)
        measured, apex = _read(task, bent.moved)
        breaches = check_bend(bent, np.rad2deg(bend.wedge))
        tries.append(_Solution(bend, bent, shape, measured, apex, breaches))
        off = apex - task.apex_rank
        if abs(measured - cobb) < np.deg2rad(0.05) and abs(off) < 0.25:
            break
        size += cobb - measured
        shape = shape.with_apex(shape.apex + 0.5 * off * spacing)
    return min(tries, key=lambda tried: tried.miss(task, cobb))


def _read(task: _Task, moved: Spine) -> tuple[float, float]:
    """Signed Cobb angle at the apex of a moved spine, and the exact rank of its apex."""
    whole = moved.whole
    for curve in find_curves(moved):
        if all(curve.holds(level) for level in task.scoliosis.apex_levels) and curve.side == task.side:
            first = [v.level for v in whole].index(curve.upper)
            last = [v.level for v in whole].index(curve.lower)
            position = apex_position(whole[first : last + 1], moved.patient_axes, curve.side, exact=True)
            return curve.cobb, position + first
    return 0.0, task.apex_rank


def _bend(task: _Task, shape: CurveShape, cobb: float) -> Bend:
    """Build the bend for a size and shape of the curve, its ends in balance."""
    nod = _nod(task, cobb - abs(task.own_cobb))
    turn = _turn(task, shape, cobb - task.own_cobb)

    def bend(share: float) -> Bend:
        tilt = tilt_profile(shape, cobb, share) - task.own_tilt
        return Bend(tilt, nod, turn, _wedge(task, shape, tilt))

    def offset(share: float) -> float:
        moved = bend_spine(task.spine, bend(share)).moved.whole
        return lateral_offset_mm(moved[0].centre, moved[-1].centre, task.spine.patient_axes) - task.scoliosis.offset_mm

    return bend(_root(offset, 0.1, 0.9))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where a rising or falling function is zero; the better end where it is nowhere."""
    at_low, at_high = function(low), function(high)
    if at_low * at_high > 0:
        return low if abs(at_low) < abs(at_high) else high
    return float(brentq(function, low, high, xtol=1e-4))


def _rotation_per_cobb(scoliosis: Scoliosis) -> float:
    if scoliosis.rotation_per_cobb is not None:
        return scoliosis.rotation_per_cobb
    return ROTATION_PER_COBB[region(scoliosis.apex_levels[0])]


def _turn(task: _Task, shape: CurveShape, gained: float) -> Float[np.ndarray, " n"]:
    """Axial rotation that comes along with the gain in Cobb angle; a sacrum holds still."""
    apical = shape.sign * _rotation_per_cobb(task.scoliosis) * gained
    give = np.deg2rad(joint_turns_deg(task.spine.levels))
    turn = turn_profile(shape, apical, give)
    if Level.S in task.spine and turn[-1] != 0:
        below = turn_profile(shape, apical * abs(apical) / (abs(apical) + abs(turn[-1])), give)
        turn = below - below[-1] * (below != 0)
    return turn


def _wedge(task: _Task, shape: CurveShape, tilt: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Share the bend of the curve with its vertebrae: each whole one is wedged by its part of the tilt's slope."""
    share = task.scoliosis.vertebral_share
    wedge = np.zeros_like(tilt)
    if share == 0:
        return wedge
    wedge[1:-1] = share * (tilt[:-2] - tilt[2:]) / 2
    inside = (shape.places <= shape.upper) & (shape.places >= shape.lower)
    whole = np.array([v.measured and v.level != Level.S for v in task.spine])
    return np.where(inside & whole, wedge, 0.0)


def _nod(task: _Task, gained: float) -> Float[np.ndarray, " n"]:
    """Forward lean of each level that changes the kyphosis along with the Cobb angle, top over bottom as before."""
    per_cobb = task.scoliosis.kyphosis_per_cobb
    if per_cobb is None:
        per_cobb = KYPHOSIS_PER_COBB if region(task.scoliosis.apex_levels[0]) == "thoracic" else 0.0
    still = np.zeros_like(task.own_tilt)
    shape = task.sagittal
    if shape is None or per_cobb * gained == 0:
        return still
    # tilt_profile leans its upper end against its sign; kyphosis grows when the upper end leans forward.
    change = per_cobb * gained

    def offset(share: float) -> float:
        bend = Bend(still, -tilt_profile(shape, change, share), still, still)
        moved = bend_spine(task.spine, bend).moved.vertebrae
        before = task.spine.vertebrae
        shift = (moved[0].centre - moved[-1].centre) - (before[0].centre - before[-1].centre)
        return float(shift @ task.spine.patient_axes[:, 1])

    return -tilt_profile(shape, change, _root(offset, 0.1, 0.9))


def _apex_warning(task: _Task, solution: _Solution) -> list[str]:
    """Say so where the apex found is not the one that was asked."""
    if abs(solution.apex_rank - task.apex_rank) <= APEX_TOLERANCE:
        return []
    found = task.spine.whole[round(solution.apex_rank)].level.name
    return [
        f"the apex is asked at {task.scoliosis.apex} and comes out nearest to {found}: this spine's own shape moves it"
    ]


def _nearest_deg(task: _Task, asked_deg: float) -> float:
    """Largest whole Cobb angle below the asked one that breaks no hard rule (bisection)."""
    low, high = 0, int(np.ceil(asked_deg))
    while high - low > 1:
        middle = (low + high) // 2
        if _best_solution(task, middle).broken:
            high = middle
        else:
            low = middle
    return float(low)


def _details(task: _Task, solution: _Solution) -> dict[str, Any]:
    """What the record says about the plan."""
    levels, places = task.spine.levels, solution.shape.places
    whole = solution.bent.moved.whole
    axes = task.spine.patient_axes
    return {
        "direction": task.side,
        "planned_upper_end": levels[int(np.flatnonzero(places == solution.shape.upper)[0])].name,
        "planned_lower_end": levels[int(np.flatnonzero(places == solution.shape.lower)[0])].name,
        "predicted_cobb_deg": float(np.rad2deg(solution.cobb)),
        "apical_rotation_change_deg": float(np.rad2deg(solution.bend.turn[np.abs(solution.bend.turn).argmax()])),
        "top_over_bottom_mm": lateral_offset_mm(whole[0].centre, whole[-1].centre, axes),
        "discs_opened_mm": float(solution.bent.opened_mm.sum()),
    }
