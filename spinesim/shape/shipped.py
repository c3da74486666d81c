"""The models that come with the package."""

from __future__ import annotations

import csv
from importlib.resources import as_file, files
from pathlib import Path

from spinesim.errors import ConfigError
from spinesim.shape.model_file import read_pose_model
from spinesim.shape.morphology import MorphologyModel
from spinesim.shape.morphology_file import is_morphology, read_morphology
from spinesim.shape.pose_model import PoseModel

MORPHOLOGY = "morphology"
"""Name of the shipped morphology model."""


def shipped_models() -> tuple[str, ...]:
    """Names of the shipped pose models, in alphabetical order."""
    folder = files("spinesim.shape_models")
    found = {file.name.removesuffix(".npz") for file in folder.iterdir() if file.name.endswith(".npz")}
    return tuple(sorted(found - {MORPHOLOGY}))


def read_shipped_morphology() -> tuple[MorphologyModel, ...]:
    """Read the shipped morphology model: one for each group of levels, from the head down."""
    with as_file(files("spinesim.shape_models").joinpath(f"{MORPHOLOGY}.npz")) as path:
        return read_morphology(path)


def read_shipped_scores(name: str) -> list[dict[str, str]] | None:
    """Read the scores that a shipped model came with, as its card lists them; None where it is no such name."""
    if name not in (*shipped_models(), MORPHOLOGY):
        return None
    text = files("spinesim.shape_models").joinpath(f"{name}_scores.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def read_shipped_model(name: str) -> PoseModel:
    """Read a shipped model by its name; its card stands beside it, as ``name.md``.

    Raises
    ------
    ConfigError
        When no shipped model has that name.
    """
    if name not in shipped_models():
        raise ConfigError(f"shape model: expected one of {', '.join(shipped_models())}, got {name!r}; choose one")
    with as_file(files("spinesim.shape_models").joinpath(f"{name}.npz")) as path:
        return read_pose_model(path)


def read_morphology_model(model: str | Path) -> tuple[MorphologyModel, ...] | None:
    """Read a morphology model from a file, or the shipped one by its name; None where it is no such model."""
    if is_morphology(model):
        return read_morphology(model)
    return read_shipped_morphology() if str(model) == MORPHOLOGY and not Path(model).exists() else None


def read_model(model: str | Path) -> PoseModel:
    """Read a model from a file, or, where there is none, the shipped one of that name.

    Raises
    ------
    ConfigError
        When there is neither, or the file is no whole model.
    """
    if not Path(model).exists() and str(model) in shipped_models():
        return read_shipped_model(str(model))
    return read_pose_model(model)
