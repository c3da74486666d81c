"""A population of single vertebrae: the phantom's solids with the published means and spreads, as label maps."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level, parse_level, region
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Vertebra
from spinesim.phantom.solids import smooth_union
from spinesim.phantom.table import Dimensions, read_dimensions
from spinesim.phantom.vertebra import FUSION_MM, body_distance, canal_distance, posterior_distance

from .published import HERE, read_rows  # noqa: TID251 - relative, as it must be

PERSONS = 16
"""Half of them women. Their factors have exactly the asked means and variances."""

SEX_SIZE = 0.04
"""Men are so much larger than the mean of both sexes, women so much smaller (Duman 2026, Yadav 2020: 1.06 to 1.10)."""

SHARES = {"size": 0.5, "kind": 0.3, "own": 0.2}
"""Shares of a dimension's variance that the person's size, the person's habit in dimensions of this kind, and the level
alone have. Neighbours' dimensions correlate by 0.8 then (assumed in the reference), and so do the two heights and the
upper and lower plate of a body (Gulek 2007: 0.68 to 0.85). How size shares with habit is assumed."""

KINDS = {
    "h_ant": "height",
    "h_post": "height",
    "w_sup": "width",
    "w_inf": "width",
    "d_sup": "depth",
    "d_inf": "depth",
    "canal_w": "canal",
    "canal_d": "canal",
    "pedicle_w": "pedicle",
    "pedicle_h": "pedicle",
    "tp_span": "process",
}
"""Dimensions that vary, and what they have in common."""

COMMON_CV, SPAN_CV = 0.08, 0.08
"""Coefficient of variation of a person's size, before its share; that of the transverse span (assumed)."""

CORONAL_SD_DEG, HOLLOW_SD_MM = 1.0, 0.5
"""Of the angle between the plates seen from the front, and of the depth of each plate's hollow (both assumed)."""

STEP_MM, TILT_DEG = 1.0, 12.0
"""Voxels of the label maps, and how far they are tilted about each axis at most."""


@dataclass(frozen=True)
class Drawn:
    """One vertebra of a person: its dimensions, and what the table does not tell."""

    number: int
    sex: str
    dims: Dimensions
    size: float
    coronal_rad: float
    hollow_mm: float


def draw_persons(level: Level, *, seed: int) -> list[Drawn]:
    """The same persons at any level, each with its vertebra there."""
    shared = _whitened(np.random.default_rng(seed).standard_normal((PERSONS, 1 + len(set(KINDS.values())))), _sexes())
    own_rng = np.random.default_rng([seed, int(level)])
    own = np.column_stack(
        [_whitened(own_rng.standard_normal((PERSONS, 1)), shared)[:, -1] for _ in range(len(KINDS) + 2)]
    )
    male = shared[:, 0]
    weight = SEX_SIZE / (COMMON_CV * np.sqrt(SHARES["size"]))
    size = weight * male + np.sqrt(1 - weight**2) * shared[:, 1]
    habits = dict(zip(sorted(set(KINDS.values())), shared[:, 2:].T, strict=True))
    mean, spread = read_dimensions()[level], read_spreads()[level]
    drawn = {
        name: getattr(mean, name)
        + spread[name]
        * (
            np.sqrt(SHARES["size"]) * size
            + np.sqrt(SHARES["kind"]) * habits[kind]
            + np.sqrt(SHARES["own"]) * own[:, rank]
        )
        for rank, (name, kind) in enumerate(KINDS.items())
    }
    factor = 1 + COMMON_CV * np.sqrt(SHARES["size"]) * size
    return [
        Drawn(
            number,
            "male" if male[number] > 0 else "female",
            with_values(mean, {name: float(values[number]) for name, values in drawn.items()}),
            float(factor[number]),
            float(np.deg2rad(CORONAL_SD_DEG) * own[number, -2]),
            float(HOLLOW_SD_MM * own[number, -1]),
        )
        for number in range(PERSONS)
    ]


def mean_person(level: Level) -> Drawn:
    """The vertebra of the table, of no sex."""
    return Drawn(-1, "", read_dimensions()[level], 1.0, 0.0, 0.0)


def locate(labels: LabelMap, level: Level) -> Vertebra:
    """The vertebra as it is found in its label map; of the neck with the axes that it was drawn with.

    A lone cervical body, whose transverse processes stand beside it, does not tell its plates from them.
    """
    found = estimate_spine(labels)[level]
    return replace(found, centre=np.zeros(3), axes=np.eye(3)) if region(level) == "cervical" else found


def read_spreads() -> dict[Level, dict[str, float]]:
    """Standard deviation of each dimension (mm), by level."""
    table = {}
    for row in read_rows(HERE / "vertebra_spreads.csv"):
        level = parse_level(row["level"])
        mean = read_dimensions()[level]
        own = {name: float(row.get(name) or row.get(name[0]) or SPAN_CV * mean.tp_span) for name in KINDS}
        table[level] = own
    return table


def _sexes() -> Float[np.ndarray, "n 1"]:
    return np.where(np.arange(PERSONS) % 2 == 0, 1.0, -1.0)[:, None]


def _whitened(drawn: Float[np.ndarray, "n k"], before: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n mk"]:
    """Columns of mean 0, variance 1 (n - 1) and no correlation, after some that are so already."""
    full = np.column_stack([np.ones(len(drawn)), before, drawn])
    square, upper = np.linalg.qr(full)
    columns = (square * np.sign(np.diag(upper)))[:, 1:] * np.sqrt(len(drawn) - 1)
    return columns[:, -drawn.shape[1] - before.shape[1] :]


def solid_distance(person: Drawn, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Signed distance to a person's vertebra in its own frame, to first order; transverse foramina are filled."""
    dims = _scaled(person.dims, 1 / person.size)
    x, y, z = (part / np.float32(person.size) for part in (x, y, z))
    z = z / (1 + np.float32(person.coronal_rad / dims.height) * x)
    middle = np.clip(1 - (2 * x / dims.w_inf) ** 2 - (2 * y / dims.depth) ** 2, 0, 1) ** 2
    z = (z * (1 + np.float32(2 * person.hollow_mm / dims.height) * middle)).astype(np.float32)
    body = body_distance(x, y, z, dims)
    behind = np.maximum(posterior_distance(x, y, z, dims, vessels=False), -canal_distance(x, y, dims))
    return person.size * smooth_union(body, behind, FUSION_MM / 2)


def _scaled(dims: Dimensions, factor: float) -> Dimensions:
    return with_values(dims, {f.name: getattr(dims, f.name) * factor for f in fields(dims) if f.name != "level"})


def with_values(dims: Dimensions, values: dict[str, float]) -> Dimensions:
    """Other numbers for some dimensions."""
    numbers: dict[str, Any] = dict(values)
    return replace(dims, **numbers)


def draw_labels(person: Drawn, *, rng: np.random.Generator) -> LabelMap:
    """The label map of one vertebra, on voxels that are shifted and tilted at random: plates along them make steps.

    The world is the vertebra's own frame.
    """
    dims = person.dims
    back = dims.depth / 2 + dims.canal_d + 62
    half = dims.height / 2 + 48
    low = np.array([-dims.tp_span / 2 - 16, -back, -half])
    shape = np.ceil((np.array([dims.tp_span / 2 + 16, dims.depth / 2 + 14, half - 18]) - low) / STEP_MM).astype(int)
    affine = np.diag([STEP_MM] * 3 + [1.0])
    affine[:3, 3] = low + rng.uniform(0, STEP_MM, 3)
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_rotvec(rng.uniform(-TILT_DEG, TILT_DEG, 3), degrees=True).as_matrix()
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), tilt @ affine)  # vertebra's frame from voxels
    sides = [np.arange(n, dtype=np.float32) for n in grid.shape]
    voxels = np.meshgrid(*sides, indexing="ij", sparse=True)
    rows = grid.world_from_voxel[:3].astype(np.float32)
    x, y, z = (sum(c * part for c, part in zip(row, voxels, strict=False)) + row[3] for row in rows)
    mask = solid_distance(person, x, y, z) < 0
    return LabelMap(mask.astype(np.uint8), grid, {1: dims.level}, source=f"{dims.level.name} {person.number}")
