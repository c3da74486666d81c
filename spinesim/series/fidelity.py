"""How rigid the bones of a case stayed: distance of the field to the best rigid motion, and volumes.

Of bones that grow, both are told against what they were meant to grow to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.stretch import split_stretch

if TYPE_CHECKING:
    from spinesim.series.case import Case


def bone_fidelity(case: Case) -> dict[str, tuple[float, float]]:
    """RMS distance (mm) of the field to the best rigid motion over each bone's output voxels, and its volume ratio.

    Of a bone that breaks into pieces it is the worst of those that keep their form.

    Returns
    -------
    dict
        Level name to (RMS, output volume over the volume that is meant, that of the input where nothing grows); levels
        without 50 voxels left are not there.
    """
    found, carriages = {}, case.deformation.carriages
    voxel_in, voxel_out = case.before.grid.voxel_volume_mm3, case.after.grid.voxel_volume_mm3
    for level, number in case.after.labels.numbers.items():
        voxels = _voxels(case.after.labels, number)
        if len(voxels) >= 50:
            target = case.after.grid.to_world(voxels.astype(float))
            motion, growth = carriages[level].motion[:3, :3], carriages[level].growth
            _, stretch = split_stretch(motion)
            sources = case.deformation.field.sources(case.after.grid, voxels)
            meant = sources if stretch is None else sources @ stretch
            pieces = [piece.holds(sources) for piece in carriages[level].pieces if not piece.yields]
            kept = [piece for piece in pieces if piece.any()] or [np.ones(len(sources), dtype=bool)]
            rms = max(rms_from_rigid(target[piece], meant[piece]) for piece in kept)
            before = len(_voxels(case.before.labels, number)) * voxel_in * growth
            found[level.name] = (rms, float(len(voxels) * voxel_out / before))
    return found


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
