"""Change the CT where a plan changes tissue, after the warp, and the labels where it becomes bone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box, padded
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.plan import Squeezed, Tissue
from spinesim.anatomy.scan import LabelMap, Scan
from spinesim.anatomy.vertebra import Spine
from spinesim.deform.field import Field

SMOOTHING_MM = 1.5
"""Width of the Gaussian that tells the tissue of a bone from its noise."""

MARGIN = 2
"""Voxels around a bone that its box takes in."""

AROUND_MM = 20.0
"""What is no bone is looked for so far around a bone."""


def change_tissues(after: Scan, spine: Spine, tissues: Sequence[Tissue], field: Field) -> Scan:
    """Give voxels the HU that a plan's tissue changes ask for, and the label of a bone where they become bone.

    Parameters
    ----------
    after : Scan
        The warped scan; without an image only its labels change.
    spine : Spine
        The spine at rest, in whose vertebra frames the changes are told.
    tissues : sequence of Tissue
        Applied in their order; of a level that left the field of view, none.
    field : Field
        Where the voxels come from.
    """
    labels, image = after.labels, after.image
    seen = [t for t in tissues if t.level in labels.numbers and (image is not None or t.ossified is not None)]
    if not seen:
        return after
    voxels = None if image is None else image.voxels.copy(order="K")
    for tissue in seen:
        box, mask = _reached(labels, tissue)
        sources, density = field.block(labels.grid, box)
        vertebra = spine[tissue.level]
        rest = (sources - vertebra.centre) @ vertebra.axes
        if tissue.where is not None:
            mask &= tissue.where(rest.reshape(-1, 3)).reshape(mask.shape)
        if tissue.stretched is not None:
            mask[mask] = _stretches(sources, mask, labels.grid) > tissue.stretched
        if image is not None and voxels is not None:
            hu = image.hu(voxels[box])
            mean = mean_inside(hu, mask, labels.grid.spacing_mm)
            squeezed = Squeezed(rest[mask], hu[mask], mean[mask], density[mask])
            voxels[box][mask] = image.stored(tissue.become(squeezed)).astype(voxels.dtype)
        if tissue.ossified is not None:
            mask &= tissue.ossified(rest.reshape(-1, 3)).reshape(mask.shape)
            labels = _ossified(labels, tissue.level, box, mask)
    return Scan(labels, None if image is None or voxels is None else replace(image, voxels=voxels))


def _stretches(
    sources: Float[np.ndarray, "i j k 3"], mask: Bool[np.ndarray, "i j k"], grid: Grid
) -> Float[np.ndarray, " n"]:
    """How many times its length tissue of a mask is drawn out to, in the direction in which that is most."""
    by_voxel = np.stack(np.gradient(sources, axis=(0, 1, 2)), axis=-1)[mask]
    by_mm = by_voxel @ np.linalg.inv(grid.world_from_voxel[:3, :3])
    least = np.linalg.eigvalsh(np.swapaxes(by_mm, -1, -2) @ by_mm)[..., 0]
    return 1 / np.sqrt(np.maximum(least, np.finfo(float).tiny))


def _ossified(labels: LabelMap, level: Level, box: Box, mask: Bool[np.ndarray, "i j k"]) -> LabelMap:
    """Let a bone take what hangs together with it by faces."""
    voxels = labels.voxels.copy(order="K")
    own = voxels[box] == labels.numbers[level]
    voxels[box][ndimage.binary_propagation(own, mask=own | mask)] = labels.numbers[level]
    return labels.with_voxels(voxels)


def _reached(labels: LabelMap, tissue: Tissue) -> tuple[Box, Bool[np.ndarray, "i j k"]]:
    """Box and mask of the voxels that may change: the bone of a level, or what is no bone around it."""
    number = labels.numbers[tissue.level]
    if tissue.where is None:
        box = padded(labels.boxes[number], labels.grid.shape, MARGIN)
        return box, labels.voxels[box] == number
    around = MARGIN + np.ceil(AROUND_MM / labels.grid.spacing_mm).astype(int)
    box = padded(labels.boxes[number], labels.grid.shape, around)
    return box, ~np.isin(labels.voxels[box], list(labels.levels))


def mean_inside(
    hu: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "i j k"]:
    """Local mean of the HU inside a mask, 0 where nothing of it is near."""
    sigma = SMOOTHING_MM / spacing_mm
    total = ndimage.gaussian_filter(np.where(mask, hu, 0.0), sigma)
    share = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return np.divide(total, share, out=np.zeros_like(total), where=share > 0)
