"""Paint the unknown of a CT with a trained network, region by region."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from monai.networks.schedulers import Scheduler
from scipy import ndimage
from torch import Tensor

from spinesim.anatomy.boxes import Box, bounding_boxes, padded
from spinesim.errors import ConfigError
from spinesim.inpaint.brush import PLAIN, Brush
from spinesim.inpaint.conditions import Canvas, Conditions, compress, expand, find_conditions, turn, turn_back
from spinesim.inpaint.inferer import InpaintInferer, blending_weights
from spinesim.inpaint.kriging import find_rim, krige
from spinesim.inpaint.network import half_precision, sampling_scheduler
from spinesim.inpaint.patches import patch_shape, place_patches
from spinesim.inpaint.tissues import TissueMaps
from spinesim.inpaint.weights import Painter

PATCH_VOXELS = 110_000
"""About so many voxels go through the network at once."""

OVERLAP = 0.25
"""Share of a side that neighbouring patches have in common."""

APART_MM = 15.0
"""Parts of the unknown that are farther apart than this are painted one after another."""

CONTEXT_MM = 12.0
"""What is known is seen so far around the unknown at least."""

REGION_VOXELS = 2_500_000
"""A part that has more voxels with its context is painted piece by piece, so that memory is bounded."""

BESIDE = 1.25
"""Voxels that are wider or smaller than those of training by no more than this factor are taken."""

Told = Callable[[int, int], None]
"""Told how many patches are done, and of how many."""


def check_spacing(painter: Painter, spacing_mm: Float[np.ndarray, " 3"]) -> None:
    """Refuse voxels of a size that a network has not seen.

    Raises
    ------
    ConfigError
        When a side is smaller or wider than in training.
    """
    low, high = painter.card.spacing_mm
    if spacing_mm.min() < low / BESIDE or spacing_mm.max() > high * BESIDE:
        said = " x ".join(f"{mm:.2f}" for mm in spacing_mm)
        raise ConfigError(
            f"{painter.source}: expected voxels of {low / BESIDE:.2f} to {high * BESIDE:.2f} mm, as in its training, "
            f"got {said}; take --inpaint noise, another --spacing, or weights trained on such scans"
        )


def find_regions(
    mask: Bool[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"], most: int = REGION_VOXELS
) -> Iterator[Box]:
    """Boxes of the parts of a mask that are far from each other; of a large part those of its pieces.

    With what is seen around it (``with_context``) a piece has ``most`` voxels at most, but a patch at least.
    """
    step = np.maximum(1, np.round(APART_MM / 2 / spacing_mm)).astype(int)
    more = [(0, -n % s) for n, s in zip(mask.shape, step, strict=True)]
    i, j, k = ((n + m) // s for n, (_, m), s in zip(mask.shape, more, step, strict=True))
    coarse = np.pad(mask, more).reshape(i, step[0], j, step[1], k, step[2]).any(axis=(1, 3, 5))
    pieces, _ = ndimage.label(coarse, structure=np.ones((3, 3, 3)))
    for found in ndimage.find_objects(pieces):
        a, b, c = (slice(s.start * n, min(s.stop * n, m)) for s, n, m in zip(found, step, mask.shape, strict=True))
        yield from _pieces(mask, (a, b, c), spacing_mm, most)


def _pieces(mask: Bool[np.ndarray, "i j k"], box: Box, spacing_mm: Float[np.ndarray, " 3"], most: int) -> Iterator[Box]:
    """Halve what a box holds of a mask across its longest side until it is small enough."""
    inside = bounding_boxes(mask[box].view(np.uint8))
    if not inside:
        return
    i, j, k = (
        slice(int(outer.start + side.start), int(outer.start + side.stop))
        for outer, side in zip(box, inside[1], strict=True)
    )
    tight = i, j, k
    sides = np.array([side.stop - side.start for side in tight])
    seen = [side.stop - side.start for side in with_context(tight, mask.shape, spacing_mm)]
    if np.prod(seen) <= most or np.all(sides <= patch_shape(spacing_mm, PATCH_VOXELS)):
        yield tight
        return
    axis = int(np.argmax(sides * spacing_mm))
    middle = (tight[axis].start + tight[axis].stop) // 2
    for half in (slice(tight[axis].start, middle), slice(middle, tight[axis].stop)):
        i, j, k = (half if n == axis else side for n, side in enumerate(tight))
        yield from _pieces(mask, (i, j, k), spacing_mm, most)


def with_context(box: Box, shape: tuple[int, int, int], spacing_mm: Float[np.ndarray, " 3"]) -> Box:
    """A box with what is seen around it: as much as a patch at least, as far as there is anything."""
    wide = padded(box, shape, np.ceil(CONTEXT_MM / spacing_mm).astype(int))
    patch = patch_shape(spacing_mm, PATCH_VOXELS)
    sides = []
    for side, size, end in zip(wide, patch, shape, strict=True):
        lack = max(0, size - (side.stop - side.start))
        start = max(0, min(side.start - lack // 2, end - size))
        sides.append(slice(start, min(end, max(side.stop, start + size))))
    return sides[0], sides[1], sides[2]


def paint(
    canvas: Canvas,
    noise: Float[np.ndarray, "i j k"],
    painter: Painter,
    brush: Brush = PLAIN,
    *,
    seed: int,
    device: str = "cpu",
    told: Told = lambda done, of: None,
) -> Float[np.ndarray, "i j k"]:
    """Paint where the mask of a canvas says.

    The rim of what is known is painted too; by how much that missed what is there is gone on with inside the mask, and
    fades within some millimetres (``kriging``). So texture and mean cross the rim.

    Parameters
    ----------
    canvas : Canvas
        The CT, or a box of it.
    noise : (i, j, k) float32 array
        White noise that painting begins from: where it is the same, about the same texture comes.
    painter : Painter
        Trained network.
    brush : Brush
        How it paints.
    seed : int
        Of the noise that ``repaint`` adds.
    device : str
        Where the network runs.
    told : callable
        Told of the progress.

    Returns
    -------
    (i, j, k) float32 array
        HU; outside the mask those of the canvas, bit for bit.
    """
    turned, order, over = canvas.turned()
    shape = patch_shape(turned.grid.spacing_mm, PATCH_VOXELS)
    full, noisy = _at_least(turned, turn(noise, order, over), shape)
    rim = find_rim(full.mask, full.guided)
    where = torch.device(device)
    half = half_precision(where)
    scheduler = sampling_scheduler(painter.card.network.process)
    inferer = InpaintInferer(
        shape, scheduler, steps=painter.steps(brush), overlap=OVERLAP, repaint=brush.repaint, amp=half, progress=told
    )
    found = find_conditions(replace(full, mask=full.mask | rim))
    mean, spread = _prior(painter, found, shape, where, half)
    residue = _residue(painter, found, (mean, spread), found.texture_from(noisy), inferer, where, seed)
    missed = (compress(full.hu) - mean) / spread - residue
    residue = residue + krige(missed, rim, full.mask, full.grid.spacing_mm)
    i, j, k = turned.hu.shape
    hu = expand(mean + spread * residue)[:i, :j, :k]
    return np.where(canvas.mask, turn_back(hu, order, over), canvas.hu)


def _residue(
    painter: Painter,
    found: Conditions,
    prior: tuple[Float[np.ndarray, "i j k"], Float[np.ndarray, "i j k"]],
    start: Float[np.ndarray, "i j k"],
    inferer: InpaintInferer,
    where: torch.device,
    seed: int,
) -> Float[np.ndarray, "i j k"]:
    """What the flow makes of the noise that it begins from, in spreads about the prior's mean."""

    def beside(box: Box) -> Tensor:
        return torch.from_numpy(np.concatenate([np.stack([each[box] for each in prior]), found.stack(box)]))

    mask, noise = (torch.from_numpy(np.ascontiguousarray(each))[None, None].to(where) for each in (found.mask, start))
    network = _striding(painter, inferer.scheduler, inferer.steps)
    painted = inferer(noise, network, mask, noise, beside, torch.Generator(where).manual_seed(seed))
    residue: Float[np.ndarray, "i j k"] = painted[0, 0].cpu().numpy()
    return residue


@torch.no_grad()
def _prior(
    painter: Painter, found: Conditions, shape: tuple[int, int, int], where: torch.device, half: torch.dtype | None
) -> tuple[Float[np.ndarray, "i j k"], Float[np.ndarray, "i j k"]]:
    """Mean and spread of the tissue: those of the prior inside the mask, of the guide and the known texture outside.

    Where nothing guides, the spread is that of the known texture at most: what widens it are edges of which nobody
    knows where they lie, and texture in their stead would be speckle.
    """
    boxes = place_patches(found.mask, shape, OVERLAP)
    total = torch.zeros((1, 2, *found.mask.shape), device=where)
    weight, covered = blending_weights(boxes, total[:, :1])
    for box in boxes:
        seen = torch.from_numpy(found.stack(box))[None].to(where)
        with torch.autocast(where.type, half, enabled=half is not None):
            mean, spread = painter.network.prior(seen)
        total[(..., *box)] += weight * torch.cat([mean, spread.log()], dim=1)
    said, logarithm = (total / covered)[0].cpu().numpy()
    level = np.float32(found.texture.level)
    spread = np.exp(np.where(found.guided, logarithm, np.minimum(logarithm, np.log(level))))
    return np.where(found.mask, said, found.guide), np.where(found.mask, spread, level)


def _striding(painter: Painter, scheduler: Scheduler, steps: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The network with the mean velocity on the way to the next time of a schedule; DDIM knows its way."""
    if painter.card.network.process != "flow":
        return painter.network
    scheduler.set_timesteps(steps)
    times = [*(float(t) for t in scheduler.timesteps), 0.0]

    def velocity(x: Tensor, now: Tensor) -> Tensor:
        then = max(t for t in times if t < float(now[0]))
        return painter.network(x, now, until=torch.full_like(now, then))

    return velocity


def _at_least(
    canvas: Canvas, noise: Float[np.ndarray, "i j k"], shape: tuple[int, int, int]
) -> tuple[Canvas, Float[np.ndarray, "a b c"]]:
    """A canvas and its noise with sides of a patch at least: their ends are repeated, and nothing is painted there."""
    more = [(0, max(0, size - side)) for side, size in zip(canvas.hu.shape, shape, strict=True)]
    if not any(after for _, after in more):
        return canvas, noise
    tissues = TissueMaps(
        np.pad(canvas.tissues.bits, more, mode="edge"), np.pad(canvas.tissues.depth, more, mode="edge")
    )
    hu = np.pad(canvas.hu, more, mode="edge")
    mask = np.pad(canvas.mask, more)
    guided = np.pad(canvas.guided, more, mode="edge")
    grid = replace(canvas.grid, shape=hu.shape)
    wider = replace(canvas, hu=hu, mask=mask, guided=guided, tissues=tissues, grid=grid)
    return wider, np.pad(noise, more, mode="wrap")
