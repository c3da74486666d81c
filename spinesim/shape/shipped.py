"""The models that come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from spinesim.errors import ConfigError
from spinesim.shape.model_file import read_pose_model
from spinesim.shape.pose_model import PoseModel


def shipped_models() -> tuple[str, ...]:
    """Names of the shipped models, in alphabetical order."""
    folder = files("spinesim.shape_models")
    return tuple(sorted(file.name.removesuffix(".npz") for file in folder.iterdir() if file.name.endswith(".npz")))


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
