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
from spinesim.pathology.rules import Breach, check_bend
from spinesim.pathology.target import GENTLE_WEDGE_DEG, Target
from spinesim.shape.course import Course, Turns

APEX_TOLERANCE = 0.75
"""Distance, in levels, between the apex asked and the apex found that still counts as met."""

APEX_SHIFT = 1.0
"""Levels by which the planned apex is moved at most to have the measured one where it is asked."""

BALANCE_MM = 5.0
"""How far the top may stand beside where it is asked and still count as met."""

GENTLENESS = (1.0, 1.5, np.inf)
"""How far past a gentle wedge discs are led, in turn, where the curve does not fit."""

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
    ``apex_rank`` the apex among the measured levels; ``free_ends`` whether the end vertebrae may be chosen; ``course``
    what the model expects of the patient; ``sway`` what the spine does beside the mean curve.
    """

    spine: Spine
    apex: tuple[Level, ...]
    side: Side
    coupling: Coupling
    free_ends: bool
    shape: CurveShape
    course: Course
    own_tilt: Float[np.ndarray, " n"]
    deviation: Float[np.ndarray, " n"]
    own_cobb: float
    apex_rank: float
    sway: Turns
    gentleness: float = 1.0

    def target(self, shape: CurveShape) -> Target:
        """What the model expects when the curve has some shape."""
        return Target(self.spine, self.course, shape, self.own_tilt, self.gentleness)


@dataclass(frozen=True, eq=False)
class CurveSolution:
    """A bend, what the moved spine then measures (radians; rank of the apex; mm), and the rules it breaks.

    ``rival`` is the largest curve beside the one that was asked for, ``offset_mm`` how far the top stands to the right.
    """

    bend: Bend
    bent: BentSpine
    shape: CurveShape
    cobb: float
    apex_rank: float
    rival: float
    offset_mm: float
    breaches: tuple[Breach, ...]

    @property
    def broken(self) -> Breach | None:
        """The first hard rule that it breaks."""
        return next((breach for breach in self.breaches if breach.hard), None)

    def miss(self, task: CurveTask, cobb: float) -> float:
        """How far it is from what is wanted (1 is tolerable): hard rules most, then size, apex and harsh discs."""
        size = abs(np.rad2deg(self.cobb - cobb))
        apex = abs(self.apex_rank - task.apex_rank) / APEX_TOLERANCE
        rival = max(np.rad2deg(self.rival - self.cobb), 0) / 2
        balance = max(abs(self.offset_mm - task.coupling.offset_mm) / BALANCE_MM - 1, 0)
        return 1000.0 * bool(self.broken) + 10.0 * max(size - 0.1, 0) + apex + rival + balance + self.harshness()

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
    bests: list[CurveSolution] = []
    widenings = WIDENINGS if task.free_ends else WIDENINGS[:1]
    shapes = {(shape.upper, shape.lower): shape for shape in (_widened(task, *widen) for widen in widenings)}
    for gentle, shape in product(GENTLENESS, shapes.values()):
        wider = replace(task, shape=shape, gentleness=gentle)
        for smooth in (0.0, 0.5, 1.0):
            tried = _solve(wider, cobb, smooth)
            if not bests or tried.miss(task, cobb) < bests[-1].miss(task, cobb) - 0.05:
                bests.append(tried)
            if tried.miss(task, cobb) <= 1.0 or tried.harshness() > 1.0:
                break
        if bests[-1].miss(task, cobb) <= 1.0:
            break
    return bests[-1]


def _widened(task: CurveTask, above: int, below: int) -> CurveShape:
    """The shape with end vertebrae some levels farther from the apex, as far as whole levels go."""
    whole = [rank for rank, v in enumerate(task.spine) if v.measured and v.level != Level.S]
    upper, lower = max(task.shape.upper - above, whole[0]), min(task.shape.lower + below, whole[-1])
    return replace(task.shape, upper=upper, lower=lower)


def _solve(task: CurveTask, cobb: float, smooth: float) -> CurveSolution:
    """Correct size, apex and balance until the moved spine measures them (0.05 degrees; a quarter level; 2 mm).

    ``smooth`` is the share of each level's own deviation from the spine's slow course that is taken away.
    """
    size, shape, offset, tries = cobb, task.shape, task.coupling.offset_mm, []
    task = replace(task, own_tilt=task.own_tilt + smooth * task.deviation)
    for _ in range(12):
        bend = _bend(task, shape, size, offset)
        tries.append(_judge(task, shape, bend))
        missed, off = cobb - tries[-1].cobb, tries[-1].apex_rank - task.apex_rank
        leans = tries[-1].offset_mm - task.coupling.offset_mm
        met = abs(missed) < np.deg2rad(0.05) and abs(off) < 0.25 and abs(leans) < 2.0
        if met or not tries[-1].cobb:
            break
        apex = np.clip(shape.apex - 0.5 * off, task.shape.apex - APEX_SHIFT, task.shape.apex + APEX_SHIFT)
        size, offset, shape = size + missed, offset - leans, shape.with_apex(float(apex))
    return min(tries, key=lambda tried: tried.miss(task, cobb))


def _judge(task: CurveTask, shape: CurveShape, bend: Bend) -> CurveSolution:
    """Bend the spine and measure it: the curve at the apex, the exact rank of its apex, its largest rival, balance."""
    bent = bend_spine(task.spine, bend)
    moved = bent.moved
    curves, whole = find_curves(moved), moved.whole
    offset = lateral_offset_mm(whole[0].centre, whole[-1].centre, task.spine.patient_axes)
    breaches = check_bend(bent, np.rad2deg(bend.wedge))
    lead = next((c for c in curves if all(c.holds(level) for level in task.apex) and c.side == task.side), None)
    rival = max((c.cobb for c in curves if c is not lead), default=0.0)
    if lead is None:
        return CurveSolution(bend, bent, shape, 0.0, task.apex_rank, rival, offset, breaches)
    first, last = ([v.level for v in whole].index(level) for level in (lead.upper, lead.lower))
    apex = apex_position(whole[first : last + 1], moved.patient_axes, lead.side, exact=True) + first
    return CurveSolution(bend, bent, shape, lead.cobb, apex, rival, offset, breaches)


def _bend(task: CurveTask, shape: CurveShape, cobb: float, offset_mm: float) -> Bend:
    """Build the bend that leads the spine to what is expected of it when the curve has a size and a shape."""
    target, coupling, gained = task.target(shape), task.coupling, cobb - task.own_cobb
    kyphosis = coupling.kyphosis_per_cobb * (cobb - abs(task.own_cobb))
    along = target.along(gained, coupling.rotation_per_cobb * gained, kyphosis)
    led = _leaders(task.spine)
    tilt = (target.tilts(cobb, offset_mm) - task.own_tilt + task.sway.tilt)[led]
    nod, turn = (along.nod + task.sway.nod)[led], (along.turn + task.sway.turn)[led]
    return Bend(tilt, nod, turn, _wedge(task, shape, tilt))


def _leaders(spine: Spine) -> np.ndarray:
    """Rank of the level that each level turns with: itself, or, where it was not measured, the nearest that was.

    The joints of levels that the edge cuts are not known well enough to bend them.
    """
    known = np.flatnonzero([vertebra.measured for vertebra in spine])
    return known[np.abs(np.arange(len(spine))[:, None] - known).argmin(axis=1)]


def _wedge(task: CurveTask, shape: CurveShape, tilt: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Share the bend of the curve with its vertebrae: each whole one is wedged by its part of the tilt's slope."""
    share = task.coupling.vertebral_share
    wedge = np.zeros_like(tilt)
    if share == 0:
        return wedge
    wedge[1:-1] = share * (tilt[:-2] - tilt[2:]) / 2
    whole = np.array([v.measured and v.level != Level.S for v in task.spine])
    return np.where(shape.inside() & whole, wedge, 0.0)


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
