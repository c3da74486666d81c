"""Reading scans: a CT, its label map, or both, from the formats that people have them in."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.itkfiles import read_dicom, read_itk
from spinesim.anatomy.labelmaps import assign_levels, build_labels, merge_structures, slices
from spinesim.anatomy.levels import Level
from spinesim.anatomy.nifti import read_nifti
from spinesim.anatomy.resampling import resample_labels as redraw
from spinesim.anatomy.scan import LabelMap, Scan, Volume
from spinesim.anatomy.schemes import STRUCTURES, parse_mapping
from spinesim.errors import GeometryError, LabelError, ScanError, ScanWarning

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
CT_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "float32", "float64")
SPACING_MM = (0.01, 100.0)
LONGEST_AXIS = 32767
"""Voxels along an axis that NIfTI-1, the form of the result, can write."""

FARTHEST_MM = 1e5
"""Beyond this distance from the origin a header in single precision does not tell hundredths of a millimetre."""

LARGEST_HU = 1e9
SOFT_HU, BONE_HU = 0.0, 150.0


def read_volume(path: str | Path) -> Volume:
    """Read a CT as its file holds it: stored numbers, own order, own type.

    Parameters
    ----------
    path : str or Path
        ``.nii``, ``.nii.gz``, ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file, or a folder with one DICOM series.

    Returns
    -------
    Volume
        Voxels (i, j, k) with their affine to world RAS in millimetres.

    Raises
    ------
    ScanError
        When the file cannot be read, holds NaN or infinity, is constant, or is no volume of plain numbers.
    GeometryError
        When its affine is singular, sheared, or of no size that a scan has.

    Warns
    -----
    ScanWarning
        When the values do not look like Hounsfield units.
    """
    volume = _read_any(Path(path))
    if volume.voxels.dtype.name not in CT_TYPES:
        raise ScanError(
            f"{path}: expected a CT of type {', '.join(CT_TYPES)}, got {volume.voxels.dtype}; save it as int16"
        )
    _check_finite(volume)
    _check_hounsfield(volume)
    return volume


def read_labels(path: str | Path, *, scheme: str = "auto", mapping: str | Path | Mapping | None = None) -> LabelMap:
    """Read a label map and tell which of its numbers are which levels.

    Parameters
    ----------
    path : str or Path
        A file as for :func:`read_volume`, or the folder of one file a structure that TotalSegmentator writes.
    scheme : str
        A name of :data:`spinesim.anatomy.schemes.SCHEMES`, or ``auto`` to tell it from numbers and order.
    mapping : path or mapping, optional
        ``{number: level name}`` or ``{level name: number}``, or a YAML file of that; instead of a scheme.

    Returns
    -------
    LabelMap
        Numbers as in the file, in the smallest unsigned type; those that are no level are carried along.

    Raises
    ------
    LabelError
        When the file cannot be read, its numbers are not whole or below 0, or none of them is a vertebra.
    GeometryError
        When its affine is singular, sheared, or of no size that a scan has.
    """
    path = Path(path)
    if mapping is not None and scheme != "auto":
        raise LabelError(f"{path}: expected a scheme or a mapping, got both; drop --scheme or --mapping")
    try:
        _check_place(path)
        folder = _is_structure_folder(path)
        labels = _read_structures(path) if folder else _read_numbers(path)
    except ScanError as error:
        raise LabelError(str(error)) from error
    if mapping is not None:
        mapping = parse_mapping(mapping, "mapping") if isinstance(mapping, Mapping) else read_mapping(mapping)
    return assign_levels(labels, "totalsegmentator" if folder and scheme == "auto" else scheme, mapping)


def read_scan(
    ct: str | Path | None,
    labels: str | Path | None,
    *,
    scheme: str = "auto",
    mapping: str | Path | Mapping | None = None,
    resample_labels: bool = False,
) -> Scan:
    """Read a CT and its label map onto one grid; without a CT, the label map alone.

    Raises
    ------
    LabelError
        When there is no label map, or it cannot be used.
    ScanError
        When the CT cannot be used.
    GeometryError
        When the two lie on different grids and ``resample_labels`` is not set.
    """
    if labels is None:
        raise LabelError(
            "labels: expected a label map of the vertebrae, got none; "
            "segment the CT first (TotalSegmentator, SPINEPS) and pass --labels"
        )
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(read_labels, labels, scheme=scheme, mapping=mapping)
        image = read_volume(ct) if ct is not None else None
        drawn = reading.result()
    if image is not None and resample_labels and not image.grid.matches(drawn.grid):
        drawn = redraw(drawn, image.grid)
    return Scan(drawn, image)


def read_mapping(path: str | Path) -> dict[int, Level]:
    """Read a label mapping from a YAML file; see :func:`spinesim.anatomy.schemes.parse_mapping`.

    Raises
    ------
    LabelError
        When the file cannot be read, is no flat mapping, or says a thing twice.
    """
    try:
        tree = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
        _check_flat(tree, path)
        entries = yaml.SafeLoader("").construct_document(tree)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise LabelError(
            f"{path}: expected a YAML file with lines like '22: L3', got {' '.join(str(error).split())}; mend the file"
        ) from error
    return parse_mapping(entries, str(path))


def _check_flat(tree: yaml.Node | None, path: str | Path) -> None:
    """Plain keys and values, each key once."""
    if not isinstance(tree, yaml.MappingNode) or not all(
        isinstance(node, yaml.ScalarNode) for pair in tree.value for node in pair
    ):
        raise LabelError(f"{path}: expected lines like '22: L3', got something else; write a flat mapping")
    keys = [key.value for key, _ in tree.value]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise LabelError(f"{path}: expected each key once, got {twice} twice; drop one of the lines")


def _read_any(path: Path) -> Volume:
    """Read by extension; a folder is a DICOM series."""
    _check_place(path)
    if path.is_dir():
        volume = read_dicom(path)
    elif path.name.lower().endswith(NIFTI):
        volume = read_nifti(path)
    elif path.suffix.lower() in ITK:
        volume = read_itk(path)
    else:
        raise ScanError(
            f"{path}: expected {', '.join(NIFTI + ITK)} or a folder with one DICOM series, "
            f"got {path.suffix or 'no extension'}; convert the file"
        )
    _check_grid(volume.grid, path)
    return volume


def _check_place(path: Path) -> None:
    """A file or a folder that can be looked at."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)
    except FileNotFoundError:
        raise ScanError(f"{path}: expected a file or a DICOM folder, got nothing there; check the path") from None
    except OSError as error:
        raise ScanError(
            f"{path}: expected a file or a DICOM folder, got {(error.strerror or str(error)).lower()}; check the path"
        ) from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise ScanError(f"{path}: expected a file or a DICOM folder, got a pipe or a device; save it as a file")


def _check_grid(grid: Grid, path: Path) -> None:
    """Voxels of a size and at a place that a scan has."""
    low, high = grid.spacing_mm.min(), grid.spacing_mm.max()
    if low < SPACING_MM[0] or high > SPACING_MM[1]:
        raise GeometryError(
            f"{path}: expected voxels of {SPACING_MM[0]} to {SPACING_MM[1]:g} mm, "
            f"got {low:.3g} to {high:.3g} mm; mend the units in the header"
        )
    if max(grid.shape) > LONGEST_AXIS:
        raise GeometryError(
            f"{path}: expected at most {LONGEST_AXIS} voxels along an axis, got shape {grid.shape}; crop the scan"
        )
    farthest = np.abs(grid.corners()).max()
    if farthest > FARTHEST_MM:
        raise GeometryError(
            f"{path}: expected a scan within {FARTHEST_MM / 1000:g} m of the origin, "
            f"got voxels {farthest / 1000:.3g} m away; mend the origin in the header"
        )


def _check_finite(volume: Volume) -> None:
    """Refuse NaN and infinity, counting slice by slice."""
    if volume.voxels.dtype.kind != "f":
        return
    bad = sum(piece.size - int(np.isfinite(piece).sum()) for piece in slices(volume.voxels))
    if bad:
        raise ScanError(
            f"{volume.source}: expected finite numbers, got {bad:,} voxels of NaN or infinity; "
            "fill them (air is -1000 HU) and save again"
        )


def _check_hounsfield(volume: Volume) -> None:
    """Refuse a constant image; warn of one that reaches neither below water nor up to bone."""
    ends = [float(end) * volume.slope + volume.intercept for end in (volume.voxels.min(), volume.voxels.max())]
    low, high = min(ends), max(ends)
    if not -LARGEST_HU < low <= high < LARGEST_HU:
        raise ScanError(
            f"{volume.source}: expected Hounsfield units, got {low:g} to {high:g}; mend the scaling in the header"
        )
    if np.float32(low) == np.float32(high):
        raise ScanError(
            f"{volume.source}: expected a CT, got the value {low:g} in every voxel; check that the right file was given"
        )
    if low >= SOFT_HU or high <= BONE_HU:
        warnings.warn(
            f"{volume.source}: expected Hounsfield units from air (-1000) to bone (above {BONE_HU:g}), "
            f"got {low:g} to {high:g}; "
            "add the rescale intercept (often -1024), or check that this is a CT",
            ScanWarning,
            stacklevel=3,
        )


def _is_structure_folder(path: Path) -> bool:
    """Tell TotalSegmentator's folder of NIfTI files from one of DICOM slices."""
    return path.is_dir() and any(file.name.lower().endswith(NIFTI) for file in path.iterdir())


def _read_structures(folder: Path) -> LabelMap:
    """Combine the files of one structure each; the bones of the spine last, so that they win where they overlap."""
    found = [(file, ending) for ending in NIFTI for file in folder.iterdir() if file.name.lower().endswith(ending)]
    files = {file.name[: -len(ending)]: file for file, ending in found}
    known = sorted(files.keys() & STRUCTURES.keys(), key=lambda name: (name.startswith(("vertebrae_", "sacrum")), name))
    if unknown := sorted(files.keys() - STRUCTURES.keys()):
        warnings.warn(
            f"{folder}: expected structures of TotalSegmentator, got also {', '.join(unknown)}; they are left out",
            ScanWarning,
            stacklevel=3,
        )
    return merge_structures(((name, _read_numbers(files[name])) for name in known), str(folder))


def _read_numbers(path: Path) -> LabelMap:
    """A label map without levels."""
    volume = _read_any(path)
    _check_finite(volume)
    return build_labels(volume)
