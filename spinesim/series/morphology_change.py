"""Change the morphology of one vertebra of a scan: model, field, warped labels, and what was measured on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial import cKDTree

from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.scan import LabelMap, Scan
from spinesim.anatomy.vertebra import Vertebra
from spinesim.deform.field import Field
from spinesim.deform.local import Fading, build_local_field
from spinesim.deform.solids import Solid, build_solids
from spinesim.deform.warp import Carriage, warp_image, warp_labels
from spinesim.errors import LabelError
from spinesim.shape.bone import Bone, cut_bone
from spinesim.shape.change import Change, check_change, in_units, move_surface, solve_change
from spinesim.shape.correspondence import Template
from spinesim.shape.morphology import MorphologyModel, model_of
from spinesim.shape.specimen import Specimen, match_specimen, measure_vertebra

TRIES = 4
"""Times that the aim is corrected by what was measured."""

NEAR_ENOUGH = 0.15
"""What is asked is met when it is missed by fewer mm or degrees."""

STILL_MM = 3.0
"""About so far apart are the points of other bones that hold still."""

Points = Float[np.ndarray, "k 3"]


@dataclass(frozen=True, eq=False)
class MorphologyCase:
    """A scan of which one vertebra has another shape.

    ``asked`` and ``measured`` are changes, in mm and degrees; ``measured`` is read on the warped labels.
    """

    scan: Scan
    field: Field
    change: Change
    specimen: Specimen
    asked: dict[str, float]
    measured: dict[str, float]
    jacobian: tuple[float, float]


def change_morphology(
    scan: Scan,
    level: Level,
    asked: Mapping[str, float] | Change,
    models: Sequence[MorphologyModel],
    *,
    fading: Fading = Fading(),  # noqa: B008 - frozen
    told: Callable[[str], None] = lambda stage: None,
) -> MorphologyCase:
    """Change one vertebra's morphology as asked, and nothing beyond the reach of the fading.

    The change is the least unusual one that gives what is asked (:func:`spinesim.shape.change.solve_change`); it is
    corrected by what is measured on the warped labels. Other bones hold still.

    Parameters
    ----------
    asked : mapping or Change
        By name, changes in mm, degrees or percent; or a change in the terms of the model, which is not corrected.

    Raises
    ------
    ConfigError
        When a name or the level is not known, or itk-elastix is not installed.
    LabelError
        When the level is not there whole.
    PathologyError
        When the change is out of reach, or the field folds.
    """
    model = model_of(models, level)
    spine = estimate_spine(scan.labels)
    if level not in spine or not spine[level].measured:
        raise LabelError(f"{scan.labels.source}: expected {level.name} whole, got none; choose another level")
    told("matching the model to the vertebra")
    specimen = match_specimen(Template(model.mean(level)), scan.labels, spine[level])
    start = _begin(scan, spine[level], specimen, model, fading)
    if isinstance(asked, Change):
        check_change(asked)
        return _carry_out(start, asked, {})
    goal = in_units(model, asked, specimen.measures)
    best_aim, share = dict(goal), 1.0
    best = _carry_out(start, solve_change(model, level, goal), goal)
    for number in range(TRIES):
        if _missed(best) < NEAR_ENOUGH:
            break
        told(f"field: correction {number + 1}")
        aim = {name: best_aim[name] + share * (goal[name] - best.measured[name]) for name in goal}
        case = _carry_out(start, solve_change(model, level, aim), goal)
        if _missed(case) < _missed(best):
            best, best_aim = case, aim
        else:
            share /= 2
    return best


def _missed(case: MorphologyCase) -> float:
    """By how much what is asked is missed at worst."""
    return max(abs(case.measured[name] - value) for name, value in case.asked.items())


@dataclass(frozen=True, eq=False)
class _Start:
    """A scan and what is found in it once, however often the aim is corrected."""

    scan: Scan
    vertebra: Vertebra
    specimen: Specimen
    model: MorphologyModel
    fading: Fading
    bone: Bone
    still: Points
    solids: Mapping[int, Solid]


def _begin(scan: Scan, vertebra: Vertebra, specimen: Specimen, model: MorphologyModel, fading: Fading) -> _Start:
    """Find the bone, the points of others that hold still, and the solids of all."""
    surface = apply_affine(vertebra.world_from_vertebra, specimen.vertices)
    still = still_points(scan.labels, vertebra.level, surface, fading.reach_mm)
    bone = cut_bone(scan.labels, vertebra)
    return _Start(scan, vertebra, specimen, model, fading, bone, still, build_solids(scan.labels))


def _carry_out(start: _Start, change: Change, goal: dict[str, float]) -> MorphologyCase:
    """Field, warp and measurement of one change."""
    labels, image, own = start.scan.labels, start.scan.image, start.specimen.measures
    motion = move_surface(start.model, change, start.specimen, start.vertebra, start.bone, start.still)
    field = build_local_field(motion, start.scan.grid, start.fading)
    carriages = {each: Carriage(np.eye(4), whole=each != change.level) for each in labels.numbers}
    warped, _ = warp_labels(labels, start.solids, carriages, field, start.scan.grid)
    after = measure_vertebra(estimate_spine(warped)[change.level])
    changed = Scan(warped, None if image is None else warp_image(image, field, start.scan.grid)[0])
    measured = {name: after[name] - own[name] for name in after}
    return MorphologyCase(changed, field, change, start.specimen, goal, measured, field.jacobian_range())


def still_points(labels: LabelMap, level: Level, bone: Float[np.ndarray, "v 3"], reach_mm: float) -> Points:
    """Points, some millimetres apart, on the surfaces of the other bones within reach of one (world)."""
    box = labels.grid.to_voxel(bone)
    room = reach_mm / labels.grid.spacing_mm
    low = np.clip(np.floor(box.min(axis=0) - room), 0, labels.grid.shape).astype(int)
    high = np.clip(np.ceil(box.max(axis=0) + room) + 1, 0, labels.grid.shape).astype(int)
    block = labels.voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    others = np.isin(block, [number for each, number in labels.numbers.items() if each != level])
    shell = labels.grid.to_world((np.argwhere(others & ~ndimage.binary_erosion(others)) + low).astype(float))
    if len(shell):
        shell = shell[cKDTree(bone).query(shell, distance_upper_bound=reach_mm)[0] < reach_mm]
        shell = shell[np.unique(np.floor(shell / STILL_MM), axis=0, return_index=True)[1]]
    return shell
