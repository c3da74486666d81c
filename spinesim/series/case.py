"""One case: a scan and a pathology go in, the deformed scan and all that was measured come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel
from scipy.spatial.transform import Rotation

from spinesim.anatomy.findings import check_order, findings
from spinesim.anatomy.grid import Grid, apply_affine
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import Measures, measure_spine
from spinesim.anatomy.plan import Plan
from spinesim.anatomy.scan import LabelMap, Scan, read_only
from spinesim.anatomy.surroundings import Surroundings, find_surroundings
from spinesim.anatomy.vertebra import Spine
from spinesim.deform.contact import ease_contacts
from spinesim.deform.deformation import (
    Deformation,
    build_deformation,
    carriages_in,
    carriages_of,
    divided_bones,
    warp_scan,
)
from spinesim.deform.mass import grow_masses
from spinesim.deform.solids import Solid, build_solids
from spinesim.deform.tissue import change_tissues
from spinesim.deform.torch_kernels import CPU
from spinesim.deform.warp import Interpolation, Overlaps, carry_quickly
from spinesim.errors import ConfigError, OutOfReachError, PathologyError
from spinesim.inpaint.brush import PLAIN, Brush, Inpainting
from spinesim.inpaint.mask import Reason, Unknown
from spinesim.pathology.proposal import (
    Goals,
    Pathology,
    Proposal,
    goals_of,
    propose,
    read_goals,
    remarks_on,
    seat,
    settle,
    tolerances_of,
)
from spinesim.series.fidelity import bone_fidelity
from spinesim.series.painting import find_painted, paint_case
from spinesim.series.plausibility import RIGID, Check, check_case
from spinesim.series.repainting import Repainted, choose_repainting

NEAR = 0.5
"""Share of its tolerance that a goal may be missed by when tries end."""

STUCK = 0.25
"""Share of a step at which the search is stuck."""

SMALLEST_HELD = 10.0
"""Goals below this (in their unit) may be missed with a warning."""

FINER_MM = 2.0
"""Spacing of the field's nodes where bones are strained on the usual one."""

SMALLER = (0.9, 0.75)
"""Shares of what was asked that are tried where a result is refused."""

CLOSE = 0.3
"""The same for corrections before the flow."""

TRUSTED = 1.0
"""A correction of less than this share of the tolerance is not rehearsed again: the case itself is measured anyhow."""

CORRECTIONS, TRIES = 5, 8
"""Corrections on rigidly carried labels before the flow, and tries with it; two are usual."""

Told = Callable[[str], None]


@dataclass(frozen=True)
class OutputGrid:
    """On which grid the result lies, and how the CT is looked up on it.

    ``fit`` grows the grid so that no bone is lost; ``spacing_mm`` sets other voxels (three numbers, along the
    file's own axes). ``interpolation`` is ``linear`` or ``bspline``, which keeps most of the scan's noise.

    Raises
    ------
    ConfigError
        When the spacing is not three numbers from 0.2 to 10 mm, or there is no such interpolation.
    """

    extent: Literal["same", "fit"] = "same"
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: Interpolation = "linear"

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            raise ConfigError(
                f"interpolation: expected one of {', '.join(get_args(Interpolation))}, got {self.interpolation!r}; "
                "choose one"
            )
        spacing = self.spacing_mm
        if spacing is None:
            return
        if len(spacing) != 3 or not all(0.2 <= step <= 10 for step in spacing):
            raise ConfigError(f"--spacing: expected three numbers from 0.2 to 10 mm, got {spacing}; give others")


@dataclass(frozen=True, eq=False)
class Case:
    """A deformed scan and everything that was measured on the way.

    ``outside`` tells the voxels that came from beyond the scan, ``overlaps`` the bones that would lie in each other,
    ``painted`` where the plan changed the CT, ``masses`` numbers what grew in it, from 1. ``unknown`` tells what the
    warp could not know and why, ``noise_hu`` the noise of the scan, where it was measured, ``repainted`` what a network
    painted, ``no_network`` why none did where one was wanted. ``surroundings`` are those of the CT after.
    """

    pathology: BaseModel
    seed: int
    before: Scan
    before_spine: Spine
    before_measures: Measures
    after: Scan
    after_spine: Spine
    after_measures: Measures
    outside: Bool[np.ndarray, "i j k"]
    overlaps: Overlaps
    proposal: Proposal
    deformation: Deformation
    findings: tuple[str, ...]
    warnings: tuple[str, ...]
    masses: LabelMap | None = None
    painted: Mapping[Reason, Bool[np.ndarray, "i j k"]] = field(default_factory=dict)
    surroundings: Surroundings | None = None
    unknown: Unknown | None = None
    noise_hu: float | None = None
    repainted: Repainted | None = None
    no_network: str | None = None
    interpolation: Interpolation = "linear"

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Rules of plausibility, and whether they are kept; see :func:`spinesim.series.plausibility.check_case`."""
        return check_case(self)

    @cached_property
    def fidelity(self) -> dict[str, tuple[float, float]]:
        """How rigid each bone stayed, and its volume; see :func:`spinesim.series.fidelity.bone_fidelity`."""
        return bone_fidelity(self)

    def updated(self, **changes: Any) -> Case:
        """The same but for its CT and what is told of it; ``checks`` and ``fidelity`` look at neither, and go along."""
        other = replace(self, **changes)
        known = ((name, vars(self)[name]) for name in ("checks", "fidelity") if name in vars(self))
        vars(other).update(known)
        return other

    @property
    def goals(self) -> dict[str, tuple[float, float, float]]:
        """Each goal's asked, measured and native value."""
        asked = goals_of(self.pathology)
        measured = read_goals(self.pathology, self.after_measures, self.before_measures)
        native = read_goals(self.pathology, self.before_measures, self.before_measures)
        return {name: (asked[name], measured[name], native[name]) for name in asked}


def simulate(
    scan: Scan,
    pathology: BaseModel,
    *,
    output: OutputGrid = OutputGrid(),
    seed: int = 0,
    inpaint: Inpainting = "auto",
    brush: Brush = PLAIN,
    device: str = CPU,
    told: Told = lambda _: None,
) -> Case:
    """Deform a scan so that the pathology's goals are measured on the resulting labels.

    Parameters
    ----------
    scan : Scan
        Labels, with or without a CT.
    pathology : BaseModel
        For example ``Scoliosis(cobb_deg=35, apex="T9")``.
    output : OutputGrid
        Grid of the result; by default that of the scan.
    seed : int
        Draws what the pathology leaves to chance: with ``variability``, the patient that it is drawn for.
    inpaint : {"auto", "none", "noise", "diffusion", "pix2pix"}
        How what the warp could not know is painted; see ``spinesim.inpaint.brush.Inpainting``.
    brush : Brush
        How a network paints.
    device : str
        Where the flow is followed and the image is looked up: ``cpu``, or a device of PyTorch (``cuda``).
    told : callable
        Called with a few words as each stage begins.

    Raises
    ------
    PathologyError
        When the labels or the spine do not allow it; the message names the nearest possible value.
    ConfigError
        When there is no such device, or no such way to paint.
    """
    if inpaint not in get_args(Inpainting):
        raise ConfigError(f"inpaint: expected one of {', '.join(get_args(Inpainting))}, got {inpaint!r}; choose one")
    network = None
    if scan.image is not None:
        network = choose_repainting(inpaint, brush, device, np.array(output.spacing_mm or scan.grid.spacing_mm))
    # nothing here holds what came before meanwhile: it is large
    return paint_case(_deform(scan, pathology, output, seed, device, told), inpaint, network, told)


def _deform(scan: Scan, pathology: BaseModel, output: OutputGrid, seed: int, device: str, told: Told) -> Case:
    """Deform a scan, and judge what came out; nothing is painted yet."""
    told("locating the spine")
    check_order(scan.labels)
    with ThreadPoolExecutor(2) as beside:
        solids = beside.submit(build_solids, scan.labels)
        around = beside.submit(find_surroundings, scan.image) if scan.image else None
        spine = estimate_spine(scan.labels)
        start = _Start(scan, solids.result(), spine, measure_spine(spine), seed, around)
        pathology = seat(settle(pathology, seed), scan.labels, spine, seed)
        smaller = partial(_tried_smaller, start, pathology, output, device)
        return _plausible(_meet(start, pathology, output, device, told), smaller)


def _meet(start: _Start, pathology: BaseModel, output: OutputGrid, device: str, told: Told) -> Case:
    """Aim until what is measured is what was asked; with a finer field where bones are strained in the usual one.

    Raises
    ------
    PathologyError
        When the spine cannot take it, or a goal is missed.
    """
    told("planning")
    search, proposal = _rehearse(start, pathology)
    best = None
    for correction in range(TRIES):
        if correction:
            try:
                proposal = _propose(start, pathology, search.aim)
            except OutOfReachError:
                if search.least > 1:
                    raise
                break
        case = _carry_out(start, pathology, proposal, output, device, told)
        if search.learn(read_goals(pathology, case.after_measures, start.measures)):
            best = case
        if search.least <= NEAR or not np.isfinite(search.least):
            break
    case = best or case
    if any(check.rule == RIGID and not check.kept for check in case.checks) and _could_be_finer(case):
        with suppress(PathologyError):  # a finer field that folds is not taken
            finer = _carry_out(start, pathology, case.proposal, output, device, told, FINER_MM)
            case = case if _missed(finer) else finer
    return _judged(case)


def _could_be_finer(case: Case) -> bool:
    """Whether nodes can be laid closer: they never are closer than voxels."""
    voxels, nodes = case.after.grid.spacing_mm, case.deformation.settings.spacing_mm
    return bool((np.maximum(voxels, nodes) > np.maximum(voxels, FINER_MM)).any())


def _tried_smaller(start: _Start, pathology: BaseModel, output: OutputGrid, device: str) -> BaseModel | None:
    """The same pathology, smaller, that was carried out and broke no hard rule; None where none of a few was."""
    for share in SMALLER:
        smaller = pathology.smaller(share) if isinstance(pathology, Pathology) else None
        if smaller is None:
            return None
        try:
            case = _meet(start, smaller, output, device, lambda _: None)
        except PathologyError:
            continue
        if all(check.kept or not check.hard for check in case.checks):
            return smaller
    return None


class Search:
    """Where to aim so that what is measured is what was asked.

    Between an aim that gave too little and one that gave too much, in proportion; else from the aim that came closest,
    by what it missed, and after a step that came no closer by half of the step; after two such, where the tolerance is
    still missed, half-way between too little and too much. ``aim`` is the next one to try,
    ``least`` the largest miss of the best one so far, as a share of its tolerance.
    """

    def __init__(self, asked: Goals, aim: Goals, tolerances: Goals) -> None:
        self.asked, self.aim, self.tolerances = asked, aim, tolerances
        self.least = np.inf
        self._best, self._miss, self._gain = aim, dict.fromkeys(asked, 0.0), 1.0
        self._tried: list[tuple[Goals, Goals]] = []

    def learn(self, measured: Goals) -> bool:
        """Take in what the aim gave, and choose the next; true where it came closer than all before.

        What cannot be measured leaves all as it was.
        """
        miss = {name: value - measured[name] for name, value in self.asked.items()}
        if not np.isfinite(list(miss.values())).all():
            return False
        largest = max((abs(value) / self.tolerances[name] for name, value in miss.items()), default=0.0)
        closer = bool(largest < self.least)
        if closer:
            self._best, self._miss, self._gain = self.aim, miss, 1.0
            self.least = largest
        else:
            self._gain /= 2
        self._tried.append((self.aim, miss))
        stepped = {name: self._best[name] + self._gain * self._miss[name] for name in self.asked}
        choose = self._halfway if self._gain <= STUCK and self.least > 1 else self._between
        self.aim = {name: choose(name, step) for name, step in stepped.items()}
        return closer

    def _between(self, name: str, step: float) -> float:
        """One goal's next aim: a step that leaves what is known to be too little or too much is put between the two."""
        low = min(((miss[name], aim[name]) for aim, miss in self._tried if miss[name] > 0), default=None)
        high = max(((miss[name], aim[name]) for aim, miss in self._tried if miss[name] <= 0), default=None)
        if low is None or high is None or low[1] >= high[1] or low[1] < step < high[1]:
            return step
        return low[1] + (high[1] - low[1]) * low[0] / (low[0] - high[0])

    def _halfway(self, name: str, step: float) -> float:
        """One goal's next aim where steps no longer help: half-way between the aims at which what is measured jumps."""
        over = min((aim[name] for aim, miss in self._tried if miss[name] <= 0), default=np.inf)
        under = max((aim[name] for aim, miss in self._tried if miss[name] > 0 and aim[name] < over), default=-np.inf)
        return (under + over) / 2 if np.isfinite([under, over]).all() else step


@dataclass(frozen=True, eq=False)
class _Start:
    """A scan and what is found in it once, however often the aim is corrected; ``around`` may still be looked for."""

    scan: Scan
    solids: Mapping[int, Solid]
    spine: Spine
    measures: Measures
    seed: int
    around: Future[Surroundings] | None


def _rehearse(start: _Start, pathology: BaseModel) -> tuple[Search, Proposal]:
    """Correct the aim until labels that are carried rigidly (no flow yet) measure what was asked."""
    asked = goals_of(pathology)
    tolerances = tolerances_of(pathology)
    search, best = Search(asked, asked, tolerances), None
    for _ in range(CORRECTIONS):
        aim = search.aim
        proposal = _propose(start, pathology, aim)
        best = best or (aim, proposal)
        closer = search.learn(_measure_carried(start, pathology, proposal))
        if closer:
            best = aim, proposal
        if search.least <= CLOSE:
            break
        if closer and search.least <= TRUSTED:
            best = search.aim, _propose(start, pathology, search.aim)
            break
    aim, proposal = best or (asked, proposal)
    return Search(asked, aim, tolerances), proposal


def _propose(start: _Start, pathology: BaseModel, aim: Goals) -> Proposal:
    """Plan a pathology; where it is refused, name what the nearest plan measures, not what it aims at.

    Raises
    ------
    PathologyError
        When the spine cannot take it.
    """
    try:
        return _eased(start, pathology, propose(pathology, start.spine, aim, start.seed))
    except OutOfReachError as refusal:
        goal, *others = aim
        reach = {goal: refusal.nearest} | {name: aim[name] * refusal.nearest / aim[goal] for name in others}
        planned = _eased(start, pathology, propose(pathology, start.spine, reach, start.seed))
        measured = _measure_carried(start, pathology, planned)[goal]
        native = read_goals(pathology, start.measures, start.measures)[goal]
        nearest = np.floor(measured) if measured > native else np.ceil(measured)
        raise OutOfReachError(refusal.reason, nearest, refusal.unit) from None


def _eased(start: _Start, pathology: BaseModel, proposal: Proposal) -> Proposal:
    """The same with joints that give way where bones would be pressed into each other, if the pathology lets them."""
    if not getattr(pathology, "joints_yield", False):
        return proposal
    solids = {level: start.solids[number] for level, number in start.scan.labels.numbers.items()}
    plan = ease_contacts(proposal.plan, start.spine, solids)
    if plan is proposal.plan:
        return proposal
    planned, eased = carriages_of(proposal.plan), carriages_of(plan)
    extra = {level: eased[level].motion @ np.linalg.inv(planned[level].motion) for level in planned}
    moved = replace(proposal.moved, vertebrae=tuple(v.moved(extra[v.level]) for v in proposal.moved))
    turned = max(float(Rotation.from_matrix(motion[:3, :3]).magnitude()) for motion in extra.values())
    details = {**proposal.details, "yielded_deg": float(np.rad2deg(turned))}
    return replace(proposal, plan=plan, moved=moved, details=details)


def _measure_carried(start: _Start, pathology: BaseModel, proposal: Proposal) -> Goals:
    """What labels measure that a plan carries without a flow: rigidly, or blended between the parts of a bone."""
    labels, plan = start.scan.labels, proposal.plan
    divided = divided_bones(labels, start.spine, plan)
    carried = carry_quickly(labels, start.solids, carriages_in(start.spine, plan), labels.grid, divided)
    measures = measure_spine(estimate_spine(carried, proposal.moved))
    masses = {mass.name: mass.volume_ml for mass in plan.masses}
    return read_goals(pathology, replace(measures, masses_ml=masses), start.measures)


def _carry_out(
    start: _Start,
    pathology: BaseModel,
    proposal: Proposal,
    output: OutputGrid,
    device: str,
    told: Told,
    finest_mm: float = np.inf,
) -> Case:
    """Follow the flow for a proposal, warp the scan, and measure it; ``finest_mm`` lays the field's nodes closer."""
    scan = start.scan
    grid = _output_grid(scan, proposal.plan, output)
    around = start.around.result() if start.around else None
    deformation = build_deformation(scan, start.spine, proposal.plan, grid, told, device, finest_mm, around)
    told("warping")
    warped, outside, overlaps = warp_scan(scan, start.solids, deformation, output.interpolation)
    changed = change_tissues(warped, start.spine, proposal.plan.tissues, deformation.field)
    after, masses = grow_masses(changed, start.spine, proposal.plan.masses, deformation.field)
    painted = find_painted(warped.image, changed.image, after.image)
    told("measuring")
    with ThreadPoolExecutor(1) as beside:
        around_after = beside.submit(find_surroundings, after.image) if after.image else None
        after_spine = estimate_spine(after.labels)
    lost = sorted(set(scan.labels.present) - set(after.labels.present))
    after_measures = replace(measure_spine(after_spine), masses_ml=_measure_masses(masses, proposal.plan))
    warnings = [
        *proposal.warnings,
        *remarks_on(pathology, after_measures, start.measures),
        *(f"label {number} left the field of view" for number in lost),
    ]
    return Case(
        pathology,
        start.seed,
        scan,
        start.spine,
        start.measures,
        after,
        after_spine,
        after_measures,
        read_only(outside),
        overlaps,
        proposal,
        deformation,
        findings(scan.labels, start.spine),
        tuple(warnings),
        masses,
        painted,
        surroundings=around_after.result() if around_after else None,
        interpolation=output.interpolation,
    )


def _measure_masses(masses: LabelMap | None, plan: Plan) -> dict[str, float]:
    """Volume (ml) of each mass that grew."""
    if masses is None:
        return {}
    counts = np.bincount(masses.voxels.ravel(order="K"), minlength=len(plan.masses) + 1)[1:]
    voxel_ml = masses.grid.voxel_volume_mm3 / 1000
    return {mass.name: float(count * voxel_ml) for mass, count in zip(plan.masses, counts, strict=True)}


def _judged(case: Case) -> Case:
    """Let a case that missed its goal pass with a warning below the range that is promised, and refuse it above.

    Raises
    ------
    PathologyError
        When a goal of 10 or more is missed by more than the tolerance, or cannot be measured.
    """
    missed = _missed(case)
    if not missed:
        return case
    told = [
        f"{name}: asked {asked:g}, "
        + (f"measured {measured:.1f}" if np.isfinite(measured) else "not to be measured on the result")
        for name, (asked, measured) in missed.items()
    ]
    if any(abs(asked) >= SMALLEST_HELD or not np.isfinite(measured) for asked, measured in missed.values()):
        gone = not np.isfinite([measured for _, measured in missed.values()]).all()
        remedy = (
            "its levels may have left the field of view: take --grid fit" if gone else "ask for another place or size"
        )
        raise PathologyError(
            f"{getattr(case.pathology, 'kind', 'case')}: expected each goal within its tolerance, "
            f"got {'; '.join(told)}; {remedy}"
        )
    return case.updated(warnings=(*case.warnings, *told))


def _missed(case: Case) -> dict[str, tuple[float, float]]:
    """What was asked and measured of each goal that was missed by more than its tolerance, or cannot be measured."""
    tolerances, goals = tolerances_of(case.pathology), case.goals
    return {
        name: (asked, measured)
        for name, (asked, measured, _) in goals.items()
        if not abs(asked - measured) <= tolerances[name]
    }


def _plausible(case: Case, tried: Callable[[], BaseModel | None]) -> Case:
    """Let a case that breaks a soft rule pass with a warning, and refuse one that breaks a hard one.

    ``tried`` finds less of the same that keeps them.

    Raises
    ------
    PathologyError
        When a hard rule is broken and the pathology may not be implausible.
    """
    broken = [check for check in case.checks if not check.kept]
    if not broken:
        return case
    hard = next((check for check in broken if check.hard), None)
    if hard and not getattr(case.pathology, "may_be_implausible", False):
        less, (goal, *_) = tried(), (*goals_of(case.pathology), "")
        size = f"{goals_of(less)[goal]:g} {goal.rpartition('_')[2].replace('deg', 'degrees')}" if less else ""
        remedy = f"ask for less ({size} was tried, and will do)" if less else "ask for less"
        raise PathologyError(
            f"{getattr(case.pathology, 'kind', 'case')}: expected that {hard}; "
            f"{remedy}, or take it as it is with --allow-implausible"
        )
    return case.updated(warnings=(*case.warnings, *(f"implausible: {check}" for check in broken)))


def _output_grid(scan: Scan, plan: Plan, output: OutputGrid) -> Grid:
    """Lay out the grid of the result."""
    grid = _with_spacing(scan.grid, output.spacing_mm)
    if output.extent == "same":
        return grid
    low, high = np.zeros(3), np.array(grid.shape, dtype=float) - 1
    for level, carriage in carriages_of(plan).items():
        box = scan.labels.boxes[scan.labels.numbers[level]]
        bone = scan.grid.inside(box)
        reached = grid.to_voxel(apply_affine(carriage.motion, bone.corners()))
        low, high = np.minimum(low, reached.min(axis=0) - 2), np.maximum(high, reached.max(axis=0) + 2)
    start, stop = np.floor(low).astype(int), np.ceil(high).astype(int) + 1
    return grid.cropped(tuple(start), tuple(stop))


def _with_spacing(grid: Grid, spacing_mm: tuple[float, float, float] | None) -> Grid:
    if spacing_mm is None:
        return grid
    spacing = np.array(spacing_mm)
    extent = np.array(grid.shape) * grid.spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = grid.direction * spacing
    affine[:3, 3] = grid.to_world(((spacing / grid.spacing_mm - 1) / 2)[None])[0]
    return Grid(tuple(np.maximum(1, np.round(extent / spacing)).astype(int)), affine)
