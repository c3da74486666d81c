"""Change the CT where a plan changes tissue, after the warp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.plan import Squeezed, Tissue
from spinesim.anatomy.scan import Scan, Volume
from spinesim.anatomy.vertebra import Spine
from spinesim.deform.field import Field

SMOOTHING_MM = 1.5
"""Width of the Gaussian that tells the tissue of a bone from its noise."""

MARGIN = 2
"""Voxels around a bone that its box takes in."""


def change_tissues(after: Scan, spine: Spine, tissues: Sequence[Tissue], field: Field) -> Scan:
    """Give the voxels of bones the HU that a plan's tissue changes ask for.

    Parameters
    ----------
    after : Scan
        The warped scan; without an image nothing changes.
    spine : Spine
        The spine at rest, in whose vertebra frames the changes are told.
    tissues : sequence of Tissue
        Applied in their order; of a level that left the field of view, none.
    field : Field
        Where the voxels come from.
    """
    image, labels = after.image, after.labels
    changed = [tissue for tissue in tissues if tissue.level in labels.numbers]
    if image is None or not changed:
        return after
    voxels = image.voxels.copy(order="K")
    for tissue in changed:
        number = labels.numbers[tissue.level]
        box = _padded(labels.boxes[number], labels.grid.shape)
        mask = labels.voxels[box] == number
        image = replace(image, voxels=voxels)
        sources, density = field.block(labels.grid, box)
        vertebra = spine[tissue.level]
        hu = image.hu(image.voxels[box])
        seen = Squeezed(
            (sources[mask] - vertebra.centre) @ vertebra.axes,
            hu[mask],
            _mean_inside(hu, mask, labels.grid.spacing_mm)[mask],
            density[mask],
        )
        voxels[box][mask] = _stored(image, tissue.become(seen))
    return replace(after, image=replace(image, voxels=voxels))


def _padded(box: Box, shape: tuple[int, int, int]) -> Box:
    """A box and what lies next to it."""
    i, j, k = (
        slice(max(side.start - MARGIN, 0), min(side.stop + MARGIN, n)) for side, n in zip(box, shape, strict=True)
    )
    return i, j, k


def _mean_inside(
    hu: Float[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "i j k"]:
    """Local mean of the HU inside a mask, 0 where nothing of it is near."""
    sigma = SMOOTHING_MM / spacing_mm
    total = ndimage.gaussian_filter(np.where(mask, hu, 0.0), sigma)
    share = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return np.divide(total, share, out=np.zeros_like(total), where=share > 0)


def _stored(image: Volume, hu: Float[np.ndarray, " n"]) -> np.ndarray:
    """Numbers of the file for HU values, in its type."""
    return image.stored(hu).astype(image.voxels.dtype)
