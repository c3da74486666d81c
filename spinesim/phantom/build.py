"""Build the built-in healthy phantom: a CT of a trunk with vertebra labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Scan, Storage, Volume
from spinesim.anatomy.schemes import STRUCTURES, levels_of
from spinesim.phantom.canal import build_canal, paint_canal
from spinesim.phantom.canvas import Slab
from spinesim.phantom.column import Column, build_column
from spinesim.phantom.discs import paint_discs
from spinesim.phantom.drift import draw_drift, drifted
from spinesim.phantom.frame import build_frame, paint_frame
from spinesim.phantom.individual import Individual, sample_individual
from spinesim.phantom.muscles import paint_muscles
from spinesim.phantom.organs import build_body_tube, paint_organs
from spinesim.phantom.parallel import each
from spinesim.phantom.parameters import PhantomParameters
from spinesim.phantom.physics import KERNELS, reconstructed, sample_grain, sample_noise
from spinesim.phantom.raster import Axes, axes_of
from spinesim.phantom.shapes import sample_shapes
from spinesim.phantom.skeleton import JOINT_MM, Bone, draw_bones, label_bones, part_bones
from spinesim.phantom.table import Dimensions
from spinesim.phantom.trunk import draw_layers, paint_trunk

DEFAULT = PhantomParameters()

WIDTH_MM = 360.0
BACK_MM, FRONT_MM = -122.0, 140.0
MARGIN_MM = 15.0
SLAB = 24
REACHING = 3
"""How many levels from either end can hold the highest or the lowest point of all."""

LABEL_GAP_VOXELS = 1.5
"""Least gap between two labels, so that no voxel of one is a neighbour of the other."""

TEXTURE_HU, TRABECULA_MM = 62.0, (0.35, 0.35, 1.0)
"""Standard deviation of the grain of cancellous bone, and how long it is along each axis (working values)."""

VERSE_NUMBER = (
    {Level(rank): rank for rank in range(Level.C1, Level.T12 + 1)}
    | {Level(Level.L1 + n): 20 + n for n in range(5)}
    | {Level.S: 26}
)
"""VerSe label numbers of the levels that the phantom can have."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """The phantom with all that it was made from.

    ``scan`` is the CT with its vertebra labels (VerSe); ``structures`` is a label map of everything that has a number
    in TotalSegmentator 2 (``schemes.STRUCTURES``), on the same grid and with the same vertebrae; ``dimensions`` are
    those of its vertebrae, in millimetres of a person of mean size.
    """

    parameters: PhantomParameters
    scan: Scan
    structures: LabelMap
    dimensions: Mapping[Level, Dimensions]


def build_phantom(parameters: PhantomParameters = DEFAULT) -> Scan:
    """Build a healthy, straight spine inside a trunk, as a CT would show it.

    Parameters
    ----------
    parameters : PhantomParameters
        Person, range of levels, voxel size and scanner.

    Returns
    -------
    Scan
        Image (int16 HU) and labels (uint8, VerSe numbers) on one RAS grid; the levels asked for are whole and
        labelled, 15 mm of the body above and below are shown without labels. The middle of the S1 end plate lies
        at the world's origin. Same parameters, same bytes.
    """
    return _build(parameters, named=False)[0]


def build_whole_phantom(parameters: PhantomParameters = DEFAULT) -> Phantom:
    """Build the same phantom with a label map of all its structures: ribs, lungs, vessels, organs, muscles."""
    scan, names, dimensions = _build(parameters, named=True)
    levels = levels_of("totalsegmentator", tuple(int(n) for n in np.flatnonzero(np.bincount(names.ravel()))))
    structures = LabelMap(names, scan.grid, levels, "totalsegmentator", source="phantom")
    return Phantom(parameters, scan, structures, dimensions)


def _build(parameters: PhantomParameters, *, named: bool) -> tuple[Scan, np.ndarray, Mapping[Level, Dimensions]]:
    """Build the scan, the array of its structures, empty where it is not asked for, and the vertebrae's dimensions."""
    rng = np.random.default_rng(parameters.seed)
    individual = sample_individual(rng=rng)
    shapes = None if parameters.morphology_seed is None else sample_shapes(parameters.morphology_seed)
    column = build_column(individual.variants, shapes)
    grid = _place_grid(column, parameters)
    axes = axes_of(grid).scaled(1 / parameters.size)
    drawn = draw_bones(column, axes)
    gap = max(JOINT_MM, LABEL_GAP_VOXELS * max(parameters.spacing_mm) / parameters.size)
    numbers = {level: VERSE_NUMBER[level] for level in parameters.levels}
    labels = label_bones(part_bones(drawn, gap), numbers, grid.shape)
    names = np.zeros(grid.shape if named else (0, 0, 0), dtype=np.uint8)
    image = _paint(part_bones(drawn, JOINT_MM), column, axes, parameters, names, rng=rng)
    image, names = _drift(image, names, column, axes, individual)
    hu = _scan(image, parameters, rng=rng)
    if named:
        _name_vertebrae(names, labels, numbers)
    levels = {number: level for level, number in VERSE_NUMBER.items()}
    scan = Scan(
        LabelMap(labels, grid, levels, source="phantom"), Volume(hu, grid, storage=Storage("int16"), source="phantom")
    )
    return scan, names, column.dimensions


def _paint(
    spine: Mapping[Level, Bone],
    column: Column,
    axes: Axes,
    parameters: PhantomParameters,
    names: np.ndarray,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint the tissues on the grid, slab by slab."""
    spacing = parameters.spacing_mm
    voxel = float(np.mean(spacing)) / parameters.size
    grain = sample_grain(axes.shape, (4.5, 4.5, 5.5), spacing, rng=rng)
    texture = np.float32(TEXTURE_HU) * sample_grain(axes.shape, TRABECULA_MM, spacing, rng=rng)
    canal, bodies, frame = build_canal(column), build_body_tube(column), build_frame(spine, column, parameters)
    image = np.empty(axes.shape, dtype=np.float32)
    across = slice(0, axes.shape[0]), slice(0, axes.shape[1])

    def paint_slab(k: slice) -> None:
        web = np.roll(grain[..., k], [length // 2 for length in axes.shape[:2]], axis=(0, 1))
        slab = Slab(image[..., k], axes.slab(k), grain[..., k], web, voxel, names[..., k] if names.size else None)
        layers = draw_layers(slab)
        paint_trunk(slab, layers)
        paint_organs(slab, layers, column, bodies)
        paint_muscles(slab, layers, canal)
        paint_canal(slab, column, canal)
        paint_discs(slab, column)
        paint_frame(slab, (*across, k), frame, texture[..., k])

    each(paint_slab, _slabs(axes))
    return image


def _drift(
    image: np.ndarray, names: np.ndarray, column: Column, axes: Axes, individual: Individual
) -> tuple[np.ndarray, np.ndarray]:
    """Move the soft tissue off its mirror plane, slab by slab."""
    bodies, moved, named = build_body_tube(column), np.empty_like(image), np.empty_like(names)

    def drift_slab(k: slice) -> None:
        drift = draw_drift(axes, k, bodies, individual)
        moved[..., k] = drifted(image, axes, k, drift)
        if names.size:
            named[..., k] = drifted(names, axes, k, drift)

    each(drift_slab, _slabs(axes))
    return moved, named


def _slabs(axes: Axes) -> list[slice]:
    height = axes.shape[2]
    return [slice(start, min(start + SLAB, height)) for start in range(0, height, SLAB)]


def _scan(image: np.ndarray, parameters: PhantomParameters, *, rng: np.random.Generator) -> np.ndarray:
    """Make of the tissues what the scanner shows: int16 HU with partial volume, blur and noise."""
    spacing, kernel = parameters.spacing_mm, KERNELS[parameters.kernel]
    slice_mm = parameters.slice_mm or spacing[2]
    image = reconstructed(image, kernel, spacing, slice_mm, float(np.mean(spacing)))
    image += np.float32(parameters.noise_hu) * sample_noise(image.shape, kernel, spacing, slice_mm, rng=rng)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def _name_vertebrae(names: np.ndarray, labels: np.ndarray, numbers: Mapping[Level, int]) -> None:
    """Name the vertebrae among the structures, in place: the voxels that are labelled, and no others."""
    table = np.zeros(256, dtype=np.uint8)
    for level, number in numbers.items():
        table[number] = STRUCTURES["sacrum" if level is Level.S else f"vertebrae_{level.name}"]
    np.copyto(names, table[labels], where=labels > 0)


def _place_grid(column: Column, parameters: PhantomParameters) -> Grid:
    """Lay the grid round the levels asked for, symmetric about x = 0."""
    low, high = (parameters.size * end for end in _height_range(column, parameters))
    spacing = np.array(parameters.spacing_mm)
    extent = np.array([parameters.size * WIDTH_MM, parameters.size * (FRONT_MM - BACK_MM), high - low])
    width, depth, height = (int(n) for n in np.ceil(extent / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(width - 1) * spacing[0] / 2, parameters.size * BACK_MM, low]
    return Grid((width, depth, height), affine)


def _height_range(column: Column, parameters: PhantomParameters) -> tuple[float, float]:
    """Lowest and highest z: the levels asked for, whole, with a margin of soft tissue."""
    coarse = Axes(*(np.arange(*ends, 2.0, dtype=np.float32) for ends in ((0, 45), (-110, 110), (-130, 560))))
    ends = {*parameters.levels[:REACHING], *parameters.levels[-REACHING:]}
    bones = draw_bones(column, coarse, ends)
    inside = [coarse.z[bone.box[2]][(bone.distance < 1).any(axis=(0, 1))] for bone in bones.values()]
    return float(min(z.min() for z in inside)) - MARGIN_MM, float(max(z.max() for z in inside)) + MARGIN_MM
