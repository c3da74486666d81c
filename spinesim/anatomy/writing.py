"""Writing scans, masks and fields: under a temporary name first, the same bytes every time, slab by slab."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from isal import igzip
from jaxtyping import Float

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.itkfiles import LPS_FROM_RAS, decode_itk, grid_of
from spinesim.anatomy.nifti import CHUNK, encode_header
from spinesim.anatomy.scan import LabelMap, Volume
from spinesim.errors import OutputError, ScanError

REMEDY = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "make the folder first",
    errno.EACCES: "choose another folder or mend its permissions",
    errno.EPERM: "choose another folder or mend its permissions",
    errno.EROFS: "choose another folder",
    errno.EISDIR: "choose a name that is no folder",
}

PACKING_LEVEL = 2
"""Level of ISA-L, 0 to 3: it packs a CT five times faster than zlib's level 3 and nearly as small."""

LPS_SIGNS = np.array([-1, -1, 1], dtype="<f4")


def write_volume(volume: Volume, path: str | Path) -> None:
    """Write a CT as NIfTI: stored numbers untouched, with slope, intercept, codes, units and type of its source.

    Parameters
    ----------
    volume : Volume
        What to write; its ``storage`` says how.
    path : str or Path
        ``.nii.gz`` or ``.nii``. An existing file is replaced whole.

    Raises
    ------
    OutputError
        When the file cannot be written there, or the numbers do not fit the type of the storage.
    """
    header = encode_header(volume.grid, volume.storage, volume.slope, volume.intercept)
    _write_nifti(header, volume.voxels, volume.storage.dtype, Path(path))


def write_labels(labels: LabelMap, path: str | Path) -> None:
    """Write a label map as NIfTI in its own numbers and the type of its source; otherwise as :func:`write_volume`."""
    _write_nifti(encode_header(labels.grid, labels.storage), labels.voxels, labels.storage.dtype, Path(path))


def write_field(
    displacement_mm: Float[np.ndarray, "i j k 3"], grid: Grid, path: str | Path, *, compress: bool = True
) -> None:
    """Write a pull-back displacement as an ITK displacement field (NRRD, LPS), for SimpleITK and transformix.

    Parameters
    ----------
    displacement_mm : (i, j, k, 3) array
        From each output point to the source point, millimetres, RAS components.
    grid : Grid
        The output grid on which it is sampled.
    path : str or Path
        ``.nrrd``.
    compress : bool
        Whether the numbers are packed.

    Raises
    ------
    OutputError
        When the file cannot be written there, or the field is not finite or of another shape.
    """
    path = Path(path)
    if path.suffix.lower() != ".nrrd":
        raise OutputError(f"{path}: expected a name that ends in .nrrd, got {path.name}; rename it")
    if displacement_mm.shape != (*grid.shape, 3):
        raise OutputError(
            f"{path}: expected a field of shape {(*grid.shape, 3)}, got {displacement_mm.shape}; "
            "sample it on the output grid"
        )
    with replacing(path) as raw:
        raw.write(_nrrd_header(grid, "gzip" if compress else "raw"))
        with _packed(raw) if compress else nullcontext(raw) as stream:
            for start, stop in _slabs(grid.shape, 3 * LPS_SIGNS.itemsize):
                slab = displacement_mm[:, :, start:stop].transpose(2, 1, 0, 3)
                lps = np.multiply(slab, LPS_SIGNS, dtype="<f4", order="C")
                if not np.isfinite(lps).all():
                    raise OutputError(
                        f"{path}: expected a finite field, got NaN or infinity in slices {start} to {stop - 1}; "
                        "report this"
                    )
                stream.write(lps.data)


def read_field(path: str | Path) -> tuple[Float[np.ndarray, "i j k 3"], Grid]:
    """Read an ITK displacement field back: float32 millimetres in RAS components, and its grid.

    Raises
    ------
    ScanError
        When the file is missing or no volume of three numbers a voxel.
    GeometryError
        When its header places no grid in space.
    """
    path = Path(path)
    if not path.is_file():
        raise ScanError(f"{path}: expected a displacement field, got no file there; check the path")
    image = decode_itk(path, components=3)
    lps = sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3)
    return lps.astype(np.float32, copy=False) * LPS_SIGNS, grid_of(image, path)


def digest(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and bytes of all files of a folder in sorted order.

    Raises
    ------
    ScanError
        When it cannot be read.
    """
    path, total = Path(path), hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        for file in files:
            if path.is_dir():
                total.update(
                    file.relative_to(path).as_posix().encode() + b"\0" + str(file.stat().st_size).encode() + b"\0"
                )
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    total.update(chunk)
    except OSError as error:
        raise ScanError(
            f"{path}: expected a file that can be read, got {_reason(error)}; check the path and its permissions"
        ) from error
    return total.hexdigest()


def _write_nifti(header: bytes, voxels: np.ndarray, dtype: str, path: Path) -> None:
    """Write header and voxels, packed where the name says so."""
    name = path.name.lower()
    if not name.endswith((".nii.gz", ".nii")):
        raise OutputError(f"{path}: expected a name that ends in .nii.gz or .nii, got {path.name}; rename it")
    with replacing(path) as raw:
        if name.endswith(".nii"):
            _write_slabs(raw, header, voxels, np.dtype(dtype), path)
        else:
            with _packed(raw) as stream:
                _write_slabs(stream, header, voxels, np.dtype(dtype), path)


def _write_slabs(stream: BufferedIOBase, header: bytes, voxels: np.ndarray, dtype: np.dtype, path: Path) -> None:
    """Header, then slices along k in Fortran order; numbers that lie so in memory are not copied."""
    stream.write(header)
    for start, stop in _slabs(voxels.shape, dtype.itemsize):
        stream.write(np.asfortranarray(_cast(voxels[:, :, start:stop], dtype, path)).T.data)


def _slabs(shape: tuple[int, ...], item_bytes: int) -> Iterator[tuple[int, int]]:
    """First slice, and the one after the last, of slabs along the third axis: ``CHUNK`` at most, or one slice."""
    deep = max(1, CHUNK // (shape[0] * shape[1] * item_bytes))
    for start in range(0, shape[2], deep):
        yield start, min(start + deep, shape[2])


def _cast(slab: np.ndarray, dtype: np.dtype, path: Path) -> np.ndarray:
    """The same numbers in the type of the file, or a refusal."""
    if np.can_cast(slab.dtype, dtype):
        return slab.astype(dtype, copy=False)
    with np.errstate(invalid="ignore"):
        cast = slab.astype(dtype)
    if not np.array_equal(cast, slab):
        raise OutputError(
            f"{path}: expected numbers that fit {dtype}, got {slab.min():g} to {slab.max():g} as {slab.dtype}; "
            "store them in a wider type"
        )
    return cast


def _packed(raw: BufferedIOBase) -> igzip.IGzipFile:
    """A gzip stream without name and time, so that the same data gives the same bytes."""
    return igzip.IGzipFile(filename="", mode="wb", compresslevel=PACKING_LEVEL, fileobj=raw, mtime=0)


def _nrrd_header(grid: Grid, encoding: str) -> bytes:
    """Header of a NRRD file that holds three float32 a voxel."""
    affine = LPS_FROM_RAS @ grid.world_from_voxel
    vectors = [f"({','.join(f'{x:.17g}' for x in column)})" for column in affine[:3].T]
    lines = [
        "NRRD0005",
        "# displacement in mm from output point to source point",
        "type: float",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: 3 {' '.join(map(str, grid.shape))}",
        f"space directions: none {' '.join(vectors[:3])}",
        "kinds: vector domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        f"space origin: {vectors[3]}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


@contextmanager
def replacing(path: Path) -> Iterator[BufferedIOBase]:
    """Write under a temporary name in the same folder, and take the real name once all is on the disk.

    The temporary name is the same every time: what a killed run left is overwritten when it is run again.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        try:
            part.unlink(missing_ok=True)  # and never written through, should it be a link
            with part.open("xb") as raw:
                yield raw
                raw.flush()
                os.fsync(raw.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        remedy = REMEDY.get(error.errno or 0, "choose another place")
        raise OutputError(f"{path}: expected a place to write to, got {_reason(error)}; {remedy}") from error


def _reason(error: OSError) -> str:
    """What the system says, without the path."""
    return (error.strerror or type(error).__name__).lower()
