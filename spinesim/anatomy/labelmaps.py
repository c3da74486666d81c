"""Label maps from stored numbers: made whole, put together, given their levels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Storage, Volume
from spinesim.anatomy.schemes import STRUCTURES, detect_scheme, levels_of, measure_heights
from spinesim.errors import GeometryError, LabelError, ScanWarning

LARGEST_LABEL = 65535

VERTEBRAE = [number for name, number in STRUCTURES.items() if name.startswith("vertebrae_")]


def build_labels(volume: Volume) -> LabelMap:
    """Build a label map from stored numbers, in the smallest unsigned type; it has no levels yet.

    Raises
    ------
    LabelError
        When a number is not whole, below 0 or above 65535.
    """
    ends = (volume.voxels.min(), volume.voxels.max())
    low, high = (float(end) * volume.slope + volume.intercept for end in ends)
    if not (low >= 0 and high <= LARGEST_LABEL):
        raise LabelError(
            f"{volume.source}: expected label numbers from 0 to {LARGEST_LABEL}, got {low:g} to {high:g}; "
            "check that this is the label map"
        )
    scaled = volume.slope != 1 or volume.intercept != 0
    voxels = np.empty(volume.voxels.shape, np.uint8 if high < 256 else np.uint16, order="F")
    for into, piece in zip(slices(voxels), slices(volume.voxels), strict=True):
        numbers = piece * volume.slope + volume.intercept if scaled else piece
        into[...] = numbers
        if not np.array_equal(into, numbers):
            raise LabelError(
                f"{volume.source}: expected whole label numbers, got {numbers[into != numbers].flat[0]:g}; "
                "save the labels without interpolation or scaling"
            )
    storage = replace(volume.storage, dtype=voxels.dtype.name) if scaled else volume.storage
    return LabelMap(voxels, volume.grid, {}, storage=storage, source=volume.source)


def merge_structures(parts: Iterable[tuple[str, LabelMap]], source: str) -> LabelMap:
    """Build one map in the numbers of TotalSegmentator 2 from one mask a structure.

    Parameters
    ----------
    parts : iterable of (str, LabelMap)
        Names of :data:`~spinesim.anatomy.schemes.STRUCTURES` and their masks; where organs overlap, the later wins.
    source : str
        Name of the folder, for messages.

    Raises
    ------
    GeometryError
        When the masks lie on different grids.
    LabelError
        When vertebrae overlap.
    """
    voxels, grid = np.zeros((0, 0, 0), np.uint8), None
    for name, part in parts:
        if grid is None:
            voxels, grid = np.zeros(part.grid.shape, np.uint8, order="F"), part.grid
        if not grid.matches(part.grid):
            raise GeometryError(
                f"{part.source}: expected the grid of the other structures ({grid.describe()}), "
                f"got {part.grid.describe()}; segment them in one run"
            )
        inside = part.voxels > 0
        if name.startswith("vertebrae_") and (double := int(np.isin(voxels[inside], VERTEBRAE).sum())):
            raise LabelError(
                f"{part.source}: expected vertebrae that do not overlap, got {double:,} voxels in two; "
                "segment them in one run"
            )
        voxels[inside] = STRUCTURES[name]
    if grid is None:
        raise LabelError(f"{source}: expected files like vertebrae_L3.nii.gz, got none; name the folder that has them")
    return LabelMap(voxels, grid, {}, "totalsegmentator", Storage("uint8"), source)


def assign_levels(labels: LabelMap, scheme: str, mapping: Mapping[int, Level] | None) -> LabelMap:
    """Give the numbers of a map their levels, by a mapping, a scheme, or (``auto``) the scheme that they tell.

    Raises
    ------
    LabelError
        When the map is empty, its scheme cannot be told, or none of its numbers is a level.
    """
    heights = measure_heights(labels.voxels, labels.grid)
    if not heights:
        raise LabelError(f"{labels.source}: expected labelled vertebrae, got an empty map; check the file")
    if mapping is not None:
        scheme, levels = "mapping", dict(mapping)
    else:
        scheme = _detect(labels, heights) if scheme == "auto" else scheme
        levels = levels_of(scheme, heights)
    if not levels.keys() & heights.keys():
        raise LabelError(
            f"{labels.source}: expected numbers of vertebrae ({scheme}: {min(levels)} to {max(levels)}), "
            f"got {', '.join(map(str, sorted(heights)[:30]))}; pass --scheme or a mapping file"
        )
    return replace(labels, levels=levels, scheme=scheme)


def slices(voxels: np.ndarray) -> list[np.ndarray]:
    """Views of the slices along k, the order in which they lie in a file."""
    return [voxels[:, :, k] for k in range(voxels.shape[2])]


def _detect(labels: LabelMap, heights: Mapping[int, float]) -> str:
    """The scheme that numbers and order tell, said of the file."""
    try:
        scheme = detect_scheme(heights)
    except LabelError as error:
        raise LabelError(f"{labels.source}: {error}") from error
    if len(heights) == 1:
        warnings.warn(
            f"{labels.source}: expected several levels, got the number {min(heights)} alone, read as {scheme}; "
            "pass --scheme if it is another",
            ScanWarning,
            stacklevel=5,
        )
    return scheme
