"""Smooth solids as signed distances: negative inside, positive outside, in millimetres.

All functions take coordinates x, y, z that broadcast against each other. A solid that is mirrored left
and right is written once for x >= 0 and called with ``abs(x)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinesim.phantom import kernels

Point = tuple[float, float, float]

Length = float | np.floating | np.ndarray

TINY = np.float32(1e-6)


@dataclass(frozen=True)
class Rod:
    """A tapering rod with an elliptic section and round ends.

    Parameters
    ----------
    start, end : (3,) tuple of float
        Ends of its axis, millimetres.
    start_radii, end_radii : (2,) tuple of float
        Half-axes of the section at the ends: across ``up``, along ``up``.
    up : (3,) tuple of float
        Direction of the second half-axis, not along the axis; made square to it.
    """

    start: Point
    end: Point
    start_radii: tuple[float, float]
    end_radii: tuple[float, float]
    up: Point = (0.0, 0.0, 1.0)

    def distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance, first order near the surface."""
        axis = np.subtract(self.end, self.start)
        length = float(np.linalg.norm(axis))
        axis = axis / length
        up = np.subtract(self.up, np.dot(self.up, axis) * axis)
        up /= np.linalg.norm(up)
        ends = (np.array(part, dtype=np.float32) for part in (self.start, axis, up))
        (side0, up0), (side1, up1) = self.start_radii, self.end_radii
        sizes = (np.float32(size) for size in (length, side0, side1, up0, up1))
        x, y, z = np.asarray(x), np.asarray(y), np.asarray(z)
        places = _in_three(x, y, z)
        out = np.empty(places[0].shape, dtype=np.float32)
        kernels.rod_distance(*places, *ends, *sizes, out)
        return out.reshape(np.broadcast_shapes(x.shape, y.shape, z.shape))


def _in_three(*arrays: np.ndarray) -> list[np.ndarray]:
    """Broadcast to each other, float32, along three axes."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    together = [np.broadcast_to(np.asarray(array, dtype=np.float32), shape) for array in arrays]
    return [array if array.ndim == 3 else array.reshape(-1, 1, 1) for array in together]


def _first_order(level: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Distance to an ellipsoid: k (k - 1) / |grad|, with k^2 = ``level`` and |grad|^2 = ``gradient``."""
    radius = np.sqrt(level + TINY)
    return radius * (radius - 1) / np.sqrt(gradient + TINY * TINY)


def ellipse_distance(u: np.ndarray, v: np.ndarray, half_u: Length, half_v: Length) -> np.ndarray:
    """Signed distance to an elliptic cylinder, first order near the surface."""
    a, b = (u / half_u) ** 2, (v / half_v) ** 2
    return _first_order(a + b, a / np.square(half_u) + b / np.square(half_v))


def ellipsoid_distance(offset: tuple[np.ndarray, np.ndarray, np.ndarray], half: Point) -> np.ndarray:
    """Signed distance to an ellipsoid, first order near the surface; ``offset`` is measured from its middle."""
    a, b, c = (np.square(part / np.float32(h)) for part, h in zip(offset, half, strict=True))
    steep = [np.float32(1 / (h * h)) for h in half]
    return _first_order(a + b + c, a * steep[0] + b * steep[1] + c * steep[2])


def superellipse_distance(u: np.ndarray, v: np.ndarray, half_u: Length, half_v: Length, power: Length) -> np.ndarray:
    """Signed distance to a cylinder over a superellipse (power 2 is the ellipse, more is boxier)."""
    parts = [np.asarray(part) for part in (u, v, half_u, half_v, power)]
    places = _in_three(*parts)
    out = np.empty(places[0].shape, dtype=np.float32)
    kernels.superellipse_distance(*places, out)
    return out.reshape(np.broadcast_shapes(*(part.shape for part in parts)))


def smooth_union(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Union of two solids with a fillet; polynomial smooth minimum."""
    k = np.float32(blend_mm)
    overlap = np.maximum(k - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap / (4 * k)


def smooth_intersection(a: np.ndarray, b: np.ndarray, blend_mm: float) -> np.ndarray:
    """Intersection of two solids with a rounded edge."""
    return -smooth_union(-a, -b, blend_mm)
