"""Pose models on disk: one npz file without pickles, with a version and a checksum."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.anatomy.writing import replacing
from spinesim.errors import ConfigError
from spinesim.shape.latent import Gaussian, Mixture
from spinesim.shape.pose_model import PoseModel

VERSION = 1
"""Of the file's layout."""


def write_pose_model(model: PoseModel, path: str | Path) -> None:
    """Write a model; an existing file is replaced whole. The same model gives the same bytes.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    gaussian = model.gaussian
    parts: dict[str, Any] = {
        "version": np.int64(VERSION),
        "levels": np.array([level.name for level in model.levels]),
        "cases": np.int64(model.cases),
        "mean": model.mean,
        "row_mean": gaussian.mean,
        "modes": gaussian.modes,
        "noise_var": np.float64(gaussian.noise_var),
    }
    if model.anatomy:
        parts |= _pack(model.anatomy)
    if model.mixture:
        parts |= _pack_kinds(model.mixture)
    with replacing(Path(path)) as stream:
        np.savez(stream, sha256=np.array(checksum_of(parts)), **parts)


def read_pose_model(path: str | Path) -> PoseModel:
    """Read a model that :func:`write_pose_model` wrote.

    Raises
    ------
    ConfigError
        When there is no such file, or it is no model, of another version, or damaged.
    """
    parts, told = read_parts(path, "pose model")
    if "kind" in parts:
        raise ConfigError(f"{path}: expected a pose model, got a {parts['kind']} model; give the right file")
    check_parts(path, "pose model", parts, told, VERSION)
    levels = tuple(Level[str(name)] for name in parts["levels"])
    gaussian = Gaussian(parts["row_mean"], parts["modes"], float(parts["noise_var"]))
    anatomy = _unpack(levels, parts["plates"], parts["sizes"]) if "plates" in parts else None
    mixture = _unpack_kinds(parts) if "kind_names" in parts else None
    return PoseModel(levels, parts["mean"], gaussian, int(parts["cases"]), anatomy, mixture)


def _pack(anatomy: Spine) -> dict[str, np.ndarray]:
    """Centre and normal of the upper and the lower plate of each vertebra, and its width and depth."""
    plates = [[[plate.centre, plate.normal] for plate in (v.superior, v.inferior)] for v in anatomy]
    return {"plates": np.array(plates), "sizes": np.array([[v.width_mm, v.depth_mm] for v in anatomy])}


def _unpack(levels: tuple[Level, ...], plates: np.ndarray, sizes: np.ndarray) -> Spine:
    """Vertebrae in their own frames."""
    vertebrae = []
    for level, (superior, inferior), (width, depth) in zip(levels, plates, sizes.tolist(), strict=True):
        pair = EndPlate(*superior), EndPlate(*inferior)
        vertebrae.append(Vertebra(level, np.zeros(3), np.eye(3), *pair, width, depth, measured=True))
    return Spine(tuple(vertebrae))


def _pack_kinds(mixture: Mixture) -> dict[str, np.ndarray]:
    """Names, shares and means of the kinds; modes and noise once for all kinds that share them."""
    tied = list({id(kind.modes): kind for kind in mixture.kinds}.values())
    rank = {id(kind.modes): place for place, kind in enumerate(tied)}
    return {
        "kind_names": np.array(mixture.names),
        "kind_shares": mixture.shares,
        "kind_means": np.stack([kind.mean for kind in mixture.kinds]),
        "kind_spreads": np.array([rank[id(kind.modes)] for kind in mixture.kinds]),
        "spread_modes": np.stack([kind.modes for kind in tied]),
        "spread_noise_var": np.array([kind.noise_var for kind in tied]),
    }


def _unpack_kinds(parts: dict[str, np.ndarray]) -> Mixture:
    spreads = list(zip(parts["spread_modes"], parts["spread_noise_var"].tolist(), strict=True))
    kinds = zip(parts["kind_means"], parts["kind_spreads"].tolist(), strict=True)
    gaussians = tuple(Gaussian(mean, *spreads[rank]) for mean, rank in kinds)
    return Mixture(tuple(map(str, parts["kind_names"])), parts["kind_shares"], gaussians)


def read_parts(path: str | Path, kind: str) -> tuple[dict[str, Any], str]:
    """All parts of a model's file but its checksum, and that.

    Raises
    ------
    ConfigError
        When there is no such file, or it is no model.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path}: expected a {kind}, got no file; give the .npz that 'fit' wrote")
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        told = str(parts.pop("sha256"))
        int(parts["version"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path}: expected a {kind} (npz), got something else; fit it again") from error
    return parts, told


def check_parts(path: str | Path, kind: str, parts: dict[str, Any], told: str, version: int) -> None:
    """Hold a model's file against the version that is read, and against its checksum.

    Raises
    ------
    ConfigError
        When it is of another version, or damaged.
    """
    found = int(parts["version"])
    if found != version:
        raise ConfigError(f"{path}: expected a {kind} of version {version}, got {found}; fit it again")
    if told != checksum_of(parts):
        raise ConfigError(f"{path}: expected a whole {kind}, got one that fails its checksum; fit it again")


def checksum_of(parts: dict[str, Any]) -> str:
    """SHA-256 of names, types, shapes and bytes of all parts."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        part = np.ascontiguousarray(parts[name])
        digest.update(f"{name} {part.dtype.str} {part.shape}".encode())
        digest.update(part.tobytes())
    return digest.hexdigest()
