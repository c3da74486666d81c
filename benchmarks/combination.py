"""One combination of scan, size, side and apex: run it, and read off the result what the promises speak of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from runs import Row, outcome_of_run
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.levels import Level, parse_level
from spinesim.anatomy.scan import LabelMap, Scan
from spinesim.deform.field import determinants
from spinesim.deform.solids import count_pieces
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.series.case import Case, simulate
from spinesim.series.fidelity import bone_fidelity


@dataclass(frozen=True)
class Combination:
    """What is asked of one scan."""

    scan: str
    apex: str
    direction: str
    cobb_deg: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The same as it stands in the file of results."""
        return self.scan, self.apex, self.direction, f"{self.cobb_deg:g}"

    def columns(self) -> Row:
        """The columns that say what was asked."""
        return dict(zip(("scan", "apex", "direction", "cobb_asked_deg"), self.key, strict=True))

    def scoliosis(self) -> Scoliosis:
        """The request."""
        return Scoliosis(cobb_deg=self.cobb_deg, apex=self.apex, direction=self.direction)


def measure_combination(scan: Scan, combination: Combination, *, repeat: bool) -> Row:
    """Run a combination, unpainted, and tell how it came out; with ``repeat`` a second time, to compare all bytes."""

    def run() -> Row:
        make = partial(simulate, scan, combination.scoliosis(), inpaint="none")
        began = time.perf_counter()
        case = make()
        seconds = {"seconds": f"{time.perf_counter() - began:.1f}"}
        again = {"same_bytes": _yes(same_bytes(case, make()))} if repeat else {}
        return _measured(case) | seconds | again | {"said": "; ".join(case.warnings)}

    return combination.columns() | outcome_of_run(run)


def same_bytes(one: Case, other: Case) -> bool:
    """Whether two cases have the same volumes, masks and field, bit for bit."""
    pairs = zip(_arrays(one), _arrays(other), strict=True)
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def _arrays(case: Case) -> Iterator[np.ndarray]:
    """Everything of a case that is written as an array."""
    yield case.after.labels.voxels
    if case.after.image is not None:
        yield case.after.image.voxels
    yield case.outside
    yield case.deformation.field.displacement


def _measured(case: Case) -> Row:
    """Everything that is measured on a finished case."""
    (asked, measured, native), field = case.goals["cobb_deg"], case.deformation.field
    low, _ = determinants(field.displacement, field.grid)
    return {
        "cobb_measured_deg": f"{measured:.2f}",
        "difference_deg": f"{abs(measured - asked):.2f}",
        "cobb_native_deg": f"{native:.2f}",
        "folds": int(np.count_nonzero(low <= 0)),
        "jacobian_min": f"{low.min():.3f}",
        **_bones(case),
        **measure_labels(case.before.labels, case.after.labels),
        **_apex(case),
    }


def _bones(case: Case) -> Row:
    """How far whole bones are from rigid, and how their volume changed.

    The volume is that of bones which the output's edge does not cut; those which it does are counted.
    """
    fidelity = bone_fidelity(case)
    whole = [v.level for v in case.before_spine.whole if v.level.name in fidelity]
    rms = np.array([fidelity[level.name][0] for level in whole])
    cut = [level for level in whole if at_edge(case.after.labels, level)]
    change = {level: 100 * (fidelity[level.name][1] - 1) for level in whole if level not in cut}
    worst = max(change, key=lambda level: abs(change[level]), default=None)
    return {
        "rms_worst_mm": f"{rms.max():.4f}",
        "rms_worst_level": whole[int(rms.argmax())].name,
        "rms_mean_mm": f"{rms.mean():.4f}",
        "rms_with_shell_mm": f"{max(rms_with_shell(case, level) for level in whole):.4f}",
        "volume_worst_percent": f"{change[worst]:+.2f}" if worst is not None else "",
        "volume_worst_level": worst.name if worst is not None else "",
        "cut_by_edge": len(cut) + len(case.before_spine.whole) - len(whole),
    }


def rms_with_shell(case: Case, level: Level) -> float:
    """RMS distance (mm) of the field to the best rigid motion, over every voxel that a bone had before.

    ``bone_fidelity`` looks at the bone's voxels in the output, from which the thin layer where field and plan part
    by more than ``AGREEMENT_MM`` has been taken. Here it counts. Voxels that leave the volume do not.
    """
    labels, output = case.before.labels, case.after.grid
    source = labels.grid.to_world(_voxels(labels, level).astype(float))
    target = apply_affine(case.deformation.carriages[level].motion, source)
    voxels = output.to_voxel(target)
    inside = ((voxels >= 0) & (voxels <= np.array(output.shape) - 1)).all(axis=1)
    if np.count_nonzero(inside) < 50:
        return 0.0
    target, found = target[inside], case.deformation.field.sources(output, voxels[inside])
    _, distance = Rotation.align_vectors(found - found.mean(axis=0), target - target.mean(axis=0))
    return float(distance / np.sqrt(len(found)))


def _voxels(labels: LabelMap, level: Level) -> np.ndarray:
    """Voxels (rows of indices) of a level."""
    return np.argwhere(labels.voxels == labels.numbers[level])


def at_edge(labels: LabelMap, level: Level) -> bool:
    """Whether a level touches the edge of the volume."""
    voxels = _voxels(labels, level)
    return bool((voxels.min(axis=0) == 0).any() or (voxels.max(axis=0) == np.array(labels.grid.shape) - 1).any())


def measure_labels(before: LabelMap, after: LabelMap) -> Row:
    """Whether the same labels are there, and how many that were in one piece (by faces) still are."""
    changed = sorted(set(before.present) ^ set(after.present))
    whole, still = _in_one_piece(before), _in_one_piece(after)
    return {
        "labels_kept": _yes(not changed),
        "labels_changed": " ".join(map(str, changed)),
        "one_piece_before": len(whole),
        "one_piece_after": len(whole & still),
        "broken": " ".join(map(str, sorted(whole - still))),
    }


def _in_one_piece(labels: LabelMap) -> set[int]:
    """Numbers whose voxels hang together by faces."""
    return {n for n, box in labels.boxes.items() if count_pieces(labels.voxels[box] == n)[0] == 1}


def _apex(case: Case) -> Row:
    """The apex of the largest curve that holds the apex asked, and how many levels (downwards) it is off."""
    levels = [parse_level(name) for name in case.pathology.apex.split("/")]
    whole = [v.level for v in case.after_spine.whole]
    curve = next((c for c in case.after_measures.curves if all(c.holds(level) for level in levels)), None)
    if curve is None or not set(levels) <= set(whole):
        return {"apex_found": "none", "apex_off_levels": ""}
    asked = float(np.mean([whole.index(level) for level in levels]))
    return {"apex_found": curve.apex_name, "apex_off_levels": f"{curve.apex_position - asked:+.1f}"}


def _yes(fact: bool) -> str:
    return "y" if fact else "n"
