"""NRRD, MetaImage and DICOM through SimpleITK, carried from LPS and (z, y, x) to RAS and (i, j, k)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.nifti import DEFLATE_LIMIT, build_grid, check_claim
from spinesim.anatomy.scan import Storage, Volume
from spinesim.errors import GeometryError, ScanError, ScanWarning

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

UNEVEN = 0.1
"""Slices may lie off their even places by this part of their distance (some scanners round positions to 0.1 mm)."""


def read_itk(path: Path) -> Volume:
    """Read a NRRD or MetaImage file.

    Raises
    ------
    ScanError
        When the file is damaged, has not three axes, or has voxels that are no plain numbers.
    GeometryError
        When the header places no grid in space.
    """
    image = decode_itk(path, components=1)
    return _volume(image, path)


def read_dicom(folder: Path) -> Volume:
    """Read the one CT series in a folder; the rescale slope and intercept are applied, as DICOM wants it.

    Raises
    ------
    ScanError
        When there is no series, more than one that could be meant, or one that is no evenly spaced stack.
    GeometryError
        When the slices are no upright stack (tilted gantry).
    """
    try:
        with _quiet():
            files = _series_files(folder)
            if len(files) > 1:
                _check_stack(files, folder)
            image = sitk.ReadImage(files if len(files) > 1 else files[0])
    except RuntimeError as error:
        raise ScanError(
            f"{folder}: expected a DICOM series that can be decoded, got {_last_line(error)}; export it again"
        ) from error
    _check_plain(image.GetSize(), image.GetNumberOfComponentsPerPixel(), 1, folder)
    return _volume(image, folder)


def decode_itk(path: Path, components: int) -> sitk.Image:
    """Read an image of three axes with so many components a voxel, refusing before memory is asked for.

    Raises
    ------
    ScanError
        When header or voxels cannot be read, or axes or components are others.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _quiet():
            reader.ReadImageInformation()
            _check_plain(reader.GetSize(), reader.GetNumberOfComponents(), components, path)
            claimed = math.prod(reader.GetSize()) * components
            check_claim(path, claimed, _bytes_beside(path) * DEFLATE_LIMIT)
            image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise ScanError(
            f"{path}: expected an image that SimpleITK reads, got {_last_line(error)}; copy or convert the file again"
        ) from error
    if path.suffix.lower() in (".nrrd", ".nhdr") and not image.HasMetaDataKey("NRRD_space"):
        warnings.warn(
            f"{path}: expected a 'space' line in the NRRD header, got none; LPS is taken", ScanWarning, stacklevel=3
        )
    return image[:, :, :, 0] if image.GetDimension() == 4 else image


def world_from_itk(image: sitk.Image) -> np.ndarray:
    """Affine from (i, j, k) to RAS millimetres of an ITK image, (4, 4)."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return LPS_FROM_RAS @ affine


def grid_of(image: sitk.Image, path: Path) -> Grid:
    """Grid of an ITK image; what is wrong with it is said of the file."""
    return build_grid(image.GetSize(), lambda: world_from_itk(image), path)


def _volume(image: sitk.Image, path: Path) -> Volume:
    """The image as stored numbers (i, j, k), copied once."""
    grid = grid_of(image, path)
    voxels = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    if voxels.dtype.kind not in "iuf":
        raise ScanError(f"{path}: expected integers or floats, got voxels of type {voxels.dtype}; save it as int16")
    if path.is_dir() and voxels.dtype == np.int32 and np.abs([voxels.min(), voxels.max()]).max() < 2**15:
        voxels = voxels.astype(np.int16)  # ITK widens DICOM's 16 bits when it applies the rescale intercept
    return Volume(voxels, grid, storage=Storage(voxels.dtype.name), source=str(path))


def _check_plain(size: Sequence[int], components: int, wanted: int, path: Path) -> None:
    """Three axes (a fourth of one entry is let pass) and the right number of components."""
    if len(size) not in (3, 4) or tuple(size[3:]) not in ((), (1,)):
        raise ScanError(f"{path}: expected a volume with three axes, got shape {tuple(size)}; save one volume a file")
    if components != wanted:
        raise ScanError(
            f"{path}: expected {wanted} number(s) a voxel, got {components}; "
            f"export it as a single {'volume' if wanted == 1 else 'field'}"
        )


def _series_files(folder: Path) -> Sequence[str]:
    """Files of the only series, or of the only one that is a stack of CT slices."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    found = {name: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name) for name in names}
    if not found:
        raise ScanError(
            f"{folder}: expected a folder with the files of one DICOM series, got none; "
            "name the folder that holds the slices"
        )
    stacks = {name: files for name, files in found.items() if _is_ct(files)} if len(found) > 1 else found
    if len(stacks) != 1:
        listed = "; ".join(
            f"{_said(files[0], '0008|103e') or name} ({len(files)} files)" for name, files in found.items()
        )
        raise ScanError(
            f"{folder}: expected one CT series, got {len(found)}: {listed}; "
            "put the one that is meant into a folder of its own"
        )
    return next(iter(stacks.values()))


def _is_ct(files: Sequence[str]) -> bool:
    """Tell a stack of CT slices from a localizer, a dose report or another modality."""
    return (
        len(files) > 2
        and _said(files[0], "0008|0060") == "CT"
        and "LOCALIZER" not in _said(files[0], "0008|0008").upper()
    )


def _said(file: str, tag: str) -> str:
    """What a DICOM file says under a tag, or nothing."""
    header = _dicom_header(file)
    return header.GetMetaData(tag).strip() if header.HasMetaDataKey(tag) else ""


def _dicom_header(file: str) -> sitk.ImageFileReader:
    """A reader that has read the header of one file."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.SetImageIO("GDCMImageIO")
    reader.ReadImageInformation()
    return reader


def _check_stack(files: Sequence[str], folder: Path) -> None:
    """Slices stand upright on one another, at even distances, each once; ITK would read any others without a word."""
    headers = [_dicom_header(file) for file in files]
    directions = np.array([header.GetDirection() for header in headers]).reshape(-1, 3, 3)
    offsets = np.array([header.GetOrigin() for header in headers]) - headers[0].GetOrigin()
    heights = offsets @ directions[0, :, 2]
    step = heights[-1] / (len(files) - 1)
    aside = np.linalg.norm(offsets - np.outer(heights, directions[0, :, 2]), axis=1).max()
    if aside > UNEVEN * step or np.abs(directions - directions[0]).max() > 1e-3:
        raise GeometryError(
            f"{folder}: expected slices straight above one another, "
            f"got a shift of {aside:.2f} mm (tilted gantry?); resample the series"
        )
    if np.abs(heights - step * np.arange(len(files))).max() > UNEVEN * step:
        gaps = np.diff(heights)
        raise ScanError(
            f"{folder}: expected evenly spaced slices, got gaps from {gaps.min():.2f} to {gaps.max():.2f} mm; "
            "add the missing slices or drop the double ones"
        )


def _bytes_beside(path: Path) -> int:
    """Size of the file, or of all in its folder where the voxels may lie beside the header."""
    files = path.parent.iterdir() if path.suffix.lower() in (".nhdr", ".mhd") else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _last_line(error: BaseException) -> str:
    """What ITK says at the end of its long messages; its 'Reason' is whatever error the system had last."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Reason:")]
    return said[-1].rstrip(".") if said else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ITK from printing its warnings: what matters of them is checked here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
