"""Bring a template's vertices onto a vertebra: registration, then the last step to its surface."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from spinesim.anatomy.scan import read_only
from spinesim.errors import LabelError
from spinesim.shape.bone import Bone, blend_bones
from spinesim.shape.meshing import fill_surface
from spinesim.shape.registration import register
from spinesim.shape.surface import Surface

SNAP_MM = 3.0
"""Farthest that a vertex is moved to the surface after the registration."""

ROUNDS, SMOOTHINGS = 12, 1
"""Rounds in which the vertices are drawn even and snapped again, and smoothings in each."""

GOOD_MM, STAGES = 2.0, (0.5, 0.68, 0.77, 0.82, 0.86, 1.0)
"""A match that misses more at the 95 % quantile is tried again by way of bones between the template's and the goal: a
process that is much longer than the template's is out of the reach of one registration. Shares of the goal's depth
at which a tip of 4 mm radius grows by about as much each time."""

WORST_MM = 3.0
"""A vertebra whose surface lies farther than this from the template's, at the 95 % quantile, is not matched."""


@dataclass(frozen=True, eq=False)
class Match:
    """A template's vertices on a vertebra (its own frame, mm), and how well they lie there.

    ``residual_mm`` holds the distance of each vertex from the surface; ``missed_mm`` that of points of the bone's
    surface from the nearest triangle's middle or vertex, less what an even net would give.
    """

    vertices: Float[np.ndarray, "v 3"]
    residual_mm: Float[np.ndarray, " v"]
    missed_mm: Float[np.ndarray, " m"]

    def __post_init__(self) -> None:
        for name in ("vertices", "residual_mm", "missed_mm"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @property
    def worst_mm(self) -> float:
        """What is missed at the 95 % quantile."""
        return float(np.quantile(self.missed_mm, 0.95))

    def summary(self) -> dict[str, float]:
        """Mean and 95 % quantile of both distances (mm)."""
        return {
            f"{name}_{word}_mm": round(float(value), 3)
            for name, values in (("residual", self.residual_mm), ("missed", self.missed_mm))
            for word, value in (("mean", values.mean()), ("95", np.quantile(values, 0.95)))
        }


@dataclass(frozen=True, eq=False)
class Template:
    """A surface to be laid on vertebrae, and the bone within it."""

    surface: Surface

    @cached_property
    def bone(self) -> Bone:
        """The depth inside the surface."""
        return fill_surface(self.surface)


def match(template: Template, bone: Bone, name: str = "vertebra") -> Match:
    """Lay a template on a bone.

    Raises
    ------
    ConfigError
        When itk-elastix is not installed.
    LabelError
        When the template does not reach what there is of the bone.
    """
    found = _laid(template, bone)
    if found.worst_mm > GOOD_MM:
        between = template
        for share in STAGES:
            goal = blend_bones(template.bone, bone, share)
            between = Template(template.surface.with_vertices(_laid(between, goal).vertices))
        found = min(found, _measured(between.surface, bone), key=lambda each: each.worst_mm)
    if found.worst_mm > WORST_MM:
        raise LabelError(
            f"{name}: expected a surface within {WORST_MM:g} mm of the template's, got {found.worst_mm:.1f} mm at the "
            "95 % quantile; check its label, or leave it out"
        )
    return found


def _laid(template: Template, bone: Bone) -> Match:
    """Register, draw the vertices even, and lay them on the surface."""
    vertices = register(template.bone, bone, template.surface.vertices)
    for _ in range(ROUNDS):
        vertices = bone.snapped(_evened(template.surface, vertices), SNAP_MM)
    return _measured(template.surface.with_vertices(vertices), bone)


def _measured(surface: Surface, bone: Bone) -> Match:
    return Match(surface.vertices, np.abs(bone.at(surface.vertices)), measure_missed(surface, bone))


def _evened(template: Surface, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Draw the way of each vertex from the template, beyond what is affine, towards that of its neighbours.

    Images of depth say how far a surface is, and nothing of where along it a vertex belongs: that the way is smooth
    does.
    """
    design = np.column_stack([template.vertices, np.ones(len(vertices))])
    affine = design @ np.linalg.lstsq(design, vertices)[0]
    return affine + template.smoothed(vertices - affine, SMOOTHINGS)


def measure_missed(surface: Surface, bone: Bone) -> Float[np.ndarray, " m"]:
    """Distance (mm) of points of a bone's surface from a surface laid on it."""
    shell = bone.grid.to_world(np.argwhere(np.abs(bone.depth) < bone.grid.spacing_mm.min() / 2).astype(float))
    points = bone.snapped(shell)
    corners = surface.corners
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    middles = corners.mean(axis=1)
    radii = np.linalg.norm(corners - middles[:, None], axis=2).max(axis=1)
    away, nearest = cKDTree(middles).query(points)
    height = np.abs(((points - middles[nearest]) * normals[nearest]).sum(axis=1))
    beside = np.sqrt(np.maximum(away**2 - height**2, 0.0))
    return np.hypot(height, np.maximum(beside - radii[nearest], 0.0))
