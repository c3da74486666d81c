"""NIfTI: the header and the stored numbers, nothing scaled, nothing lost."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from gzip import BadGzipFile
from io import BufferedIOBase
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import Storage, Volume
from spinesim.errors import GeometryError, ScanError, ScanWarning

MM_PER_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""Millimetres in the spatial unit of each NIfTI code: unknown (taken as mm), metre, millimetre, micron."""

DEFLATE_LIMIT = 1032
"""No deflate stream grows by more than this when it is unpacked."""

CHUNK = 1 << 24

PADDING = 4096
"""So many bytes may lie behind the voxels; where there are more, header and voxels do not belong together."""

KNOWN_CODES = range(6)
"""Codes of a qform or sform that NIfTI knows."""

_UNHEARD = logging.Logger("nibabel's repairs", logging.CRITICAL + 1)


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file without applying its slope and intercept.

    The affine is the sform where it has a code, else the qform, as nibabel has it; it is given in millimetres
    whatever the unit in the file. Trailing axes of one entry are dropped.

    Raises
    ------
    ScanError
        When the file is no single-file NIfTI, is damaged, has not three axes, or has voxels that are no plain numbers.
    GeometryError
        When the header places no grid in space.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            stream = igzip.IGzipFile(fileobj=raw, mode="rb") if packed else raw
            header = _decode_header(stream.read(540), path)
            grid = build_grid(_shape(header, path), lambda: _affine(header, path), path)
            check_claim(
                path,
                int(header["vox_offset"]) + math.prod(grid.shape) * header.get_data_dtype().itemsize,
                path.stat().st_size * (DEFLATE_LIMIT if packed else 1),
            )
            stream.seek(int(header["vox_offset"]))
            voxels = _decode_voxels(stream, header.get_data_dtype(), grid.shape, path)
    except (EOFError, BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc]  # isal says no type
        raise ScanError(
            f"{path}: expected a whole gzip file, got a damaged or shortened one ({error}); copy or convert it again"
        ) from error
    except (OSError, MemoryError) as error:
        raise ScanError(
            f"{path}: expected a file that can be read, got {error}; check the file, its permissions and the memory"
        ) from error
    slope, intercept = _scaling(header, path)
    return Volume(voxels, grid, slope, intercept, _storage(header), str(path))


def encode_header(grid: Grid, storage: Storage, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """Build the 352 bytes that stand before the voxels of a ``.nii`` file.

    qform and sform both hold the affine of the grid and keep the codes of ``storage``; where it has
    neither, the sform gets code 1, for without one the geometry would be lost.
    """
    affine = grid.world_from_voxel.copy()
    affine[:3] /= MM_PER_UNIT[storage.spatial_units]
    header = nib.Nifti1Header()
    header.set_data_dtype(np.dtype(storage.dtype))
    header.set_data_shape(grid.shape)
    header.set_qform(affine, code=storage.qform_code, strip_shears=True)
    header.set_sform(affine, code=storage.sform_code if storage.sform_code or storage.qform_code else 1)
    header["xyzt_units"] = storage.spatial_units + storage.time_units
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["descrip"] = storage.description.encode("latin-1", errors="replace")[:79]
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + b"\0\0\0\0"


def build_grid(shape: tuple[int, int, int], affine: Callable[[], np.ndarray], path: Path) -> Grid:
    """Build the grid of a file; what is wrong with it is said of the file."""
    try:
        return Grid(shape, affine())
    except GeometryError as error:
        raise GeometryError(f"{path}: {str(error).removeprefix('grid: ')}") from error


def check_claim(path: Path, claimed: int, possible: int) -> None:
    """Refuse a header that claims more voxels than its file can hold, before memory is asked for.

    Raises
    ------
    ScanError
        When the bytes claimed are more than the bytes possible.
    """
    if claimed > possible:
        raise ScanError(
            f"{path}: expected a file that holds the {claimed:,} bytes of voxels that its header claims, "
            f"got a file too short for it; copy or convert it again"
        )


def _decode_header(block: bytes, path: Path) -> nib.Nifti1Header:
    """The header, of either version and byte order."""
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(block):
            try:
                header = kind(block[: kind.template_dtype.itemsize], check=False)
                _check_codes(header, path)  # nibabel would set them to 0, and take another geometry
                header.check_fix(_UNHEARD)
            except (HeaderDataError, ValueError, OverflowError) as error:
                raise ScanError(
                    f"{path}: expected a sound NIfTI header, got one where {error}; convert the file again"
                ) from error
            if bytes(header["magic"].item())[:2] == b"n+":
                _check_header(header, path)
                return header
    raise ScanError(
        f"{path}: expected a NIfTI file with header and voxels in one, got something else; "
        "convert it with dcm2niix or nibabel"
    )


def _check_codes(header: nib.Nifti1Header, path: Path) -> None:
    """Codes of qform and sform that NIfTI knows."""
    codes = [int(header[name]) for name in ("qform_code", "sform_code")]
    if not set(codes) <= set(KNOWN_CODES):
        raise GeometryError(f"{path}: expected qform and sform codes from 0 to 5, got {codes}; mend the header")


def _check_header(header: nib.Nifti1Header, path: Path) -> None:
    """Plain numbers, that lie behind the header."""
    dtype, offset = header.get_data_dtype(), header["vox_offset"]
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ScanError(f"{path}: expected integers or floats of up to 64 bits, got type {dtype}; save it as int16")
    if not header.single_vox_offset <= offset < np.inf:
        raise ScanError(f"{path}: expected voxels behind the header, got them at byte {offset:g}; convert it again")


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[int, int, int]:
    """Shape without trailing axes of one entry."""
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ScanError(f"{path}: expected a volume with three axes, got shape {shape}; save one volume a file")
    return shape[0], shape[1], shape[2]


def _affine(header: nib.Nifti1Header, path: Path) -> np.ndarray:
    """The best affine, in millimetres."""
    unit = int(header["xyzt_units"]) % 8
    if unit not in MM_PER_UNIT:
        raise GeometryError(
            f"{path}: expected metres, millimetres or microns, got spatial unit code {unit}; mend xyzt_units"
        )
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below, in words
            affine = header.get_best_affine()
            q_affine = header.get_qform()
    except (HeaderDataError, ValueError) as error:
        raise GeometryError(
            f"{path}: expected a qform and an sform that can be read, got one where {error}; mend the header"
        ) from error
    if not (header["qform_code"] > 0 or header["sform_code"] > 0):
        warnings.warn(
            f"{path}: expected a qform or an sform, got neither; left and right are taken by convention",
            ScanWarning,
            stacklevel=4,
        )
    if header["qform_code"] > 0 and header["sform_code"] > 0 and not np.allclose(affine, q_affine, atol=0.05):
        warnings.warn(
            f"{path}: expected qform and sform to agree, got two geometries; the sform is used",
            ScanWarning,
            stacklevel=4,
        )
    affine = np.array(affine, dtype=float)
    affine[:3] *= MM_PER_UNIT[unit]
    return affine


def _decode_voxels(stream: BufferedIOBase, dtype: np.dtype, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """The stored numbers, read in pieces into the one array that holds them, in the byte order of this machine."""
    voxels = np.empty(shape, dtype, order="F")
    flat = voxels.reshape(-1, order="F").view(np.uint8).data
    done = 0
    while done < len(flat):
        got = stream.readinto(flat[done : done + CHUNK])
        if not got:
            raise ScanError(
                f"{path}: expected {len(flat):,} bytes of voxels, got {done:,}; copy or convert the file again"
            )
        done += got
    rest = stream.read(PADDING + 1)  # reaches the end of the gzip stream, whose checksum is compared there
    if len(rest) > PADDING:
        raise ScanError(
            f"{path}: expected the {len(flat):,} bytes of voxels that the header claims, got more; "
            "copy or convert the file again"
        )
    return voxels if dtype.isnative else voxels.byteswap(inplace=True).view(dtype.newbyteorder("="))


def _scaling(header: nib.Nifti1Header, path: Path) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the header leaves them open (0 or NaN)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isinf([slope, intercept]).any():
        raise ScanError(f"{path}: expected a finite scaling, got {slope:g} and {intercept:g}; mend the header")
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _storage(header: nib.Nifti1Header) -> Storage:
    """What the writer needs to store as it was stored."""
    units = int(header["xyzt_units"])
    return Storage(
        dtype=header.get_data_dtype().newbyteorder("=").name,
        qform_code=int(header["qform_code"]),
        sform_code=int(header["sform_code"]),
        spatial_units=units % 8,
        description=bytes(header["descrip"].item()).split(b"\0")[0].decode("latin-1"),
        time_units=units - units % 8,
    )
