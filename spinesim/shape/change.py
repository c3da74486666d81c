"""A change of a vertebra's morphology: the least unusual one, in the modes of a model, that gives what is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import read_only
from spinesim.anatomy.surface_motion import SurfaceMotion
from spinesim.anatomy.vertebra import Vertebra
from spinesim.errors import ConfigError, PathologyError
from spinesim.shape.bone import Bone
from spinesim.shape.morphology import MorphologyModel
from spinesim.shape.procrustes import motion_between
from spinesim.shape.specimen import Specimen

FARTHEST_SD = 12.0
"""Changes that are longer than this in standard deviations are refused: the modes are straight lines."""

WITHIN_MM, WITHIN_EVERY = 1.0, 4
"""Depth of the points inside a bone that go along, and every how many voxels of its lattice one is taken."""

Neighbours = Float[np.ndarray, "k 3"]

REACHED = 1e-6
"""What is asked is met when it is missed by less."""


@dataclass(frozen=True, eq=False)
class Change:
    """A change in the terms of a model, added to whatever a vertebra is.

    Parameters
    ----------
    level : Level
    weights : (q,) array
        Of the modes, in standard deviations.
    size : float
        In standard deviations of the logarithm of size.
    """

    level: Level
    weights: Float[np.ndarray, " q"]
    size: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", read_only(np.asarray(self.weights, dtype=float)))

    @property
    def length_sd(self) -> float:
        """Mahalanobis length."""
        return float(np.hypot(np.linalg.norm(self.weights), self.size))

    def measures(self, model: MorphologyModel) -> dict[str, float]:
        """How the measures of a vertebra change (mm, degrees), by the model's readout."""
        values = measure_reach(model).T @ np.append(self.weights, self.size)
        return dict(zip(model.measures, values.tolist(), strict=True))

    def displacement(self, model: MorphologyModel) -> Float[np.ndarray, "v 3"]:
        """Where the vertices of a vertebra go, in its own frame (mm)."""
        row = model.gaussian.modes @ self.weights
        row = row + model.size_sd * self.size * model.coefficients[len(model.levels) + 1]
        return row.reshape(-1, 3)


def move_surface(
    model: MorphologyModel, change: Change, specimen: Specimen, vertebra: Vertebra, bone: Bone, neighbours: Neighbours
) -> SurfaceMotion:
    """How the surface of a patient's vertebra moves in the world when its morphology changes.

    Parameters
    ----------
    specimen, vertebra, bone
        The vertebra in correspondence, its pose, and its depth.
    neighbours : (k, 3) array
        Points (world) that hold still.
    """
    mean = model.mean(change.level).vertices
    mean_from_own = motion_between(specimen.vertices, mean)
    way = change.displacement(model) @ mean_from_own[:3, :3]  # rows: the inverse rotation
    voxels = np.argwhere(bone.depth > WITHIN_MM)
    within = bone.grid.to_world(voxels[(voxels % WITHIN_EVERY == 0).all(axis=1)].astype(float))
    world = vertebra.world_from_vertebra
    points, moved, inside = (apply_affine(world, part) for part in (specimen.vertices, specimen.vertices + way, within))
    return SurfaceMotion(points, moved, inside, neighbours)


def solve_change(
    model: MorphologyModel,
    level: Level,
    asked: Mapping[str, float],
    now: Mapping[str, float] | None = None,
) -> Change:
    """The change of least Mahalanobis length that gives what is asked.

    Parameters
    ----------
    asked : mapping
        By the names of the model's measures: by how many mm or degrees each shall change; or, under names that end in
        ``_percent`` (``anterior_percent``), by how many percent of what it is ``now``. Measures that are not named
        change as they usually do along.
    now : mapping, optional
        The vertebra's own measures.

    Raises
    ------
    ConfigError
        When a name is not known, or nothing is asked.
    PathologyError
        When the model's modes cannot give what is asked, or only far from any vertebra.
    """
    goal = in_units(model, asked, now or {})
    reach = measure_reach(model)[:, [model.measures.index(name) for name in goal]].T
    wanted = np.array(list(goal.values()))
    found = np.linalg.lstsq(reach, wanted, rcond=1e-6)[0]
    missed = reach @ found - wanted
    if not np.abs(missed).max() <= REACHED + 1e-6 * np.abs(wanted).max():
        name = list(goal)[int(np.abs(missed).argmax())]
        raise PathologyError(
            f"morphology: expected changes that {len(found) - 1} modes and size can give together, got {name} missed "
            f"by {np.abs(missed).max():.2g}; ask for less at once"
        )
    change = Change(level, found[:-1], float(found[-1]))
    check_change(change)
    return change


def check_change(change: Change) -> None:
    """Refuse a change that leads far from any vertebra."""
    if change.length_sd > FARTHEST_SD:
        raise PathologyError(
            f"morphology: expected a change of at most {FARTHEST_SD:g} standard deviations, got one of "
            f"{change.length_sd:.1f} for {change.level.name}; ask for less"
        )


def in_units(model: MorphologyModel, asked: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """What is asked in mm and degrees."""
    goal = {}
    for name, value in asked.items():
        plain = name.removesuffix("_percent") + "_mm" if name.endswith("_percent") else name
        if plain not in model.measures or not np.isfinite(model.readout[:, model.measures.index(plain)]).all():
            raise ConfigError(
                f"morphology: expected changes of {', '.join(model.measures)} (or _percent for _mm), got {name!r}; "
                "choose one of them"
            )
        if plain != name and plain not in now:
            raise ConfigError(f"morphology: expected the vertebra's own {plain} for {name}, got none; measure it first")
        goal[plain] = value if plain == name else value / 100 * now[plain]
    if not goal:
        raise ConfigError("morphology: expected a change to be asked, got none; name a measure")
    return goal


def measure_reach(model: MorphologyModel) -> Float[np.ndarray, "q1 m"]:
    """How each measure changes with a standard deviation of each mode, and of size."""
    size = model.size_sd * model.readout[len(model.levels) + 1]
    return np.vstack([model.readout[len(model.coefficients) :], size])
