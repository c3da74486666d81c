"""Vertebrae of another shape: the drawing's own, carried along by what a morphology model drew for a person.

The net of triangles of a model cuts the corners of rims and pedicles and closes the foramina of the neck. So a drawn
vertebra is no filled net, but the drawing, displaced as the model's mean vertebra is displaced to become the drawn one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from spinesim.anatomy.levels import Level
from spinesim.phantom.parallel import each
from spinesim.phantom.processes import pedicle_height, pedicle_line
from spinesim.phantom.table import Dimensions, read_dimensions
from spinesim.shape.change import Change
from spinesim.shape.habit import sample_habit
from spinesim.shape.morphology import MorphologyModel, model_of
from spinesim.shape.shipped import read_shipped_morphology

KEPT = ("h_ant", "h_post", "w_sup", "w_inf", "d_sup", "d_inf", "left_deg")
"""Measures that are the drawing's in every person, for discs and alignment hang on them: the size of the body, and how
far its end plates close to the left (not at all)."""

OWN = ("canal_w", "canal_d", "pedicle_w", "pedicle_h", "tp_span")
"""Dimensions that are the person's own."""

STEP_MM, ROOM_MM = 2.5, 8.0
"""Of the lattice that holds a displacement, and how far it reaches beyond the vertebra."""

RIM = 0.6
"""Where an end plate's rim begins: a share of its half axes, squared."""

NEAREST, NEAR_MM, FALL = 12, 1.5, 6.0
"""A place goes along with so many vertices; each counts by this power of its distance, within ``NEAR_MM`` all alike."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A vertebra that is its drawing, displaced.

    Parameters
    ----------
    drawing, dims : Dimensions
        Of the vertebra as it is drawn, and as it is.
    back_mm : (3, i, j, k) array
        Where each place of a lattice along the vertebra's own axes comes from in the drawing: the way there.
    start_mm : (3,) array
        First place of the lattice, in the vertebra's frame.
    """

    drawing: Dimensions
    dims: Dimensions
    back_mm: Float[np.ndarray, "3 i j k"]
    start_mm: Float[np.ndarray, " 3"]

    def __post_init__(self) -> None:
        self.back_mm.setflags(write=False)

    def to_drawing(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Carry places of the vertebra (broadcast together) to where they lie in the drawing."""
        place = np.broadcast_arrays(x, y, z)
        voxel = [(part - np.float32(low)) / np.float32(STEP_MM) for part, low in zip(place, self.start_mm, strict=True)]
        ways = (map_coordinates(back, voxel, order=1, mode="nearest", output=np.float32) for back in self.back_mm)
        x, y, z = (part + way for part, way in zip(place, ways, strict=True))
        return x, y, z


def sample_shapes(seed: int) -> Mapping[Level, Shape]:
    """Draw a person's vertebrae from the shipped morphology model, C3 to L5, with bodies as large as the table's."""
    models = read_shipped_morphology()
    changes = sample_habit(models, KEPT, OWN, rng=np.random.default_rng(seed))
    shapes = each(lambda change: build_shape(model_of(models, change.level), change), changes.values())
    return MappingProxyType(dict(zip(changes, shapes, strict=True)))


def build_shape(model: MorphologyModel, change: Change) -> Shape:
    """Change a drawn vertebra as the mean one of its level is changed; its body stays where it is."""
    drawing = read_dimensions()[change.level]
    mean = model.mean(change.level).vertices
    moved = _held(mean, mean + change.displacement(model), drawing)
    start, back = _on_lattice(moved, mean - moved)
    return Shape(drawing, _displaced(drawing, mean, moved), back, start)


def _displaced(drawing: Dimensions, mean: Float[np.ndarray, "v 3"], moved: Float[np.ndarray, "v 3"]) -> Dimensions:
    """Dimensions of a displaced vertebra: where the ends of each length go, in the mean along a pedicle."""
    own: dict[str, Any] = {"tp_span": drawing.tp_span * float(np.ptp(moved[:, 0]) / np.ptp(mean[:, 0]))}
    for name, ends in _ends(drawing).items():
        first, last = np.moveaxis(ends + _spread(mean, moved - mean, ends), -2, 0)
        own[name] = float(np.linalg.norm(last - first, axis=-1).mean())
    return replace(drawing, **own)


def _ends(dims: Dimensions) -> dict[str, Float[np.ndarray, "n 2 3"]]:
    """Where canal and pedicles are measured: the ends of each length, in the vertebra's frame."""
    side, back, high = dims.canal_w / 2, -dims.depth / 2, pedicle_height(dims)
    front, behind, outwards = pedicle_line(dims)
    middles = np.array([[*(front + share * (behind - front)), high] for share in np.linspace(0, 1, 5)])
    middles = np.concatenate([middles, middles * (-1, 1, 1)])
    across = np.array([*(dims.pedicle_w / 2 * outwards), 0.0]) * np.repeat([[1, 1, 1], [-1, 1, 1]], 5, axis=0)
    upwards = np.array([0.0, 0.0, dims.pedicle_h / 2])
    return {
        "canal_w": np.array([[[-side, dims.canal_y, high], [side, dims.canal_y, high]]]),
        "canal_d": np.array([[[0.0, back, 0.0], [0.0, back - dims.canal_d, 0.0]]]),
        "pedicle_w": np.stack([middles - across, middles + across], axis=1),
        "pedicle_h": np.stack([middles - upwards, middles + upwards], axis=1),
    }


def _held(
    mean: Float[np.ndarray, "v 3"], moved: Float[np.ndarray, "v 3"], dims: Dimensions
) -> Float[np.ndarray, "v 3"]:
    """Lay a changed vertebra with its body on the mean one's, as large: the affine map of least squares.

    Its end plates' hollows, whose depth may change, do not count.
    """
    half_w, half_d = max(dims.w_sup, dims.w_inf) / 2, dims.depth / 2
    middle = (mean[:, 0] / half_w) ** 2 + (mean[:, 1] / half_d) ** 2
    body = (np.abs(mean[:, 0]) <= half_w) & (mean[:, 1] > -half_d) & (middle > RIM)
    design = np.column_stack([moved, np.ones(len(moved))])
    return design @ np.linalg.lstsq(design[body], mean[body])[0]


def _on_lattice(
    points: Float[np.ndarray, "v 3"], ways: Float[np.ndarray, "v 3"]
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 i j k"]]:
    """Carry the ways of vertices on to a lattice round them: its first place, and the ways there."""
    low = points.min(axis=0) - ROOM_MM
    sides = [np.arange(a, b + STEP_MM, STEP_MM) for a, b in zip(low, points.max(axis=0) + ROOM_MM, strict=True)]
    lattice = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
    spread = _spread(points, ways, lattice)
    return low, np.ascontiguousarray(np.moveaxis(spread, -1, 0), dtype=np.float32)


def _spread(
    points: Float[np.ndarray, "v 3"], ways: Float[np.ndarray, "v 3"], places: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n 3"]:
    """The ways of places between vertices that go their ways.

    References
    ----------
    Shepard D (1968). A two-dimensional interpolation function for irregularly-spaced data. Proc ACM 23:517-524.
    """
    away, nearest = cKDTree(points).query(places, k=NEAREST)
    weight = (away**2 + NEAR_MM**2) ** (-FALL / 2)
    weight /= weight.sum(axis=-1, keepdims=True)
    return (weight[..., None] * ways[nearest]).sum(axis=-2)
