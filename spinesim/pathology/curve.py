"""Fit a coronal curve to a spine: size, apex and ends are corrected until the moved spine measures what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.curves import Curve, Side, apex_position, find_curves, lateral_offset_mm
from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.bend import Bend, BentSpine, bend_spine
from spinesim.pathology.profile import CurveShape
from spinesim.pathology.rules import Breach, check_bend, first_hard
from spinesim.pathology.target import GENTLE_WEDGE_DEG, Filling, Target
from spinesim.shape.course import Course, Turns

Cobbs = Float[np.ndarray, " c"]
"""Cobb angles of the curves of one spine (radians), the one that was asked for first."""

APEX_TOLERANCE = 0.75
"""Distance, in levels, between the apex asked and the apex found that still counts as met."""

APEX_SHIFT = 1.0
"""Levels by which the planned apex is moved at most to have the measured one where it is asked."""

OTHER_CURVE_DEG = 2.0
"""How far a curve may be from its size and still be the one that was asked for."""

BALANCE_MM = 5.0
"""How far the top may stand beside where it is asked and still count as met."""

GENTLENESS = (1.0, 1.5, np.inf)
"""How far past a gentle wedge discs are led, in turn, where the curve does not fit."""

FILLINGS = (Filling(0.75, 0.85), Filling(0.9, 1.0), Filling(0.97, 1.7))
"""How far discs are filled, in turn, where a curve that is only led there breaks a hard rule or misses its size."""

FAR_OFF_DEG, FAR_APEX, ASTRAY = 0.5, 1.0, 5.0
"""How far from its size a curve may be before its discs are filled, how many levels an apex may then lie from where it
was asked, and what each level beyond counts."""

WIDENINGS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 1))
"""Levels by which a curve may be made longer above and below, when it does not fit in its usual length."""


SHIFTS, FAR_SHIFTS = (0, -1, 1), (0, -1, 1, -2, 2)
"""Levels by which the end vertebrae that neighbouring curves share are shifted, when they do not fit."""

SHORTEST = 2
"""Levels from one end vertebra to the other at least."""


@dataclass(frozen=True)
class Coupling:
    """What comes along with coronal curves.

    Change of kyphosis per degree of the largest one, the share that the bodies take by wedging, and how far the top
    shall stand to the right of the bottom.
    """

    kyphosis_per_cobb: float
    vertebral_share: float
    offset_mm: float


@dataclass(frozen=True)
class AskedCurve:
    """One curve that is asked for, and what the spine has there.

    ``rotation_per_cobb`` is its apical rotation, ``own_cobb`` the spine's own angle (radians, negative when convex to
    the other side), ``apex_rank`` its apex among the measured levels.
    """

    apex: tuple[Level, ...]
    side: Side
    rotation_per_cobb: float
    own_cobb: float
    apex_rank: float


@dataclass(frozen=True, eq=False)
class CurveTask:
    """Curves laid onto one spine, the largest first: where they lie, what comes along, and the spine's own course.

    ``own_tilt`` is the slow course of the levels' tilts, ``deviation`` what single levels deviate from it (radians);
    ``free_ends`` whether the end vertebrae may be chosen; ``course`` what the model expects of the patient; ``sway``
    what the spine does beside the mean curve.
    """

    spine: Spine
    curves: tuple[AskedCurve, ...]
    shapes: tuple[CurveShape, ...]
    coupling: Coupling
    free_ends: bool
    course: Course
    own_tilt: Float[np.ndarray, " n"]
    deviation: Float[np.ndarray, " n"]
    sway: Turns
    gentleness: float | Filling = 1.0

    def target(self, shapes: tuple[CurveShape, ...]) -> Target:
        """What the model expects when the curves have some shapes."""
        share = 1 - self.coupling.vertebral_share
        return Target(self.spine, self.course, shapes, self.own_tilt, self.gentleness, share)

    @property
    def own_cobb(self) -> Cobbs:
        """The spine's own angles."""
        return np.array([curve.own_cobb for curve in self.curves])

    @property
    def apex_rank(self) -> Float[np.ndarray, " c"]:
        """Where the apices are asked."""
        return np.array([curve.apex_rank for curve in self.curves])


@dataclass(frozen=True, eq=False)
class CurveSolution:
    """A bend, what the moved spine then measures (radians; ranks of the apices; mm), and the rules it breaks.

    ``rival`` is the largest curve beside those that were asked for, ``offset_mm`` how far the top stands to the right.
    """

    bend: Bend
    bent: BentSpine
    shapes: tuple[CurveShape, ...]
    cobb: Cobbs
    apex_rank: Float[np.ndarray, " c"]
    rival: float
    offset_mm: float
    breaches: tuple[Breach, ...]

    @property
    def broken(self) -> Breach | None:
        """The first hard rule that it breaks."""
        return first_hard(self.breaches)

    def miss(self, task: CurveTask, cobb: Cobbs) -> float:
        """How far it is from what is wanted (1 is tolerable): another curve and hard rules most, then the rest."""
        size = self.size_off_deg(cobb)
        apex = np.abs(self.apex_rank - task.apex_rank).max() / APEX_TOLERANCE
        rival = max(np.rad2deg(self.rival - self.cobb[0]), 0) / 2
        balance = max(abs(self.offset_mm - task.coupling.offset_mm) / BALANCE_MM - 1, 0)
        wrong = 2000.0 * (size > OTHER_CURVE_DEG) + 1000.0 * bool(self.broken)
        return float(wrong + 10.0 * max(size - 0.1, 0) + apex + rival + balance + self.harshness())

    def astray(self, task: CurveTask) -> float:
        """How much is to be said against an apex that lies farther away than ``FAR_APEX``."""
        return float(ASTRAY * np.maximum(np.abs(self.apex_rank - task.apex_rank) - FAR_APEX, 0).max())

    def size_off_deg(self, cobb: Cobbs) -> float:
        """How far the worst curve is from its size."""
        return float(np.abs(np.rad2deg(self.cobb - cobb)).max())

    def harshness(self) -> float:
        """How much steeper discs are wedged than is gentle, in units of two degrees."""
        bends = np.rad2deg(np.diff(self.bend.tilt) + (self.bend.wedge[:-1] + self.bend.wedge[1:]) / 2)
        limits = np.array([GENTLE_WEDGE_DEG[region(level)] for level in self.bent.spine.levels[1:]])
        return float(np.maximum(np.abs(bends) - limits, 0).max() / 2)


def measure_places(spine: Spine) -> Float[np.ndarray, " n"]:
    """Position of each level along the spine, in mm from the lowest one."""
    centres = np.array([v.centre for v in spine])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    return np.append(np.cumsum(steps[::-1])[::-1], 0.0)


def curve_at(curves: tuple[Curve, ...], apex: tuple[Level, ...], side: Side) -> Curve | None:
    """The largest curve that the apex lies in; at the ends of curves, the one that is convex to a side."""
    there = [curve for curve in curves if all(curve.holds(level) for level in apex)]
    within = [curve for curve in there if all(curve.upper < level < curve.lower for level in apex)]
    return next(iter([*within, *(curve for curve in there if curve.side == side), *there]), None)


def signed_cobb(curves: tuple[Curve, ...], apex: tuple[Level, ...], side: Side) -> float:
    """Cobb angle of the largest curve at the apex: negative when it is convex to the other side, 0 without one."""
    curve = curve_at(curves, apex, side)
    if curve is None:
        return 0.0
    return curve.cobb if curve.side == side else -curve.cobb


def best_solution(task: CurveTask, cobb: Cobbs) -> CurveSolution:
    """Solve with the usual end vertebrae; where that will not do, widen the curves or smooth single levels out.

    Of the tries the first that keeps the hard rules and meets sizes and apices is taken, else the one that comes
    closest. Where none of several curves keeps the rules, every disc is filled as far as it can be.
    """
    tries: list[CurveSolution] = []
    for gentle in GENTLENESS:
        for shapes in _layouts(task, SHIFTS):
            tries += _smoothed(replace(task, shapes=shapes, gentleness=gentle), cobb)
            best = min(tries, key=lambda tried: tried.miss(task, cobb))
            if best.miss(task, cobb) <= 1.0:
                return best
        if best.miss(task, cobb) - best.harshness() <= 1.0:
            break  # only harsh discs are left, and they would be harsher
    return _filled(task, cobb, best)


def _layouts(task: CurveTask, shifts: tuple[int, ...]) -> list[tuple[CurveShape, ...]]:
    """The shapes with all the end vertebrae that may be tried, the usual ones first."""
    choices = product(WIDENINGS, shifts) if task.free_ends else [((0, 0), 0)]
    found = {_ranks(shapes): shapes for shapes in (_widened(task, *widen, shift) for widen, shift in choices)}
    return [shapes for shapes in found.values() if all(shape.lower - shape.upper >= SHORTEST for shape in shapes)]


def _filled(task: CurveTask, cobb: Cobbs, best: CurveSolution) -> CurveSolution:
    """Where a solution breaks a rule or misses a size, solve with discs filled, ever farther, until one will do.

    Only beside other curves, which share their levels: a single curve that does not fit its own is refused, as bones of
    a short scan that was filled so strained by half a millimetre.
    """
    if len(task.curves) == 1 or (not best.broken and best.size_off_deg(cobb) <= FAR_OFF_DEG):
        return best
    for filling in FILLINGS:
        for shapes in _layouts(task, FAR_SHIFTS):
            tried = _solve(replace(task, shapes=shapes, gentleness=filling), cobb, 1.0)
            best = min(best, tried, key=lambda one: one.miss(task, cobb) + one.astray(task))
        if not best.broken and best.size_off_deg(cobb) <= FAR_OFF_DEG and best.astray(task) == 0:
            break
    return best


def _smoothed(task: CurveTask, cobb: Cobbs) -> list[CurveSolution]:
    """Solve with the levels' own deviations, then, where that will not do, with ever less of them."""
    tries: list[CurveSolution] = []
    for smooth in (0.0, 0.5, 1.0):
        tries.append(_solve(task, cobb, smooth))
        if tries[-1].miss(task, cobb) <= 1.0 or tries[-1].harshness() > 1.0:
            break
    return tries


def _ranks(shapes: tuple[CurveShape, ...]) -> tuple[int, ...]:
    return tuple(rank for shape in shapes for rank in (shape.upper, shape.lower))


def _widened(task: CurveTask, above: int, below: int, shift: int) -> tuple[CurveShape, ...]:
    """The shapes with their outermost end vertebrae farther out, as far as whole levels go, and shared ones shifted."""
    whole = [rank for rank, v in enumerate(task.spine) if v.measured and v.level != Level.S]
    ends = {rank: rank + shift for rank in _ranks(task.shapes)}
    top, bottom = min(ends), max(ends)
    ends |= {top: max(top - above, whole[0]), bottom: min(bottom + below, whole[-1])}
    shapes = (replace(shape, upper=ends[shape.upper], lower=ends[shape.lower]) for shape in task.shapes)
    return tuple(shape.with_apex(shape.apex) for shape in shapes)


def _solve(task: CurveTask, cobb: Cobbs, smooth: float) -> CurveSolution:
    """Correct sizes, apices and balance until the moved spine measures them (0.05 degrees; a quarter level; 2 mm).

    ``smooth`` is the share of each level's own deviation from the spine's slow course that is taken away.
    """
    size, shapes, offset, tries = cobb, task.shapes, task.coupling.offset_mm, []
    task = replace(task, own_tilt=task.own_tilt + smooth * task.deviation)
    for _ in range(12):
        tries.append(_judge(task, shapes, _bend(task, shapes, size, offset)))
        missed, off = cobb - tries[-1].cobb, tries[-1].apex_rank - task.apex_rank
        leans = tries[-1].offset_mm - task.coupling.offset_mm
        met = (np.abs(missed) < np.deg2rad(0.05)).all() and (np.abs(off) < 0.25).all() and abs(leans) < 2.0
        if met or not tries[-1].cobb.all():
            break
        size, offset = size + missed, offset - leans
        shapes = tuple(
            shape.with_apex(float(np.clip(shape.apex - 0.5 * by, first.apex - APEX_SHIFT, first.apex + APEX_SHIFT)))
            for shape, first, by in zip(shapes, task.shapes, off, strict=True)
        )
    return min(tries, key=lambda tried: tried.miss(task, cobb))


def _judge(task: CurveTask, shapes: tuple[CurveShape, ...], bend: Bend) -> CurveSolution:
    """Bend the spine and measure it: each curve at its apex, their exact apices, the largest rival, balance."""
    bent = bend_spine(task.spine, bend)
    moved = bent.moved
    found, whole = find_curves(moved), moved.whole
    leads = [_lead(found, asked) for asked in task.curves]
    apices = [
        asked.apex_rank if lead is None else _exact_apex(moved, lead)
        for asked, lead in zip(task.curves, leads, strict=True)
    ]
    return CurveSolution(
        bend,
        bent,
        shapes,
        np.array([0.0 if lead is None else lead.cobb for lead in leads]),
        np.array(apices),
        max((curve.cobb for curve in found if curve not in leads), default=0.0),
        lateral_offset_mm(whole[0].centre, whole[-1].centre, task.spine.patient_axes),
        check_bend(bent, np.rad2deg(bend.wedge)),
    )


def _lead(found: tuple[Curve, ...], asked: AskedCurve) -> Curve | None:
    """The curve found at an apex, on the side that was asked."""
    return curve_at(tuple(curve for curve in found if curve.side == asked.side), asked.apex, asked.side)


def _exact_apex(moved: Spine, curve: Curve) -> float:
    """Exact rank of a curve's apex among the measured levels."""
    whole = moved.whole
    first, last = ([v.level for v in whole].index(level) for level in (curve.upper, curve.lower))
    return apex_position(whole[first : last + 1], moved.patient_axes, curve.side, exact=True) + first


def _bend(task: CurveTask, shapes: tuple[CurveShape, ...], cobb: Cobbs, offset_mm: float) -> Bend:
    """Build the bend that leads the spine to what is expected of it when the curves have some sizes and shapes."""
    target, gained = task.target(shapes), cobb - task.own_cobb
    tilt = target.tilts(cobb, offset_mm) - task.own_tilt
    turns = gained * [curve.rotation_per_cobb for curve in task.curves]
    along = target.along(tilt, turns, task.coupling.kyphosis_per_cobb * float(cobb[0] - abs(task.own_cobb[0])))
    led, sway = _leaders(task.spine), task.sway
    tilt = (tilt + sway.tilt)[led]
    return Bend(
        tilt,
        (along.nod + sway.nod)[led],
        (along.turn + sway.turn)[led],
        _wedge(task, shapes, tilt),
        np.zeros_like(tilt),
    )


def _leaders(spine: Spine) -> np.ndarray:
    """Rank of the level that each level turns with: itself, or, where it was not measured, the nearest that was.

    The joints of levels that the edge cuts are not known well enough to bend them.
    """
    known = np.flatnonzero([vertebra.measured for vertebra in spine])
    return known[np.abs(np.arange(len(spine))[:, None] - known).argmin(axis=1)]


def _wedge(task: CurveTask, shapes: tuple[CurveShape, ...], tilt: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Share the bend of the curves with their vertebrae: each whole one is wedged by its part of the tilt's slope."""
    share = task.coupling.vertebral_share
    wedge = np.zeros_like(tilt)
    if share == 0:
        return wedge
    wedge[1:-1] = share * (tilt[:-2] - tilt[2:]) / 2
    whole = np.array([v.measured and v.level != Level.S for v in task.spine])
    return np.where(np.any([shape.inside() for shape in shapes], axis=0) & whole, wedge, 0.0)


def nearest_deg(task: CurveTask, asked: Cobbs) -> float:
    """Largest whole angle of the first curve below the asked one that breaks no hard rule, the others in proportion."""
    asked_deg = float(np.rad2deg(asked[0]))
    low, high = 0, int(np.ceil(asked_deg))
    while high - low > 1:
        middle = (low + high) // 2
        wanted = asked * middle / asked_deg
        solution = best_solution(task, wanted)
        if solution.broken or solution.size_off_deg(wanted) > OTHER_CURVE_DEG:
            high = middle
        else:
            low = middle
    return float(low)
