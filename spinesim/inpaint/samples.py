"""What a network is trained on: patches of scans with a mask, altered as patients and scanners differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.grid import Grid
from spinesim.inpaint.conditions import FILL_MM, LIMITS_HU, Canvas, compress, find_conditions
from spinesim.inpaint.drawn_masks import TRIES, draw_mask, points_about_middle
from spinesim.inpaint.patches import patch_shape
from spinesim.inpaint.tissues import LABELLED, Kind, TissueMaps, depth_in, with_lesion
from spinesim.inpaint.training_scans import TrainingScan

WIDEST_ZOOM, ZOOMED, ZOOMED_NOISE = 1.6, 0.25, 0.54
"""Voxels are made wider by up to this factor along each axis, so often; what interpolation leaves of their noise."""

GUIDED, MOVED, FINE_DROPPED, ALL_DROPPED, ALTERED = 0.5, 0.5, 0.3, 0.1, 0.25
"""How often the mask is guided and, of these, by tissue that a warp moved; how often fine tissues are dropped, all
tissues are, and bone is made denser or softer."""

ANYWHERE, UNTOLD = 0.2, 0.5
"""How often a patch lies anywhere in the patient, and how often tissues are unknown in a mask that is not guided: as
they are beyond a field of view."""

LEAST_TEXTURE = 0.5
"""A lytic lesion keeps this share of the texture of bone at least."""

STRETCH, STRETCH_MM = (-0.5, 0.45), (6.0, 15.0)
"""A warp moves tissue by this share of its distance from a point, along each axis, over Gaussians of these widths."""

MARGIN = 2
"""The loss counts so many voxels beyond the mask."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches for a step of training, (n, 1, ...) or (n, c, ...) float32.

    ``noise`` is what painting begins from: it has the texture of what is known, and is that outside the mask.
    ``weight`` is 1 in the mask and its margin.
    """

    truth: Float[np.ndarray, "n 1 i j k"]
    conditions: Float[np.ndarray, "n c i j k"]
    mask: Float[np.ndarray, "n 1 i j k"]
    weight: Float[np.ndarray, "n 1 i j k"]
    noise: Float[np.ndarray, "n 1 i j k"]


@dataclass(frozen=True, eq=False)
class Sample:
    """A patch with a mask, and what lies under it (HU)."""

    canvas: Canvas
    truth: Float[np.ndarray, "i j k"]


def draw_batch(scans: Sequence[TrainingScan], size: int, voxels: int, *, rng: np.random.Generator) -> Batch:
    """Draw a batch: patches of one scan, with voxels of one size."""
    scan = scans[int(rng.integers(len(scans)))]
    widest = np.clip(2.0 / scan.spacing_mm, 1.0, WIDEST_ZOOM)  # what is wide already stays
    zoom = np.exp(rng.random(3) * np.log(widest)) if rng.random() < ZOOMED else np.ones(3)
    shape = patch_shape(scan.spacing_mm * zoom, voxels)
    middles = [_anywhere(scan, rng) if rng.random() < ANYWHERE else None for _ in range(size)]
    samples = [_altered(draw_canvas(scan, shape, zoom, middle, rng=rng), rng) for middle in middles]
    return collate(samples, rng=rng)


def collate(samples: Sequence[Sample], *, rng: np.random.Generator) -> Batch:
    """Stack patches of one shape."""
    found = [find_conditions(sample.canvas) for sample in samples]
    masks = [sample.canvas.mask for sample in samples]
    white = [rng.normal(size=mask.shape).astype(np.float32) for mask in masks]
    return Batch(
        np.stack([compress(sample.truth)[None] for sample in samples]),
        np.stack([conditions.stack() for conditions in found]),
        np.stack([mask[None].astype(np.float32) for mask in masks]),
        np.stack([ndimage.binary_dilation(mask, iterations=MARGIN)[None].astype(np.float32) for mask in masks]),
        np.stack([conditions.texture_from(each)[None] for conditions, each in zip(found, white, strict=True)]),
    )


def _anywhere(scan: TrainingScan, rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A voxel of the patient."""
    for _ in range(TRIES):
        place = rng.integers(scan.hu.shape)
        if not scan.tissues.bits[tuple(place)] & Kind.OUTSIDE.bit:
            break
    return place.astype(float)


def draw_canvas(
    scan: TrainingScan,
    shape: tuple[int, int, int],
    zoom: Float[np.ndarray, " 3"],
    middle: Float[np.ndarray, " 3"] | None = None,
    *,
    rng: np.random.Generator,
) -> Canvas:
    """Draw a patch with a mask, about a voxel of the scan.

    By default three of four lie in the middle of a body, the others at the surface of any bone.
    """
    if middle is None:
        centres = scan.middles if rng.random() < 0.75 or not len(scan.surfaces) else scan.surfaces
        middle = centres[rng.integers(len(centres))] + rng.normal(size=3) * 6 / scan.spacing_mm
    reach, zoomed = np.array(shape) * zoom, bool((zoom > 1).any())
    start = np.clip(middle - reach / 2, 0, np.maximum(0, np.array(scan.hu.shape) - reach))
    if not zoomed:
        start = np.round(start)  # between voxels, texture would be averaged away
    places = [first + step * np.arange(n) for first, step, n in zip(start, zoom, shape, strict=True)]
    hu = _interpolated(scan.hu, places, zoom)
    near = np.ix_(*(np.clip(np.round(p).astype(int), 0, n - 1) for p, n in zip(places, scan.hu.shape, strict=True)))
    tissues = TissueMaps(scan.tissues.bits[near], scan.tissues.depth[near])
    if rng.random() < 0.5:  # the other side
        hu, tissues = hu[::-1], TissueMaps(tissues.bits[::-1], tissues.depth[::-1])
    spacing = scan.spacing_mm * zoom
    mask = draw_mask(tissues, spacing, rng=rng)
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    return Canvas(
        hu,
        mask,
        np.ones(shape, dtype=bool),
        tissues,
        grid,
        scan.noise_hu * (ZOOMED_NOISE if zoomed else 1),
        scan.marrow_hu,
    )


def _interpolated(
    hu: np.ndarray, places: Sequence[Float[np.ndarray, " n"]], zoom: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "i j k"]:
    """A CT at a lattice of places (fractional voxels): linear, and averaged where voxels become wider."""
    ends = [(int(np.floor(p[0])), int(np.ceil(p[-1])) + 1) for p in places]
    box = tuple(slice(max(0, a), min(n, b + 1)) for (a, b), n in zip(ends, hu.shape, strict=True))
    out = hu[box].astype(np.float32)
    for axis, (p, side, wide) in enumerate(zip(places, box, zoom, strict=True)):
        if wide > 1.1:
            out = ndimage.gaussian_filter1d(out, 0.4 * np.sqrt(wide**2 - 1), axis=axis)
        at = np.clip(p - side.start, 0, out.shape[axis] - 1)
        low = np.minimum(np.floor(at).astype(int), max(0, out.shape[axis] - 2))
        share = (at - low).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
        high = np.minimum(low + 1, out.shape[axis] - 1)
        out = out.take(low, axis) * (1 - share) + out.take(high, axis) * share
    return out


def _altered(canvas: Canvas, rng: np.random.Generator) -> Sample:
    """A patch as another patient's: denser or softer marrow, more noise, a lesion; less known of it."""
    hu, tissues, guided = canvas.hu.astype(np.float32), canvas.tissues, np.ones(canvas.hu.shape, dtype=bool)
    bone = tissues.of(Kind.BONE)
    marrow = canvas.marrow_hu
    if rng.random() < 0.5:
        gain, shift = np.exp(rng.normal() * 0.12), rng.normal() * 25
        soft = np.clip((hu + 50) / 150, 0, 1) * bone  # what is gas or fat in it stays
        hu = hu + soft * ((hu - marrow) * (gain - 1) + shift)
        marrow = marrow + shift
    noise = canvas.noise_hu
    if rng.random() < 0.3:
        more = rng.uniform(3, 20)
        hu = hu + more * rng.normal(size=hu.shape).astype(np.float32)
        noise = float(np.hypot(noise, more))
    lesion = rng.random() < ALTERED
    if lesion:
        hu, tissues = _with_lesion(hu, canvas.mask & bone, tissues, canvas.grid, rng)
    guess = hu
    if not lesion and rng.random() >= GUIDED:
        guided = ~canvas.mask
        if rng.random() < UNTOLD:
            tissues = _untold(tissues, canvas.mask, canvas.grid)
    elif rng.random() < MOVED:
        guess = np.where(canvas.mask, _moved(hu, canvas.grid.spacing_mm, rng), hu)
    dropped = rng.random()
    if dropped < ALL_DROPPED:
        tissues = tissues.without((Kind.BONE, Kind.CORTEX, *LABELLED))
    elif dropped < ALL_DROPPED + FINE_DROPPED:
        tissues = tissues.without(LABELLED)
    hu, guess = np.clip(hu, *LIMITS_HU), np.clip(guess, *LIMITS_HU)
    return Sample(Canvas(guess, canvas.mask, guided, tissues, canvas.grid, noise, marrow), hu)


def _untold(tissues: TissueMaps, mask: Bool[np.ndarray, "i j k"], grid: Grid) -> TissueMaps:
    """The same where nothing is known in a mask but where the patient ends."""
    bits = np.where(mask, tissues.bits & Kind.OUTSIDE.bit, tissues.bits)
    return TissueMaps(bits, depth_in((bits & Kind.BONE.bit) > 0, grid))


def _moved(
    hu: Float[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, " 3"], rng: np.random.Generator
) -> Float[np.ndarray, "i j k"]:
    """Tissue that a warp stretched or compressed about a point, and so took from where it was not."""
    apart = points_about_middle(hu.shape, spacing_mm) - rng.normal(size=3).astype(np.float32) * 5
    share = np.exp(-(apart**2).sum(axis=-1, keepdims=True) / (2 * rng.uniform(*STRETCH_MM) ** 2))
    shift = apart * share * rng.uniform(*STRETCH, size=3).astype(np.float32)
    places = np.moveaxis(np.indices(hu.shape), 0, -1) - shift / spacing_mm
    return ndimage.map_coordinates(hu, np.moveaxis(places, -1, 0), order=1, mode="nearest")


def _with_lesion(
    hu: Float[np.ndarray, "i j k"],
    inside: Bool[np.ndarray, "i j k"],
    tissues: TissueMaps,
    grid: Grid,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "i j k"], TissueMaps]:
    """Bone in a mask made denser or softer, more so in its middle; said to be a lesion half of the time."""
    if not inside.any():
        return hu, tissues
    dense = bool(rng.random() < 0.6)
    profile = ndimage.gaussian_filter(inside.astype(np.float32), rng.uniform(0.7, 2)) * inside
    hu = hu + profile * (rng.uniform(50, 450) if dense else 0)
    if not dense:
        mean = ndimage.gaussian_filter(hu, FILL_MM[-1] / grid.spacing_mm)
        softer = 0.9 * (rng.uniform(10, 70) - mean) * rng.uniform(0.5, 1)
        hu = hu + profile * (softer - (hu - mean) * rng.uniform(0, 1 - LEAST_TEXTURE))
    if rng.random() < 0.5:
        tissues = with_lesion(tissues, inside, Kind.SCLEROTIC if dense else Kind.LYTIC)
    return hu, tissues
