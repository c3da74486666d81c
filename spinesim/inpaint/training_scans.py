"""Scans to train on: any folder of CTs, with labels where they lie beside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16, Int32

from spinesim.anatomy.boxes import Box, bounding_boxes, padded
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.reading import read_scan, read_volume
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.surroundings import find_surroundings
from spinesim.errors import ScanError
from spinesim.inpaint.conditions import turn, turns_to_ras
from spinesim.inpaint.scanner import measure_noise
from spinesim.inpaint.tissues import PER_MM, Kind, TissueMaps, find_bone, map_tissues

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Files that may hold a CT."""

LABEL_WORDS = ("seg", "msk", "mask", "label")
"""A file whose name has one of these words after its last underscores holds labels."""

AROUND_MM = 45.0
"""What lies farther than this from the levels of a labelled scan is left out."""

INSIDE_MM = 5.0
"""Bone so far from its surface is the middle of a body."""

FALLBACK_NOISE_HU = 15.0
"""Noise of a scan on which it cannot be measured."""


@dataclass(frozen=True, eq=False)
class TrainingScan:
    """A scan made ready: axes right, anterior, superior, and tissues found once.

    ``middles`` are voxels in the middle of bodies, ``surfaces`` some at the surface of any bone.
    """

    name: str
    hu: Int16[np.ndarray, "i j k"]
    tissues: TissueMaps
    spacing_mm: Float[np.ndarray, " 3"]
    noise_hu: float
    marrow_hu: float
    middles: Int32[np.ndarray, "n 3"]
    surfaces: Int32[np.ndarray, "m 3"]


def find_pairs(places: Iterable[Path]) -> list[tuple[Path, Path | None]]:
    """Find CTs, and the labels of each where there are some.

    A file is a CT, in a folder every file is that is no label map. Labels lie beside their CT, begin as its name does
    up to ``_ct`` and go on with ``_seg-vert``.

    Raises
    ------
    ScanError
        When a place does not exist, or holds no CT.
    """
    found: dict[Path, Path | None] = {}
    for place in places:
        if not place.exists():
            raise ScanError(f"{place}: expected a CT or a folder of CTs, got none; give the right path")
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        scans = [f for f in files if f.name.endswith(ENDINGS) and (f == place or not _is_labels(f))]
        if not scans:
            raise ScanError(f"{place}: expected CTs ({', '.join(ENDINGS)}), got no such file; give another folder")
        found |= {scan: _labels_beside(scan) for scan in scans}
    return list(found.items())


def _is_labels(path: Path) -> bool:
    tail = path.name.rpartition("_ct")[2] if "_ct" in path.name else path.name
    return any(word in tail.lower() for word in LABEL_WORDS)


def _labels_beside(scan: Path) -> Path | None:
    stem = scan.name.partition("_ct")[0]
    found = [p for p in sorted(scan.parent.glob(f"{stem}_seg-vert*")) if p.name.endswith(ENDINGS)]
    return found[0] if found else None


def read_training_scan(path: Path, labels: Path | None) -> TrainingScan:
    """Read a CT, with its labels where it has some, and find what training needs.

    Raises
    ------
    ScanError, LabelError, GeometryError
        When a file cannot be read, when the labels lie on another grid, or when there is no bone.
    """
    scan = read_scan(path, labels) if labels else None
    image = scan.image if scan and scan.image else read_volume(path)
    body = find_surroundings(image).body_on(image.grid)
    levels = None if scan is None else np.isin(scan.labels.voxels, list(scan.labels.levels))
    noise = measure_noise(image, find_bone(image.hu(), image.grid) if levels is None else levels)
    box = (slice(None),) * 3 if levels is None else _around(levels, image.grid)
    grid = image.grid if levels is None else image.grid.inside(box)
    own = None if scan is None else LabelMap(scan.labels.voxels[box], grid, scan.labels.levels)
    hu = image.hu(image.voxels[box])
    spine = None if scan is None else estimate_spine(scan.labels)
    tissues = map_tissues(hu, grid, body[box], own, spine)
    bodies = tissues.of(Kind.VERTEBRAL_BODY) if own else tissues.of(Kind.BONE)
    deep = bodies & (tissues.depth > INSIDE_MM * PER_MM)
    if not deep.any():
        raise ScanError(f"{path}: expected a CT with vertebrae, got no bone; leave it out")
    return _turned(path.name, hu, grid, tissues, deep, noise.mean_hu if noise else FALLBACK_NOISE_HU)


def _turned(
    name: str,
    hu: Float[np.ndarray, "i j k"],
    grid: Grid,
    tissues: TissueMaps,
    deep: np.ndarray,
    noise_hu: float,
) -> TrainingScan:
    """The scan with its axes right, anterior, superior."""
    order, over = turns_to_ras(grid)
    turned = TissueMaps(*(np.ascontiguousarray(turn(each, order, over)) for each in (tissues.bits, tissues.depth)))
    surface = (turned.depth <= PER_MM * max(1.0, float(grid.spacing_mm.max()))) & turned.of(Kind.BONE)
    return TrainingScan(
        name,
        np.ascontiguousarray(turn(np.clip(hu, -1024, 3071).astype(np.int16), order, over)),
        turned,
        grid.spacing_mm[list(order)],
        noise_hu,
        float(hu[deep].mean()),
        np.argwhere(turn(deep, order, over)).astype(np.int32),
        np.argwhere(surface)[::7].astype(np.int32),
    )


def _around(levels: np.ndarray, grid: Grid) -> Box:
    box = bounding_boxes(levels.view(np.uint8))[1]
    return padded(box, grid.shape, np.ceil(AROUND_MM / grid.spacing_mm).astype(int))
