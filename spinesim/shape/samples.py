"""Spines drawn from a pose model, upright, with the angles that people read off them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import measure_spine
from spinesim.anatomy.report import write_csv, write_json
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import ConfigError, OutputError
from spinesim.shape.chain import Chain, measure_chain, pose_spine
from spinesim.shape.pose_model import PoseModel

KYPHOSES = ((Level.T4, Level.T12), (Level.T5, Level.T12))
LORDOSES = ((Level.L1, Level.L5), (Level.L1, Level.S))
DECIMALS = 4


def stand_up(model: PoseModel, joints: Float[np.ndarray, "m 4 4"]) -> Spine:
    """The spine of some joints of a model's levels, made of its mean vertebrae.

    Parameters
    ----------
    joints : (m, 4, 4) array
        ``lower_from_upper``, as :meth:`PoseModel.decode` gives them.

    Returns
    -------
    Spine
        In its own patient axes (right, anterior, superior; mm), the centre of its lowest vertebra at the origin.

    Raises
    ------
    ConfigError
        When the model knows no vertebrae.
    """
    if model.anatomy is None:
        raise ConfigError("pose model: expected one with mean vertebrae, got poses alone; fit it with 'shape fit'")
    spine = pose_spine(model.anatomy, Chain(model.levels, joints, np.eye(4)))
    upright = np.eye(4)
    upright[:3, :3] = spine.patient_axes.T
    return Spine(tuple(vertebra.moved(upright) for vertebra in spine))


def sample_spines(model: PoseModel, count: int, *, rng: np.random.Generator) -> list[Spine]:
    """Draw spines, upright as :func:`stand_up` puts them; noise is included.

    Raises
    ------
    ConfigError
        When the model knows no vertebrae, or fewer than one spine is asked for.
    """
    if count < 1:
        raise ConfigError(f"count: expected 1 or more, got {count}; ask for more")
    return [stand_up(model, joints) for joints in model.decode(model.population.sample(count, rng=rng))]


def derived_angles(spine: Spine) -> dict[str, Any]:
    """The largest coronal curve, kyphosis and lordosis, in degrees, as ``spinesim measure`` reads them.

    Kyphosis and lordosis are there where their levels are; a spine without a curve of 5 degrees has None for it.
    """
    measures = measure_spine(spine)
    curve = measures.curves[0] if measures.curves else None
    sagittal = {
        f"kyphosis_{a.name}_{b.name}_deg": measures.kyphosis[a, b] for a, b in KYPHOSES if a in spine and b in spine
    }
    sagittal |= {
        f"lordosis_{a.name}_{b.name}_deg": measures.lordosis[a, b] for a, b in LORDOSES if a in spine and b in spine
    }
    return {
        "cobb_deg": _rounded(np.rad2deg(curve.cobb)) if curve else None,
        "cobb_levels": f"{curve.upper.name}-{curve.lower.name}" if curve else None,
        "cobb_side": curve.side if curve else None,
        "cobb_apex": curve.apex_name if curve else None,
        **{name: _rounded(np.rad2deg(angle)) for name, angle in sagittal.items()},
    }


def report_samples(spines: Sequence[Spine]) -> list[dict[str, Any]]:
    """Tell spines as plain data, ready for JSON: each with its angles and its vertebrae from the head down."""
    return [
        {"sample": rank, **derived_angles(spine), "vertebrae": _vertebrae(spine)} for rank, spine in enumerate(spines)
    ]


def sample_rows(spines: Sequence[Spine]) -> list[dict[str, Any]]:
    """The same as one row a vertebra; the angles stand in each row of their spine."""
    rows = []
    for sample in report_samples(spines):
        for vertebra in sample.pop("vertebrae"):
            row: dict[str, Any] = {"sample": sample["sample"], "level": vertebra["level"]}
            for name, unit in (
                ("centre", "mm"),
                ("rotation", "deg"),
                ("joint_centre", "mm"),
                ("joint_rotation", "deg"),
            ):
                values = vertebra[f"{name}_{unit}"] or [None] * 3
                row |= {f"{name}_{axis}_{unit}": value for axis, value in zip("xyz", values, strict=True)}
            rows.append(row | {name: value for name, value in sample.items() if name != "sample"})
    return rows


def write_samples(spines: Sequence[Spine], path: Path) -> None:
    """Write spines as a table (``.csv``) or a tree (``.json``), under a temporary name first.

    Raises
    ------
    OutputError
        When the name ends otherwise, or the file cannot be written there.
    """
    if path.suffix.lower() == ".csv":
        write_csv(sample_rows(spines), path)
    elif path.suffix.lower() == ".json":
        write_json({"samples": report_samples(spines)}, path)
    else:
        raise OutputError(f"{path}: expected a name that ends in .csv or .json, got {path.name}; rename it")


def _vertebrae(spine: Spine) -> list[dict[str, Any]]:
    """Pose of each vertebra in the patient's axes, and in the frame of the one below it (None for the lowest).

    Rotations are rotation vectors about right, anterior, superior, in degrees.
    """
    joints = [*measure_chain(spine).lower_from_upper, None]
    return [
        {
            "level": vertebra.level.name,
            **_pose("", vertebra.world_from_vertebra),
            **(_pose("joint_", joint) if joint is not None else {"joint_centre_mm": None, "joint_rotation_deg": None}),
        }
        for vertebra, joint in zip(spine, joints, strict=True)
    ]


def _pose(name: str, pose: Float[np.ndarray, "4 4"]) -> dict[str, list[float]]:
    turn = Rotation.from_matrix(pose[:3, :3]).as_rotvec(degrees=True)
    return {
        f"{name}centre_mm": [_rounded(x) for x in pose[:3, 3]],
        f"{name}rotation_deg": [_rounded(x) for x in turn],
    }


def _rounded(value: float) -> float:
    """A plain float without negative zero."""
    return round(float(value), DECIMALS) + 0.0
