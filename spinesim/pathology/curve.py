"""Fit a coronal curve to a spine: size, apex and ends are corrected until the moved spine measures what is aimed at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from spinesim.anatomy.curves import Curve, Side, apex_position, find_curves, lateral_offset_mm
from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.bend import Bend, BentSpine, bend_spine
from spinesim.pathology.profile import CurveShape, tilt_profile, turn_profile
from spinesim.pathology.rules import Breach, check_bend, joint_turns_deg
from spinesim.pathology.sway import Sway

RETURN_RAD = float(np.deg2rad(6.0))
"""Tilt that one level beyond the curve leads back at most (compensatory curves bend less than the curve itself)."""

GENTLE_WEDGE_DEG = {"cervical": 6.0, "thoracic": 7.0, "lumbar": 10.0, "sacral": 10.0}
"""Wedge that discs are given where it can be chosen: rigid bones with more of it meet at their facets."""

APEX_TOLERANCE = 0.75
"""Distance, in levels, between the apex asked and the apex found that still counts as met."""

WIDENINGS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 1))
"""Levels by which a curve may be made longer above and below, when it does not fit in its usual length."""


@dataclass(frozen=True)
class Coupling:
    """What comes along with a coronal curve.

    Apical rotation and change of kyphosis per Cobb angle, the share that the bodies take by wedging, and how far the
    top shall stand to the right of the bottom.
    """

    rotation_per_cobb: float
    kyphosis_per_cobb: float
    vertebral_share: float
    offset_mm: float


@dataclass(frozen=True, eq=False)
class CurveTask:
    """A curve laid onto one spine: where it lies, what comes along with it, and the spine's own course.

    ``own_tilt`` is the slow course of the levels' tilts, ``deviation`` what single levels deviate from it (radians);
    ``apex_rank`` the apex among the measured levels; ``free_ends`` whether the end vertebrae may be chosen; ``sway``
    what the spine does beside the mean curve.
    """

    spine: Spine
    apex: tuple[Level, ...]
    side: Side
    coupling: Coupling
    free_ends: bool
    shape: CurveShape
    sagittal: CurveShape | None
    own_tilt: Float[np.ndarray, " n"]
    deviation: Float[np.ndarray, " n"]
    own_cobb: float
    apex_rank: float
    sway: Sway


@dataclass(frozen=True, eq=False)
class CurveSolution:
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

    def miss(self, task: CurveTask, cobb: float) -> float:
        """How far it is from what is wanted (1 is tolerable): hard rules most, then size, apex and harsh discs."""
        size = abs(np.rad2deg(self.cobb - cobb))
        apex = abs(self.apex_rank - task.apex_rank) / APEX_TOLERANCE
        return 1000.0 * bool(self.broken) + 10.0 * max(size - 0.1, 0) + apex + self.harshness()

    def harshness(self) -> float:
        """How much steeper discs are wedged than is gentle, in units of two degrees."""
        tilt = np.rad2deg(self.bend.tilt)
        limits = np.array([GENTLE_WEDGE_DEG[region(level)] for level in self.bent.spine.levels[1:]])
        return float(np.maximum(np.abs(np.diff(tilt)) - limits, 0).max() / 2)


def measure_places(spine: Spine) -> Float[np.ndarray, " n"]:
    """Position of each level along the spine, in mm from the lowest one."""
    centres = np.array([v.centre for v in spine])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    return np.append(np.cumsum(steps[::-1])[::-1], 0.0)


def sagittal_shape(spine: Spine, places: Float[np.ndarray, " n"]) -> CurveShape | None:
    """Where thoracic kyphosis lies on this spine (T4 to T12, as far as they are there); None below five levels."""
    ranks = [rank for rank, level in enumerate(spine.levels) if Level.T4 <= level <= Level.T12]
    if len(ranks) < 5:
        return None
    upper, lower = places[ranks[0]], places[ranks[-1]]
    return CurveShape(places, upper, (upper + lower) / 2, lower, 1.0, 0.0, 0.0)


def curve_at(curves: tuple[Curve, ...], apex: tuple[Level, ...]) -> Curve | None:
    """The largest curve that the apex lies in."""
    return next((curve for curve in curves if all(curve.holds(level) for level in apex)), None)


def signed_cobb(curves: tuple[Curve, ...], apex: tuple[Level, ...], side: Side) -> float:
    """Cobb angle of the largest curve at the apex: negative when it is convex to the other side, 0 without one."""
    curve = curve_at(curves, apex)
    if curve is None:
        return 0.0
    return curve.cobb if curve.side == side else -curve.cobb


def best_solution(task: CurveTask, cobb_deg: float) -> CurveSolution:
    """Solve with the usual end vertebrae; where that will not do, widen the curve or smooth single levels out.

    Of the tries the first that keeps the hard rules and meets size and apex is taken, else the one that comes closest.
    """
    cobb = float(np.deg2rad(cobb_deg))
    nod = _nod(task, cobb - abs(task.own_cobb))
    bests: list[CurveSolution] = []
    for by_room in (False, True):
        for widen in WIDENINGS if task.free_ends else WIDENINGS[:1]:
            wider = _widened(task, *widen, by_room=by_room)
            for smooth in (0.0, 0.5, 1.0):
                tried = _solve(wider, cobb, nod, smooth)
                if not bests or tried.miss(task, cobb) < bests[-1].miss(task, cobb) - 0.05:
                    bests.append(tried)
                if tried.miss(task, cobb) <= 1.0 or tried.harshness() > 1.0:
                    break
            if bests[-1].miss(task, cobb) <= 1.0:
                return bests[-1]
    return bests[-1]


def _widened(task: CurveTask, above: int, below: int, *, by_room: bool) -> CurveTask:
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
    steps = -np.diff(measure_places(spine))
    heights = np.array(
        [
            (above.inferior.centre - below.superior.centre) @ above.inferior.normal / (above.width_mm + below.width_mm)
            for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False)
        ]
    )
    room = np.maximum(heights, 0.25 * np.median(heights))
    return np.append(np.cumsum((room * steps.sum() / room.sum())[::-1])[::-1], 0.0)


def _solve(task: CurveTask, cobb: float, nod: Float[np.ndarray, " n"], smooth: float) -> CurveSolution:
    """Correct size and apex of the curve until the moved spine measures both (0.05 degrees; a quarter level).

    ``smooth`` is the share of each level's own deviation from the spine's slow course that is taken away.
    """
    size, shape, tries = cobb, task.shape, []
    task = replace(task, own_tilt=task.own_tilt + smooth * task.deviation)
    spacing = float(-np.diff(task.shape.places).mean())
    for _ in range(12):
        bend = _bend(task, shape, size, nod)
        bent = bend_spine(task.spine, bend)
        measured, apex = _read(task, bent.moved)
        breaches = check_bend(bent, np.rad2deg(bend.wedge))
        tries.append(CurveSolution(bend, bent, shape, measured, apex, breaches))
        off = apex - task.apex_rank
        if abs(measured - cobb) < np.deg2rad(0.05) and abs(off) < 0.25:
            break
        size += cobb - measured
        shape = shape.with_apex(shape.apex + 0.5 * off * spacing)
    return min(tries, key=lambda tried: tried.miss(task, cobb))


def _read(task: CurveTask, moved: Spine) -> tuple[float, float]:
    """Signed Cobb angle at the apex of a moved spine, and the exact rank of its apex."""
    whole = moved.whole
    for curve in find_curves(moved):
        if all(curve.holds(level) for level in task.apex) and curve.side == task.side:
            first = [v.level for v in whole].index(curve.upper)
            last = [v.level for v in whole].index(curve.lower)
            position = apex_position(whole[first : last + 1], moved.patient_axes, curve.side, exact=True)
            return curve.cobb, position + first
    return 0.0, task.apex_rank


def _bend(task: CurveTask, shape: CurveShape, cobb: float, nod: Float[np.ndarray, " n"]) -> Bend:
    """Build the bend for a size and shape of the curve and a forward lean, its ends in balance."""
    led = _leaders(task.spine)
    nod, turn = nod + task.sway.nod, (_turn(task, shape, cobb - task.own_cobb) + task.sway.turn)[led]

    def bend(share: float) -> Bend:
        tilt = (tilt_profile(shape, cobb, share) - task.own_tilt + task.sway.tilt)[led]
        return Bend(tilt, nod[led], turn, _wedge(task, shape, tilt))

    def offset(share: float) -> float:
        moved = bend_spine(task.spine, bend(share)).moved.whole
        return lateral_offset_mm(moved[0].centre, moved[-1].centre, task.spine.patient_axes) - task.coupling.offset_mm

    return bend(_root(offset, 0.1, 0.9))


def _leaders(spine: Spine) -> np.ndarray:
    """Rank of the level that each level turns with: itself, or, where it was not measured, the nearest that was.

    The joints of levels that the edge cuts are not known well enough to bend them.
    """
    known = np.flatnonzero([vertebra.measured for vertebra in spine])
    return known[np.abs(np.arange(len(spine))[:, None] - known).argmin(axis=1)]


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where a rising or falling function is zero; the better end where it is nowhere."""
    at_low, at_high = function(low), function(high)
    if at_low * at_high > 0:
        return low if abs(at_low) < abs(at_high) else high
    return float(brentq(function, low, high, xtol=1e-4))


def _turn(task: CurveTask, shape: CurveShape, gained: float) -> Float[np.ndarray, " n"]:
    """Axial rotation that comes along with the gain in Cobb angle; a sacrum holds still."""
    apical = shape.sign * task.coupling.rotation_per_cobb * gained
    give = np.deg2rad(joint_turns_deg(task.spine.levels))
    turn = turn_profile(shape, apical, give)
    if Level.S in task.spine and turn[-1] != 0:
        below = turn_profile(shape, apical * abs(apical) / (abs(apical) + abs(turn[-1])), give)
        turn = below - below[-1] * (below != 0)
    return turn


def _wedge(task: CurveTask, shape: CurveShape, tilt: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Share the bend of the curve with its vertebrae: each whole one is wedged by its part of the tilt's slope."""
    share = task.coupling.vertebral_share
    wedge = np.zeros_like(tilt)
    if share == 0:
        return wedge
    wedge[1:-1] = share * (tilt[:-2] - tilt[2:]) / 2
    inside = (shape.places <= shape.upper) & (shape.places >= shape.lower)
    whole = np.array([v.measured and v.level != Level.S for v in task.spine])
    return np.where(inside & whole, wedge, 0.0)


def _nod(task: CurveTask, gained: float) -> Float[np.ndarray, " n"]:
    """Forward lean of each level that changes the kyphosis along with the Cobb angle, top over bottom as before."""
    per_cobb = task.coupling.kyphosis_per_cobb
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


def nearest_deg(task: CurveTask, asked_deg: float) -> float:
    """Largest whole Cobb angle below the asked one that breaks no hard rule (bisection)."""
    low, high = 0, int(np.ceil(asked_deg))
    while high - low > 1:
        middle = (low + high) // 2
        if best_solution(task, middle).broken:
            high = middle
        else:
            low = middle
    return float(low)
