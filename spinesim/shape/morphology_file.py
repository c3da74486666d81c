"""Morphology models on disk: one npz file for all groups of levels, without pickles, with a version and a checksum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.anatomy.writing import replacing
from spinesim.errors import ConfigError
from spinesim.shape.latent import Gaussian
from spinesim.shape.model_file import check_parts, checksum_of, read_parts
from spinesim.shape.morphology import MorphologyModel

VERSION = 1
"""Of the file's layout."""

KIND = "morphology"
"""How the file is told from that of a pose model, which names no kind."""


def write_morphology(models: Sequence[MorphologyModel], path: str | Path) -> None:
    """Write the models of some groups; an existing file is replaced whole. The same models give the same bytes.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    parts: dict[str, Any] = {"kind": np.array(KIND), "version": np.int64(VERSION), "groups": np.int64(len(models))}
    for rank, model in enumerate(models):
        parts |= {f"{name}_{rank}": part for name, part in _pack(model).items()}
    with replacing(Path(path)) as stream:
        np.savez_compressed(stream, sha256=np.array(checksum_of(parts)), **parts)


def read_morphology(path: str | Path) -> tuple[MorphologyModel, ...]:
    """Read the models that :func:`write_morphology` wrote, from the head down.

    Raises
    ------
    ConfigError
        When there is no such file, or it is no morphology model, of another version, or damaged.
    """
    parts, told = read_parts(path, "morphology model")
    if str(parts.get("kind")) != KIND:
        raise ConfigError(f"{path}: expected a morphology model, got a model of another kind; give the right file")
    check_parts(path, "morphology model", parts, told, VERSION)
    return tuple(_unpack(parts, rank) for rank in range(int(parts["groups"])))


def is_morphology(path: str | Path) -> bool:
    """Whether a file is a morphology model, by its header."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return "kind" in file.files and str(file["kind"]) == KIND
    except (OSError, ValueError):
        return False


def _pack(model: MorphologyModel) -> dict[str, Any]:
    return {
        "levels": np.array([level.name for level in model.levels]),
        "triangles": model.triangles.astype(np.int32),
        "coefficients": model.coefficients.astype(np.float32),
        "modes": model.gaussian.modes.astype(np.float32),
        "noise_var": np.float64(model.gaussian.noise_var),
        "log_sizes": model.log_sizes,
        "size_law": np.array([model.size_by_sex, model.size_sd, model.age_years]),
        "measures": np.array(model.measures),
        "readout": model.readout,
        "cases": np.int64(model.cases),
    }


def _unpack(parts: dict[str, Any], rank: int) -> MorphologyModel:
    own = {name: parts[f"{name}_{rank}"] for name in _FIELDS}
    by_sex, sd, age_years = own["size_law"].tolist()
    coefficients, modes = own["coefficients"].astype(float), own["modes"].astype(float)
    return MorphologyModel(
        tuple(Level[str(name)] for name in own["levels"]),
        own["triangles"],
        coefficients,
        Gaussian(np.zeros(coefficients.shape[1]), modes, float(own["noise_var"])),
        own["log_sizes"],
        by_sex,
        sd,
        age_years,
        tuple(str(name) for name in own["measures"]),
        own["readout"],
        int(own["cases"]),
    )


_FIELDS = (
    "levels",
    "triangles",
    "coefficients",
    "modes",
    "noise_var",
    "log_sizes",
    "size_law",
    "measures",
    "readout",
    "cases",
)
