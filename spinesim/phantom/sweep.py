"""Coordinates that follow a curved line in the mid-sagittal plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from spinesim.phantom.solids import ellipse_distance

STEP_MM = 0.5
REACH_MM = 250.0
"""How far the line goes on, straight, beyond its ends."""


@dataclass(frozen=True, eq=False)
class SweptLine:
    """A smooth line in the plane x = 0, finely sampled.

    Parameters
    ----------
    points : (n, 2) array
        World y and z along the line, from below upwards.
    tangents : (n, 2) array
        Unit tangents, pointing up.
    along_mm : (n,) array
        Arc length; 0 at the first point the line was drawn through.
    """

    points: Float[np.ndarray, "n 2"]
    tangents: Float[np.ndarray, "n 2"]
    along_mm: Float[np.ndarray, " n"]

    def coordinates(self, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give arc length and offset (positive to the front) of world points, float32, shape of y and z together."""
        y, z = np.broadcast_arrays(y, z)
        query = np.column_stack([y.ravel(), z.ravel()]).astype(float)
        _, nearest = cKDTree(self.points).query(query)
        away, tangent = query - self.points[nearest], self.tangents[nearest]
        along = self.along_mm[nearest] + (away * tangent).sum(axis=1)
        offset = away[:, 0] * tangent[:, 1] - away[:, 1] * tangent[:, 0]
        return along.reshape(y.shape).astype(np.float32), offset.reshape(y.shape).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Tube:
    """An elliptic tube round a swept line.

    Parameters
    ----------
    line : SweptLine
        Its middle.
    along_mm, half_width, half_depth : (m,) array
        Arc lengths, rising, and the half-axes of the section there (left to right, back to front).
    """

    line: SweptLine
    along_mm: Float[np.ndarray, " m"]
    half_width: Float[np.ndarray, " m"]
    half_depth: Float[np.ndarray, " m"]

    def section(self, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half-width and half-depth at arc lengths, float32."""
        half_w = np.interp(along, self.along_mm, self.half_width)
        half_d = np.interp(along, self.along_mm, self.half_depth)
        return half_w.astype(np.float32), half_d.astype(np.float32)

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance to the tube; world coordinates."""
        along, offset = self.line.coordinates(y, z)
        return ellipse_distance(x, offset, *self.section(along))


def draw_tube(through: Float[np.ndarray, "m 2"], half_width: list[float], half_depth: list[float]) -> Tube:
    """Draw a tube through world (y, z) points, given from below upwards, with its half-axes at each."""
    line = draw_line(through)
    along, _ = line.coordinates(through[:, 0], through[:, 1])
    return Tube(line, along, np.array(half_width), np.array(half_depth))


def draw_line(through: Float[np.ndarray, "m 2"]) -> SweptLine:
    """Draw a smooth line through world (y, z) points, given from below upwards, and on beyond both ends."""
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(through, axis=0), axis=1))])
    spline = CubicSpline(chord, through, bc_type="natural")
    inner = np.arange(0.0, chord[-1], STEP_MM)
    beyond = np.arange(STEP_MM, REACH_MM, STEP_MM)
    first, last = (t / np.linalg.norm(t) for t in spline(inner[[0, -1]], 1))
    points = np.concatenate(
        [spline(0.0) - beyond[::-1, None] * first, spline(inner), spline(inner[-1]) + beyond[:, None] * last]
    )
    slope = np.gradient(points, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    along -= along[len(beyond)]
    return SweptLine(points, slope / np.linalg.norm(slope, axis=1, keepdims=True), along)
