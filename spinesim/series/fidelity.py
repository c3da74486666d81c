"""How rigid the bones of a case stayed: distance of the field to the best rigid motion, and volumes.

Of bones that grow, both are told against what they were meant to grow to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.stretch import split_stretch
from spinesim.anatomy.threads import map_threads

if TYPE_CHECKING:
    from spinesim.series.case import Case

FEWEST_VOXELS = 50
"""A bone of which fewer are left is not told of."""


def bone_fidelity(case: Case) -> dict[str, tuple[float, float]]:
    """RMS distance (mm) of the field to the best rigid motion over each bone's output voxels, and its volume ratio.

    Of a bone that breaks into pieces it is the worst of those that keep their form.

    Returns
    -------
    dict
        Level name to (RMS, output volume over the volume that is meant, that of the input where nothing grows); levels
        of which hardly anything is left are not there.
    """
    numbers = case.after.labels.numbers
    found = map_threads(lambda level: _measure_bone(case, level, numbers[level]), numbers)
    return {level.name: told for level, told in zip(numbers, found, strict=True) if told is not None}


def _measure_bone(case: Case, level: Level, number: int) -> tuple[float, float] | None:
    """RMS distance and volume ratio of one bone; None where fewer than ``FEWEST_VOXELS`` are left."""
    before, after, carriage = case.before.labels, case.after.labels, case.deformation.carriages[level]
    voxels = _voxels(after, number)
    if len(voxels) < FEWEST_VOXELS:
        return None
    target, sources = after.grid.to_world(voxels.astype(float)), case.deformation.field.sources(after.grid, voxels)
    _, stretch = split_stretch(carriage.motion[:3, :3])
    meant = sources if stretch is None else sources @ stretch
    pieces = [piece.holds(sources) for piece in carriage.pieces if not piece.yields]
    kept = [piece for piece in pieces if piece.any()] or [np.ones(len(sources), dtype=bool)]
    rms = max(rms_from_rigid(target[piece], meant[piece]) for piece in kept)
    whole = np.count_nonzero(before.voxels[before.boxes[number]] == number) * before.grid.voxel_volume_mm3
    return rms, float(len(voxels) * after.grid.voxel_volume_mm3 / (whole * carriage.growth))


def _voxels(labels: LabelMap, number: int) -> np.ndarray:
    """Indices (rows) of the voxels of one number."""
    box = labels.boxes[number]
    return np.argwhere(labels.voxels[box] == number) + [side.start for side in box]


def rms_from_rigid(target: Float[np.ndarray, "n 3"], source: Float[np.ndarray, "n 3"]) -> float:
    """RMS distance between points and their best rigid image (Kabsch 1976, Acta Cryst A32:922)."""
    target, source = target - target.mean(axis=0), source - source.mean(axis=0)
    u, _, vt = np.linalg.svd(source.T @ target)
    turn = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    return float(np.sqrt(((source @ turn.T - target) ** 2).sum(axis=1).mean()))
