"""Rules that a result must keep to be a spine that can be, checked on every output and told in its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from spinesim.anatomy.canal import measure_canals
from spinesim.anatomy.levels import Level, levels_between, region
from spinesim.anatomy.measure import measure_slips
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.proposal import STRAIN_MM, Excuses, limits_of
from spinesim.pathology.rules import (
    LENGTHENING_LIMIT,
    MEASURED_DEG,
    MEASURED_MM,
    TWIST_LIMIT_DEG,
    flexion_limit_deg,
)

if TYPE_CHECKING:
    from spinesim.series.case import Case

Levels = frozenset[Level]

DISC_FLOOR_MM = {"cervical": 1.5, "thoracic": 1.0, "lumbar": 2.0, "sacral": 2.0}
DEGENERATE_FLOOR_MM = 1.0
"""Least height of a disc by its lower level, and of one that is asked to degenerate (Fletcher 2015, Clouthier 2023)."""

SHIFT_LIMIT_MM = {"cervical": 3.5, "thoracic": 2.5, "lumbar": 4.5, "sacral": 4.5}
"""How far a level may be shifted on the next (White & Panjabi; recalled)."""

VOLUME_LIMIT = 0.02
"""How much of its volume a bone may gain or lose (promise 3)."""

OVERLAP_LIMIT = 0.01
"""How much of a bone may lie in another one as planned, by what labels are known to: in 35 curves, slips, fractures,
discs and sagittal changes of three scans it was 0.8 % at most, without pieces that yield to what comes by."""

RIGID = "bones that move as a whole stay rigid"
"""What the rule about strain is called."""

CANAL_SHARE, CANAL_MM = 0.5, 12.0
"""A canal that keeps less than that share of its depth is closed; below 12 mm it is narrow (stenosis convention)."""

KYPHOSIS_DEG, LORDOSIS_DEG = (0.0, 80.0), (15.0, 95.0)
"""Whole curves that occur (44 +- 13 and 57 +- 10.4 degrees)."""


@dataclass(frozen=True)
class Check:
    """A rule, where it comes nearest to being broken, and whether it is kept; a ``hard`` one refuses the result."""

    rule: str
    place: str
    value: float
    limit: float
    unit: str
    kept: bool
    hard: bool

    def __str__(self) -> str:
        digits = 1 if self.limit >= 1 or not self.limit else 2
        return f"{self.rule} ({self.limit:g} {self.unit}), got {self.value:.{digits}f} {self.unit} at {self.place}"


def check_case(case: Case) -> tuple[Check, ...]:
    """Hold a result against every rule; what the pathology is about (``excuses``) is left out where it is.

    A joint, a shift or a disc is told by its upper level.

    Where the scan itself breaks a rule, the result may not break it further.
    """
    excused: Excuses = getattr(case.pathology, "excuses", {})
    rules = {
        "joints": _joints,
        "shift": _shifts,
        "discs": _discs,
        "length": _length,
        "volume": _volumes,
        "rigid": _rigid,
        "overlap": _overlaps,
        "canal": _canals,
        "growth": _growth,
        "lesion": _lesions,
        "curves": _whole_curves,
    }
    found = [check for name, rule in rules.items() for check in rule(case, excused.get(name, frozenset()))]
    return (*found, *_own(case), _folds(case))


def _worst(
    rule: str, unit: str, values: Mapping[str, float], limits: Mapping[str, float], *, below: bool = False, hard: bool
) -> Iterator[Check]:
    """The place where a rule comes nearest to being broken: a value above its limit, or ``below`` it."""
    if values:
        place = max(values, key=lambda name: (limits[name] - values[name]) * (1 if below else -1))
        kept = values[place] >= limits[place] if below else values[place] <= limits[place]
        yield Check(rule, place, values[place], limits[place], unit, kept, hard)


def _joints(case: Case, excused: Levels) -> Iterator[Check]:
    """What each joint was bent and twisted, by the plan."""
    before, moved = case.before_spine, case.proposal.moved
    bends: dict[str, float] = {}
    twists: dict[str, float] = {}
    for (a, b), (c, d) in zip(pairwise(before), pairwise(moved), strict=True):
        if levels_between(a.level, b.level) or not (a.measured and b.measured) or a.level in excused:
            continue
        name = f"{a.level.name}/{b.level.name}"
        turns = [np.cross(p.inferior.normal, q.superior.normal) @ q.axes[:, 0] for p, q in ((a, b), (c, d))]
        bends[name] = float(abs(np.rad2deg(np.diff(np.arcsin(turns)))[0]))
        turn = (d.axes.T @ c.axes) @ (b.axes.T @ a.axes).T
        twists[name] = float(abs(np.rad2deg(Rotation.from_matrix(turn).as_rotvec()[2])))
    lower = {name: Level[name.split("/")[1]] for name in bends}
    limits = {name: flexion_limit_deg(level) + MEASURED_DEG for name, level in lower.items()}
    yield from _worst("no joint is bent forward or back farther than it can", "degrees", bends, limits, hard=True)
    limits = {name: TWIST_LIMIT_DEG[region(level)] + MEASURED_DEG for name, level in lower.items()}
    yield from _worst("no joint is twisted farther than in scoliosis", "degrees", twists, limits, hard=True)


def _shifts(case: Case, excused: Levels) -> Iterator[Check]:
    """How far levels were shifted forward or back on the next, by the plan."""
    before, moved = (_shifts_mm(spine) for spine in (case.before_spine, case.proposal.moved))
    values = {level.name: abs(moved[level] - before[level]) for level in (before.keys() & moved.keys()) - excused}
    limits = {name: SHIFT_LIMIT_MM[region(Level[name])] + MEASURED_MM for name in values}
    yield from _worst("no level is shifted on the next beyond what is stable", "mm", values, limits, hard=True)


def _shifts_mm(spine: Spine) -> dict[Level, float]:
    depths = {above.level: below.depth_mm for above, below in pairwise(spine)}
    return {level: slip * depths[level] for level, slip in measure_slips(spine).items()}


def _discs(case: Case, excused: Levels) -> Iterator[Check]:
    """Least heights of discs."""
    native = {(disc.upper, disc.lower): disc.height_mm for disc in case.before_measures.discs}
    for degenerate in (False, True):
        values, limits = {}, {}
        for disc in case.after_measures.discs:
            pair = disc.upper, disc.lower
            if pair in native and not levels_between(*pair) and (disc.upper in excused) == degenerate:
                name = f"{disc.upper.name}/{disc.lower.name}"
                floor = DEGENERATE_FLOOR_MM if degenerate else DISC_FLOOR_MM[region(disc.lower)]
                values[name] = disc.height_mm
                limits[name] = min(floor, native[pair]) - MEASURED_MM
        rule = "no degenerate disc is lower than one can be" if degenerate else "no disc is lower than one can be"
        yield from _worst(rule, "mm", values, limits, below=True, hard=not degenerate)


def _length(case: Case, excused: Levels) -> Iterator[Check]:
    """Length of the line through the bodies, which bending keeps."""
    before, after = (measures.steps_mm for measures in (case.before_measures, case.after_measures))
    both = before.keys() & after.keys()
    if both and not excused:
        change = 100 * abs(sum(after[pair] for pair in both) / sum(before[pair] for pair in both) - 1)
        yield from _worst(
            "bending keeps the length of the spine",
            "percent",
            {"all levels": change},
            {"all levels": 100 * LENGTHENING_LIMIT},
            hard=True,
        )


def _volumes(case: Case, excused: Levels) -> Iterator[Check]:
    """Volumes of bones that move as a whole and that the edge does not cut."""
    maps = (case.before.labels.voxels, case.after.labels.voxels)
    faces = [np.moveaxis(voxels, axis, 0)[end] for voxels in maps for axis in range(3) for end in (0, -1)]
    cut = {int(number) for face in faces for number in np.flatnonzero(np.bincount(face.ravel()))}
    whole = {v.level for v in case.before_spine.whole}
    values = {
        level.name: 100 * abs(case.fidelity[level.name][1] - 1)
        for level, carriage in case.deformation.carriages.items()
        if carriage.whole and level in whole and level.name in case.fidelity
        if case.after.labels.numbers[level] not in cut
    }
    limits = dict.fromkeys(values, 100 * VOLUME_LIMIT)
    ossified = any(tissue.ossified for tissue in case.proposal.plan.tissues)
    yield from _worst("bones keep their volume", "percent", values, limits, hard=_keeps_bones(case) and not ossified)


def _rigid(case: Case, excused: Levels) -> Iterator[Check]:
    """How far the field strays from rigid motions over bones that move as a whole, or in pieces."""
    whole = {v.level for v in case.before_spine.whole}
    values = {
        level.name: case.fidelity[level.name][0]
        for level, carriage in case.deformation.carriages.items()
        if (carriage.whole or carriage.pieces) and level in whole and level.name in case.fidelity
    }
    limits = dict.fromkeys(values, getattr(case.pathology, "strain_mm", STRAIN_MM))
    yield from _worst(RIGID, "mm RMS", values, limits, hard=_keeps_bones(case))


def _overlaps(case: Case, excused: Levels) -> Iterator[Check]:
    """How much of bones would lie in each other if all went as planned; no label map can show it."""
    whole = [v.level for v in case.before_spine.whole]
    shares = dict.fromkeys(pairwise(whole), 0.0)
    shares |= {pair: share for pair, share in case.overlaps.items() if set(pair) <= set(whole)}
    values = {f"{upper.name}/{lower.name}": 100 * share for (upper, lower), share in shares.items()}
    yield from _worst("no bones overlap", "percent", values, dict.fromkeys(values, 100 * OVERLAP_LIMIT), hard=True)


def _keeps_bones(case: Case) -> bool:
    """Whether bones that are strained or lose volume refuse the result; else it is told."""
    return bool(getattr(case.pathology, "keeps_bones", False))


def _canals(case: Case, excused: Levels) -> Iterator[Check]:
    """Depth of the canal in each ring."""
    before = measure_canals(case.before.labels, case.before_spine)
    after = measure_canals(_with_breaches(case), case.proposal.moved)
    whole = [v.level for v in case.after_spine.whole]
    depths = {level: after[level] for level in before if level in whole and level in after}
    slack = float(case.after.grid.spacing_mm.max())
    closed = {level.name: CANAL_SHARE * before[level] for level in depths}
    narrow = {level.name: min(CANAL_MM, before[level] - slack) for level in depths}
    values, meant = ({v.name: d for v, d in depths.items() if (v in excused) == asked} for asked in (False, True))
    yield from _worst("no canal is closed", "mm", values, closed, below=True, hard=True)
    yield from _worst("no canal is narrow", "mm", values, narrow, below=True, hard=False)
    yield from _worst("no canal that is to be narrowed is closed", "mm", meant, closed, below=True, hard=False)


def _with_breaches(case: Case) -> LabelMap:
    """The labels with lesions that breach their bone as a part of it."""
    labels = case.after.labels
    if case.masses is None:
        return labels
    voxels = labels.voxels.copy()
    for rank, mass in enumerate(case.proposal.plan.masses, start=1):
        if mass.breach and isinstance(mass.structure, Level) and mass.structure in labels.numbers:
            voxels[case.masses.voxels == rank] = labels.numbers[mass.structure]
    return labels.with_voxels(voxels)


def _growth(case: Case, excused: Levels) -> Iterator[Check]:
    """What grows does not shrink."""
    growths = {level.name: carriage.growth for level, carriage in case.deformation.carriages.items()}
    if any(abs(growth - 1) > 1e-6 for growth in growths.values()):
        limits = dict.fromkeys(growths, 1.0)
        yield from _worst("what grows gets no smaller", "times", growths, limits, below=True, hard=True)


def _lesions(case: Case, excused: Levels) -> Iterator[Check]:
    """Lesions lie inside their structures."""
    if case.masses is None:
        return
    outside = {}
    for rank, mass in enumerate(case.proposal.plan.masses, start=1):
        if not mass.breach:
            there = case.after.labels.voxels[case.masses.voxels == rank]
            outside[mass.name] = float(np.count_nonzero(there != mass.number_in(case.after.labels)))
    yield from _worst(
        "a lesion lies inside its structure", "voxels outside", outside, dict.fromkeys(outside, 0.0), hard=True
    )


def _whole_curves(case: Case, excused: Levels) -> Iterator[Check]:
    """Kyphosis and lordosis of the whole, where the scan shows them and they changed."""
    for name, (least, most), now, was in (
        ("kyphosis T1 to T12", KYPHOSIS_DEG, case.after_measures.kyphosis, case.before_measures.kyphosis),
        ("lordosis L1 to S", LORDOSIS_DEG, case.after_measures.lordosis, case.before_measures.lordosis),
    ):
        ends = (Level.T1, Level.T12) if name.startswith("kyphosis") else (Level.L1, Level.S)
        if ends in now and ends in was:
            angle, native = np.rad2deg([now[ends], was[ends]])
            low, high = min(least, native - MEASURED_DEG), max(most, native + MEASURED_DEG)
            over = angle > (least + most) / 2
            limit = high if over else low
            yield Check(
                f"the {name} is one that occurs",
                "the whole",
                float(angle),
                float(limit),
                "degrees",
                bool(low <= angle <= high),
                hard=False,
            )


def _own(case: Case) -> Iterator[Check]:
    """Rules of the pathology's own."""
    for limit in limits_of(case.pathology, case.after_measures, case.before_measures):
        kept = limit.value <= limit.most
        yield Check(limit.rule, limit.place, limit.value, limit.most, limit.unit, kept, limit.hard)


def _folds(case: Case) -> Check:
    """The field folds nowhere."""
    low = case.deformation.jacobian[0]
    return Check("the field folds nowhere", "its smallest Jacobian", low, 0.0, "times", low > 0, hard=True)
